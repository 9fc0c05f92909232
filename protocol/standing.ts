import type { PeerName } from "./directory.ts";

/**
 * What a peer did wrong: its bytes were not what their hash says, it claimed something and did not give it, or it broke
 * the protocol.
 */
export type Fault = "corrupt" | "claim" | "broken";

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
    experience.strikes[fault]++;
    const { corrupt, broken } = experience.strikes;
    // Nobody honest does either: they count together.
    if (corrupt + broken - experience.forgiven >= strikesMax) {
      experience.quarantinedUntilMs = nowMs + quarantineMs;
      experience.forgiven = corrupt + broken;
    }
    if (experience.strikes.claim - experience.claimsForgiven >= strikesMax) {
      // A peer may have been too busy to answer: it is tried again soon at first.
      experience.emptyUntilMs = nowMs + Math.min(emptyMsMax, emptyMsMin * 2 ** experience.timesEmpty);
      experience.timesEmpty++;
      experience.claimsForgiven = experience.strikes.claim;
    }
    const level = this.level(peer, nowMs);
    this.#onStrike({ peer, fault, reason, level });
    return level;
  }

  /** A peer gave us an item that was right: what it claims counts again. */
  served(peer: PeerName, bytes: number): void {
    const experience = this.#of(peer);
    experience.bytesFrom += bytes;
    experience.claimsForgiven = experience.strikes.claim;
    experience.emptyUntilMs = Number.NEGATIVE_INFINITY;
    experience.timesEmpty = 0;
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
    return { strikes: strikes.corrupt + strikes.claim + strikes.broken, bytesFrom, bytesTo };
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
  quarantinedUntilMs: number;
  emptyUntilMs: number;
  /** In a row, without an item between. */
  timesEmpty: number;
  bytesFrom: number;
  bytesTo: number;
}

/** Three strikes, then ten minutes (DESIGN section 7, rule 9). */
const strikesMax = 3;
const quarantineMs: number = 10 * 60_000;
/** One that is taken for empty is not asked, so it could never show otherwise: after this time it may, longer each time. */
const emptyMsMin = 30_000;
const emptyMsMax: number = 10 * 60_000;
/** Twice the largest network that DESIGN promises anything for. */
const peersRememberedMax = 10_000;

function newExperience(): Experience {
  return {
    strikes: { corrupt: 0, claim: 0, broken: 0 },
    forgiven: 0,
    claimsForgiven: 0,
    quarantinedUntilMs: Number.NEGATIVE_INFINITY,
    emptyUntilMs: Number.NEGATIVE_INFINITY,
    timesEmpty: 0,
    bytesFrom: 0,
    bytesTo: 0,
  };
}
