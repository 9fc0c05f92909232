import type { PeerName } from "./directory.ts";
import { askMs, compareWaitMs } from "./gossip-limits.ts";

/** An ask that is in flight. */
export interface Ask {
  readonly kind: "heads" | "parts";
  readonly startedMs: number;
  /** It brought what should have come by gossip long ago. */
  broughtOldNews: boolean;
}

/** The peers that can be asked, and what each is being asked: one thing at a time. */
export class Neighbours {
  readonly #asks = new Map<PeerName, Ask | undefined>();
  /** Those who gave a list that was nobody's: they are not asked for lists while they are here. */
  readonly #liars = new Set<PeerName>();

  get size(): number {
    return this.#asks.size;
  }

  join(peer: PeerName): void {
    this.#asks.set(peer, this.#asks.get(peer));
  }

  leave(peer: PeerName): void {
    this.#asks.delete(peer);
    this.#liars.delete(peer);
  }

  has(peer: PeerName): boolean {
    return this.#asks.has(peer);
  }

  askOf(peer: PeerName): Ask | undefined {
    return this.#asks.get(peer);
  }

  ask(peer: PeerName, kind: Ask["kind"], nowMs: number): void {
    this.#asks.set(peer, { kind, startedMs: nowMs, broughtOldNews: false });
  }

  /** What the peer was being asked, which is over. */
  over(peer: PeerName): Ask | undefined {
    const ask = this.#asks.get(peer);
    if (ask !== undefined) this.#asks.set(peer, undefined);
    return ask;
  }

  hasLied(peer: PeerName): void {
    if (this.has(peer)) this.#liars.add(peer);
  }

  free(): PeerName[] {
    return [...this.#asks].filter(([, ask]) => ask === undefined).map(([peer]) => peer);
  }

  /** Those who are free and may be asked for lists. */
  trusted(): PeerName[] {
    return this.free().filter((peer) => !this.#liars.has(peer));
  }

  inFlight(kind: Ask["kind"]): number {
    let count = 0;
    for (const ask of this.#asks.values()) if (ask?.kind === kind) count++;
    return count;
  }

  /** Those whose asks should be over by now. */
  overdue(nowMs: number): PeerName[] {
    if (nowMs < this.nextOverdueMs()) return [];
    return [...this.#asks]
      .filter(([, ask]) => ask !== undefined && nowMs >= ask.startedMs + askMs)
      .map(([peer]) => peer);
  }

  /** When the first ask will be overdue. */
  nextOverdueMs(): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const ask of this.#asks.values()) if (ask !== undefined) nextMs = Math.min(nextMs, ask.startedMs + askMs);
    return nextMs;
  }

  /** Until when a comparison of heads may still tell who else has a list. */
  comparingUntilMs(): number {
    let untilMs = Number.NEGATIVE_INFINITY;
    for (const ask of this.#asks.values()) {
      if (ask?.kind === "heads") untilMs = Math.max(untilMs, ask.startedMs + compareWaitMs);
    }
    return untilMs;
  }
}
