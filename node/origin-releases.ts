import { FormatError, NotFoundError, P2pCacheError } from "../protocol/errors.ts";
import type { Hasher, VariantHash } from "../protocol/hash.ts";
import { type IndexEntry, parseIndex } from "../protocol/origin-index.ts";
import {
  decodeEnvelope,
  decodeRecord,
  type Publishers,
  type SignedRecord,
  signerOf,
  trustedRecord,
} from "../protocol/record.ts";
import { type Variant, variantHash, variantText } from "../protocol/variant.ts";
import { verifySignature } from "./keys.ts";
import type { Origin, WaitOptions } from "./ports.ts";

/** Whether a record's signature was found right, by a key that we trust. */
export type TrustState = "trusted" | "unknown-key" | "bad-signature" | "unreadable";

/** The latest record of a variant at an origin, as `ls --origin` shows it. */
export interface OriginRelease {
  /** The origin's name. */
  readonly origin: string;
  readonly hash: VariantHash;
  readonly trust: TrustState;
  /** Absent where the record cannot be read. */
  readonly record?: SignedRecord;
  /** Hex SHA-256 of the signer's key, by its own word unless it is trusted. */
  readonly keyid?: string;
  /** Why the record cannot be read. */
  readonly fault?: string;
}

export interface ReleaseListOptions extends WaitOptions {
  readonly publishers: Publishers;
  readonly hasher: Hasher;
  readonly matches: (variant: Variant) => boolean;
}

/**
 * Reads the latest records of some variants of an origin, a few at a time. One that is broken is told as such; one that
 * is not there (an index is a hint) is left out. @throws {UnreachableError} when the origin fails.
 */
export async function* readReleases(
  origin: Pick<Origin, "name" | "latestRecord">,
  variants: AsyncIterable<VariantHash>,
  options: ReleaseListOptions,
): AsyncGenerator<OriginRelease, void, undefined> {
  let batch: Promise<OriginRelease | undefined>[] = [];
  for await (const hash of variants) {
    options.signal?.throwIfAborted();
    const reading = readRelease(origin, hash, options);
    reading.catch(() => undefined); // It is awaited below, perhaps after another one has failed.
    batch.push(reading);
    if (batch.length < batchMax) continue;
    yield* chosen(await Promise.all(batch), options);
    batch = [];
  }
  yield* chosen(await Promise.all(batch), options);
}

/** The variants that an origin's index names. @throws {NotFoundError} where it has none; {FormatError} for a broken one. */
export async function* indexedVariants(
  origin: Pick<Origin, "name" | "index">,
  { hasher, signal, matches }: ReleaseListOptions,
): AsyncGenerator<VariantHash, void, undefined> {
  const bytes = await origin.index?.(signal === undefined ? {} : { signal });
  if (bytes === undefined) {
    throw new NotFoundError(`the origin ${origin.name} has no index, and cannot be listed without one`, {
      hint: "`p2pcache origin gc` writes it, on a machine that publishes there",
    });
  }
  for (const { variant } of parseIndex(bytes)) if (matches(variant)) yield variantHash(variant, hasher);
}

/** What an index says of a release. */
export function indexEntryOf({ record }: OriginRelease): IndexEntry | undefined {
  if (record === undefined) return undefined;
  return { variant: record.variant, revision: record.revision, isWithdrawn: record.withdrawn === true };
}

function* chosen(
  releases: readonly (OriginRelease | undefined)[],
  { matches }: ReleaseListOptions,
): Generator<OriginRelease> {
  for (const release of releases) {
    // What cannot be read may be anything.
    if (release !== undefined && (release.record === undefined || matches(release.record.variant))) yield release;
  }
}

async function readRelease(
  origin: Pick<Origin, "name" | "latestRecord">,
  hash: VariantHash,
  { publishers, hasher, signal }: ReleaseListOptions,
): Promise<OriginRelease | undefined> {
  const head = { origin: origin.name, hash };
  try {
    const bytes = await origin.latestRecord(hash, signal === undefined ? {} : { signal });
    if (bytes === undefined) return undefined;
    const envelope = decodeEnvelope(bytes);
    const record = decodeRecord(envelope.body, hasher);
    if (variantHash(record.variant, hasher) !== hash) {
      throw new FormatError(`it is of ${variantText(record.variant)}, in another variant's place`);
    }
    const keyid = signerOf(envelope, publishers);
    const trust = trustOf(() => trustedRecord(envelope, publishers, verifySignature, hasher));
    return { ...head, record, trust, ...(keyid === undefined ? {} : { keyid }) };
  } catch (error) {
    // 4: what lies there breaks a rule. All else is about the origin itself.
    if (!(error instanceof P2pCacheError) || error.exit !== 4) throw error;
    return { ...head, trust: "unreadable", fault: error.message };
  }
}

function trustOf(check: () => SignedRecord): TrustState {
  try {
    check();
    return "trusted";
  } catch (error) {
    const isWrong = error instanceof P2pCacheError && error.code === "BAD_SIGNATURE";
    return isWrong ? "bad-signature" : "unknown-key";
  }
}

/** Records of up to 2 MiB each that are read at a time. */
const batchMax = 8;
