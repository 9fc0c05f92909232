import { ChunkCorruptError } from "../../protocol/errors.ts";
import { type ChunkHash, hashFromBytes } from "../../protocol/hash.ts";
import { MIB } from "../../protocol/limits.ts";
import type { ManifestRoot } from "../../protocol/manifest.ts";
import { decodeSegment, type SegmentPart } from "../../protocol/segments.ts";
import { compareTrees, type TreeDifference } from "../../protocol/tree-difference.ts";
import type { HashEngine } from "../hasher.ts";
import type { Origin, WaitOptions } from "../ports.ts";

/** The manifest of a tree that was just read, as far as the latest release has another one. */
export class NewSegments {
  readonly #released: ReadonlySet<ChunkHash>;
  readonly #own = new Set<ChunkHash>();
  readonly #segments: Uint8Array[] = [];
  #bytes = 0;

  constructor(released: ManifestRoot) {
    this.#released = new Set(released.segments.map(({ hash }) => hash));
  }

  /** Takes the segments in their order. */
  take(hash: ChunkHash, bytes: Uint8Array): void {
    this.#own.add(hash);
    if (this.#released.has(hash)) return;
    this.#bytes += bytes.length;
    // Past the limit what was kept is of no use either.
    if (this.#bytes <= segmentsBytesMax) this.#segments.push(bytes);
    else this.#segments.length = 0;
  }

  /**
   * How the tree differs from the release; undefined where that is too much to compare.
   * @throws {ChunkMissingError} {ChunkCorruptError} when the origin lacks a part of the release's manifest, and what the
   * origin throws.
   */
  async difference(
    origin: Pick<Origin, "name" | "chunk">,
    released: ManifestRoot,
    engine: HashEngine,
    options: WaitOptions = {},
  ): Promise<TreeDifference | undefined> {
    if (this.#bytes > segmentsBytesMax) return undefined;
    const others = released.segments.filter(({ hash }) => !this.#own.has(hash));
    return await compareTrees(readSegments(origin, others, engine, options), partsOf(this.#segments), changesMax);
  }
}

async function* readSegments(
  origin: Pick<Origin, "name" | "chunk">,
  segments: ManifestRoot["segments"],
  engine: HashEngine,
  options: WaitOptions,
): AsyncGenerator<SegmentPart> {
  for (const { hash, sizeBytes } of segments) {
    const bytes = await origin.chunk(hash, sizeBytes, options);
    if (hashFromBytes<"chunk">(engine.hash(bytes)) !== hash) {
      throw new ChunkCorruptError(`${origin.name} has other bytes for the manifest segment ${hash}`);
    }
    yield* decodeSegment(bytes);
  }
}

function* partsOf(segments: readonly Uint8Array[]): Generator<SegmentPart> {
  for (const bytes of segments) yield* decodeSegment(bytes);
}

/** Changes that are listed; what comes after them is counted. */
const changesMax = 1000;
/** What is kept of a manifest until it is known whether the tree is the released one: of 400,000 changed entries. */
const segmentsBytesMax = 64 * MIB;
