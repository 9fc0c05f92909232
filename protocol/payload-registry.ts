import type { PeerName } from "./directory.ts";
import { MIB } from "./limits.ts";
import { type Random, randomBelow } from "./random.ts";
import { leasesPerWanterMax, type RegisterAnswer, type RegisterQuestion, retryMsMax } from "./register-messages.ts";
import { SiteRegistry, type Wanter } from "./site-registry.ts";

export interface RegistryLimits {
  /** How long a wanter is remembered that does not ask again (DESIGN section 7, rule 1). */
  readonly stateMs: number;
  /** How long a lease goes on without an item. */
  readonly leaseMs: number;
  /** Leases of one payload at a time, in one site: so many groups are on their way at once. */
  readonly leasesMax: number;
  /** The same for a registrar that others come before, and for how long: the first may only be slow. */
  readonly standInLeasesMax: number;
  readonly standInMs: number;
  /** Peers in one answer. */
  readonly peersGiven: number;
  readonly wantersMax: number;
  readonly sitesMax: number;
  readonly payloadsMax: number;
  /** Bytes of all that is remembered, roughly. */
  readonly bytesMax: number;
}

export const defaultRegistryLimits: RegistryLimits = {
  stateMs: 60_000,
  leaseMs: 5_000,
  leasesMax: 16,
  // Seen with 20 processes on two cores, decision 0068.
  standInLeasesMax: 4,
  standInMs: 3_000,
  peersGiven: 24,
  // Twice the largest network that DESIGN promises anything for.
  wantersMax: 10_000,
  sitesMax: 64,
  payloadsMax: 4_096,
  bytesMax: 64 * MIB,
};

/** What a registrar knows of one payload: who wants it, what each site has of it, and who brings in the rest. */
export class PayloadRegistry {
  readonly groups: number;
  readonly #limits: RegistryLimits;
  readonly #random: Random;
  readonly #onIdle: (peer: PeerName) => void;
  /** The one that was seen last is the last. */
  readonly #wanters = new Map<PeerName, Wanter>();
  readonly #sites = new Map<string, SiteRegistry>();
  /** What leases that lapsed mean for wanters that have gone since: who comes back has not changed. */
  readonly #debts = new Map<PeerName, Pick<Wanter, "lapses" | "restsUntilMs" | "lapsed">>();
  /** How long a lease goes on without an item: longer where items come slowly. */
  #termMs: number;
  /** When the questions for leases began, and when the last came. */
  #wantedSinceMs = Number.NEGATIVE_INFINITY;
  #wantedMs = Number.NEGATIVE_INFINITY;
  #isFirst: () => boolean = () => true;
  askedMs = 0;

  /** `onIdle` is told of whoever let a lease lapse without an item. */
  constructor(groups: number, limits: RegistryLimits, random: Random, onIdle: (peer: PeerName) => void) {
    this.#onIdle = onIdle;
    this.groups = groups;
    this.#limits = limits;
    this.#random = random;
    this.#termMs = limits.leaseMs;
  }

  /** Bytes that it takes up, roughly. */
  get bytes(): number {
    return 15 * this.groups * this.#sites.size + this.#wanters.size * (200 + this.groups / 8);
  }

