import type { OriginPolicy } from "../protocol/origin-plan.ts";
import { type Random, randomBelow, seededRandom } from "../protocol/random.ts";
import { registrarsFor, type SeenMember } from "../protocol/registrars.ts";
import { defaultServiceLimits, Service } from "../protocol/service.ts";
import { Transfer, type TransferPlan } from "../protocol/transfer.ts";
import { defaultTransferLimits } from "../protocol/transfer-limits.ts";
import type { EventQueue, Happening } from "./event-queue.ts";
import type { Letter, VirtualMessage } from "./messages.ts";
import { Checkers } from "./swarm-checkers.ts";
import type { VirtualFetch } from "./virtual-fetch.ts";
import { type MemberTraits, VirtualMember } from "./virtual-member.ts";
import { Host, VirtualNetwork } from "./virtual-network.ts";
import type { VirtualPayload } from "./virtual-payload.ts";

/** The classes and settings that a world's members use; rivals of ours put their own in. */
export interface Policies {
  readonly transfer: (plan: TransferPlan, random: Random) => Transfer;
  readonly service: () => Service;
  readonly access: "open" | "leased";
  /** Whether members ask registrars; else everybody is told of everybody. */
  readonly isPlanned: boolean;
  /** How long news of items waits for more. */
  readonly haveMs: number;
  /** A graph that is given: whom a member links to, by number. Whoever links to nobody reads the origin, and nobody else. */
  readonly graph?: (world: SwarmWorld, member: number) => readonly number[];
}

/** What nodes do. */
export const ownPolicies: Policies = {
  transfer: (plan, random) => new Transfer(plan, defaultTransferLimits, random),
  service: () => new Service(defaultServiceLimits),
  access: "leased",
  isPlanned: true,
  haveMs: 30,
};

/** One world: who is in it, what they want and what goes wrong. */
export interface WorldPlan {
  readonly seed: number;
  readonly payloads: readonly VirtualPayload[];
  readonly members: readonly MemberPlan[];
  readonly origin: { readonly upBytesPerMs: number; readonly site: number };
  readonly latencyMs: number;
  readonly trunkBytesPerMs?: number;
  /** False: members that are asked as registrars are silent. */
  readonly hasRegistrars?: boolean;
  readonly policies?: Policies;
  readonly untilMs: number;
  /** What happens at some times, beside what members do. */
  readonly script?: readonly { readonly atMs: number; readonly run: (world: SwarmWorld) => void }[];
  /** How long members take to hear of each other: a number for every pair. */
  readonly lagMs?: (of: number, at: number) => number;
}

export interface MemberPlan {
  /** When it is up, long before it wants anything unless this says otherwise. */
  readonly upAtMs?: number;
  readonly startMs: number;
  /** Places in the list of payloads, in the order in which it wants them. */
  readonly wants: readonly number[];
  readonly upBytesPerMs: number;
  readonly downBytesPerMs: number;
  readonly traits?: Partial<MemberTraits>;
  readonly policy?: OriginPolicy;
}

/** Members, an origin, and time. */
export class SwarmWorld implements Happening {
  readonly plan: WorldPlan;
  readonly policies: Policies;
  readonly network: VirtualNetwork;
  readonly checkers: Checkers;
  readonly #members: VirtualMember[] = [];
  readonly #names: string[] = [];
  readonly #numbers = new Map<string, number>();
  readonly #origin: Host;
  readonly #registrars = new Map<string, string[]>();
  isOriginUp = true;
  originReadBytes = 0;
  readonly random: Random;
  unfinished = 0;

  constructor(plan: WorldPlan) {
    this.plan = plan;
    this.policies = plan.policies ?? ownPolicies;
    this.network = new VirtualNetwork(plan.latencyMs, plan.trunkBytesPerMs);
    this.random = seededRandom(plan.seed);
    const { upBytesPerMs, site } = plan.origin;
    this.#origin = new Host({ upBytesPerMs, downBytesPerMs: upBytesPerMs, subnet: site });
    this.checkers = new Checkers(this);
    for (const member of plan.members) this.add(member);
    for (const [at, { atMs }] of (plan.script ?? []).entries()) this.events.at(atMs, this, script, at);
  }

  get seed(): number {
    return this.plan.seed;
  }

  get payloads(): readonly VirtualPayload[] {
    return this.plan.payloads;
  }

  get events(): EventQueue {
    return this.network.events;
  }

  get nowMs(): number {
    return this.network.events.nowMs;
  }

  get members(): readonly VirtualMember[] {
    return this.#members;
  }

  member(number: number): VirtualMember {
    return this.#members[number]!;
  }

  nameOf(number: number): string {
    this.#names[number] ??= `n${number}`;
    return this.#names[number]!;
  }

  numberOf(name: string): number {
    return this.#numbers.get(name)!;
  }

  planOf(member: VirtualMember): MemberPlan {
    return this.#plans[member.number]!;
  }

  policyOf(member: VirtualMember): OriginPolicy {
    return this.planOf(member).policy ?? "auto";
  }

  readonly #plans: MemberPlan[] = [];

  /** One member more. */
  add(plan: MemberPlan): VirtualMember {
    const number = this.#members.length;
    this.#numbers.set(this.nameOf(number), number);
    this.#plans.push(plan);
    const traits: MemberTraits = { site: 0, rack: 0, isCorrupt: false, isIdle: false, ...plan.traits };
    const { upBytesPerMs, downBytesPerMs } = plan;
    const member = new VirtualMember(
      this,
      number,
      new Host({ upBytesPerMs, downBytesPerMs, subnet: traits.site }),
      traits,
    );
    this.#members.push(member);
    for (const payload of plan.wants) member.queue.push(this.payloads[payload]!);
    this.unfinished += plan.wants.length;
    this.events.at(plan.startMs, this, start, member);
    return member;
  }

