import type { PeerName } from "./directory.ts";
import { type Random, randomBelow } from "./random.ts";
import type { Distance } from "./transfer-events.ts";

/** A peer that wants or holds the payload. */
export interface LinkPeer {
  readonly peer: PeerName;
  readonly distance: Distance;
}

export type LinkEvent =
  /** These want or hold the payload; `isNews`: what was known of them before counts no more. */
  | { readonly kind: "offered"; readonly peers: readonly LinkPeer[]; readonly isNews?: boolean }
  /** A peer links to us. */
  | { readonly kind: "asked"; readonly by: LinkPeer }
  /** A peer that we asked has taken the link. */
  | { readonly kind: "linked"; readonly peer: PeerName }
  /** A peer has refused the link, ended it, or cannot be reached; it is of no use to ask it again before a time. */
  | { readonly kind: "lost"; readonly peer: PeerName; readonly retryAtMs?: number }
  /** A peer has everything; or we have. */
  | { readonly kind: "complete"; readonly peer: PeerName | "self" }
  /** Something is to be brought from another site; or not any more. */
  | { readonly kind: "far"; readonly isNeeded: boolean }
  | { readonly kind: "woke" };

export type LinkAction =
  | { readonly kind: "connect"; readonly peer: PeerName; readonly distance: Distance }
  | { readonly kind: "accept"; readonly peer: PeerName; readonly distance: Distance }
  | { readonly kind: "refuse"; readonly peer: PeerName }
  | { readonly kind: "part"; readonly peer: PeerName }
  /** More peers are of use, and none is known. */
  | { readonly kind: "seek" }
  /** In place of the one before. */
  | { readonly kind: "wakeAt"; readonly atMs: number };

export interface LinkLimits {
  /** Links that we look for ourselves. */
  readonly wanted: number;
  /** Links in all. */
  readonly max: number;
  /** Of those that we look for, how many lead to another site, if there is one. */
  readonly far: number;
}

/** DESIGN section 7, rule 3, and two links more: decision 0050. */
export const defaultLinkLimits: LinkLimits = { wanted: 10, max: 20, far: 2 };

/** What is known of linked peers. */
export interface LinkJudgement {
  /** How well one serves, more being better; undefined: nothing is known. */
  readonly rating: (peer: PeerName) => number | undefined;
  /** Whether it has something of the payload. */
  readonly holds: (peer: PeerName) => boolean;
}

interface Link {
  readonly distance: Distance;
  readonly sinceMs: number;
  isComplete: boolean;
}

/** Who deals with whom in one payload: a random graph with a bias to what is near, whose worst links are drawn anew. */
export class Links {
  readonly #limits: LinkLimits;
  readonly #random: Random;
  readonly #rating: LinkJudgement["rating"];
  readonly #holds: LinkJudgement["holds"];
  readonly #known = new Map<PeerName, Distance>();
  readonly #links = new Map<PeerName, Link>();
  readonly #connecting = new Map<PeerName, Distance>();
  /** Peers that refused or failed, and when they may be asked again. */
  readonly #restUntilMs = new Map<PeerName, number>();
  #isComplete = false;
  #needsFar = false;
  #redrawAtMs = Number.POSITIVE_INFINITY;
  #swapAtMs = Number.NEGATIVE_INFINITY;
  #wakeAtMs = Number.POSITIVE_INFINITY;

  constructor(limits: LinkLimits, { rating, holds }: LinkJudgement, random: Random) {
    this.#limits = limits;
    this.#rating = rating;
    this.#holds = holds;
    this.#random = random;
  }

  get count(): number {
    return this.#links.size;
  }

