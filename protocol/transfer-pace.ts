import type { Pace } from "./politeness.ts";
import type { Random } from "./random.ts";
import type { TransferSources } from "./transfer-sources.ts";

/** What keeps a transfer from asking although somebody could answer: its share of a rate, or its turn somewhere. */
export class TransferPace {
  readonly #pace: Pace | undefined;
  readonly #isHeldBack: (() => boolean) | undefined;
  readonly #random: Random;
  #nowMs = Number.NEGATIVE_INFINITY;
  #looksAtMs = Number.NEGATIVE_INFINITY;
  /** Something would have been asked for just now. */
  #wasRefused = false;
  /** Since the last step it could do nothing else. */
  #isWaiting = false;

  constructor(plan: { readonly pace?: Pace; readonly isHeldBack?: () => boolean }, random: Random) {
    this.#pace = plan.pace;
    this.#isHeldBack = plan.isHeldBack;
    this.#random = random;
  }

  /** It is this late now, for all that follows. */
  set nowMs(nowMs: number) {
    this.#nowMs = nowMs;
    this.#wasRefused = false;
  }

  /** Whether something may be asked for, of somebody who has room for it. */
  mayAsk(): boolean {
    if (this.#pace !== undefined && this.#pace.readyAtMs(this.#nowMs) > this.#nowMs) this.#wasRefused = true;
    return !this.#wasRefused;
  }

  asked(sizeBytes: number): void {
    this.#pace?.take(sizeBytes, this.#nowMs);
  }

  /** What was asked for does not come from there. */
  gaveUp(sizeBytes: number): void {
    this.#pace?.giveBack(sizeBytes, this.#nowMs);
  }

  /** When to look again whether something may be asked for; infinity where that was not refused. */
  nextMs(): number {
    if (this.#pace === undefined || !this.#wasRefused) return Number.POSITIVE_INFINITY;
    if (this.#looksAtMs <= this.#nowMs) {
      const readyAtMs = Math.min(this.#pace.readyAtMs(this.#nowMs), this.#nowMs + lookEveryMs);
      // By chance a little later: of several that wait for the same bytes none is always the first.
      this.#looksAtMs = readyAtMs + this.#random() * spreadMs;
    }
    return this.#looksAtMs;
  }

  /**
   * When a transfer last got on that got an item at `progressMs`: time in which nothing may be asked for is no lack of
   * progress, since it ends by itself, or at the caller's deadline; what is on its way meanwhile has a deadline of its own.
   */
  progressMs(progressMs: number, sources: TransferSources, isIdle: boolean): number {
    const hasWaited = this.#isWaiting;
    this.#isWaiting = (this.#wasRefused && isIdle) || this.#isHeldBack?.() === true;
    if (hasWaited || this.#isWaiting) return this.#nowMs;
    let lastMs = progressMs;
    for (const { turnAtMs } of sources.origins) lastMs = Math.max(lastMs, Math.min(this.#nowMs, turnAtMs));
    return lastMs;
  }
}

const spreadMs = 10;
/** The rate may be raised meanwhile, or the transfer become more urgent. */
const lookEveryMs = 1_000;
