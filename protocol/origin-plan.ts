import type { PeerName } from "./directory.ts";
import type { ItemGroups } from "./item-groups.ts";
import { QuestionPace } from "./question-pace.ts";
import { type Random, randomBelow } from "./random.ts";
import {
  type LeaseReport,
  lackingMax,
  leasesPerWanterMax,
  type RegisterAnswer,
  type RegisterQuestion,
} from "./register-messages.ts";
import { RegistrarChoice } from "./registrar-choice.ts";
import { rankFor } from "./rendezvous.ts";
import { Standstill } from "./standstill.ts";

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
  /** All chunks are known; these are here, or come with others. */
  | { readonly kind: "described"; readonly items: readonly number[] }
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
  /** Nobody else is there: everything may be fetched from the origin, or from far peers only. */
  | { readonly kind: "opened"; readonly isFarOnly: boolean }
  /** Others have come: only what is leased may be. */
  | { readonly kind: "closed" }
  /** In place of the one before. */
  | { readonly kind: "wakeAt"; readonly atMs: number };

interface OwnLease {
  /** Given by a registrar, or taken by rank: where none answers, or where all that do lead nowhere. */
  readonly by: "registrar" | "rank" | "despair";
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
  readonly #registrars: RegistrarChoice;
  readonly #standstill: Standstill;
  /** By registrar: whether it has named a peer or a lease. */
  readonly #ofUse = new Set<PeerName>();
  readonly #pace = new QuestionPace();
  /** When turns by rank began; undefined while a registrar answers, and leads somewhere. */
  #rankedSinceMs: number | undefined;
  #searchAtMs = Number.NEGATIVE_INFINITY;
  #isDescribed = false;
  #hasStarted = false;
  #openTo: "nothing" | "far" | "all" = "nothing";
  #wakeAtMs = Number.POSITIVE_INFINITY;

