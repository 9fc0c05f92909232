import { decodeCanonical, encodeCanonical, isCount, isMap } from "./cbor.ts";
import type { PeerName } from "./directory.ts";
import { isBytes, isDigest, isListOf, isPeerName, isText } from "./fields.ts";
import {
  bytesToHex,
  type Hash,
  type Hasher,
  hashFromBytes,
  hexToBytes,
  type PayloadId,
  type VariantHash,
} from "./hash.ts";
import {
  addressBytesMax,
  addressesMax,
  announcementBytesMax,
  changesMax,
  holdingsPerPeerMax,
  lifetimeMsMax,
} from "./limits.ts";
import { compareAt, pairBytes } from "./pair-array.ts";

/** A variant that is held whole, and as which payload. */
export type Holding = readonly [variant: VariantHash, payload: PayloadId];

/** What a peer says of itself besides what it holds. */
export interface PeerLabels {
  /** Multiaddrs where it can be dialled. */
  readonly addresses: readonly string[];
  readonly name: string;
  readonly site: string;
  readonly rack: string;
}

/**
 * What a peer signs: who and where it is, and the digest of all that it holds. Whoever gets the list itself, from anyone,
 * checks it against the digest; so a node keeps one signed envelope of each peer and may relay both.
 */
export interface Announcement extends PeerLabels {
  readonly version: 1;
  readonly network: string;
  readonly peer: PeerName;
  /** `(epoch, sequence)` is ordered: a later one replaces an earlier one. A node starts with a new epoch. */
  readonly epoch: number;
  readonly sequence: number;
  /** How long it counts without a later one, by the receiver's own clock; 0 says goodbye. */
  readonly lifetimeMs: number;
  /** Holdings, and the digest of their packed form. */
  readonly count: number;
  readonly digest: HoldingsDigest;
  readonly changes?: HoldingsChanges;
}

/** What turns the list with digest `from` into the announced one. No variant stands in it twice. */
export interface HoldingsChanges {
  readonly from: HoldingsDigest;
  /** A variant that was there as another payload is replaced. */
  readonly added: PackedHoldings;
  /** Variants, 32 bytes each, sorted. */
  readonly removed: Uint8Array;
}

/** BLAKE3 over holdings in their packed form. */
export type HoldingsDigest = Hash<"holdings">;

/**
 * Holdings as bytes: 32 of the variant and 32 of the payload each, sorted by these bytes, no variant twice. The digest
 * of an announcement is over this form, and lists travel in it.
 */
export type PackedHoldings = Uint8Array;

/** An announcement and the envelope it came in; the shell has checked the signature, and that the key is the peer's. */
export interface Signed {
  readonly announcement: Announcement;
  readonly envelope: Uint8Array;
}

/** A head as a node keeps and relays it: how long it still counts by that node's clock. */
export interface Head {
  readonly signed: Signed;
  readonly remainingMs: number;
}

/** What a peer's envelope contains. */
export function encodeAnnouncement(announcement: Announcement): Uint8Array {
  const { digest, changes, ...rest } = announcement;
  const packed = changes === undefined ? {} : { changes: { ...changes, from: hexToBytes(changes.from) } };
  return encodeCanonical({ ...rest, digest: hexToBytes(digest), ...packed });
}

/** An announcement, or undefined for any other bytes, and for one of another version. */
export function decodeAnnouncement(bytes: Uint8Array): Announcement | undefined {
  let value: unknown;
  try {
    value = decodeCanonical(bytes, announcementBytesMax, "an announcement");
  } catch {
    return undefined; // A stranger's bytes get an answer, never a crash.
  }
  if (!isMap(value) || value.version !== 1) return undefined;
  const { network, peer, addresses, name, site, rack, epoch, sequence, lifetimeMs, count, digest } = value;
  if (!isText(network) || !isPeerName(peer) || !isText(name) || !isText(site) || !isText(rack)) return undefined;
  if (!isListOf(addresses, isAddress, addressesMax) || !isCount(epoch) || !isCount(sequence)) return undefined;
  if (!isCount(lifetimeMs, lifetimeMsMax) || !isCount(count, holdingsPerPeerMax) || !isDigest(digest)) return undefined;
  const changes = value.changes === undefined ? undefined : parseChanges(value.changes);
  if (value.changes !== undefined && changes === undefined) return undefined;
  return {
    ...{ version: 1, network, peer, addresses, name, site, rack, epoch, sequence, lifetimeMs, count },
    digest: hashFromBytes<"holdings">(digest),
    ...(changes === undefined ? {} : { changes }),
  };
}

