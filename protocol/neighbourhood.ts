import type { PeerName } from "./directory.ts";
import { neighboursEnough } from "./discovery.ts";
import { type Random, randomBelow } from "./random.ts";

export type NeighbourEvent =
  /** A peer was heard of on the local network. */
  | { readonly kind: "found"; readonly peer: PeerName }
  /** The directory knows more peers than before. */
  | { readonly kind: "learnt" }
  /** A peer was let in, whoever dialled; and it has gone, by our wish or not. */
  | { readonly kind: "joined"; readonly peer: PeerName }
  | { readonly kind: "left"; readonly peer: PeerName }
  /** What came of a dial: nothing, or a peer that will never be let in as it is. */
  | { readonly kind: "failed"; readonly peer: PeerName }
  | { readonly kind: "refused"; readonly peer: PeerName }
  /** A peer that was to be closed is in use, and stays. */
  | { readonly kind: "kept"; readonly peer: PeerName }
  /** An interface came or changed: who was out of reach may not be any more. */
  | { readonly kind: "networkChanged" }
  | { readonly kind: "woke" };

export type NeighbourAction =
  /** Dial the peer; `joined`, `failed` or `refused` follows. */
  | { readonly kind: "dial"; readonly peer: PeerName }
  /** Close the connection to a peer: nobody uses it, and there are others enough. */
  | { readonly kind: "close"; readonly peer: PeerName }
  /** Say `woke` then; it replaces an earlier one. */
  | { readonly kind: "wakeAt"; readonly atMs: number };

export interface NeighbourLimits {
  /** Fewer neighbours than this: others are dialled. */
  readonly goal: number;
  /** More than this: those that nobody uses are let go. */
  readonly most: number;
}

/** Members that announced themselves, and are not ourselves. */
export type KnownPeers = () => Iterable<PeerName>;

interface Neighbour {
  usedMs: number;
  isClosing: boolean;
}

interface Trouble {
  failures: number;
  sinceMs: number;
  /** Not before this at all. */
  untilMs: number;
}

/** Whom to be connected to: enough peers to hear everything, at random, and not many more (DESIGN section 6). */
export class Neighbourhood {
  readonly #self: PeerName;
  readonly #limits: NeighbourLimits;
  readonly #known: KnownPeers;
  readonly #random: Random;
  readonly #neighbours = new Map<PeerName, Neighbour>();
  readonly #dialling = new Set<PeerName>();
  readonly #troubles = new Map<PeerName, Trouble>();
  /** Heard of on the local network, or lost: also those that the directory does not know, or has forgotten. */
  readonly #remembered = new Set<PeerName>();
  #failuresInRow = 0;
  #dialledMs = Number.NEGATIVE_INFINITY;
  #probedMs = 0;
  #trimmedMs = 0;

  constructor(self: PeerName, known: KnownPeers, random: Random, limits: NeighbourLimits = defaultNeighbourLimits) {
    this.#self = self;
    this.#known = known;
    this.#random = random;
    this.#limits = limits;
  }

  /** Takes in one event and gives back everything to do about it. */
  step(event: NeighbourEvent, nowMs: number): NeighbourAction[] {
    switch (event.kind) {
      case "found":
        this.#found(event.peer, nowMs);
        break;
      case "joined":
        this.#joined(event.peer, nowMs);
        break;
      case "left":
        this.#left(event.peer, nowMs);
        break;
      case "failed":
        this.#failed(event.peer, nowMs);
        break;
      case "refused":
        this.#dialling.delete(event.peer);
        this.#note(event.peer, { failures: 1, sinceMs: nowMs, untilMs: nowMs + refusedMs });
        break;
      case "kept":
        this.used(event.peer, nowMs);
        break;
      case "networkChanged":
        this.#troubles.clear();
        this.#failuresInRow = 0;
        break;
      case "learnt":
      case "woke":
        break;
    }
    return this.#plan(nowMs);
  }

  /** Whether a peer may be dialled for somebody who wants something of it: not again so soon after it failed. */
  mayDial(peer: PeerName, nowMs: number): boolean {
    return this.#dueMs(peer) <= nowMs;
  }

