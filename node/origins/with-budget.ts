import { setTimeout as sleep } from "node:timers/promises";
import { NotOurTurnError } from "../../protocol/errors.ts";
import type { ChunkHash, VariantHash } from "../../protocol/hash.ts";
import type { Random } from "../../protocol/random.ts";
import {
  type BudgetLimits,
  BudgetShare,
  type Moment,
  type SiteBudget,
  type SiteCrowd,
} from "../../protocol/site-budget.ts";
import type { ChunkOptions, Clock, Origin, WaitOptions } from "../ports.ts";

export interface BudgetParts {
  readonly budget: SiteBudget;
  /** Who else reads at this site. */
  readonly crowd: () => SiteCrowd;
  readonly clock: Clock;
  readonly random: Random;
  /** Shorter turns for tests. */
  readonly limits?: BudgetLimits;
}

/**
 * An origin that is read within its site's budget. Chunks pass while this node has one of its slots, at its part of the
 * rate: after a wait where that is short, else they are refused. Records are small and wanted first: they always pass,
 * and are paid for after.
 */
export class LimitedOrigin implements Origin {
  readonly #inner: Origin;
  readonly #parts: BudgetParts;
  readonly #share: BudgetShare;
  #refusal: string | undefined;
  #refusedUntilMs = Number.NEGATIVE_INFINITY;

  constructor(inner: Origin, parts: BudgetParts) {
    this.#inner = inner;
    this.#parts = parts;
    this.#share = new BudgetShare(parts.budget, inner.name, parts.crowd, parts.limits);
  }

  get name(): string {
    return this.#inner.name;
  }

  /** Why a chunk was refused just now; undefined where none was. */
  get refusal(): string | undefined {
    return this.#now().nowMs < this.#refusedUntilMs ? this.#refusal : undefined;
  }

  /** Whether this node may read chunks now, as far as slots go. */
  holdsSlot(): boolean {
    return this.#share.holdsSlot(this.#now());
  }

  async latestRecord(variant: VariantHash, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    const envelope = await this.#inner.latestRecord(variant, options);
    if (envelope !== undefined) this.#share.spend(envelope.length, this.#now());
    return envelope;
  }

  /** @throws {NotOurTurnError} when others have the slots, or this node has used up its part of the rate for now. */
  async chunk(hash: ChunkHash, sizeBytes: number, options: ChunkOptions = {}): Promise<Uint8Array> {
    await this.#pass(sizeBytes, options.signal);
    return await this.#inner.chunk(hash, sizeBytes, options);
  }

  async #pass(sizeBytes: number, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const now = this.#now();
    const answer = this.#share.ask(sizeBytes, now);
    if (answer.kind === "later") {
      this.#refusal = this.#reason(answer.why);
      this.#refusedUntilMs = now.nowMs + answer.retryAfterMs + spreadMs;
      // By chance a little later: of several transfers none is always the first to ask again.
      throw new NotOurTurnError(this.#refusal, answer.retryAfterMs + this.#parts.random() * spreadMs);
    }
    this.#refusal = undefined;
    if (answer.waitMs === 0) return;
    try {
      await sleep(answer.waitMs, undefined, signal === undefined ? {} : { signal });
    } catch {
      this.#share.giveBack(sizeBytes, this.#now());
      signal?.throwIfAborted();
    }
  }

  #reason(why: "slots" | "rate"): string {
    if (why === "rate") return `the origin ${this.name} is limited, and this node has used up its part of the rate`;
    const { slots } = this.#parts.budget;
    return `the origin ${this.name} is limited to ${slots} ${slots === 1 ? "node" : "nodes"} at a time: others have their turn`;
  }

  #now(): Moment {
    const { clock } = this.#parts;
    return { nowMs: clock.monotonicMs(), wallMs: clock.wallMs() };
  }
}

const spreadMs = 100;
