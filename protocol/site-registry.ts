import { type Random, randomBelow } from "./random.ts";

/** A wanter, as a registrar remembers it. */
export interface Wanter {
  readonly peer: string;
  readonly site: SiteRegistry;
  seenMs: number;
  /** When it first had a lease or held a group, and when it last said that it holds a group more. */
  activeMs: number;
  heldMs: number;
  held: Uint8Array;
  heldCount: number;
  readonly leases: Set<number>;
  /** It has said item by item how a group under its lease came in, and then that it holds it. */
  hasBrought: boolean;
  /** Leases that it took and let lapse, one after the other; it gets no other before a time. */
  lapses: number;
  restsUntilMs: number;
  /** What it alone says to hold was found with nobody. */
  isDoubted: boolean;
  /** Groups that it let lapse, and until when its word that it has one of them counts for nothing. */
  readonly lapsed: Map<number, number>;
  /** Its place in the list of its site's wanters. */
  place: number;
}

export interface Lease {
  readonly wanter: Wanter;
  readonly from: "origin" | "far";
  readonly grantedMs: number;
  untilMs: number;
  arrived: number;
  arrivedMs: number;
  /** How often it was said that more has come. */
  reports: number;
}

/** What one site has of a payload, and who brings in the rest. */
export class SiteRegistry {
  readonly groups: number;
  readonly wanters: Wanter[] = [];
  readonly leases: Map<number, Lease> = new Map();
  /** By group: how many wanters say that they hold all of it, and since when somebody has. */
  readonly #holders: Uint16Array;
  readonly #heldSinceMs: Float64Array;
  /** Groups that are free again; the last is leased next, if it still is free. Each stands here once. */
  readonly #freed: number[] = [];
  readonly #isListed: Uint8Array;
  readonly #random: Random;
  /** All groups in an order of this registry's own, which costs nothing to make: the first, and from one to the next. */
  readonly #firstGroup: number;
  readonly #stride: number;
  /** So many at the beginning of that order have been leased or held: they come back through `#freed`. */
  #begun = 0;

  constructor(groups: number, random: Random) {
    this.groups = groups;
    this.#holders = new Uint16Array(groups);
    this.#heldSinceMs = new Float64Array(groups);
    this.#isListed = new Uint8Array(groups);
    this.#random = random;
    this.#firstGroup = randomBelow(groups, random);
    this.#stride = strideFor(groups, random);
  }

  /** How many groups are on their way here from the origin. */
  get originLeases(): number {
    let count = 0;
    for (const { from } of this.leases.values()) if (from === "origin") count++;
    return count;
  }

  isHeld(group: number): boolean {
    return this.#holders[group]! > 0;
  }

  isHeldByOne(group: number): boolean {
    return this.#holders[group] === 1;
  }

  heldForMs(group: number, nowMs: number): number {
    return nowMs - this.#heldSinceMs[group]!;
  }

  /** What is said to be held is held anew from now on, as far as doubt goes. */
  trust(group: number, nowMs: number): void {
    this.#heldSinceMs[group] = nowMs;
  }

  /**
   * How long a wanter that has brought something may take until others have what it alone holds, by how long it took to get
   * what it has: on slow links its upload is busy for several times as long as its download was.
   */
  spreadMs(holder: Wanter): number {
    if (!holder.hasBrought) return 0;
    let alone = 0;
    for (let group = 0; group < this.groups; group++) {
      if (this.isHeldByOne(group) && ((holder.held[group >> 3]! >> (group & 7)) & 1) === 1) alone++;
    }
    return (spreadTimes * alone * (holder.heldMs - holder.activeMs)) / Math.max(1, holder.heldCount);
  }

  isFree(group: number): boolean {
    return this.#holders[group] === 0 && !this.leases.has(group);
  }

  join(wanter: Wanter): void {
    wanter.place = this.wanters.length;
    this.wanters.push(wanter);
  }

