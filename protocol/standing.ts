import type { PeerName } from "./directory.ts";

/**
 * What a peer did wrong: its bytes were not what their hash says, it claimed something and did not give it, it neither
 * answered nor read for long, or it broke the protocol.
 */
export type Fault = "corrupt" | "claim" | "silent" | "broken";

/** How a peer is dealt with: asked as usual, taken for one that holds nothing, or not dealt with at all. */
export type StandingLevel = "good" | "empty" | "quarantined";

/** A strike, for people: why, if it is not only the fault. */
export interface Strike {
  readonly peer: PeerName;
  readonly fault: Fault;
  readonly reason: string | undefined;
  /** How the peer is dealt with from now on. */
  readonly level: StandingLevel;
}

/** How well each peer has served, from our own experience alone: hearsay bans nobody (DESIGN section 7, rule 9). */
export class Standing {
  readonly #peers = new Map<PeerName, Experience>();
  readonly #onStrike: (strike: Strike) => void;

  /** `onStrike` is told of each strike once it counts. */
  constructor(onStrike: (strike: Strike) => void = () => undefined) {
    this.#onStrike = onStrike;
  }

  /** A peer failed us. Answers how it is dealt with from now on. */
  strike(peer: PeerName, fault: Fault, nowMs: number, reason?: string): StandingLevel {
    const experience = this.#of(peer);
    if (fault === "claim" || fault === "silent") {
      // One pause of a suspended machine, or a busy one, fails everything that was asked of it: that is one strike.
      if (nowMs < experience.pausedUntilMs) return this.level(peer, nowMs);
      experience.pausedUntilMs = nowMs + pauseMs;
    }
    experience.strikes[fault]++;
    const { corrupt, broken } = experience.strikes;
    // Nobody honest does either: they count together.
    if (corrupt + broken - experience.forgiven >= strikesMax) {
      experience.quarantinedUntilMs = nowMs + quarantineMs;
      experience.forgiven = corrupt + broken;
    }
    const { claim, silent } = experience.strikes;
    if (claim - experience.claimsForgiven >= strikesMax || silent - experience.silenceForgiven >= strikesMax) {
      // A peer may have been too busy to answer: it is tried again soon at first.
      experience.emptyUntilMs = nowMs + Math.min(emptyMsMax, emptyMsMin * 2 ** experience.timesEmpty);
      experience.timesEmpty++;
      experience.claimsForgiven = claim;
      experience.silenceForgiven = silent;
    }
    const level = this.level(peer, nowMs);
    this.#onStrike({ peer, fault, reason, level });
    return level;
  }

  /** A peer answers: it is there again. What it says is a claim, which items alone make good. */
  answered(peer: PeerName): void {
    const experience = this.#peers.get(peer);
    if (experience !== undefined) experience.silenceForgiven = experience.strikes.silent;
  }

  /** A peer gave us an item that was right: what it claims counts again. */
  served(peer: PeerName, bytes: number, nowMs: number): void {
    const experience = this.#of(peer);
    experience.servedMs = nowMs;
    experience.bytesFrom += bytes;
    experience.claimsForgiven = experience.strikes.claim;
    experience.silenceForgiven = experience.strikes.silent;
    experience.emptyUntilMs = Number.NEGATIVE_INFINITY;
    experience.timesEmpty = 0;
  }

  /** Whether a peer has given us an item, of whatever payload, since a time. */
  hasServedSince(peer: PeerName, sinceMs: number): boolean {
    return (this.#peers.get(peer)?.servedMs ?? Number.NEGATIVE_INFINITY) >= sinceMs;
  }

  /** We gave a peer an item. */
  gave(peer: PeerName, bytes: number): void {
    this.#of(peer).bytesTo += bytes;
  }

  level(peer: PeerName, nowMs: number): StandingLevel {
    const experience = this.#peers.get(peer);
    if (experience === undefined) return "good";
    if (nowMs < experience.quarantinedUntilMs) return "quarantined";
    return nowMs < experience.emptyUntilMs ? "empty" : "good";
  }

  /** Strikes of all kinds together, and bytes in both directions. */
  summary(peer: PeerName): { readonly strikes: number; readonly bytesFrom: number; readonly bytesTo: number } {
    const experience = this.#peers.get(peer) ?? newExperience();
    const { strikes, bytesFrom, bytesTo } = experience;
    return { strikes: strikes.corrupt + strikes.claim + strikes.silent + strikes.broken, bytesFrom, bytesTo };
  }

  /** Everyone of whom something is known, also those who have gone. */
  peers(): Iterable<PeerName> {
    return this.#peers.keys();
  }

  #of(peer: PeerName): Experience {
    const experience = this.#peers.get(peer) ?? newExperience();
    // The oldest goes first, so that strangers who come and go cannot fill the memory.
    this.#peers.delete(peer);
    this.#peers.set(peer, experience);
    if (this.#peers.size > peersRememberedMax) this.#peers.delete(this.#peers.keys().next().value!);
    return experience;
  }
}

interface Experience {
  readonly strikes: Record<Fault, number>;
  forgiven: number;
  claimsForgiven: number;
  silenceForgiven: number;
  /** What it fails to give or to answer before this time has been counted. */
  pausedUntilMs: number;
  quarantinedUntilMs: number;
  emptyUntilMs: number;
  /** In a row, without an item between. */
  timesEmpty: number;
  servedMs: number;
  bytesFrom: number;
  bytesTo: number;
}

/** Three strikes, then ten minutes (DESIGN section 7, rule 9). */
const strikesMax = 3;
const quarantineMs: number = 10 * 60_000;
/** One that is taken for empty is not asked, so it could never show otherwise: after this time it may, longer each time. */
const emptyMsMin = 30_000;
const emptyMsMax: number = 10 * 60_000;
/** As long as a peer that stopped is waited for; what it was asked for before fails within the same time. */
const pauseMs = 5_000;
/** Twice the largest network that DESIGN promises anything for. */
const peersRememberedMax = 10_000;

function newExperience(): Experience {
  return {
    strikes: { corrupt: 0, claim: 0, silent: 0, broken: 0 },
    forgiven: 0,
    claimsForgiven: 0,
    silenceForgiven: 0,
    pausedUntilMs: Number.NEGATIVE_INFINITY,
    quarantinedUntilMs: Number.NEGATIVE_INFINITY,
    emptyUntilMs: Number.NEGATIVE_INFINITY,
    timesEmpty: 0,
    servedMs: Number.NEGATIVE_INFINITY,
    bytesFrom: 0,
    bytesTo: 0,
  };
}