  /** A member goes without a word; others notice after a while. */
  takeDown(member: VirtualMember, noticedAfterMs: number): void {
    if (!member.isUp) return;
    member.isUp = false;
    member.downAtMs = this.nowMs;
    this.network.takeDown(member.host);
    this.unfinished -= member.queue.length;
    for (const fetch of member.fetches) if (fetch !== undefined && !fetch.isOver) this.unfinished--;
    this.#registrars.clear();
    this.events.at(this.nowMs + noticedAfterMs, this, gone, member);
  }

  /** Lets everything happen until all is fetched, or the time is up. */
  run(): this {
    while (this.unfinished > 0 && this.events.next(this.plan.untilMs));
    this.checkers.end();
    return this;
  }

  happen(what: number, about: unknown): void {
    switch (what) {
      case start:
        if ((about as VirtualMember).isUp) (about as VirtualMember).startNext();
        return;
      case gone:
        for (const member of this.#members) if (member.isUp) member.peerGone((about as VirtualMember).number);
        return;
      case script:
        return this.plan.script![about as number]!.run(this);
      case broadcast: {
        const { from, to, message } = about as Broadcast;
        for (const number of to) if (this.#members[number]!.isUp) this.#members[number]!.receive(from, message);
        return;
      }
      case originRefuses:
        return (about as () => void)();
    }
  }

  tell(from: number, to: number, message: VirtualMessage): void {
    const letter: Letter = { from, message };
    this.events.at(this.nowMs + (from === to ? 0 : this.plan.latencyMs), this.#members[to]!, 0, letter);
  }

  /** Tells many the same, which arrives at the same time. */
  tellAll(from: number, to: Iterable<number>, message: VirtualMessage): void {
    const all: Broadcast = { from, to: [...to], message };
    if (all.to.length > 0) this.events.at(this.nowMs + this.plan.latencyMs, this, broadcast, all);
  }

  /** Reads an item from the origin. Answers what stops that. */
  readOrigin(fetch: VirtualFetch, item: number, onEnd: (isHere: boolean) => void): () => void {
    this.checkers.originAsked(fetch);
    const onLost = () => onEnd(false);
    if (!this.isOriginUp) {
      this.events.at(this.nowMs + originDialMs, this, originRefuses, onLost);
      return () => undefined;
    }
    const bytes = fetch.payload.sizesBytes[item]!;
    const flow = this.network.send(
      this.#origin,
      fetch.member.host,
      bytes,
      () => {
        this.originReadBytes += bytes;
      },
      () => onEnd(true),
      onLost,
    );
    return () => {
      this.originReadBytes += this.network.stop(flow);
    };
  }

  /** The origin is back. */
  startOrigin(): void {
    this.isOriginUp = true;
  }

  /** The origin goes away: what it was sending never arrives. */
  stopOrigin(): void {
    this.isOriginUp = false;
    const lost = this.#origin.flows.splice(0);
    this.#origin.version++;
    for (const flow of lost) this.events.at(this.nowMs + originDialMs, this, originRefuses, flow.onLost);
  }

  /** The members that keep state about a payload, as one member sees it. */
  registrarsFor(member: VirtualMember, payload: VirtualPayload): readonly string[] {
    const { lagMs } = this.plan;
    const key = payload.id;
    const known = this.#registrars.get(key);
    if (lagMs === undefined && known !== undefined) return known;
    const seen: SeenMember[] = [];
    for (const other of this.#members) {
      const upSinceMs = this.planOf(other).upAtMs ?? Number.NEGATIVE_INFINITY;
      if (this.#sees(other, member)) seen.push({ name: other.name, upSinceMs });
    }
    const best = registrarsFor(key, seen, this.nowMs);
    this.#registrars.set(key, best);
    return best;
  }

  /** Some members that one is connected to, whatever they want. */
  neighboursOf(member: VirtualMember): string[] {
    const names = new Set<string>();
    for (let tries = 0; tries < neighbours; tries++) {
      const other = this.#members[randomBelow(this.#members.length, member.random)]!;
      if (other !== member && other.isUp) names.add(other.name);
    }
    return [...names];
  }

  #sees(other: VirtualMember, by: VirtualMember): boolean {
    const lagMs = this.plan.lagMs?.(other.number, by.number) ?? 0;
    const upAtMs = this.planOf(other).upAtMs ?? Number.NEGATIVE_INFINITY;
    return this.nowMs >= upAtMs + lagMs && this.nowMs < other.downAtMs + lagMs;
  }

  /** What a member sends must be what it has verified. Answers whether its bytes are right. */
  checkServed(member: VirtualMember, payload: number, item: number): boolean {
    this.checkers.served(member, payload, item);
    return !member.traits.isCorrupt;
  }

  ended(fetch: VirtualFetch): void {
    this.unfinished--;
    const { member } = fetch;
    member.active--;
    member.startNext();
  }

  /** Any number below a bound. */
  roll(bound: number): number {
    return randomBelow(bound, this.random);
  }
}

interface Broadcast {
  readonly from: number;
  readonly to: readonly number[];
  readonly message: VirtualMessage;
}

const start = 0;
const gone = 1;
const script = 2;
const broadcast = 3;
const originRefuses = 4;
/** Connections that every node has, as gossip needs them. */
const neighbours = 24;
const originDialMs = 500;