  constructor(parts: OriginPlanParts, limits: OriginPlanLimits, random: Random) {
    this.#parts = parts;
    this.#limits = limits;
    this.#random = random;
    this.#registrars = new RegistrarChoice(limits.silenceMs);
    this.#standstill = new Standstill(stuckTurns * limits.turnMs);
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

  /** Whether something is to be brought from another site, by this node. */
  get bringsFar(): boolean {
    return this.#openTo === "far" || [...this.#leases.values()].some(({ isFarOnly }) => isFarOnly);
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
        if (!this.#hasStarted) this.#standstill.begin(nowMs);
        // Whoever was alone, and is not any more, asks at once.
        if (this.#registrars.are(event.members) && this.#hasStarted) {
          if (this.#registrars.adviser !== undefined) this.#pace.leaveToOthers(nowMs);
          this.#pace.hurry(nowMs);
        }
        this.#hasStarted = true;
        return;
      case "answer":
        return this.#heed(event.from, event.answer, nowMs, actions);
      case "unreachable":
        if (this.#registrars.unreachable(event.from, nowMs)) {
          this.#pace.at(nowMs);
          this.#pace.leaveToOthers(nowMs);
        }
        return;
      case "described":
        this.#isDescribed = true;
        for (const item of event.items) this.#count(item, nowMs, actions);
        this.#standstill.begin(nowMs);
        this.#pace.hurry(nowMs);
        return;
      case "stored":
        for (const item of event.items) this.#store(item, nowMs, actions);
        return;
      case "seek":
        this.#pace.seek(nowMs);
        return;
      case "finished":
        return this.#finish(nowMs, actions);
      case "woke":
        this.#wakeAtMs = Number.POSITIVE_INFINITY;
        return;
    }
  }

  /** Leases would lapse, and be given to others, for what has come since the last question. */
  #finish(nowMs: number, actions: OriginPlanAction[]): void {
    const to = this.#registrars.adviser;
    if (this.#hasStarted && to !== undefined) actions.push({ kind: "register", to, question: this.#question(nowMs) });
    this.#hasStarted = false;
  }

  #store(item: number, nowMs: number, actions: OriginPlanAction[]): void {
    const group = this.#parts.groups.of(item);
    if (this.#missing[group] === 0) return;
    this.#standstill.came(nowMs);
    this.#registrars.progress();
    const lease = this.#leases.get(group);
    if (lease !== undefined) {
      lease.arrived++;
      lease.untilMs = nowMs + leaseTurns * this.#limits.turnMs;
    }
    this.#count(item, nowMs, actions);
  }

  /** One item less is missing. */
  #count(item: number, nowMs: number, actions: OriginPlanAction[]): void {
    const group = this.#parts.groups.of(item);
    if (this.#missing[group] === 0 || --this.#missing[group]! > 0) return;
    this.#held[group >> 3]! |= 1 << (group & 7);
    if (!this.#leases.has(group)) return;
    this.#endLease(group, actions);
    this.#pace.hurry(nowMs);
  }

  #heed(from: PeerName, answer: RegisterAnswer, nowMs: number, actions: OriginPlanAction[]): void {
    const askedMs = this.#registrars.answered(from, nowMs);
    if (askedMs === undefined) return;
    if (answer.peers.length > 0 || answer.leases.length > 0 || !this.#parts.seeks()) this.#ofUse.add(from);
    this.#open("nothing", actions);
    // Where all of them led nowhere, turns by rank go on until something comes.
    if (!this.#registrars.areVain) this.#rankedSinceMs = undefined;
    this.#pace.answered(answer.retryAfterMs, nowMs - askedMs, nowMs);
    if (answer.peers.length > 0) actions.push({ kind: "peers", peers: answer.peers });
    for (const [group, { by, isFarOnly, sinceMs }] of this.#leases) {
      // Of a lease that was not there when it was asked a registrar says nothing; nor does one end what it has no part in.
      if (by === "despair" || (by === "registrar" && sinceMs > askedMs)) continue;
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
    if (this.#leases.size > 0) this.#pace.notAfter(nowMs + answer.leaseMs / reportsPerTerm);
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

  /** A registrar that does not answer is left for a while; one that answers and leads nowhere is, too. */
  #hear(nowMs: number): void {
    const silence = this.#registrars.hasFallenSilent(nowMs);
    if (silence !== undefined) {
      this.#pace.at(nowMs);
      this.#pace.leaveToOthers(nowMs, silence.lateMs);
      this.#rank(nowMs);
    }
    if (nowMs < this.#stuckAtMs()) return;
    this.#standstill.begin(nowMs);
    if (!this.#parts.lacks(0, this.#parts.groups.items)) return;
    this.#registrars.leave(!this.#ofUse.has(this.#registrars.adviser!), nowMs);
    this.#pace.at(nowMs);
    if (this.#registrars.areVain) this.#rank(nowMs);
  }

  /** When the one that answers has led nowhere for too long. */
  #stuckAtMs(): number {
    const { adviser, advisedSinceMs } = this.#registrars;
    if (adviser === undefined) return Number.POSITIVE_INFINITY;
    const isLeased = [...this.#leases.values()].some(({ by }) => by === "registrar");
    // One that was asked for no lease need not have led anywhere.
    const sinceMs = Math.max(advisedSinceMs, this.#pace.wantsFromMs);
    return this.#standstill.endMs(sinceMs, { isLeased, isOfUse: this.#ofUse.has(adviser) });
  }

  /** Turns by rank begin after a random wait, unless a registrar answers before. */
  #rank(nowMs: number): void {
    this.#rankedSinceMs ??= nowMs + (firstTurn + (1 - firstTurn) * this.#random()) * this.#limits.turnMs;
  }

  #ask(nowMs: number, actions: OriginPlanAction[]): void {
    if (this.#registrars.isAsking || nowMs < this.#pace.nextMs) return;
    const to = this.#registrars.next(nowMs);
    if (typeof to === "number") {
      this.#rank(nowMs);
      this.#pace.at(to);
      return;
    }
    this.#registrars.ask(to, nowMs);
    this.#pace.asked(nowMs);
    actions.push({ kind: "register", to, question: this.#question(nowMs) });
  }

  #question(nowMs: number): RegisterQuestion {
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
      wants: this.#pace.mayWant(nowMs) ? leasesPerWanterMax - leases.length : 0,
      isFarOnly: !this.#mayRead(),
      isReady: this.#isDescribed,
      lacking,
      seeks: seeks(),
    };
  }

  /** No registrar answers: those who want the payload and know each other rank themselves for every group. */
  #takeTurn(nowMs: number, actions: OriginPlanAction[]): void {
    const { seeks, wanters } = this.#parts;
    for (const [group, { by, untilMs }] of this.#leases) {
      if (nowMs >= untilMs && (by === "despair" || this.#rankedSinceMs !== undefined)) this.#endLease(group, actions);
    }
    if (this.#rankedSinceMs === undefined) return;
    if (nowMs >= this.#searchAtMs && seeks()) {
      this.#searchAtMs = nowMs + searchEveryMs;
      actions.push({ kind: "searchNeighbours" });
    }
    const others = [...wanters()];
    // Nobody is there with whom to share it: at once, whatever the random wait.
    const isAlone = others.length === 0 && this.#registrars.areNone;
    if (isAlone || this.#openTo !== "nothing") return this.#open(this.#mayRead() ? "all" : "far", actions);
    if (nowMs >= this.#rankedSinceMs) this.#takeByRank(others, this.#rankedSinceMs, nowMs, actions);
  }

  #takeByRank(others: readonly PeerName[], sinceMs: number, nowMs: number, actions: OriginPlanAction[]): void {
    const { groups, lacks, self, key } = this.#parts;
    const by = this.#registrars.areVain ? "despair" : "rank";
    // Of those whom registrars lead nowhere there may be very many: each takes one group.
    const most = by === "despair" ? 1 : leasesPerWanterMax;
    const turns = Math.floor((nowMs - sinceMs) / this.#limits.turnMs);
    const from = randomBelow(groups.count, this.#random);
    for (let i = 0; i < groups.count && this.#leases.size < most; i++) {
      const group = (from + i) % groups.count;
      if (this.#missing[group] === 0 || this.#leases.has(group)) continue;
      if (rankFor(`${key} ${group}`, self, others) > turns) continue;
      if (!lacks(groups.first(group), groups.end(group))) continue;
      this.#beginLease(group, { by, isFarOnly: !this.#mayRead() }, nowMs, actions);
    }
  }

  #open(to: "nothing" | "far" | "all", actions: OriginPlanAction[]): void {
    if (this.#openTo === to) return;
    this.#openTo = to;
    actions.push(to === "nothing" ? { kind: "closed" } : { kind: "opened", isFarOnly: to === "far" });
  }

  #watch(nowMs: number, actions: OriginPlanAction[]): void {
    let atMs = this.#pace.nextMs > nowMs ? this.#pace.nextMs : Number.POSITIVE_INFINITY;
    atMs = Math.min(atMs, this.#registrars.awaitedUntilMs, this.#stuckAtMs());
    if (this.#rankedSinceMs !== undefined) atMs = Math.min(atMs, Math.max(this.#rankedSinceMs, nowMs + rankEveryMs));
    if (atMs >= this.#wakeAtMs) return;
    this.#wakeAtMs = atMs;
    actions.push({ kind: "wakeAt", atMs });
  }
}

/** The part of a turn that is waited before any turn by rank: an answer may only be late. */
const firstTurn = 0.4;
const reportsPerTerm = 4;
/** A lease that was taken by rank is given up after so many turns without an item. */
const leaseTurns = 2;
/** Turns without any item after which what a registrar says is not waited for. */
const stuckTurns = 2;
const rankEveryMs = 250;
const searchEveryMs = 500;
