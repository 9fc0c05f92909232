import type { TransferAsks } from "./transfer-asks.ts";
import type { TransferSource } from "./transfer-source.ts";
import type { TransferSources } from "./transfer-sources.ts";

/**
 * Asks a second peer for what the first is slow to give: at the end, when nothing is left to ask for, and of a peer that
 * is far slower than the others (DESIGN section 7, rule 8). Whoever comes second is told to stop.
 */
export class TransferHedge {
  readonly #sources: TransferSources;
  readonly #asks: TransferAsks;
  #nextMs = Number.NEGATIVE_INFINITY;

  constructor(sources: TransferSources, asks: TransferAsks) {
    this.#sources = sources;
    this.#asks = asks;
  }

  /** `isEnd`: everything that is missing is on its way. */
  ask(nowMs: number, isEnd: boolean): void {
    if (nowMs < this.#nextMs) return;
    this.#nextMs = nowMs + (isEnd ? endEveryMs : slowEveryMs);
    const slowBytesPerMs = this.#medianBytesPerMs() * slowPart;
    for (const source of this.#sources) {
      // What is awaited of one that is doubted is wanted of others as it is, or here already.
      if (source.kind !== "near" || source.inFlight.size === 0 || source.isDoubted) continue;
      const isSlow = source.storedItems > 0 && source.bytesPerMs < slowBytesPerMs;
      if (isEnd || isSlow) this.#askAlso(source, isSlow, nowMs);
    }
  }

  /** When it should be looked at again even if nothing happens; infinity unless everything is on its way. */
  nextMs(nowMs: number, isEnd: boolean): number {
    if (!isEnd) return Number.POSITIVE_INFINITY;
    // Where nobody else could be asked there is nothing to look at.
    let peers = 0;
    for (const { kind } of this.#sources) if (kind === "near") peers++;
    return peers < 2 ? Number.POSITIVE_INFINITY : Math.max(this.#nextMs, nowMs + 1);
  }

  #askAlso(slow: TransferSource, isSlow: boolean, nowMs: number): void {
    const room = this.#sources.room(nowMs);
    if (room === 0) return;
    const waitsMs = this.#sources.patienceMs(patience, leastMs);
    const patienceMs = isSlow ? waitsMs : Math.max(waitsMs, patience * slow.expectedMs);
    for (const [item, { askedMs }] of slow.inFlight) {
      if (nowMs - askedMs < patienceMs) return;
      if (this.#sources.askedFor(item).length === 1) this.#asks.askAlso(item, slow, room, nowMs);
    }
  }

  #medianBytesPerMs(): number {
    const rates: number[] = [];
    for (const { kind, storedItems, bytesPerMs } of this.#sources) {
      if (kind === "near" && storedItems > 0) rates.push(bytesPerMs);
    }
    rates.sort((a, b) => a - b);
    return rates[rates.length >> 1] ?? 0;
  }
}

const endEveryMs = 50;
const slowEveryMs = 500;
/** Sooner than this nobody is slow: an item waits for its turn. */
const leastMs = 250;
const patience = 2;
const slowPart = 0.25;
