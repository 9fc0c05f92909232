import { type Random, randomBelow } from "./random.ts";

/** A wanter, as a registrar remembers it. */
export interface Wanter {
  readonly peer: string;
  readonly site: SiteRegistry;
  seenMs: number;
  held: Uint8Array;
  heldCount: number;
  readonly leases: Set<number>;
  /** Leases that it took and let lapse, one after the other; it gets no other before a time. */
  lapses: number;
  restsUntilMs: number;
  /** What it alone says to hold was found with nobody. */
  isDoubted: boolean;
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
}

/** What one site has of a payload, and who brings in the rest. */
export class SiteRegistry {
  readonly groups: number;
  readonly wanters: Wanter[] = [];
  readonly leases: Map<number, Lease> = new Map();
  /** By group: how many wanters say that they hold all of it, and since when somebody has. */
  readonly #holders: Uint16Array;
  readonly #heldSinceMs: Float64Array;
  /** Groups that nobody held or had leased; the last is leased next, if it still is free. Each stands here once. */
  readonly #free: number[];
  readonly #isListed: Uint8Array;

  constructor(groups: number, random: Random) {
    this.groups = groups;
    this.#holders = new Uint16Array(groups);
    this.#heldSinceMs = new Float64Array(groups);
    this.#free = shuffled(groups, random);
    this.#isListed = new Uint8Array(groups).fill(1);
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
    if (this.#holders[group] === 1) this.#heldSinceMs[group] = nowMs;
    if (this.leases.get(group)?.wanter !== wanter) return;
    wanter.lapses = 0;
    this.end(group);
  }

  lease(group: number, lease: Lease): void {
    lease.wanter.leases.add(group);
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
    for (let at = this.#free.length - 1; at >= 0; at--) {
      const group = this.#free[at]!;
      if (!this.isFree(group)) {
        this.#free.splice(at, 1);
        this.#isListed[group] = 0;
      } else if (test(group)) return group;
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

  #enlist(group: number): void {
    if (!this.isFree(group) || this.#isListed[group] === 1) return;
    this.#isListed[group] = 1;
    this.#free.push(group);
  }
}

function shuffled(count: number, random: Random): number[] {
  const groups = Array.from({ length: count }, (_, group) => group);
  for (let i = count - 1; i > 0; i--) {
    const j = randomBelow(i + 1, random);
    [groups[i], groups[j]] = [groups[j]!, groups[i]!];
  }
  return groups;
}
