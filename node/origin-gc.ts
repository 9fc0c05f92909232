import { join } from "node:path";
import { FormatError, P2pCacheError, UsageError } from "../protocol/errors.ts";
import { hashFromBytes, hexToBytes, parseVariantHash } from "../protocol/hash.ts";
import { HashMarks } from "../protocol/hash-marks.ts";
import {
  decodeEnvelope,
  decodeRecord,
  type Publishers,
  type ReleaseRecord,
  type SignedRecord,
  trustedRecord,
} from "../protocol/record.ts";
import { decodeSegment, type SegmentPart } from "../protocol/segments.ts";
import { variantText } from "../protocol/variant.ts";
import { type HashEngine, openHashEngine } from "./hasher.ts";
import { verifySignature } from "./keys.ts";
import { readRevisions, type StoredRevision } from "./origins/folder-records.ts";
import { folderNowMs, type SweepOptions, type Swept, sweepFolder } from "./origins/folder-sweep.ts";
import { entriesOf, walkVariants } from "./origins/folder-walk.ts";
import type { Origin, WaitOptions } from "./ports.ts";
import { openPublishing, renewIndex } from "./publishing.ts";
import { RecordTrust } from "./record-trust.ts";
import type { Settings } from "./settings/schema.ts";
import { formatDuration } from "./settings/units.ts";

export interface OriginGcRequest extends WaitOptions {
  /** Only says what would go. */
  readonly dryRun?: boolean;
  /** What is younger stays: somebody may be publishing. */
  readonly minAgeMs: number;
  readonly onWarning?: (message: string) => void;
  /** For tests. */
  readonly onRemove?: SweepOptions["onRemove"];
}

/** What `origin gc` did. */
export interface OriginGc extends Swept {
  readonly origin: string;
  /** Variants, and the revisions of them whose trees were kept. */
  readonly variants: number;
  readonly releases: number;
}

/**
 * Removes from the origin that releases go to what no record names any more: of each variant the newest trusted release
 * counts, nothing after a withdrawal, and what was replaced or withdrawn not longer than the age floor ago. Records stay.
 * @throws {FormatError} ({ChunkMissingError} and its like) when a record or a manifest cannot be read: nothing is removed
 * then; {UnreachableError} when the folder fails; {UsageError} for an age floor that is too short.
 */
export async function collectOrigin(settings: Settings, request: OriginGcRequest): Promise<OriginGc> {
  const { minAgeMs, dryRun = false, signal, onRemove } = request;
  if (minAgeMs < minAgeMsMin) {
    throw new UsageError(`an age floor of less than ${formatDuration(minAgeMsMin)} would break publishes in progress`, {
      hint: "give a longer --min-age",
    });
  }
  const { repository, path } = await openPublishing(settings, { publishes: false });
  const engine = openHashEngine();
  const nowMs = dryRun ? Date.now() : await folderNowMs(path);
  const beforeMs = nowMs - minAgeMs;
  const publishers = await RecordTrust.look(settings, engine.hash);
  const marker = new Marker({ repository, engine, publishers, beforeMs, ...wait(signal) });
  await repository.latestRecord(parseVariantHash("0".repeat(64)), wait(signal)); // Is it a repository of ours at all?
  for await (const variant of walkVariants(path)) {
    signal?.throwIfAborted();
    await marker.variant(await readRevisions(path, variant));
  }
  if (marker.variants === 0) await checkEmpty(path);
  const swept = await sweepFolder(path, {
    named: marker.named,
    beforeMs,
    dryRun,
    ...wait(signal),
    ...(onRemove === undefined ? {} : { onRemove }),
  });
  const fault = dryRun ? undefined : await renewIndex({ repository, path }, engine.hash);
  if (fault !== undefined) request.onWarning?.(fault);
  return { origin: repository.name, variants: marker.variants, releases: marker.releases, ...swept };
}

interface MarkerParts extends WaitOptions {
  readonly repository: Origin;
  readonly engine: HashEngine;
  readonly publishers: Publishers;
  readonly beforeMs: number;
}

/** Marks what records name. */
class Marker {
  readonly named = new HashMarks();
  readonly #parts: MarkerParts;
  variants = 0;
  releases = 0;

  constructor(parts: MarkerParts) {
    this.#parts = parts;
  }

  /** @throws {FormatError} when anything of it cannot be read. */
  async variant(revisions: readonly StoredRevision[]): Promise<void> {
    if (revisions.length === 0) return;
    this.variants++;
    /** When a newer record that everybody believes took the place of those that come now. */
    let replacedMs: number | undefined;
    for (const revision of revisions.toReversed()) {
      const { record, isTrusted } = this.#read(revision);
      const isKept = replacedMs === undefined || replacedMs >= this.#parts.beforeMs;
      if (isKept && !record.withdrawn) await this.#release(record);
      // What nobody trusts replaces nothing: who does not believe it fetches what was before.
      if (isTrusted) replacedMs = revision.writtenMs;
    }
  }

  #read({ path, bytes }: StoredRevision): { readonly record: SignedRecord; readonly isTrusted: boolean } {
    const { engine, publishers } = this.#parts;
    try {
      const envelope = decodeEnvelope(bytes);
      const record = decodeRecord(envelope.body, engine.hash);
      return { record, isTrusted: isTrusted(() => trustedRecord(envelope, publishers, verifySignature, engine.hash)) };
    } catch (cause) {
      throw unreadable(`${path} cannot be read: ${(cause as Error).message}`, cause);
    }
  }

  async #release({ variant, revision, root }: ReleaseRecord): Promise<void> {
    const { repository, engine, signal } = this.#parts;
    this.releases++;
    for (const { hash, sizeBytes } of root.segments) {
      this.named.add(hexToBytes(hash));
      try {
        const bytes = await repository.chunk(hash, sizeBytes, wait(signal));
        if (hashFromBytes<"chunk">(engine.hash(bytes)) !== hash) throw new FormatError("it has other bytes");
        for (const part of decodeSegment(bytes)) this.#chunksOf(part);
      } catch (error) {
        // 3: it is not there; 4: it breaks a rule. All else is about the folder itself.
        if (!(error instanceof P2pCacheError) || (error.exit !== 3 && error.exit !== 4)) throw error;
        const what = `${variantText(variant)} revision ${revision}`;
        throw unreadable(`the manifest segment ${hash} of ${what} cannot be read: ${error.message}`, error);
      }
    }
  }

  #chunksOf(part: SegmentPart): void {
    if (part.kind === "run") this.named.add(part.chunk.digest);
    else if (part.kind === "large" || part.kind === "continuation") {
      for (const { digest } of part.chunks) this.named.add(digest);
    }
  }
}

/** Chunks without a single record look like a folder that has lost its records, or a mount that hides them. */
async function checkEmpty(path: string): Promise<void> {
  for await (const { name } of entriesOf(join(path, "chunks"))) {
    throw unreadable(`${path} has chunks (in ${name}) and not a single record`, undefined);
  }
}

function unreadable(message: string, cause: unknown): FormatError {
  return new FormatError(message, {
    code: "ORIGIN_UNREADABLE",
    hint: "nothing was removed; publish the tree again, which mends its release, or unpublish it",
    cause,
  });
}

function isTrusted(check: () => unknown): boolean {
  try {
    check();
    return true;
  } catch {
    return false;
  }
}

function wait(signal: AbortSignal | undefined): WaitOptions {
  return signal === undefined ? {} : { signal };
}

/** A publish of the largest tree must have written its record by then. */
const minAgeMsMin = 60 * 60 * 1000;
