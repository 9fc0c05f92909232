import { NotTrustedError, P2pCacheError } from "../../protocol/errors.ts";
import type { ChunkHash, PayloadId, VariantHash } from "../../protocol/hash.ts";
import { encodeRoot, type ManifestRoot } from "../../protocol/manifest.ts";
import type { BuiltManifest } from "../../protocol/manifest-builder.ts";
import { decodeRecord, encodeRecord, type RecordAttributes, type ReleaseRecord } from "../../protocol/record.ts";
import type { TreeDifference } from "../../protocol/tree-difference.ts";
import { type Variant, variantHash, variantText } from "../../protocol/variant.ts";
import type { HashEngine } from "../hasher.ts";
import type { Repository } from "../ports.ts";
import { importTree } from "./importer.ts";
import { type LatestRecord, latestRecordOf, type RecordSigner, sealed } from "./latest-record.ts";
import { NewSegments } from "./release-difference.ts";

export interface PublishOptions {
  readonly variant: Variant;
  readonly treePath: string;
  readonly repository: Repository;
  readonly engine: HashEngine;
  readonly sign: RecordSigner;
  /** `externalLinks` also says whether links that leave the tree are kept. */
  readonly attributes: RecordAttributes;
  /** ISO 8601, UTC. */
  readonly now: string;
  /** Writes a new revision over a release that differs. */
  readonly supersede?: boolean;
  readonly stripSpecial?: boolean;
  readonly allowPrivate?: boolean;
  /** Content bytes and files read so far; from the start again where a release is mended. */
  readonly onProgress?: (bytes: number, files: number) => void;
  readonly signal?: AbortSignal;
}

/** What `publish` did, as CONTRACTS has it, without the time that it took. */
export interface Published {
  readonly variant: VariantHash;
  readonly payload: PayloadId;
  readonly revision: number;
  readonly files: number;
  /** Of all files. */
  readonly bytes: number;
  readonly chunks: number;
  /** What the repository lacked of them: each content once. */
  readonly newChunks: number;
  readonly newBytes: number;
}

/**
 * Releases a tree as a variant: chunks and segments first, those that the repository lacks; the record last. Where the
 * latest record says the same already, no record is written, its revision is answered, and what the repository has lost
 * of the tree is written again.
 * @throws {NotTrustedError} (ALREADY_RELEASED) when the latest record differs and `supersede` is not given, before
 * anything is written; (RECORD_CONFLICT) when somebody else releases the same revision meanwhile; {FormatError} when
 * the record would break a rule; what `importTree` and the repository throw.
 */
export async function publishVariant(options: PublishOptions): Promise<Published> {
  const { variant, repository, engine, supersede = false } = options;
  const hash = variantHash(variant, engine.hash);
  recordBody(options, emptyTree, 0, undefined); // A bad name or time is refused before any work.
  const { signal } = options;
  const newest = await latestRecordOf(repository, hash, engine, signal === undefined ? {} : { signal });
  const latest = newest !== undefined && isRelease(newest) ? newest : undefined;
  const upload = new Upload(repository);
  const find = latest !== undefined && !supersede;
  const segments = find ? new NewSegments(latest.record.root) : undefined;
  const manifest = await readTree(options, upload, find ? "find" : "write", segments);
  const totals = totalsOf(hash, manifest);
  if (latest !== undefined) {
    const difference = differenceFrom(latest, manifest.payload, options);
    if (difference === undefined) return { ...totals, ...(await repair(options, latest, hash, upload)) };
    if (segments !== undefined) throw await alreadyReleased(latest.record, difference, options, segments);
  }
  const revision = newest === undefined ? 0 : newest.record.revision + 1;
  const supersedes = newest?.record.withdrawn ? newest.record.supersedes : latest?.record.payload;
  const body = recordBody(options, manifest, revision, supersedes);
  options.signal?.throwIfAborted();
  await repository.putRecord(hash, revision, sealed(body, options.sign));
  return { ...totals, revision, newChunks: upload.newChunks, newBytes: upload.newBytes };
}

type LatestRelease = LatestRecord<ReleaseRecord>;

/** What was withdrawn last is released anew by any publish. */
function isRelease(latest: LatestRecord): latest is LatestRelease {
  return latest.record.withdrawn !== true;
}

/** What comes of each item of a tree: what the repository lacks is noted, or written; or what was noted is written. */
type Pass = "find" | "write" | "write found";

/** Takes items in, and finds and writes those that the repository lacks. */
class Upload {
  readonly #repository: Repository;
  readonly #seen = new Set<ChunkHash>();
  readonly #found = new Set<ChunkHash>();
  written = 0;
  newChunks = 0;
  newBytes = 0;

  constructor(repository: Repository) {
    this.#repository = repository;
  }

  /** Items that were found missing, and not written yet. */
  get missing(): number {
    return this.#found.size;
  }

  async chunk(pass: Pass, hash: ChunkHash, bytes: Uint8Array): Promise<void> {
    if (!(await this.item(pass, hash, bytes))) return;
    this.newChunks++;
    this.newBytes += bytes.length;
  }