/** Whether the second of two announcements of one peer is the later one. */
export function isLater(known: Pick<Announcement, "epoch" | "sequence">, other: Announcement): boolean {
  return other.epoch > known.epoch || (other.epoch === known.epoch && other.sequence > known.sequence);
}

/** Holdings in their packed form. Of a variant that stands there twice the last one counts. */
export function packHoldings(holdings: Iterable<Holding>): PackedHoldings {
  // Hex digits are ordered as the bytes that they stand for.
  const texts = Array.from(new Map(holdings), ([variant, payload]) => variant + payload).sort();
  const packed = new Uint8Array(texts.length * pairBytes);
  for (const [index, text] of texts.entries()) packed.set(hexToBytes(text), index * pairBytes);
  return packed;
}

/** The holdings of a packed form, one after another. */
export function* unpackHoldings(packed: PackedHoldings): Generator<Holding> {
  for (let at = 0; at < packed.length; at += pairBytes) {
    const payload = packed.subarray(at + 32, at + pairBytes);
    yield [hashFromBytes<"variant">(packed.subarray(at, at + 32)), hashFromBytes<"payload">(payload)];
  }
}

/** What an announcement says of holdings. */
export function digestHoldings(packed: PackedHoldings, hash: Hasher): HoldingsDigest {
  return bytesToHex(hash(packed)) as HoldingsDigest;
}

/** Whether holdings are what an announcement says, without making a text of their digest. */
export function haveDigest(packed: PackedHoldings, digest: HoldingsDigest, hash: Hasher): boolean {
  const bytes = hash(packed);
  for (let i = 0; i < bytes.length; i++) {
    if (hexCodes[bytes[i]! >> 4] !== digest.charCodeAt(2 * i)) return false;
    if (hexCodes[bytes[i]! & 15] !== digest.charCodeAt(2 * i + 1)) return false;
  }
  return true;
}

/** Whether bytes of `stride` each are whole, and their first 32 strictly ascending: a packed form, or variants. */
export function isAscending(bytes: Uint8Array, stride: number): boolean {
  if (bytes.length % stride !== 0) return false;
  for (let at = stride; at < bytes.length; at += stride) {
    if (compareAt(bytes, at - stride, bytes, at, 32) >= 0) return false;
  }
  return true;
}

function parseChanges(value: unknown): HoldingsChanges | undefined {
  if (!isMap(value) || !isDigest(value.from)) return undefined;
  const { from, added, removed } = value;
  if (!isBytes(added, changesMax * pairBytes) || !isBytes(removed, changesMax * 32)) return undefined;
  if (!isAscending(added, pairBytes) || !isAscending(removed, 32)) return undefined;
  const changes = added.length / pairBytes + removed.length / 32;
  if (changes > changesMax || haveCommonVariant(added, removed)) return undefined;
  return { from: hashFromBytes<"holdings">(from), added, removed };
}

/** Both are ascending, so one walk through both finds what is in both. */
function haveCommonVariant(added: PackedHoldings, removed: Uint8Array): boolean {
  let at = 0;
  for (let other = 0; other < removed.length; other += 32) {
    while (at < added.length && compareAt(added, at, removed, other, 32) < 0) at += pairBytes;
    if (at < added.length && compareAt(added, at, removed, other, 32) === 0) return true;
  }
  return false;
}

function isAddress(value: unknown): value is string {
  return isText(value, addressBytesMax);
}

const hexCodes = Uint8Array.from("0123456789abcdef", (digit) => digit.charCodeAt(0));