  /** Two that find each other at the same time need one connection: the one with the smaller name dials first. */
  #found(peer: PeerName, nowMs: number): void {
    const isNew = !this.#remembered.has(peer) && !this.#troubles.has(peer);
    if (isNew && peer < this.#self) this.#note(peer, { failures: 0, sinceMs: nowMs, untilMs: nowMs + yieldMs });
    this.#remember(peer);
  }

  /** Something other than chatter goes over the connection to a peer. */
  used(peer: PeerName, nowMs: number): void {
    const neighbour = this.#neighbours.get(peer);
    if (neighbour === undefined) return;
    neighbour.usedMs = nowMs;
    neighbour.isClosing = false;
  }

  #joined(peer: PeerName, nowMs: number): void {
    this.#dialling.delete(peer);
    this.#troubles.delete(peer);
    this.#failuresInRow = 0;
    // It was our own link that was away, and it is back: what failed meanwhile says nothing of the others.
    if (this.#neighbours.size === 0) for (const trouble of this.#troubles.values()) trouble.failures = 0;
    this.#neighbours.set(peer, { usedMs: nowMs, isClosing: false });
  }

  #left(peer: PeerName, nowMs: number): void {
    const neighbour = this.#neighbours.get(peer);
    if (neighbour === undefined) return;
    this.#neighbours.delete(peer);
    const waitMs = neighbour.isClosing ? closedMs : lostMs * (0.5 + this.#random());
    // One that misbehaved while it was here is to stay away for longer.
    const untilMs = Math.max(nowMs + waitMs, this.#troubles.get(peer)?.untilMs ?? 0);
    this.#note(peer, { failures: 0, sinceMs: nowMs, untilMs });
    this.#remember(peer);
  }

  #failed(peer: PeerName, nowMs: number): void {
    this.#dialling.delete(peer);
    this.#failuresInRow++;
    const failures = (this.#troubles.get(peer)?.failures ?? 0) + 1;
    this.#note(peer, { failures, sinceMs: nowMs, untilMs: nowMs });
    // Nobody has heard of it for an hour or so: it is only the directory's business now.
    if (failures > failuresMax) this.#remembered.delete(peer);
  }

  #note(peer: PeerName, trouble: Trouble): void {
    this.#troubles.delete(peer);
    this.#troubles.set(peer, trouble);
    if (this.#troubles.size > troublesMax) this.#troubles.delete(first(this.#troubles.keys()));
  }

  #remember(peer: PeerName): void {
    this.#remembered.delete(peer);
    this.#remembered.add(peer);
    if (this.#remembered.size > rememberedMax) this.#remembered.delete(first(this.#remembered.keys()));
  }

  /** When a peer may be dialled again. Whoever is alone waits a few seconds at most: its own link may be back. */
  #dueMs(peer: PeerName): number {
    const trouble = this.#troubles.get(peer);
    if (trouble === undefined) return Number.NEGATIVE_INFINITY;
    const { failures, sinceMs, untilMs } = trouble;
    if (failures === 0) return untilMs;
    const mostMs = this.#neighbours.size === 0 ? aloneMs : backOffMsMax;
    return Math.max(untilMs, sinceMs + Math.min(mostMs, lostMs * 2 ** (failures - 1)));
  }

  #plan(nowMs: number): NeighbourAction[] {
    const actions: NeighbourAction[] = [];
    let nextMs = this.#fill(actions, nowMs);
    nextMs = Math.min(nextMs, this.#probe(actions, nowMs), this.#trim(actions, nowMs));
    if (nextMs !== Number.POSITIVE_INFINITY) actions.push({ kind: "wakeAt", atMs: Math.max(nextMs, nowMs + 1) });
    return actions;
  }

