import { type CborMap, decodeCanonical, encodeCanonical, isCount, isMap } from "./cbor.ts";
import type { PeerName } from "./directory.ts";
import { isBytes, isDigest, isListOf, isPeerName, isText } from "./fields.ts";
import { bytesToHex, type Hash, hashFromBytes, hexToBytes, type PayloadId, type VariantHash } from "./hash.ts";
import {
  entriesMax,
  envelopeBytesMax,
  frameHeaderBytesMax,
  headsPerFrameMax,
  joinsPerStreamMax,
  lifetimeMsMax,
  partsPerAskMax,
  policyHeadsMax,
  requestItemsMax,
} from "./limits.ts";
import { type TrafficClass, trafficClasses } from "./politeness.ts";

/** `/p2pcache/hello/1`: the first thing that two members say to each other. */
export type HelloMessage =
  | {
      readonly kind: "hello";
      /** Protocol versions that it speaks; one of ours must be among them. */
      readonly versions: readonly number[];
      readonly network: string;
      readonly name: string;
      readonly site: string;
      readonly rack: string;
      /** Milliseconds since 1970 by its clock, so that a wrong one is noticed; members of older versions say none. */
      readonly time?: number;
    }
  /** The connection ends; people are shown why. */
  | { readonly kind: "refused"; readonly reason: string };

/** `/p2pcache/directory/1`: the opener asks once; the body of `want-heads` is fingerprints of what it knows. */
export type DirectoryAsk =
  | { readonly kind: "want-heads" }
  | { readonly kind: "want-parts"; readonly peers: readonly PeerName[] };

/** Its answer, which ends with `end`. */
export type DirectoryAnswer =
  | { readonly kind: "heads"; readonly heads: readonly EnvelopedHead[] }
  /** The body has pairs of 64 bytes; they get the next numbers, from 0 on. */
  | { readonly kind: "pairs" }
  /** One peer's list: the body has the numbers of its pairs. */
  | ({ readonly kind: "part" } & EnvelopedHead)
  | { readonly kind: "end" };

/** A head as it travels; whoever gets it opens the envelope. */
export interface EnvelopedHead {
  readonly envelope: Uint8Array;
  readonly remainingMs: number;
}

/** A frame of an answer. */
export interface DirectoryFrame {
  readonly message: DirectoryAnswer;
  readonly body: Uint8Array;
}

/** A file of the network's policy that a member has. */
export interface PolicyHead {
  /** `timestamp`, or `root`: all others are named by these. */
  readonly role: "timestamp" | "root";
  readonly version: number;
  /** SHA-256 of the file, 64 hex digits. */
  readonly hash: string;
}

/** `/p2pcache/catalog/1`: a release record by its variant, or a file of the policy by its hash; either is the frame's body. */
export type CatalogMessage =
  | { readonly kind: "want-record"; readonly variant: VariantHash }
  | { readonly kind: "record" }
  /** What the sender has of the policy; the answer is what the other has. */
  | { readonly kind: "policy-heads"; readonly heads: readonly PolicyHead[] }
  | { readonly kind: "want-policy"; readonly hash: string }
  | { readonly kind: "policy" }
  | { readonly kind: "absent" };

/** `/p2pcache/swarm/1`: the opener of a stream asks, the other serves. `number` stands for a joined payload. */
export type SwarmMessage =
  | { readonly kind: "join"; readonly number: number; readonly payload: PayloadId; readonly traffic?: TrafficClass }
  /** A join and its first request at once, for small payloads: pieces are its answer. */
  | {
      readonly kind: "take";
      readonly number: number;
      readonly payload: PayloadId;
      readonly items: readonly number[];
      readonly traffic?: TrafficClass;
    }
  | { readonly kind: "leave"; readonly number: number }
  | { readonly kind: "request"; readonly number: number; readonly items: readonly number[] }
  | { readonly kind: "cancel"; readonly number: number; readonly items: readonly number[] }
  /** The answer to a join: the server has all, or what the bitmap in the body says. */
  | { readonly kind: "joined"; readonly number: number; readonly all: boolean }
  | { readonly kind: "have"; readonly number: number; readonly items: readonly number[] }
  /** The item's bytes are the body. */
  | { readonly kind: "piece"; readonly number: number; readonly item: number }
  | { readonly kind: "busy"; readonly number: number; readonly items: readonly number[]; readonly retryAfterMs: number }
  /** It does not have these items; without items, not the payload. */
  | { readonly kind: "gone"; readonly number: number; readonly items: readonly number[] };

export type Message = HelloMessage | DirectoryAsk | DirectoryAnswer | CatalogMessage | SwarmMessage;

/** Canonical CBOR of a message: its frame's header. */
export function encodeMessage(message: Message): Uint8Array {
  return encodeCanonical(packed(message));
}

/** A hello, or undefined for any other bytes. */
export function decodeHello(header: Uint8Array): HelloMessage | undefined {
  const value = decodeMap(header);
  switch (value?.kind) {
    case "hello": {
      const { versions, network, name, site, rack, time } = value;
      if (!isListOf(versions, isSmall, versionsMax) || !isText(network) || !isText(name)) return undefined;
      if (!isText(site) || !isText(rack)) return undefined;
      const hello = { kind: "hello", versions, network, name, site, rack } as const;
      return isCount(time, Number.MAX_SAFE_INTEGER) ? { ...hello, time } : hello;
    }
    case "refused":
      return isText(value.reason) ? { kind: "refused", reason: value.reason } : undefined;
    default:
      return undefined;
  }
}

/** What opens a stream of the directory protocol, or undefined for any other bytes. */
export function decodeDirectoryAsk(header: Uint8Array): DirectoryAsk | undefined {
  const value = decodeMap(header);
  switch (value?.kind) {
    case "want-heads":
      return { kind: value.kind };
    case "want-parts":
      return isListOf(value.peers, isPeerName, partsPerAskMax) ? { kind: value.kind, peers: value.peers } : undefined;
    default:
      return undefined;
  }
}

