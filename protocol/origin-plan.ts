import type { PeerName } from "./directory.ts";
import type { ItemGroups } from "./item-groups.ts";
import { type Random, randomBelow } from "./random.ts";
import {
  type LeaseReport,
  lackingMax,
  leasesPerWanterMax,
  type RegisterAnswer,
  type RegisterQuestion,
} from "./register-messages.ts";
import { rankFor } from "./rendezvous.ts";

/** Whether a node may read from the origin: by the plan, within its slots, or not at all. */
export type OriginPolicy = "auto" | "limited" | "never";

export interface OriginPlanParts {
  readonly self: PeerName;
  readonly site: string;
  /** Names the payload, and where the line is that the plan guards: part of every rendezvous hash. */
  readonly key: string;
  readonly groups: ItemGroups;
  readonly policy: OriginPolicy;
  /** Whether this node is among those that may read from the origin now; asked anew each time. */
  readonly holdsSlot: () => boolean;
  /** What the transfer says. */
  readonly hasStored: (item: number) => boolean;
  readonly lacks: (first: number, end: number) => boolean;
  /** Whether more peers would be of use. */
  readonly seeks: () => boolean;
  /** Others who are known to want the payload. */
  readonly wanters: () => Iterable<PeerName>;
}

export interface OriginPlanLimits {
  /** How long a registrar may be silent (DESIGN section 7, rule 2). */
  readonly silenceMs: number;
  /** The longest wait before the first turn by rank, and between one rank's turn and the next. */
  readonly turnMs: number;
}

export const defaultOriginPlanLimits: OriginPlanLimits = { silenceMs: 250, turnMs: 2_500 };

export type OriginPlanEvent =
  /** The members that are registrars of the payload now, the first first. The first of these events starts the plan. */
  | { readonly kind: "registrars"; readonly members: readonly PeerName[] }
  | { readonly kind: "answer"; readonly from: PeerName; readonly answer: RegisterAnswer }
  /** A registrar cannot be reached. */
  | { readonly kind: "unreachable"; readonly from: PeerName }
  | { readonly kind: "described" }
  /** Each item once. */
  | { readonly kind: "stored"; readonly items: readonly number[] }
  /** Peers are needed. */
  | { readonly kind: "seek" }
  /** Everything is here: the last question says so, and nothing follows. */
  | { readonly kind: "finished" }
  | { readonly kind: "woke" };

export type OriginPlanAction =
  | { readonly kind: "register"; readonly to: PeerName; readonly question: RegisterQuestion }
  /** The items `first…end-1` may be fetched from the origin; or no longer. */
  | { readonly kind: "leased"; readonly first: number; readonly end: number; readonly isFarOnly: boolean }
  | { readonly kind: "lapsed"; readonly first: number; readonly end: number }
  | { readonly kind: "peers"; readonly peers: readonly PeerName[] }
  /** No registrar answers: who wants the payload is to be found among those that this node is connected to. */
  | { readonly kind: "searchNeighbours" }
  /** Nobody else is there: everything may be fetched from the origin. */
  | { readonly kind: "opened" }
  /** Others have come: only what is leased may be. */
  | { readonly kind: "closed" }
  /** In place of the one before. */
  | { readonly kind: "wakeAt"; readonly atMs: number };

interface OwnLease {
  /** Given by a registrar, or taken by rank. */
  readonly by: "registrar" | "rank";
  readonly isFarOnly: boolean;
  readonly sinceMs: number;
  arrived: number;
  /** Only for one taken by rank: when it is given up. */
  untilMs: number;
}

/**
 * The wanter's side of reading an origin about once: it asks the first live registrar for leases and peers, and takes its
 * turn by rank where no registrar answers.
 */
export class OriginPlan {
  readonly #parts: OriginPlanParts;
  readonly #limits: OriginPlanLimits;
  readonly #random: Random;
  readonly #held: Uint8Array;
  /** By group: items that are still missing. */
  readonly #missing: Uint32Array;
  readonly #leases = new Map<number, OwnLease>();
  #registrars: readonly PeerName[] = [];
  readonly #silentUntilMs = new Map<PeerName, number>();
  /** Asked, and not yet answered; how long that is waited for. */
  #asked: { readonly from: PeerName; readonly atMs: number; untilMs: number; isLate: boolean } | undefined;
  /** Asked, and too late by now: their answers may yet be of use. */
  readonly #late = new Map<PeerName, number>();
  /** Whose answer was the last, and when it came. */
  #answeredBy: PeerName | undefined;
  #answeredMs = Number.NEGATIVE_INFINITY;
  /** How long answers took of late. */
  #tookMs = 0;
  #nextAskMs = 0;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  /** When turns by rank began; undefined while a registrar answers. */
  #rankedSinceMs: number | undefined;
  #searchAtMs = Number.NEGATIVE_INFINITY;
  #progressMs = 0;
  #isDescribed = false;
  #hasStarted = false;
  #isOpen = false;
  #wakeAtMs = Number.POSITIVE_INFINITY;

