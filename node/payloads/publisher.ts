import { FormatError, NotTrustedError } from "../../protocol/errors.ts";
import type { ChunkHash, PayloadId, VariantHash } from "../../protocol/hash.ts";
import { encodeRoot, type ManifestRoot } from "../../protocol/manifest.ts";
import type { BuiltManifest } from "../../protocol/manifest-builder.ts";
import {
  decodeEnvelope,
  decodeRecord,
  encodeEnvelope,
  encodeRecord,
  type RecordAttributes,
  type ReleaseRecord,
  signedBytes,
} from "../../protocol/record.ts";
import { type Variant, variantHash, variantText } from "../../protocol/variant.ts";
import type { HashEngine } from "../hasher.ts";
import type { Repository } from "../ports.ts";
import { importTree } from "./importer.ts";

/** Who signs releases: Ed25519 over the message. */
export interface RecordSigner {
  /** Hex SHA-256 of the raw public key. */
  readonly keyid: string;
  sign(message: Uint8Array): Uint8Array;
}

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
  /** Where the tree lies under its repository: its chunks are not written, since origins read them there. */
  readonly inPlaceRoot?: string;
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
  /** Of a release in place: where it lies under its repository. */
  readonly inPlaceRoot?: string;
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
  const latest = await latestRelease(options, hash);
  const upload = new Upload(repository);
  const find = latest !== undefined && !supersede;
  const manifest = await readTree(options, upload, find ? "find" : "write");
  const totals = totalsOf(hash, manifest);
  if (latest !== undefined) {
    const difference = differenceFrom(latest, manifest.payload, options);
    if (difference === undefined) return { ...totals, ...(await repair(options, latest, hash, upload)) };
    if (!supersede) throw alreadyReleased(latest.record, difference);
  }
  const revision = latest === undefined ? 0 : latest.record.revision + 1;
  const body = recordBody(options, manifest, revision, latest?.record.payload);
  const signature = { keyid: options.sign.keyid, sig: options.sign.sign(signedBytes(body)) };
  options.signal?.throwIfAborted();
  await repository.putRecord(hash, revision, encodeEnvelope({ body, signatures: [signature] }));
  return { ...totals, ...rootOf(options), revision, newChunks: upload.newChunks, newBytes: upload.newBytes };
}

/** The latest record, and who signed it by their own word. */
interface LatestRelease {
  readonly record: ReleaseRecord;
  readonly keyids: readonly string[];
  readonly envelope: Uint8Array;
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

  /** Answers whether the item was written. */
  async item(pass: Pass, hash: ChunkHash, bytes: Uint8Array): Promise<boolean> {
    if (pass === "write found") {
      if (!this.#found.delete(hash)) return false;
    } else {
      if (this.#seen.has(hash)) return false;
      this.#seen.add(hash);
      if (await this.#repository.has(hash, bytes.length)) return false;
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
): Promise<Pick<Published, "revision" | "newChunks" | "newBytes" | "inPlaceRoot">> {
  const { revision } = latest.record;
  if (upload.missing > 0) {
    const { payload } = await readTree(options, upload, "write found");
    if (payload !== latest.record.payload) throw alreadyReleased(latest.record, "with another tree");
  }
  // The same bytes again write nothing, and make durable what was written before them.
  if (upload.written > 0) await options.repository.putRecord(hash, revision, latest.envelope);
  return { revision, ...rootOf(latest.record), newChunks: upload.newChunks, newBytes: upload.newBytes };
}

async function readTree(options: PublishOptions, upload: Upload, pass: Pass): Promise<BuiltManifest> {
  const { engine, attributes, stripSpecial, allowPrivate, onProgress, signal, inPlaceRoot } = options;
  return await importTree(options.treePath, {
    engine,
    onChunk: async (hash, bytes) => {
      if (inPlaceRoot === undefined) await upload.chunk(pass, hash, bytes);
    },
    onSegment: async (hash, bytes) => {
      await upload.item(pass, hash, bytes);
    },
    externalLinks: attributes.externalLinks,
    ...(stripSpecial === undefined ? {} : { stripSpecial }),
    ...(allowPrivate === undefined ? {} : { allowPrivate }),
    ...(onProgress === undefined ? {} : { onProgress }),
    ...(signal === undefined ? {} : { signal }),
  });
}

async function latestRelease(options: PublishOptions, hash: VariantHash): Promise<LatestRelease | undefined> {
  const { repository, engine, signal } = options;
  const bytes = await repository.latestRecord(hash, signal === undefined ? {} : { signal });
  if (bytes === undefined) return undefined;
  const envelope = decodeEnvelope(bytes);
  const record = decodeRecord(envelope.body, engine.hash);
  if (variantHash(record.variant, engine.hash) !== hash) {
    throw new FormatError(
      `${repository.name} has a record of ${variantText(record.variant)} in another variant's place`,
    );
  }
  return { record, keyids: envelope.signatures.map(({ keyid }) => keyid), envelope: bytes };
}

/** How a release differs from what was asked; undefined where it says the same, signed by the same key. */
function differenceFrom(latest: LatestRelease, payload: PayloadId, options: PublishOptions): string | undefined {
  if (latest.record.payload !== payload) return "with another tree";
  if (attributesText(latest.record.attributes) !== attributesText(options.attributes)) return "with other attributes";
  const { inPlaceRoot: before } = latest.record;
  const { inPlaceRoot: now, supersede = false } = options;
  // With its chunks at the origin it can be had whatever its record says, so only who wants another one gets it.
  if (before !== now && (supersede || (before !== undefined && now !== undefined))) {
    return before === undefined ? "with its chunks" : `in place at ${before}`;
  }
  // A repeated publish must not look done while nobody trusts who signed the first one.
  if (!latest.keyids.includes(options.sign.keyid)) return "by another publisher";
  return undefined;
}

function attributesText(attributes: RecordAttributes): string {
  const entries = Object.entries(attributes) as [string, unknown][];
  return JSON.stringify(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

function alreadyReleased(record: ReleaseRecord, difference: string): NotTrustedError {
  const message = `${variantText(record.variant)} is already released ${difference}; a new revision must supersede it`;
  return new NotTrustedError(message, {
    code: "ALREADY_RELEASED",
    hint: "publish with --supersede, if every machine should get this one instead",
    details: { revision: record.revision, payload: record.payload },
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
      ...rootOf(options),
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

/** Absent fields stay absent. */
function rootOf({ inPlaceRoot }: { readonly inPlaceRoot?: string }): { readonly inPlaceRoot?: string } {
  return inPlaceRoot === undefined ? {} : { inPlaceRoot };
}

const emptyRoot: ManifestRoot = { entries: 0, files: 0, bytes: 0, chunks: 0, caseSensitive: false, segments: [] };
const emptyTree = { root: emptyRoot, rootBytes: encodeRoot(emptyRoot) };