  /** What a new record will name must not be removed before it does; what is only looked for is named already. */
  #isThere(pass: Pass, hash: ChunkHash, sizeBytes: number): Promise<boolean> {
    return pass === "find" ? this.#repository.has(hash, sizeBytes) : this.#repository.reuse(hash, sizeBytes);
  }

  /** Answers whether the item was written. */
  async item(pass: Pass, hash: ChunkHash, bytes: Uint8Array): Promise<boolean> {
    if (pass === "write found") {
      if (!this.#found.delete(hash)) return false;
    } else {
      if (this.#seen.has(hash)) return false;
      this.#seen.add(hash);
      if (await this.#isThere(pass, hash, bytes.length)) return false;
      if (pass === "find") this.#found.add(hash);
    }
    if (pass === "find") return false;
    await this.#repository.putChunk(hash, bytes);
    this.written++;
    return true;
  }
}

/**
 * The tree is what the latest record says: writes what was found missing. That takes another reading of the tree, since
 * nothing may be written before its payload is known; it is rare.
 */
async function repair(
  options: PublishOptions,
  latest: LatestRelease,
  hash: VariantHash,
  upload: Upload,
): Promise<Pick<Published, "revision" | "newChunks" | "newBytes">> {
  const { revision } = latest.record;
  if (upload.missing > 0) {
    const { payload } = await readTree(options, upload, "write found");
    if (payload !== latest.record.payload) throw refusal(latest.record, "with another tree", {});
  }
  // The same bytes again write nothing, and make durable what was written before them.
  if (upload.written > 0) await options.repository.putRecord(hash, revision, latest.envelope);
  return { revision, newChunks: upload.newChunks, newBytes: upload.newBytes };
}

async function readTree(
  options: PublishOptions,
  upload: Upload,
  pass: Pass,
  segments?: NewSegments,
): Promise<BuiltManifest> {
  const { engine, attributes, stripSpecial, allowPrivate, onProgress, signal } = options;
  return await importTree(options.treePath, {
    engine,
    onChunk: (hash, bytes) => upload.chunk(pass, hash, bytes),
    onSegment: async (hash, bytes) => {
      segments?.take(hash, bytes);
      await upload.item(pass, hash, bytes);
    },
    externalLinks: attributes.externalLinks,
    ...(stripSpecial === undefined ? {} : { stripSpecial }),
    ...(allowPrivate === undefined ? {} : { allowPrivate }),
    ...(onProgress === undefined ? {} : { onProgress }),
    ...(signal === undefined ? {} : { signal }),
  });
}

/** How a release differs from what was asked; undefined where it says the same, signed by the same key. */
function differenceFrom(latest: LatestRelease, payload: PayloadId, options: PublishOptions): string | undefined {
  if (latest.record.payload !== payload) return "with another tree";
  if (attributesText(latest.record.attributes) !== attributesText(options.attributes)) return "with other attributes";
  // A repeated publish must not look done while nobody trusts who signed the first one.
  if (!latest.keyids.includes(options.sign.keyid)) return "by another publisher";
  return undefined;
}

function attributesText(attributes: RecordAttributes): string {
  const entries = Object.entries(attributes) as [string, unknown][];
  return JSON.stringify(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The refusal of a tree, or of what is said of it, that differs from its release; with what changed in the tree. */
async function alreadyReleased(
  record: ReleaseRecord,
  difference: string,
  { repository, engine, signal }: PublishOptions,
  segments: NewSegments,
): Promise<NotTrustedError> {
  if (difference !== "with another tree") return refusal(record, difference, {});
  try {
    const wait = signal === undefined ? {} : { signal };
    const changed = await segments.difference(repository, record.root, engine, wait);
    return refusal(record, difference, changed ?? { changesUnknown: "there are too many" });
  } catch (error) {
    if (!(error instanceof P2pCacheError) || signal?.aborted === true) throw error;
    return refusal(record, difference, { changesUnknown: error.message });
  }
}

function refusal(
  record: ReleaseRecord,
  difference: string,
  changed: TreeDifference | { readonly changesUnknown?: string },
): NotTrustedError {
  const { variant, revision, payload } = record;
  const counts =
    "changes" in changed ? ` (${changed.added} added, ${changed.removed} removed, ${changed.changed} changed)` : "";
  const message = `${variantText(variant)} is already released ${difference}${counts}; a new revision must supersede it`;
  return new NotTrustedError(message, {
    code: "ALREADY_RELEASED",
    hint: "publish with --supersede, if every machine should get this one instead",
    details: { revision, payload, ...changed },
  });
}

/** The bytes to sign. @throws {FormatError} when they would break a rule of records. */
function recordBody(
  options: PublishOptions,
  manifest: Pick<BuiltManifest, "root" | "rootBytes">,
  revision: number,
  supersedes: PayloadId | undefined,
): Uint8Array {
  const { variant, attributes, now, engine } = options;
  const body = encodeRecord(
    {
      variant,
      revision,
      rootBytes: manifest.rootBytes,
      attributes,
      releasedAt: now,
      ...(supersedes === undefined ? {} : { supersedes }),
    },
    manifest.root,
  );
  decodeRecord(body, engine.hash);
  return body;
}

function totalsOf(
  variant: VariantHash,
  manifest: BuiltManifest,
): Omit<Published, "revision" | "newChunks" | "newBytes"> {
  const { files, bytes, chunks } = manifest.root;
  return { variant, payload: manifest.payload, files, bytes, chunks };
}

const emptyRoot: ManifestRoot = { entries: 0, files: 0, bytes: 0, chunks: 0, caseSensitive: false, segments: [] };
const emptyTree = { root: emptyRoot, rootBytes: encodeRoot(emptyRoot) };