  constructor(parts: OriginPlanParts, limits: OriginPlanLimits, random: Random) {
    this.#parts = parts;
    this.#limits = limits;
    this.#random = random;
    const { groups } = parts;
    this.#held = new Uint8Array(Math.ceil(groups.count / 8));
    this.#missing = new Uint32Array(groups.count);
    for (let group = 0; group < groups.count; group++) {
      for (let item = groups.first(group); item < groups.end(group); item++) {
        if (!parts.hasStored(item)) this.#missing[group]!++;
      }
      if (this.#missing[group] === 0) this.#held[group >> 3]! |= 1 << (group & 7);
    }
  }

  /** Takes in one event and gives back everything to do about it; nothing before it knows its registrars. */
  step(event: OriginPlanEvent, nowMs: number): OriginPlanAction[] {
    const actions: OriginPlanAction[] = [];
    this.#take(event, nowMs, actions);
    if (!this.#hasStarted) return actions;
    this.#hear(nowMs);
    this.#ask(nowMs, actions);
    this.#takeTurn(nowMs, actions);
    this.#watch(nowMs, actions);
    return actions;
  }

  #take(event: OriginPlanEvent, nowMs: number, actions: OriginPlanAction[]): void {
    switch (event.kind) {
      case "registrars":
        if (!this.#hasStarted) this.#progressMs = nowMs;
        // Whoever was alone, and is not any more, asks at once.
        else if (this.#registrars[0] !== event.members[0]) this.#hurry(nowMs);
        this.#hasStarted = true;
        this.#registrars = event.members;
        for (const peer of this.#late.keys()) if (!event.members.includes(peer)) this.#late.delete(peer);
        return;
      case "answer":
        return this.#heed(event.from, event.answer, nowMs, actions);
      case "unreachable":
        // The one that was asked before it has been given up already.
        if (this.#asked?.from !== event.from) return;
        this.#asked = undefined;
        this.#silentUntilMs.set(event.from, nowMs + silentForMs);
        this.#nextAskMs = nowMs;
        return;
      case "described":
        this.#isDescribed = true;
        this.#progressMs = nowMs;
        this.#hurry(nowMs);
        return;
      case "stored":
        for (const item of event.items) this.#store(item, nowMs, actions);
        return;
      case "seek":
        this.#hurry(nowMs);
        return;
      case "finished":
        return this.#finish(actions);
      case "woke":
        this.#wakeAtMs = Number.POSITIVE_INFINITY;
        return;
    }
  }

  /** Leases would lapse, and be given to others, for what has come since the last question. */
  #finish(actions: OriginPlanAction[]): void {
    const to = this.#answeredBy;
    if (this.#hasStarted && to !== undefined) actions.push({ kind: "register", to, question: this.#question() });
    this.#hasStarted = false;
  }

  #store(item: number, nowMs: number, actions: OriginPlanAction[]): void {
    const group = this.#parts.groups.of(item);
    if (this.#missing[group] === 0) return;
    this.#progressMs = nowMs;
    this.#missing[group]!--;
    const lease = this.#leases.get(group);
    if (lease !== undefined) {
      lease.arrived++;
      lease.untilMs = nowMs + leaseTurns * this.#limits.turnMs;
    }
    if (this.#missing[group]! > 0) return;
    this.#held[group >> 3]! |= 1 << (group & 7);
    if (lease === undefined) return;
    this.#endLease(group, actions);
    this.#hurry(nowMs);
  }

  #heed(from: PeerName, answer: RegisterAnswer, nowMs: number, actions: OriginPlanAction[]): void {
    const askedMs = this.#asked?.from === from ? this.#asked.atMs : this.#late.get(from);
    this.#late.delete(from);
    if (askedMs === undefined || !this.#counts(from, askedMs)) return;
    this.#tookMs = Math.max(nowMs - askedMs, tookKept * this.#tookMs);
    this.#asked = undefined;
    this.#silentUntilMs.delete(from);
    this.#answeredBy = from;
    this.#answeredMs = nowMs;
    if (this.#isOpen) actions.push({ kind: "closed" });
    this.#isOpen = false;
    this.#rankedSinceMs = undefined;
    this.#nextAskMs = nowMs + Math.max(gapMs, answer.retryAfterMs);
    if (answer.peers.length > 0) actions.push({ kind: "peers", peers: answer.peers });
    for (const [group, { by, isFarOnly, sinceMs }] of this.#leases) {
      // Of a lease that was not there when it was asked a registrar says nothing.
      if (by === "registrar" && sinceMs > askedMs) continue;
      const isGranted = answer.leases.some((lease) => lease.group === group && (lease.from === "far") === isFarOnly);
      if (by === "rank" || !isGranted) this.#endLease(group, actions);
    }
    for (const { group, from: where } of answer.leases) {
      const isFarOnly = where === "far";
      if (group >= this.#parts.groups.count || this.#leases.has(group) || this.#missing[group] === 0) continue;
      if (this.#leases.size >= leasesPerWanterMax || (!isFarOnly && !this.#mayRead())) continue;
      this.#beginLease(group, { by: "registrar", isFarOnly }, nowMs, actions);
    }
    // A lease is renewed by what arrived: often enough to be heard.
    if (this.#leases.size > 0) this.#nextAskMs = Math.min(this.#nextAskMs, nowMs + answer.leaseMs / reportsPerTerm);
  }

  /** A late answer counts unless another registrar has answered since, and comes before this one. */
  #counts(from: PeerName, askedMs: number): boolean {
    if (this.#asked?.from === from || askedMs >= this.#answeredMs || this.#answeredBy === undefined) return true;
    const place = this.#registrars.indexOf(from);
    return place >= 0 && place <= this.#registrars.indexOf(this.#answeredBy);
  }

  #mayRead(): boolean {
    const { policy, holdsSlot } = this.#parts;
    return policy === "auto" || (policy === "limited" && holdsSlot());
  }

  #beginLease(
    group: number,
    how: Pick<OwnLease, "by" | "isFarOnly">,
    nowMs: number,
    actions: OriginPlanAction[],
  ): void {
    const { groups } = this.#parts;
    this.#leases.set(group, { ...how, sinceMs: nowMs, arrived: 0, untilMs: nowMs + leaseTurns * this.#limits.turnMs });
    const { isFarOnly } = how;
    actions.push({ kind: "leased", first: groups.first(group), end: groups.end(group), isFarOnly });
  }

  #endLease(group: number, actions: OriginPlanAction[]): void {
    const { groups } = this.#parts;
    if (!this.#leases.delete(group)) return;
    actions.push({ kind: "lapsed", first: groups.first(group), end: groups.end(group) });
  }

  /** Something has changed that a registrar should hear of now, but for a moment in which more may. */
  #hurry(nowMs: number): void {
    this.#nextAskMs = Math.min(this.#nextAskMs, Math.max(nowMs, this.#askedAtMs + gapMs));
  }

  /** A registrar that does not answer is left for a while; one that answers and leads nowhere is, too. */
  #hear(nowMs: number): void {
    if (this.#asked !== undefined && !this.#asked.isLate && nowMs >= this.#asked.untilMs + lagMs) {
      // Whoever wakes late has not heard yet what has come meanwhile.
      this.#asked = { ...this.#asked, untilMs: nowMs + 1, isLate: true };
    } else if (this.#asked !== undefined && nowMs >= this.#asked.untilMs) {
      this.#late.set(this.#asked.from, this.#asked.atMs);
      this.#silentUntilMs.set(this.#asked.from, nowMs + silentForMs);
      this.#asked = undefined;
      this.#nextAskMs = nowMs;
      this.#rank(nowMs);
    }
    const adviser = this.#answeredBy;
    if (adviser === undefined || nowMs < this.#progressMs + stuckTurns * this.#limits.turnMs) return;
    this.#progressMs = nowMs;
    if (!this.#parts.lacks(0, this.#parts.groups.items) || this.#parts.policy === "never") return;
    this.#silentUntilMs.set(adviser, nowMs + silentForMs);
    this.#answeredBy = undefined;
    this.#nextAskMs = nowMs;
  }

  /** Turns by rank begin after a random wait, unless a registrar answers before. */
  #rank(nowMs: number): void {
    this.#rankedSinceMs ??= nowMs + (firstTurn + (1 - firstTurn) * this.#random()) * this.#limits.turnMs;
  }

  #current(nowMs: number): PeerName | undefined {
    return this.#registrars.find((peer) => nowMs >= (this.#silentUntilMs.get(peer) ?? Number.NEGATIVE_INFINITY));
  }

  #ask(nowMs: number, actions: OriginPlanAction[]): void {
    if (this.#asked !== undefined || nowMs < this.#nextAskMs) return;
    const to = this.#current(nowMs);
    if (to === undefined) {
      this.#rank(nowMs);
      this.#nextAskMs = Math.min(...this.#silentUntilMs.values());
      return;
    }
    // The end of one that has answered before is heard of, since its stream ends.
    const leastMs = to === this.#answeredBy ? knownSilenceMs : this.#limits.silenceMs;
    const patienceMs = Math.min(patienceMsMax, Math.max(leastMs, patience * this.#tookMs));
    this.#asked = { from: to, atMs: nowMs, untilMs: nowMs + patienceMs, isLate: false };
    this.#askedAtMs = nowMs;
    this.#nextAskMs = nowMs;
    actions.push({ kind: "register", to, question: this.#question() });
  }

  #question(): RegisterQuestion {
    const { groups, site, seeks, lacks } = this.#parts;
    const leases: LeaseReport[] = [];
    for (const [group, { arrived }] of this.#leases) leases.push({ group, arrived });
    const lacking: number[] = [];
    for (let group = 0; group < groups.count && lacking.length < lackingMax; group++) {
      if (this.#missing[group]! > 0 && lacks(groups.first(group), groups.end(group))) lacking.push(group);
    }
    return {
      groups: groups.count,
      site,
      held: this.#held.slice(),
      leases,
      wants: this.#mayRead() ? leasesPerWanterMax - leases.length : 0,
      isReady: this.#isDescribed,
      lacking,
      seeks: seeks(),
    };
  }

  /** No registrar answers: those who want the payload and know each other rank themselves for every group. */
  #takeTurn(nowMs: number, actions: OriginPlanAction[]): void {
    const { groups, seeks, lacks, wanters, self, key } = this.#parts;
    if (this.#rankedSinceMs === undefined || this.#isOpen) return;
    if (nowMs >= this.#searchAtMs && seeks()) {
      this.#searchAtMs = nowMs + searchEveryMs;
      actions.push({ kind: "searchNeighbours" });
    }
    for (const [group, { untilMs }] of this.#leases) if (nowMs >= untilMs) this.#endLease(group, actions);
    if (!this.#mayRead()) return;
    const others = [...wanters()];
    // Nobody is there with whom to share it: at once, whatever the random wait.
    if (others.length === 0 && this.#registrars.length === 0) {
      this.#isOpen = true;
      actions.push({ kind: "opened" });
      return;
    }
    if (nowMs < this.#rankedSinceMs) return;
    const turns = Math.floor((nowMs - this.#rankedSinceMs) / this.#limits.turnMs);
    const from = randomBelow(groups.count, this.#random);
    for (let i = 0; i < groups.count && this.#leases.size < leasesPerWanterMax; i++) {
      const group = (from + i) % groups.count;
      if (this.#missing[group] === 0 || this.#leases.has(group)) continue;
      if (rankFor(`${key} ${group}`, self, others) > turns) continue;
      if (lacks(groups.first(group), groups.end(group))) this.#beginLease(group, byRank, nowMs, actions);
    }
  }

  #watch(nowMs: number, actions: OriginPlanAction[]): void {
    let atMs = this.#nextAskMs > nowMs ? this.#nextAskMs : Number.POSITIVE_INFINITY;
    if (this.#asked !== undefined) atMs = Math.min(atMs, this.#asked.untilMs);
    if (this.#rankedSinceMs !== undefined) atMs = Math.min(atMs, Math.max(this.#rankedSinceMs, nowMs + rankEveryMs));
    if (atMs >= this.#wakeAtMs) return;
    this.#wakeAtMs = atMs;
    actions.push({ kind: "wakeAt", atMs });
  }
}

/** A registrar that was silent is tried again after this time. */
const silentForMs = 5_000;
/** A registrar on a busy machine is borne with: so many times what its answers took, at most so long. */
const patience = 3;
const patienceMsMax = 6_000;
const knownSilenceMs = 1_000;
const tookKept = 0.8;
/** Whoever wakes so much too late is busy itself. */
const lagMs = 100;
/** The part of a turn that is waited before any turn by rank: an answer may only be late. */
const firstTurn = 0.4;
/** Questions to a registrar are so far apart at least. */
const gapMs = 20;
const reportsPerTerm = 4;
/** A lease that was taken by rank is given up after so many turns without an item. */
const leaseTurns = 2;
/** Turns without any item after which what a registrar says is not waited for. */
const stuckTurns = 2;
const rankEveryMs = 250;
const searchEveryMs = 500;
const byRank: Pick<OwnLease, "by" | "isFarOnly"> = { by: "rank", isFarOnly: false };