  leave(wanter: Wanter): void {
    const last = this.wanters.pop()!;
    if (last === wanter) return;
    this.wanters[wanter.place] = last;
    last.place = wanter.place;
  }

  /** A wanter holds a group now, or does not any more. */
  note(wanter: Wanter, group: number, isHeld: boolean, nowMs: number): void {
    wanter.heldCount += isHeld ? 1 : -1;
    this.#holders[group]! += isHeld ? 1 : -1;
    if (!isHeld) return this.#enlist(group);
    wanter.activeMs = Math.min(wanter.activeMs, nowMs);
    wanter.heldMs = nowMs;
    if (this.#holders[group] === 1) this.#heldSinceMs[group] = nowMs;
    const lease = this.leases.get(group);
    if (lease?.wanter !== wanter) return;
    wanter.lapses = 0;
    if (lease.reports > 1) wanter.hasBrought = true;
    this.end(group);
  }

  lease(group: number, lease: Lease): void {
    lease.wanter.leases.add(group);
    lease.wanter.activeMs = Math.min(lease.wanter.activeMs, lease.grantedMs);
    this.leases.set(group, lease);
  }

  /** A lease is over; its group is free again unless somebody holds it. */
  end(group: number): void {
    const lease = this.leases.get(group);
    if (lease === undefined) return;
    this.leases.delete(group);
    lease.wanter.leases.delete(group);
    this.#enlist(group);
  }

  /** A free group that may be leased now: `test` says so. Those that are not free any more are forgotten on the way. */
  nextFree(test: (group: number) => boolean): number | undefined {
    for (let at = this.#freed.length - 1; at >= 0; at--) {
      const group = this.#freed[at]!;
      if (!this.isFree(group)) {
        this.#freed.splice(at, 1);
        this.#isListed[group] = 0;
      } else if (test(group)) return group;
    }
    while (this.#begun < this.groups && !this.isFree(this.#groupAt(this.#begun))) this.#begun++;
    const rest = this.groups - this.#begun;
    // Of very many the test is asked about some only, others each time.
    const from = rest <= testsMax ? 0 : randomBelow(rest, this.#random);
    for (let i = 0, tests = 0; i < rest && tests < testsMax; i++) {
      const group = this.#groupAt(this.#begun + ((from + i) % rest));
      if (!this.isFree(group)) continue;
      tests++;
      if (test(group)) return group;
    }
    return undefined;
  }

  /** A wanter, not the asker, that holds a group. */
  holderOf(group: number, asker: Wanter, random: Random): Wanter | undefined {
    const count = this.wanters.length;
    if (count === 0 || !this.isHeld(group)) return undefined;
    const from = randomBelow(count, random);
    for (let i = 0; i < count; i++) {
      const wanter = this.wanters[(from + i) % count]!;
      if (wanter !== asker && ((wanter.held[group >> 3]! >> (group & 7)) & 1) === 1) return wanter;
    }
    return undefined;
  }

  /** One that was never leased or held stands in the order of all groups still. */
  #enlist(group: number): void {
    if (!this.isFree(group) || this.#isListed[group] === 1) return;
    this.#isListed[group] = 1;
    this.#freed.push(group);
  }

  #groupAt(place: number): number {
    return (this.#firstGroup + place * this.#stride) % this.groups;
  }
}

/** Simulated, `slow-links`: with less, groups that were on their way were read again. */
const spreadTimes = 4;

/** A random step that leads through all of so many groups before it comes back to the first. */
function strideFor(groups: number, random: Random): number {
  let stride = 1 + randomBelow(groups, random);
  while (divisorOf(stride, groups) !== 1) stride = 1 + (stride % groups);
  return stride;
}

/** The greatest common one. */
function divisorOf(one: number, other: number): number {
  return other === 0 ? one : divisorOf(other, one % other);
}

/** A payload of 64 GiB has no more groups; a question about a larger one must not cost much more. */
const testsMax = 4_096;