  /** Dials at random until there are enough. Answers when to look again. */
  #fill(actions: NeighbourAction[], nowMs: number): number {
    let lacking = this.#limits.goal - this.#neighbours.size - this.#dialling.size;
    if (lacking <= 0) return Number.POSITIVE_INFINITY;
    const { due, nextMs } = this.#candidates(nowMs);
    // After many failures in a row it is our own link, most likely: no storm of dials then.
    const gapMs = this.#failuresInRow < quietFailures ? 0 : dialGapMs;
    while (lacking-- > 0 && due.length > 0) {
      if (nowMs < this.#dialledMs + gapMs) return Math.min(nextMs, this.#dialledMs + gapMs);
      const [peer] = due.splice(randomBelow(due.length, this.#random), 1);
      this.#dial(actions, peer!, nowMs);
    }
    return nextMs;
  }

  #candidates(nowMs: number): { due: PeerName[]; nextMs: number } {
    const due: PeerName[] = [];
    let nextMs = Number.POSITIVE_INFINITY;
    for (const peer of new Set([...this.#remembered, ...this.#known()])) {
      if (this.#neighbours.has(peer) || this.#dialling.has(peer)) continue;
      const dueMs = this.#dueMs(peer);
      if (dueMs <= nowMs) due.push(peer);
      else nextMs = Math.min(nextMs, dueMs);
    }
    return { due, nextMs };
  }

  /** Looks now and then for somebody who was lost, also when there are others enough: a network must not stay in two. */
  #probe(actions: NeighbourAction[], nowMs: number): number {
    const lost = [...this.#remembered].filter((peer) => !this.#neighbours.has(peer) && !this.#dialling.has(peer));
    if (lost.length === 0 || this.#neighbours.size >= this.#limits.most) return Number.POSITIVE_INFINITY;
    if (nowMs < this.#probedMs + probeMs) return this.#probedMs + probeMs;
    this.#probedMs = nowMs;
    const due = lost.filter((peer) => this.#dueMs(peer) <= nowMs);
    if (due.length > 0 && this.#neighbours.size >= this.#limits.goal) {
      this.#dial(actions, due[randomBelow(due.length, this.#random)]!, nowMs);
    }
    return nowMs + probeMs;
  }

  /** Lets go of some that nobody has used for a while, if there are too many. */
  #trim(actions: NeighbourAction[], nowMs: number): number {
    const surplus = this.#neighbours.size - this.#limits.most;
    if (surplus <= 0) return Number.POSITIVE_INFINITY;
    if (nowMs < this.#trimmedMs + trimMs) return this.#trimmedMs + trimMs;
    this.#trimmedMs = nowMs;
    const idle = [...this.#neighbours].filter(([, { usedMs, isClosing }]) => !isClosing && usedMs + idleMs <= nowMs);
    for (let i = 0; i < surplus && idle.length > 0; i++) {
      const [[peer, neighbour]] = idle.splice(randomBelow(idle.length, this.#random), 1) as [[PeerName, Neighbour]];
      neighbour.isClosing = true;
      actions.push({ kind: "close", peer });
    }
    return nowMs + trimMs;
  }

  #dial(actions: NeighbourAction[], peer: PeerName, nowMs: number): void {
    this.#dialling.add(peer);
    this.#dialledMs = nowMs;
    actions.push({ kind: "dial", peer });
  }
}

function first<T>(values: Iterable<T>): T {
  for (const value of values) return value;
  throw new Error("nothing is there");
}

/**
 * Eight that we dial, and as many that dial us, are what random graphs need to stay whole when half of the members go.
 * Many more are kept while they are of use.
 */
const defaultNeighbourLimits: NeighbourLimits = { goal: neighboursEnough, most: 32 };
/** How soon after a loss, and how long after the first failure, a peer is dialled again; each time twice as long. */
const lostMs = 500;
const backOffMsMax = 60_000;
/** A node whose link was cut is right again within 30 s of its healing (issue 3): its first dial comes much earlier. */
const aloneMs = 4_000;
const yieldMs = 250;
const closedMs = 60_000;
const refusedMs = 600_000;
const probeMs = 30_000;
const trimMs = 10_000;
const idleMs = 60_000;
const quietFailures = 16;
const dialGapMs = 250;
/** Doubling from half a second up to a minute, then an hour of minutes. */
const failuresMax = 70;
const troublesMax = 1_000;
const rememberedMax = 64;
