import type { PeerName } from "./directory.ts";
import { retryMs, sourcesMax, triesMax } from "./gossip-limits.ts";
import { partsPerAskMax } from "./limits.ts";
import { type Random, randomBelow } from "./random.ts";

/** An ask for the lists of several peers. */
export interface PartsAsk {
  readonly source: PeerName;
  readonly peers: readonly PeerName[];
}

/** The peers whose lists are not known, who may know them, and who is being asked. */
export class MissingLists {
  readonly #random: Random;
  readonly #missing = new Map<PeerName, Missing>();
  /** When somebody is to be asked whom nothing keeps from it but time. */
  #nextAtMs = Number.POSITIVE_INFINITY;

  constructor(random: Random) {
    this.#random = random;
  }

  get nextAtMs(): number {
    return this.#nextAtMs;
  }

  has(peer: PeerName): boolean {
    return this.#missing.has(peer);
  }

  /** A list is missing; `source` told us so, and has it or will have it soon. */
  add(peer: PeerName, source: PeerName, notBeforeMs: number): void {
    const known = this.#missing.get(peer);
    if (known === undefined) {
      this.#missing.set(peer, { sources: [source], notBeforeMs, tries: 0, asked: undefined });
      this.#nextAtMs = Math.min(this.#nextAtMs, notBeforeMs);
      return;
    }
    if (known.sources.includes(source)) return;
    known.sources.push(source);
    if (known.sources.length > sourcesMax) known.sources.shift();
  }

  /** The list is known, or is of no use any more. */
  settle(peer: PeerName): void {
    this.#missing.delete(peer);
  }

  /** An ask is over, and what it did not bring is tried elsewhere, later. */
  over(source: PeerName, nowMs: number): void {
    for (const [peer, missing] of this.#missing) {
      if (missing.asked !== source) continue;
      missing.asked = undefined;
      missing.tries++;
      missing.sources = missing.sources.filter((other) => other !== source);
      missing.notBeforeMs = nowMs + retryMs(missing.tries) * (0.5 + this.#random());
      if (missing.tries >= triesMax) this.#missing.delete(peer);
    }
    this.retry(nowMs);
  }

  /** There may be somebody to ask who was not free before. */
  retry(nowMs: number): void {
    if (this.#missing.size > 0) this.#nextAtMs = nowMs;
  }

  /**
   * Whom to ask for what, of those who are free to be asked, at most `asksMax` of them. A list is asked of those who are
   * known to have it, also if they are busy now; else of its peer; else of anyone. Lists that several have are spread
   * over them.
   */
  assign(free: readonly PeerName[], isBusy: (source: PeerName) => boolean, asksMax: number, nowMs: number): PartsAsk[] {
    this.#nextAtMs = Number.POSITIVE_INFINITY;
    const asks = new Map<PeerName, PeerName[]>();
    if (free.length === 0) return [];
    const isFree = new Set(free);
    for (const [peer, missing] of this.#missing) {
      if (missing.asked !== undefined) continue;
      if (missing.notBeforeMs > nowMs) {
        this.#nextAtMs = Math.min(this.#nextAtMs, missing.notBeforeMs);
        continue;
      }
      const candidates = missing.sources.filter((source) => isFree.has(source));
      if (candidates.length === 0) {
        // It is asked once it is free again.
        if (missing.sources.some(isBusy)) continue;
        candidates.push(isFree.has(peer) ? peer : free[randomBelow(free.length, this.#random)]!);
      }
      const open = candidates.filter((source) => asks.has(source) || asks.size < asksMax);
      const source = leastOf(open, (each) => asks.get(each)?.length ?? 0);
      const peers = source === undefined ? undefined : (asks.get(source) ?? []);
      if (source === undefined || peers === undefined || peers.length >= partsPerAskMax) continue;
      peers.push(peer);
      asks.set(source, peers);
      missing.asked = source;
    }
    return Array.from(asks, ([source, peers]) => ({ source, peers }));
  }
}

interface Missing {
  sources: PeerName[];
  notBeforeMs: number;
  tries: number;
  asked: PeerName | undefined;
}

function leastOf(names: readonly PeerName[], weigh: (name: PeerName) => number): PeerName | undefined {
  let least: PeerName | undefined;
  for (const name of names) if (least === undefined || weigh(name) < weigh(least)) least = name;
  return least;
}
