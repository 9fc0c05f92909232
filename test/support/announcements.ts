import { openHashEngine } from "../../node/hasher.ts";
import {
  type Announcement,
  digestHoldings,
  encodeAnnouncement,
  type Head,
  type Holding,
  packHoldings,
  type Signed,
} from "../../protocol/announcement.ts";
import { Directory, type DirectoryLimits } from "../../protocol/directory.ts";
import {
  bytesToHex,
  hexToBytes,
  type PayloadId,
  parsePayloadId,
  parseVariantHash,
  type VariantHash,
} from "../../protocol/hash.ts";
import { seededRandom } from "../../protocol/random.ts";

export const { hash } = openHashEngine();
export const network = "studio";

/** Variants and payloads that lie anywhere, as hashes do. */
export const variant = (number: number): VariantHash => parseVariantHash(hashOf(`variant ${number}`));
export const payload = (number: number): PayloadId => parsePayloadId(hashOf(`payload ${number}`));
/** Each variant as the payload of the same number. */
export const holdings = (...numbers: readonly number[]): Holding[] =>
  numbers.map((number) => [variant(number), payload(number)] as const);
export const numbers = (count: number, first = 0): number[] => Array.from({ length: count }, (_, i) => first + i);

export const newDirectory = (limits?: DirectoryLimits): Directory =>
  new Directory({ hash, random: seededRandom(1), ...(limits === undefined ? {} : { limits }) });

/** What a peer's announcement has besides what it holds; the rest is filled in. */
export type Said = Partial<Omit<Announcement, "count" | "digest" | "changes">>;

/** A peer's announcement; with `before`, also the changes since. */
export function announcementOf(
  peer: string,
  whole: readonly Holding[],
  said: Said = {},
  before?: readonly Holding[],
): Announcement {
  const packed = packHoldings(whole);
  const announcement: Announcement = {
    ...{ version: 1, network, peer, addresses: [`/ip4/10.0.0.1/tcp/4001/p2p/${peer}`], name: `host-${peer}` },
    ...{ site: "hq", rack: "r1", epoch: 1, sequence: 0, lifetimeMs: 100_000, ...said },
    ...{ count: packed.length / 64, digest: digestHoldings(packed, hash) },
  };
  if (before === undefined) return announcement;
  const old = new Map(before);
  const now = new Map(whole);
  const removed = [...old.keys()].filter((key) => !now.has(key)).sort();
  const changes = {
    from: digestHoldings(packHoldings(before), hash),
    added: packHoldings([...now].filter(([key, value]) => old.get(key) !== value)),
    removed: hexToBytes(removed.join("")),
  };
  return { ...announcement, changes };
}

/** An announcement in its envelope, which is only its bytes here: signatures are the shell's. */
export function sign(announcement: Announcement): Signed {
  return { announcement, envelope: encodeAnnouncement(announcement) };
}

export function signedBy(peer: string, whole: readonly Holding[], said?: Said, before?: readonly Holding[]): Signed {
  return sign(announcementOf(peer, whole, said, before));
}

export function headOf(signed: Signed, remainingMs: number = signed.announcement.lifetimeMs): Head {
  return { signed, remainingMs };
}

function hashOf(text: string): string {
  return bytesToHex(hash(new TextEncoder().encode(text)));
}