/** What a stream of the directory protocol answers, or undefined for any other bytes. */
export function decodeDirectoryAnswer(header: Uint8Array): DirectoryAnswer | undefined {
  const value = decodeMap(header);
  switch (value?.kind) {
    case "heads": {
      const { heads } = value;
      if (!isListOf(heads, isMap, headsPerFrameMax) || !heads.every(isEnvelopedHead)) return undefined;
      return { kind: value.kind, heads: heads.map(({ envelope, remainingMs }) => ({ envelope, remainingMs })) };
    }
    case "part": {
      if (!isEnvelopedHead(value)) return undefined;
      return { kind: "part", envelope: value.envelope, remainingMs: value.remainingMs };
    }
    case "pairs":
    case "end":
      return { kind: value.kind };
    default:
      return undefined;
  }
}

/** A message of the catalog protocol, or undefined for any other bytes. */
export function decodeCatalog(header: Uint8Array): CatalogMessage | undefined {
  const value = decodeMap(header);
  switch (value?.kind) {
    case "want-record": {
      const variant = parsedHash<"variant">(value.variant);
      return variant === undefined ? undefined : { kind: "want-record", variant };
    }
    case "policy-heads":
      if (!isListOf(value.heads, isPackedHead, policyHeadsMax)) return undefined;
      return { kind: "policy-heads", heads: value.heads.map((head) => ({ ...head, hash: bytesToHex(head.hash) })) };
    case "want-policy":
      return isDigest(value.hash) ? { kind: "want-policy", hash: bytesToHex(value.hash) } : undefined;
    case "record":
    case "policy":
    case "absent":
      return { kind: value.kind };
    default:
      return undefined;
  }
}

/** A message of the swarm protocol, or undefined for any other bytes. */
export function decodeSwarm(header: Uint8Array): SwarmMessage | undefined {
  const value = decodeMap(header);
  if (value === undefined) return undefined;
  const { kind, number, items, item, retryAfterMs, all } = value;
  if (!isCount(number, numbersMax)) return undefined;
  switch (kind) {
    case "join":
    case "take": {
      const payload = parsedHash<"payload">(value.payload);
      const traffic = parsedTraffic(value.traffic);
      if (payload === undefined || traffic === undefined) return undefined;
      if (kind === "join") return { kind, number, payload, ...traffic };
      return isListOf(items, isItem, requestItemsMax) ? { kind, number, payload, items, ...traffic } : undefined;
    }
    case "leave":
      return { kind, number };
    case "request":
    case "cancel":
    case "have":
    case "gone":
      return isListOf(items, isItem, requestItemsMax) ? { kind, number, items } : undefined;
    case "busy":
      if (!isListOf(items, isItem, requestItemsMax) || !isCount(retryAfterMs, retryAfterMsMax)) return undefined;
      return { kind, number, items, retryAfterMs };
    case "joined":
      return typeof all === "boolean" ? { kind, number, all } : undefined;
    case "piece":
      return isItem(item) ? { kind, number, item } : undefined;
    default:
      return undefined;
  }
}

const versionsMax = 16;
const retryAfterMsMax = 60_000;
/** Numbers of joins are used once, so that a late frame never meets a new join. */
const numbersMax: number = joinsPerStreamMax * 1_000_000;
/** A chunk has at least one byte of one entry, or 256 KiB: no payload has more items than this. */
const itemsMax: number = entriesMax * 8;

function packed(message: Message): CborMap {
  if (message.kind === "want-policy") return { kind: message.kind, hash: hexToBytes(message.hash) };
  if (message.kind === "policy-heads") {
    return { kind: message.kind, heads: message.heads.map((head) => ({ ...head, hash: hexToBytes(head.hash) })) };
  }
  if (message.kind === "want-record") return { kind: message.kind, variant: hexToBytes(message.variant) };
  if (message.kind === "join" || message.kind === "take") {
    const { traffic, ...rest } = message;
    const numbered = traffic === undefined ? {} : { traffic: trafficClasses.indexOf(traffic) };
    return { ...rest, payload: hexToBytes(message.payload), ...numbered };
  }
  return { ...message };
}

function decodeMap(header: Uint8Array): CborMap | undefined {
  try {
    const value = decodeCanonical(header, frameHeaderBytesMax, "a message");
    return isMap(value) ? value : undefined;
  } catch {
    return undefined; // A stranger's bytes get an answer, never a crash.
  }
}

function parsedHash<Of extends string>(value: unknown): Hash<Of> | undefined {
  return isDigest(value) ? hashFromBytes<Of>(value) : undefined;
}

/** Why bytes are asked for, where it is said; undefined for what is no class. */
function parsedTraffic(value: unknown): { readonly traffic?: TrafficClass } | undefined {
  if (value === undefined) return {};
  return isCount(value, trafficClasses.length - 1) ? { traffic: trafficClasses[value]! } : undefined;
}

function isEnvelopedHead(value: CborMap): value is CborMap & EnvelopedHead {
  return isBytes(value.envelope, envelopeBytesMax) && isCount(value.remainingMs, lifetimeMsMax);
}

function isPackedHead(value: unknown): value is Omit<PolicyHead, "hash"> & { readonly hash: Uint8Array } {
  if (!isMap(value) || Object.keys(value).length !== 3) return false;
  return (value.role === "timestamp" || value.role === "root") && isCount(value.version) && isDigest(value.hash);
}

function isItem(value: unknown): value is number {
  return isCount(value, itemsMax);
}

function isSmall(value: unknown): value is number {
  return isCount(value, 1000);
}
