import {
  type Announcement,
  digestHoldings,
  type Head,
  type HoldingsChanges,
  type HoldingsDigest,
  haveDigest,
  isLater,
  type PackedHoldings,
  type PeerLabels,
  type Signed,
} from "./announcement.ts";
import { type Hasher, hexToBytes, type PayloadId, type VariantHash } from "./hash.ts";
import { HeldLists } from "./held-lists.ts";
import { fingerprintBytes, holdingsMax, holdingsPerPeerMax, lifetimeMsMax, pairsMax, peersMax } from "./limits.ts";
import type { Random } from "./random.ts";

/** Who a peer is: the text of its libp2p peer id. */
export type PeerName = string;

export interface DirectoryLimits {
  readonly peersMax: number;
  readonly holdingsPerPeerMax: number;
  /** Different pairs of variant and payload, of all peers together. */
  readonly pairsMax: number;
  /** Holdings, of all peers together. */
  readonly holdingsMax: number;
}

export interface DirectoryParts {
  readonly hash: Hasher;
  /** For the places of pairs in memory, which nobody must foresee. */
  readonly random: Random;
  readonly limits?: DirectoryLimits;
}

/** What an announcement changed. */
export type Learnt =
  /** Nothing: it is not later than what is known, or there is no room for one more peer. */
  | { readonly kind: "stale" }
  /** The peer's list is known as it is now; these were added. */
  | { readonly kind: "current"; readonly added: PackedHoldings }
  /** The peer is known, its list is not, or only an older one. */
  | { readonly kind: "gap" }
  /** It said goodbye. */
  | { readonly kind: "gone" };

/**
 * Who holds what, as the peers themselves announced it. Of each peer it keeps the newest head and the newest list that a
 * head's digest confirmed. Where there is no room for a list, the longest lists make way for shorter ones, and a list
 * that is the longest itself is not kept: who announces a million variants pushes nobody out.
 */
export class Directory {
  readonly #hash: Hasher;
  readonly #limits: DirectoryLimits;
  readonly #lists: HeldLists;
  readonly #emptyDigest: HoldingsDigest;
  readonly #slots = new Map<PeerName, number>();
  /** By slot: a slot is a peer's place in all of these, and its list's in `#lists`. */
  readonly #heads: (Signed | undefined)[] = [];
  /** The digest of the list that is known; undefined for none. */
  readonly #listDigests: (HoldingsDigest | undefined)[] = [];
  #expiresAtMs = new Float64Array(8);
  #fingerprints = new Float64Array(8);
  readonly #freeSlots: number[] = [];
  /** What peers said last before they were forgotten: only what is later counts again. */
  readonly #departed = new Map<PeerName, Departed>();

  constructor({ hash, random, limits = directoryLimits }: DirectoryParts) {
    this.#hash = hash;
    this.#limits = limits;
    this.#lists = new HeldLists(random, limits);
    this.#emptyDigest = digestHoldings(new Uint8Array(0), hash);
  }

  /** Peers of which a head is known. */
  get size(): number {
    return this.#slots.size;
  }