  /** Everyone who is known, and has not said lately that it has no place for us, or nothing. */
  *wanters(): Iterable<PeerName> {
    for (const peer of this.#known.keys()) if (this.#links.has(peer) || !this.#restUntilMs.has(peer)) yield peer;
  }

  /** How many peers are remembered. */
  get knownCount(): number {
    return this.#known.size;
  }

  /** Takes in one event and gives back everything to do about it. */
  step(event: LinkEvent, nowMs: number): LinkAction[] {
    switch (event.kind) {
      case "offered":
        for (const { peer, distance } of event.peers) {
          this.#learn(peer, distance);
          if (event.isNews === true) this.#restUntilMs.delete(peer);
        }
        return this.#refill(nowMs);
      case "asked":
        return this.#answer(event.by, nowMs);
      case "linked":
        return this.#linked(event.peer, nowMs);
      case "lost":
        this.#connecting.delete(event.peer);
        this.#links.delete(event.peer);
        this.#rest(event.peer, event.retryAtMs ?? nowMs + (this.#links.size === 0 ? lonelyRestMs : restMs));
        return this.#refill(nowMs);
      case "complete":
        return this.#complete(event.peer, nowMs);
      case "far":
        this.#needsFar = event.isNeeded;
        return event.isNeeded ? this.#refill(nowMs) : [];
      case "woke":
        this.#wakeAtMs = Number.POSITIVE_INFINITY;
        return [...this.#redraw(nowMs), ...this.#refill(nowMs)];
    }
  }

  #rest(peer: PeerName, untilMs: number): void {
    this.#restUntilMs.delete(peer);
    this.#restUntilMs.set(peer, untilMs);
    if (this.#restUntilMs.size > knownMax) this.#restUntilMs.delete(this.#restUntilMs.keys().next().value!);
  }

  #learn(peer: PeerName, distance: Distance): void {
    if (this.#known.size >= knownMax && !this.#known.has(peer)) this.#known.delete(this.#known.keys().next().value!);
    this.#known.set(peer, distance);
  }

  #answer({ peer, distance }: LinkPeer, nowMs: number): LinkAction[] {
    this.#learn(peer, distance);
    if (this.#links.has(peer)) return [{ kind: "accept", peer, distance }];
    const gone = this.#links.size >= swapAt ? this.#swap(nowMs) : undefined;
    if (this.#links.size >= this.#limits.max) return [{ kind: "refuse", peer }];
    this.#connecting.delete(peer);
    this.#links.set(peer, { distance, sinceMs: nowMs, isComplete: false });
    const parts: LinkAction[] = gone === undefined ? [] : [{ kind: "part", peer: gone }];
    return [...parts, { kind: "accept", peer, distance }, ...this.#timed(nowMs)];
  }

  /**
   * Takes a link at random away, for a newcomer: or else those who came first would be linked among themselves, and whoever
   * comes late with other latecomers only.
   */
  #swap(nowMs: number): PeerName | undefined {
    if (nowMs < this.#swapAtMs || this.#isComplete) return undefined;
    this.#swapAtMs = nowMs + swapEveryMs;
    return this.#letGo();
  }

  #linked(peer: PeerName, nowMs: number): LinkAction[] {
    const distance = this.#connecting.get(peer);
    if (distance === undefined) return this.#links.has(peer) ? [] : [{ kind: "part", peer }];
    this.#connecting.delete(peer);
    this.#restUntilMs.delete(peer);
    if (this.#isComplete || this.#links.size >= this.#limits.max) return [{ kind: "part", peer }];
    this.#links.set(peer, { distance, sinceMs: nowMs, isComplete: false });
    return this.#timed(nowMs);
  }

  /** Two complete peers have nothing to say to each other. */
  #complete(peer: PeerName | "self", nowMs: number): LinkAction[] {
    if (peer === "self") this.#isComplete = true;
    else {
      const link = this.#links.get(peer);
      if (link !== undefined) link.isComplete = true;
    }
    if (!this.#isComplete) return [];
    const actions: LinkAction[] = [];
    for (const [other, { isComplete }] of this.#links) {
      if (!isComplete) continue;
      this.#links.delete(other);
      actions.push({ kind: "part", peer: other });
    }
    return [...actions, ...this.#timed(nowMs)];
  }

  /** The worst of enough links goes, for one that nobody has tried yet. */
  #redraw(nowMs: number): LinkAction[] {
    if (nowMs < this.#redrawAtMs) return [];
    this.#redrawAtMs = nowMs + redrawMs;
    if (this.#isComplete || this.#links.size < this.#limits.wanted || !this.#hasFresh(nowMs)) return [];
    let worst: { readonly peer: PeerName; readonly rating: number } | undefined;
    for (const [peer, { sinceMs }] of this.#links) {
      const rating = nowMs - sinceMs < redrawMs / 2 ? undefined : this.#rating(peer);
      if (rating !== undefined && (worst === undefined || rating < worst.rating)) worst = { peer, rating };
    }
    if (worst === undefined) return [];
    this.#links.delete(worst.peer);
    this.#rest(worst.peer, nowMs + redrawMs);
    return [{ kind: "part", peer: worst.peer }];
  }

  #refill(nowMs: number): LinkAction[] {
    const actions: LinkAction[] = [];
    if (this.#isComplete) return actions;
    while (this.#links.size + this.#connecting.size < this.#limits.wanted || this.lacksFar) {
      const peer = this.#draw(nowMs);
      if (peer === undefined) {
        actions.push({ kind: "seek" });
        break;
      }
      const gone = this.#placeFor(nowMs);
      if (gone !== undefined) actions.push({ kind: "part", peer: gone });
      const distance = this.#known.get(peer)!;
      this.#connecting.set(peer, distance);
      actions.push({ kind: "connect", peer, distance });
    }
    return [...actions, ...this.#timed(nowMs)];
  }

  /** Whoever was linked to by enough near peers before it found a far one would bring nothing from there, however long. */
  get lacksFar(): boolean {
    if (!this.#needsFar || [...this.#connecting.values()].includes("far")) return false;
    return !this.#farLinks().some((peer) => this.#holds(peer));
  }

  #farLinks(): PeerName[] {
    return [...this.#links].flatMap(([peer, { distance }]) => (distance === "far" ? [peer] : []));
  }

  /** A link that ends for one more, if it must: far ones that hold nothing are no more than are looked for. */
  #placeFor(nowMs: number): PeerName | undefined {
    const far = this.#farLinks();
    const useless = far.find((peer) => !this.#holds(peer));
    const isFull = this.#links.size + this.#connecting.size >= this.#limits.max;
    if (useless !== undefined && (isFull || (this.lacksFar && far.length >= this.#limits.far))) {
      this.#links.delete(useless);
      this.#rest(useless, nowMs + restMs);
      return useless;
    }
    return isFull ? this.#letGo() : undefined;
  }

  /** A link at random ends, for one that is needed more. */
  #letGo(): PeerName | undefined {
    const peers = [...this.#links.keys()];
    const gone = peers[randomBelow(Math.max(1, peers.length), this.#random)];
    if (gone !== undefined) this.#links.delete(gone);
    return gone;
  }

  /** A known peer that is not linked: a far one while too few are, else of two near ones at random the nearer. */
  #draw(nowMs: number): PeerName | undefined {
    const near: PeerName[] = [];
    const far: PeerName[] = [];
    for (const [peer, distance] of this.#known) {
      if (this.#isFree(peer, nowMs)) (distance === "far" ? far : near).push(peer);
    }
    const farConnecting = [...this.#connecting.values()].filter((distance) => distance === "far");
    const isFarScarce = this.#farLinks().length + farConnecting.length < this.#limits.far;
    const isFarDue = isFarScarce || near.length === 0 || this.lacksFar;
    const isOnlyFar = this.#links.size + this.#connecting.size >= this.#limits.wanted;
    const pool = isOnlyFar || (far.length > 0 && isFarDue) ? far : near;
    if (pool.length === 0) return undefined;
    const one = pool[randomBelow(pool.length, this.#random)]!;
    const other = pool[randomBelow(pool.length, this.#random)]!;
    return this.#known.get(one) !== "rack" && this.#known.get(other) === "rack" ? other : one;
  }

  #hasFresh(nowMs: number): boolean {
    for (const peer of this.#known.keys()) if (this.#isFree(peer, nowMs)) return true;
    return false;
  }

  #isFree(peer: PeerName, nowMs: number): boolean {
    if (this.#links.has(peer) || this.#connecting.has(peer)) return false;
    return nowMs >= (this.#restUntilMs.get(peer) ?? Number.NEGATIVE_INFINITY);
  }

  #timed(nowMs: number): LinkAction[] {
    if (this.#redrawAtMs === Number.POSITIVE_INFINITY || this.#redrawAtMs <= nowMs) this.#redrawAtMs = nowMs + redrawMs;
    const atMs = Math.min(this.#redrawAtMs, this.#restedAtMs(nowMs));
    if (atMs >= this.#wakeAtMs) return [];
    this.#wakeAtMs = atMs;
    return [{ kind: "wakeAt", atMs }];
  }

  /** When the first of those who rest may be asked again, if that is of use. */
  #restedAtMs(nowMs: number): number {
    let atMs = Number.POSITIVE_INFINITY;
    const areEnough = this.#links.size + this.#connecting.size >= this.#limits.wanted && !this.lacksFar;
    if (this.#isComplete || areEnough) return atMs;
    for (const [peer, untilMs] of this.#restUntilMs) {
      if (untilMs > nowMs && untilMs < atMs && this.#known.has(peer) && !this.#links.has(peer)) atMs = untilMs;
    }
    return atMs;
  }
}

/** DESIGN section 7, rule 3. */
const redrawMs = 30_000;
/** From so many links on a newcomer takes the place of another; not more often than this, whoever comes. */
const swapAt = 14;
const swapEveryMs = 20;
/** A peer that had no place for us may have one later. */
const restMs = 5_000;
/** The same where nobody else is linked: a stream that broke, a peer that starts anew. */
const lonelyRestMs = 1_000;
/** Four answers of a registrar. */
const knownMax = 200;