  /** `isFirst`: whether no other registrar of this payload comes before this one; it is not asked more than need be. */
  ask(peer: PeerName, question: RegisterQuestion, nowMs: number, isFirst: () => boolean): RegisterAnswer {
    this.askedMs = nowMs;
    this.#isFirst = isFirst;
    if (question.wants > 0) {
      if (nowMs - this.#wantedMs > this.#limits.leaseMs) this.#wantedSinceMs = nowMs;
      this.#wantedMs = nowMs;
    }
    this.#forget(nowMs);
    const wanter = this.#see(peer, question.site, nowMs);
    this.#note(wanter, question.held, nowMs);
    this.#renew(wanter, question, nowMs);
    const peers = new Set<PeerName>();
    this.#heed(wanter, question, peers, nowMs);
    this.#lapse(nowMs);
    this.#grant(wanter, question, nowMs);
    const leases = [...wanter.leases].map((group) => ({ group, from: wanter.site.leases.get(group)!.from }));
    for (const { group, from } of leases) if (from === "far") this.#addHolder(group, wanter, peers);
    if (question.seeks) this.#addPeers(wanter, peers);
    // About a thousand questions a second, however many ask.
    const retryAfterMs = Math.min(retryMsMax, Math.max(retryMsMin, this.#wanters.size));
    return { peers: [...peers], leases, leaseMs: this.#termMs, retryAfterMs };
  }

  remove(peer: PeerName, nowMs: number): void {
    const wanter = this.#wanters.get(peer);
    if (wanter === undefined) return;
    for (const group of [...wanter.leases]) wanter.site.end(group);
    this.#note(wanter, new Uint8Array(wanter.held.length), nowMs);
    this.#wanters.delete(peer);
    wanter.site.leave(wanter);
    const { lapses, restsUntilMs, lapsed } = wanter;
    if (nowMs >= restsUntilMs && lapsed.size === 0) return;
    this.#debts.set(peer, { lapses, restsUntilMs, lapsed });
    if (this.#debts.size > debtsMax) this.#debts.delete(this.#debts.keys().next().value!);
  }

  #see(peer: PeerName, siteName: string, nowMs: number): Wanter {
    const known = this.#wanters.get(peer);
    const wanter = known ?? this.#add(peer, siteName, nowMs);
    this.#wanters.delete(peer);
    this.#wanters.set(peer, wanter);
    wanter.seenMs = nowMs;
    if (this.#wanters.size > this.#limits.wantersMax) this.remove(this.#wanters.keys().next().value!, nowMs);
    return wanter;
  }

  #add(peer: PeerName, siteName: string, nowMs: number): Wanter {
    // One site too many counts as the first: nothing is refused, it only costs a little.
    const first = this.#sites.size >= this.#limits.sitesMax ? this.#sites.values().next().value : undefined;
    const site = this.#sites.get(siteName) ?? first ?? new SiteRegistry(this.groups, this.#random);
    if (first === undefined) this.#sites.set(siteName, site);
    const held = new Uint8Array(Math.ceil(this.groups / 8));
    const debt = this.#debts.get(peer) ?? { lapsed: new Map<number, number>() };
    this.#debts.delete(peer);
    const wanter = {
      ...newWanter,
      ...debt,
      peer,
      site,
      held,
      leases: new Set<number>(),
      activeMs: Number.POSITIVE_INFINITY,
      heldMs: nowMs,
    };
    site.join(wanter);
    return wanter;
  }

  #forget(nowMs: number): void {
    for (const wanter of this.#wanters.values()) {
      if (nowMs - wanter.seenMs <= this.#limits.stateMs) return;
      this.remove(wanter.peer, nowMs);
    }
  }

  /** Takes note of which groups a wanter holds now. */
  #note(wanter: Wanter, held: Uint8Array, nowMs: number): void {
    for (let at = 0; at < held.length; at++) {
      let changed = held[at]! ^ wanter.held[at]!;
      while (changed !== 0) {
        const bit = 31 - Math.clz32(changed & -changed);
        changed &= changed - 1;
        const group = 8 * at + bit;
        if (group < this.groups) wanter.site.note(wanter, group, ((held[at]! >> bit) & 1) === 1, nowMs);
      }
      wanter.held[at] = held[at]!;
    }
  }

  /** Items that arrived keep a lease alive, and nothing else does; nor do they for ever. */
  #renew(wanter: Wanter, question: RegisterQuestion, nowMs: number): void {
    // What a wanter was given and does not speak of it has not taken.
    const spokenOf = new Set(question.leases.map(({ group }) => group));
    for (const group of [...wanter.leases]) {
      if (spokenOf.has(group)) continue;
      wanter.site.end(group);
      wanter.restsUntilMs = Math.max(wanter.restsUntilMs, nowMs + this.#limits.leaseMs);
    }
    for (const { group, arrived } of question.leases) {
      if (group >= this.groups) continue;
      const lease = wanter.site.leases.get(group);
      if (lease === undefined) {
        // Another registrar gave it: what is under way there need not be given twice.
        const hasLapsed = nowMs < (wanter.lapsed.get(group) ?? Number.NEGATIVE_INFINITY);
        const isForIt = !question.isFarOnly || this.#isHeldElsewhere(group, wanter.site);
        if (isForIt && wanter.site.isFree(group) && !hasLapsed && this.#mayLease(wanter, nowMs, true))
          this.#lease(wanter, group, arrived, nowMs);
        continue;
      }
      if (lease.wanter !== wanter || arrived <= lease.arrived) continue;
      const gapMs = (nowMs - lease.arrivedMs) / (arrived - lease.arrived);
      this.#termMs = Math.min(
        termMsMax,
        Math.max(this.#limits.leaseMs, 0.9 * this.#termMs + 0.1 * gapsPerTerm * gapMs),
      );
      lease.arrived = arrived;
      lease.reports++;
      lease.arrivedMs = nowMs;
      lease.untilMs = Math.min(nowMs + this.#termMs, lease.grantedMs + leaseTermsMax * this.#termMs);
    }
  }

  /**
   * A wanter knows nobody who has all of some groups: it is told who says so. What is only said to be held for long is
   * leased again, since one who lies must not keep it from everybody.
   */
  #heed(wanter: Wanter, question: RegisterQuestion, peers: Set<PeerName>, nowMs: number): void {
    const { site } = wanter;
    const spreads = new Map<Wanter, number>();
    const spreadOf = (holder: Wanter) => {
      const spreadMs = spreads.get(holder) ?? site.spreadMs(holder);
      spreads.set(holder, spreadMs);
      return spreadMs;
    };
    for (const group of question.lacking) {
      if (group >= this.groups || !site.isHeld(group)) continue;
      const holder = site.holderOf(group, wanter, this.#random);
      if (holder !== undefined) peers.add(holder.peer);
      const only = site.isHeldByOne(group) ? holder : undefined;
      const spreadMs = only === undefined || site.heldForMs(group, nowMs) <= this.#termMs ? 0 : spreadOf(only);
      const isOld = site.heldForMs(group, nowMs) > Math.min(termMsMax, Math.max(this.#termMs, spreadMs));
      // Whoever kept one group to itself keeps others too.
      if (isOld && only !== undefined) only.isDoubted = true;
      const isDoubtful = (isOld || only?.isDoubted === true) && !site.leases.has(group);
      if (!isDoubtful || question.wants === 0 || !this.#mayLease(wanter, nowMs)) continue;
      if (question.isFarOnly && !this.#isHeldElsewhere(group, site)) continue;
      site.trust(group, nowMs);
      this.#lease(wanter, group, 0, nowMs);
    }
  }

  #lapse(nowMs: number): void {
    for (const site of this.#sites.values()) {
      for (const [group, { wanter, untilMs, arrived }] of site.leases) {
        // What has arrived may not have been said yet: whoever is silent is waited for once more.
        const { leaseMs } = this.#limits;
        const isWaitedFor = group !== 0 && wanter.seenMs < untilMs - leaseMs / 2;
        if (nowMs < untilMs + (isWaitedFor ? leaseMs : 0)) continue;
        if (group === 0 && arrived === 0) {
          wanter.restsUntilMs = Math.max(wanter.restsUntilMs, nowMs + firstRestMs);
          site.end(group);
          continue;
        }
        wanter.lapses++;
        if (arrived === 0) this.#onIdle(wanter.peer);
        wanter.lapsed.set(group, nowMs + this.#limits.stateMs);
        wanter.restsUntilMs = nowMs + Math.min(restMsMax, this.#limits.leaseMs * 2 ** (wanter.lapses - 1));
        // It may be the origin that is slow, or away.
        this.#termMs = Math.min(termMsMax, 1.5 * this.#termMs);
        site.end(group);
      }
    }
  }

  #grant(wanter: Wanter, question: RegisterQuestion, nowMs: number): void {
    const { site } = wanter;
    let wants = Math.min(question.wants, leasesPerWanterMax - wanter.leases.size);
    while (wants-- > 0 && this.#mayLease(wanter, nowMs)) {
      const isReady = question.isReady || wanter.leases.has(0);
      // What another site brings from the origin just now is waited for, and what one that leads will bring soon.
      const isElsewhere = (group: number) => this.#isHeldElsewhere(group, site);
      const mayRead = !question.isFarOnly && !this.#isLed(site);
      const isOurs = (group: number) => !this.#isLeasedElsewhere(group, site);
      const isFirst = site.isFree(0) && (isElsewhere(0) || (mayRead && isOurs(0)));
      const far = isReady && this.#sites.size > 1 ? site.nextFree(isElsewhere) : undefined;
      const later = far ?? (isReady && mayRead ? site.nextFree(isOurs) : undefined);
      const group = isFirst ? 0 : later;
      if (group === undefined) return;
      this.#lease(wanter, group, 0, nowMs);
    }
  }

  /** Whether another site reads the origin busily: then this one takes what that has, over the line between them, once. */
  #isLed(site: SiteRegistry): boolean {
    const own = site.originLeases;
    for (const other of this.#sites.values()) {
      if (other !== site && other.originLeases >= busyLeases && other.originLeases > own) return true;
    }
    return false;
  }

  #mayLease(wanter: Wanter, nowMs: number, isUnderWay = false): boolean {
    if (nowMs < wanter.restsUntilMs || wanter.leases.size >= leasesPerWanterMax) return false;
    const { leasesMax, standInLeasesMax, standInMs } = this.#limits;
    const { size } = wanter.site.leases;
    if (size >= leasesMax) return false;
    return size < standInLeasesMax || isUnderWay || nowMs - this.#wantedSinceMs >= standInMs || this.#isFirst();
  }

  #lease(wanter: Wanter, group: number, arrived: number, nowMs: number): void {
    const from = this.#isHeldElsewhere(group, wanter.site) ? "far" : "origin";
    const untilMs = nowMs + (group === 0 ? Math.min(firstTermMs, this.#termMs) : this.#termMs);
    wanter.site.lease(group, { wanter, from, grantedMs: nowMs, untilMs, arrived, arrivedMs: nowMs, reports: 0 });
  }

  #isHeldElsewhere(group: number, than: SiteRegistry): boolean {
    for (const site of this.#sites.values()) if (site !== than && site.isHeld(group)) return true;
    return false;
  }

  #isLeasedElsewhere(group: number, than: SiteRegistry): boolean {
    for (const site of this.#sites.values()) if (site !== than && site.leases.has(group)) return true;
    return false;
  }

  /** Somebody of another site who holds a group. */
  #addHolder(group: number, asker: Wanter, peers: Set<PeerName>): void {
    for (const site of this.#sites.values()) {
      const holder = site === asker.site ? undefined : site.holderOf(group, asker, this.#random);
      if (holder !== undefined) peers.add(holder.peer);
    }
  }

  /** Of mixed completeness, most of the asker's site: at random, and some of those who hold more. */
  #addPeers(asker: Wanter, peers: Set<PeerName>): void {
    this.#addFrom(asker.site.wanters, asker, this.#limits.peersGiven, peers);
    for (const site of this.#sites.values()) {
      if (site !== asker.site) this.#addFrom(site.wanters, asker, farGiven, peers);
    }
  }

  #addFrom(wanters: readonly Wanter[], asker: Wanter, count: number, peers: Set<PeerName>): void {
    const most = peers.size + Math.min(count, wanters.length);
    if (wanters.length <= 2 * count) {
      const from = randomBelow(Math.max(1, wanters.length), this.#random);
      for (let i = 0; i < wanters.length && peers.size < most; i++) {
        const wanter = wanters[(from + i) % wanters.length]!;
        if (wanter !== asker) peers.add(wanter.peer);
      }
      return;
    }
    for (let tries = 0; peers.size < most && tries < 4 * count; tries++) {
      const one = wanters[randomBelow(wanters.length, this.#random)]!;
      const other = wanters[randomBelow(wanters.length, this.#random)]!;
      // Every other one is the fuller of two: nobody is given peers with nothing only.
      const wanter = tries % 2 === 0 || one.heldCount > other.heldCount ? one : other;
      if (wanter !== asker) peers.add(wanter.peer);
    }
  }
}

/** A lease that trickles ends after so many terms: somebody else is faster. */
const leaseTermsMax = 8;
/** Everybody waits for the segments, which are small: read twice they cost nothing, in the hands of an idler seconds. */
const firstTermMs = 1_000;
const firstRestMs = 1_000;
/** Who lets leases lapse gets none for a while, longer each time. */
const restMsMax = 60_000;
/** Wanters that have gone and are not forgotten: fewer than that let leases lapse and go, in a minute. */
const debtsMax = 1_000;
/** A lease bears with gaps between items that are several times the usual. */
const gapsPerTerm = 4;
const termMsMax = 30_000;
/** Leases with which a site keeps an origin busy. */
const busyLeases = 4;
const retryMsMin = 500;
/** Peers of each other site in one answer. */
const farGiven = 4;
const newWanter = {
  seenMs: 0,
  heldCount: 0,
  lapses: 0,
  restsUntilMs: Number.NEGATIVE_INFINITY,
  place: 0,
  isDoubted: false,
  hasBrought: false,
};