  /** Who holds a variant whole, and as which payload. */
  holders(variant: VariantHash): ReadonlyMap<PeerName, PayloadId> {
    const held = this.#lists.withVariant(hexToBytes(variant));
    const holders = new Map<PeerName, PayloadId>();
    if (held.size === 0) return holders;
    const bytes = hexToBytes(variant);
    for (const [peer, slot] of this.#slots) {
      const payload = held.get(this.#lists.find(slot, bytes) ?? -1);
      if (payload !== undefined) holders.set(peer, payload);
    }
    return holders;
  }

  /** How many peers hold a variant whole as this payload: at once, however many there are. */
  copies(variant: VariantHash, payload: PayloadId): number {
    return this.#lists.listsWith(hexToBytes(variant + payload));
  }

  /** As which payload a peer holds a variant whole. */
  holds(peer: PeerName, variant: VariantHash): PayloadId | undefined {
    const slot = this.#slots.get(peer);
    if (slot === undefined) return undefined;
    const number = this.#lists.find(slot, hexToBytes(variant));
    return number === undefined ? undefined : this.#lists.pair(number)[1];
  }

  /** Who holds a payload whole, as any variant. */
  holdersOf(payload: PayloadId): PeerName[] {
    const pairs = this.#lists.withPayload(hexToBytes(payload));
    const variants = pairs.map((pair) => [pair, hexToBytes(this.#lists.pair(pair)[0])] as const);
    const holders: PeerName[] = [];
    for (const [peer, slot] of this.#slots) {
      if (variants.some(([pair, variant]) => this.#lists.find(slot, variant) === pair)) holders.push(peer);
    }
    return holders;
  }

  /** The variants that are held as a payload, by anyone. */
  variantsOf(payload: PayloadId): VariantHash[] {
    return this.#lists.withPayload(hexToBytes(payload)).map((pair) => this.#lists.pair(pair)[0]);
  }

  /** How many variants a peer is known to hold. */
  holdingsOf(peer: PeerName): number {
    const slot = this.#slots.get(peer);
    return slot === undefined ? 0 : this.#lists.lengthOf(slot);
  }

  /** The list of a peer; undefined when it is not known as its head says. */
  holdings(peer: PeerName): PackedHoldings | undefined {
    const slot = this.#slots.get(peer);
    return slot !== undefined && this.#isCurrent(slot) ? this.#lists.packed(slot) : undefined;
  }

  /** Whether a head of the peer is known. */
  has(peer: PeerName): boolean {
    return this.#slots.has(peer);
  }

  /** Where a peer is and what it is called. */
  labels(peer: PeerName): PeerLabels | undefined {
    const slot = this.#slots.get(peer);
    if (slot === undefined) return undefined;
    const { addresses, name, site, rack } = this.#announcementOf(slot);
    return { addresses, name, site, rack };
  }

  /** A peer's newest epoch: where its clock is right, when it started, in milliseconds since 1970. */
  epochOf(peer: PeerName): number | undefined {
    const slot = this.#slots.get(peer);
    return slot === undefined ? undefined : this.#announcementOf(slot).epoch;
  }

  peers(): IterableIterator<PeerName> {
    return this.#slots.keys();
  }

  /** A peer's newest announcement, without its changes. */
  head(peer: PeerName, nowMs: number): Head | undefined {
    const slot = this.#slots.get(peer);
    return slot === undefined ? undefined : this.#headAt(slot, nowMs);
  }

  /** Whether a peer's list is known as its head says. */
  isCurrent(peer: PeerName): boolean {
    const slot = this.#slots.get(peer);
    return slot !== undefined && this.#isCurrent(slot);
  }

  /** All heads but those whose fingerprints are among `known`. */
  *headsBeyond(known: Uint8Array, nowMs: number): Generator<Head> {
    const prints = readFingerprints(known);
    for (const slot of this.#slots.values()) {
      if (prints.has(this.#fingerprints[slot]!)) continue;
      const head = this.#headAt(slot, nowMs);
      if (head.remainingMs > 0) yield head;
    }
  }

  /** The fingerprints of all heads whose lists are known: what need not be told. */
  known(): Uint8Array {
    const slots = [...this.#slots.values()].filter((slot) => this.#isCurrent(slot));
    const bytes = new Uint8Array(slots.length * fingerprintBytes);
    const view = new DataView(bytes.buffer);
    for (const [index, slot] of slots.entries()) writeFingerprint(view, index, this.#fingerprints[slot]!);
    return bytes;
  }

  /** Takes in a head that was verified. For whoever drives it: nodes do by `Gossip`. */
  learn(signed: Signed, remainingMs: number, nowMs: number): Learnt {
    const { announcement } = signed;
    const { peer, lifetimeMs } = announcement;
    if (this.#isStale(announcement, nowMs)) return stale;
    if (lifetimeMs === 0) {
      this.#forget(peer, announcement, nowMs);
      return { kind: "gone" };
    }
    const countsMs = Math.min(remainingMs, lifetimeMs);
    const slot = this.#slots.get(peer) ?? (countsMs > 0 ? this.#open(peer) : undefined);
    if (slot === undefined || countsMs <= 0) return stale;
    this.#departed.delete(peer);
    this.#heads[slot] = withoutChanges(signed);
    this.#expiresAtMs[slot] = nowMs + countsMs;
    this.#fingerprints[slot] = fingerprintOf(this.#hash(signed.envelope));
    return this.#follow(slot, announcement);
  }

  /**
   * Takes in a peer's list, from anyone: `false` when it is not what the head says, `crowded` when there is no room.
   */
  learnList(peer: PeerName, whole: PackedHoldings): "learnt" | "false" | "crowded" | "unknown" {
    const slot = this.#slots.get(peer);
    if (slot === undefined) return "unknown";
    const { digest } = this.#announcementOf(slot);
    if (this.#isCurrent(slot)) return "learnt";
    if (!haveDigest(whole, digest, this.#hash)) return "false";
    if (!this.#hasMadeRoom(slot, whole)) return "crowded";
    this.#lists.replace(slot, whole);
    this.#listDigests[slot] = digest;
    return "learnt";
  }

  /** Whether a list of this length is worth asking for. */
  hasRoomFor(count: number): boolean {
    return this.#lists.hasRoomFor(count) || this.#longest(count) !== undefined;
  }

  /** The peers whose heads count no longer. */
  expired(nowMs: number): PeerName[] {
    const expired: PeerName[] = [];
    for (const [peer, slot] of this.#slots) if (this.#expiresAtMs[slot]! <= nowMs) expired.push(peer);
    return expired;
  }

  /** When the first head will count no longer. */
  nextExpiryMs(): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const slot of this.#slots.values()) nextMs = Math.min(nextMs, this.#expiresAtMs[slot]!);
    return nextMs;
  }

  /** The peer counts until then: it is being asked. */
  extend(peer: PeerName, untilMs: number): void {
    const slot = this.#slots.get(peer);
    if (slot !== undefined) this.#expiresAtMs[slot] = untilMs;
  }

  /** Nothing of the peer counts any more, nor what it said before. */
  forget(peer: PeerName, nowMs: number): void {
    const slot = this.#slots.get(peer);
    if (slot !== undefined) this.#forget(peer, this.#announcementOf(slot), nowMs);
  }

  #forget(peer: PeerName, { epoch, sequence }: Announcement, nowMs: number): void {
    this.#departed.delete(peer);
    // A head counts no longer than this, wherever it is kept and relayed.
    this.#departed.set(peer, { epoch, sequence, untilMs: nowMs + lifetimeMsMax });
    for (const [oldest] of this.#departed) {
      if (this.#departed.size <= this.#limits.peersMax) break;
      this.#departed.delete(oldest);
    }
    const slot = this.#slots.get(peer);
    if (slot === undefined) return;
    this.#dropList(slot);
    this.#heads[slot] = undefined;
    this.#slots.delete(peer);
    this.#freeSlots.push(slot);
  }

  #isStale(announcement: Announcement, nowMs: number): boolean {
    const slot = this.#slots.get(announcement.peer);
    if (slot !== undefined) return !isLater(this.#announcementOf(slot), announcement);
    const departed = this.#departed.get(announcement.peer);
    return departed !== undefined && departed.untilMs > nowMs && !isLater(departed, announcement);
  }

  #open(peer: PeerName): number | undefined {
    if (this.#slots.size >= this.#limits.peersMax) return undefined;
    const slot = this.#freeSlots.pop() ?? this.#slots.size;
    this.#slots.set(peer, slot);
    if (slot >= this.#expiresAtMs.length) {
      this.#expiresAtMs = larger(this.#expiresAtMs);
      this.#fingerprints = larger(this.#fingerprints);
    }
    return slot;
  }

  /** Brings a peer's list to what its new head says, if the head says enough for that. */
  #follow(slot: number, { digest, count, changes }: Announcement): Learnt {
    if (this.#listDigests[slot] === digest) return { kind: "current", added: nothing };
    if (count === 0 && digest === this.#emptyDigest) {
      this.#dropList(slot);
      this.#listDigests[slot] = digest;
      return { kind: "current", added: nothing };
    }
    const base = this.#baseOf(slot, changes);
    if (changes === undefined || base === undefined || count > this.#limits.holdingsPerPeerMax) return { kind: "gap" };
    if (!this.#hasMadeRoom(slot, changes.added)) return { kind: "gap" };
    const isRight = (packed: PackedHoldings) => haveDigest(packed, digest, this.#hash);
    if (!this.#lists.change(slot, base, changes, count, isRight)) return { kind: "gap" };
    this.#listDigests[slot] = digest;
    return { kind: "current", added: changes.added };
  }

  /** What changes go out from: the list that is known, or none; undefined for another one. */
  #baseOf(slot: number, changes: HoldingsChanges | undefined): "known" | "none" | undefined {
    if (changes === undefined) return undefined;
    if (changes.from === this.#listDigests[slot]) return "known";
    return changes.from === this.#emptyDigest ? "none" : undefined;
  }

  #hasMadeRoom(slot: number, added: PackedHoldings): boolean {
    for (let tries = 0; tries <= makeWayMax; tries++) {
      if (this.#lists.hasRoom(slot, added)) return true;
      const longest = this.#longest(this.#lists.lengthWith(slot, added));
      if (longest === undefined || longest === slot) return false;
      this.#dropList(longest);
    }
    return false;
  }

  /** The longest list of more than `length`. */
  #longest(length: number): number | undefined {
    let longest: number | undefined;
    let most = length;
    for (const slot of this.#slots.values()) {
      if (this.#lists.lengthOf(slot) <= most) continue;
      longest = slot;
      most = this.#lists.lengthOf(slot);
    }
    return longest;
  }

  #dropList(slot: number): void {
    this.#lists.clear(slot);
    this.#listDigests[slot] = undefined;
  }

  #isCurrent(slot: number): boolean {
    return this.#listDigests[slot] === this.#announcementOf(slot).digest;
  }

  #announcementOf(slot: number): Announcement {
    return this.#heads[slot]!.announcement;
  }

  #headAt(slot: number, nowMs: number): Head {
    const { lifetimeMs } = this.#announcementOf(slot);
    const remainingMs = Math.max(0, Math.min(lifetimeMs, Math.floor(this.#expiresAtMs[slot]! - nowMs)));
    return { signed: this.#heads[slot]!, remainingMs };
  }
}

interface Departed {
  readonly epoch: number;
  readonly sequence: number;
  readonly untilMs: number;
}

const directoryLimits: DirectoryLimits = { peersMax, holdingsPerPeerMax, pairsMax, holdingsMax };
/** Lists that make way for one: each look for the longest is a walk over all peers. */
const makeWayMax = 8;
const stale: Learnt = { kind: "stale" };
const nothing = new Uint8Array(0);

/** They are in the envelope; once applied they need no second place in memory. */
function withoutChanges(signed: Signed): Signed {
  if (signed.announcement.changes === undefined) return signed;
  const { changes: _, ...announcement } = signed.announcement;
  return { announcement, envelope: signed.envelope };
}

/** 52 bits of an envelope's hash: a number can hold them. */
function fingerprintOf(digest: Uint8Array): number {
  const view = new DataView(digest.buffer, digest.byteOffset);
  return view.getUint32(0) * 2 ** 20 + (view.getUint32(4) >>> 12);
}

function writeFingerprint(view: DataView, index: number, fingerprint: number): void {
  view.setUint32(index * fingerprintBytes, Math.floor(fingerprint / 2 ** 20));
  view.setUint32(index * fingerprintBytes + 4, fingerprint % 2 ** 20);
}

/** Any bytes are some fingerprints; those that are not whole are left out. */
function readFingerprints(bytes: Uint8Array): Set<number> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const prints = new Set<number>();
  for (let at = 0; at + fingerprintBytes <= bytes.length; at += fingerprintBytes) {
    prints.add(view.getUint32(at) * 2 ** 20 + (view.getUint32(at + 4) & 0xfffff));
  }
  return prints;
}

function larger(array: Float64Array): Float64Array<ArrayBuffer> {
  const twice = new Float64Array(array.length * 2);
  twice.set(array);
  return twice;
}
