import { decodeCanonical, encodeCanonical, isCount, isMap } from "./cbor.ts";
import { FormatError, VersionError } from "./errors.ts";
import { type ChunkHash, digestBytes, type Hasher, hashFromBytes, hexToBytes, type PayloadId } from "./hash.ts";
import { chunkBytesMin, entriesMax, payloadBytesMax, rootBytesMax, segmentBytesMax } from "./limits.ts";

/** What the root says of one segment. */
export interface SegmentRef {
  readonly hash: ChunkHash;
  /** Bytes of the encoded segment. */
  readonly sizeBytes: number;
  /** Entries that begin in it, and chunks that it lists. */
  readonly entries: number;
  readonly chunks: number;
}

/** The top of a manifest: small, signed inside the release record; its hash is the `PayloadId`. */
export interface ManifestRoot {
  /** Directories, files and links of the tree. */
  readonly entries: number;
  readonly files: number;
  /** Content bytes of all files. */
  readonly bytes: number;
  readonly chunks: number;
  /** Some names differ only by case or by Unicode form: a case-insensitive target cannot hold the tree. */
  readonly caseSensitive: boolean;
  readonly segments: readonly SegmentRef[];
}

/** Canonical CBOR of a root (DESIGN section 3). */
export function encodeRoot(root: ManifestRoot): Uint8Array {
  return encodeCanonical({
    version: rootVersion,
    entries: root.entries,
    files: root.files,
    bytes: root.bytes,
    chunks: root.chunks,
    caseSensitive: root.caseSensitive,
    segments: root.segments.map((s) => [hexToBytes(s.hash), s.sizeBytes, s.entries, s.chunks]),
  });
}

/** BLAKE3 of a root's bytes. */
export function payloadId(rootBytes: Uint8Array, hasher: Hasher): PayloadId {
  return hashFromBytes<"payload">(hasher(rootBytes));
}

/**
 * Reads a root from outside.
 * @throws {FormatError} when it breaks a rule; {VersionError} when its major version is not ours.
 */
export function decodeRoot(bytes: Uint8Array): ManifestRoot {
  const value = decodeCanonical(bytes, rootBytesMax, "a manifest root");
  if (!isMap(value)) throw new FormatError("a manifest root is a map");
  if (value.version !== rootVersion) throw new VersionError("a manifest root", value.version);
  const { entries, files, bytes: total, chunks, caseSensitive, segments, version: _, ...others } = value;
  if (Object.keys(others).length > 0) throw new FormatError("a manifest root has a field that is not known");
  if (!isCount(entries, entriesMax)) throw new FormatError(`a manifest root claims ${String(entries)} entries`);
  if (!isCount(files, entries)) throw new FormatError(`a manifest root claims ${String(files)} files`);
  if (!isCount(total, payloadBytesMax)) throw new FormatError(`a manifest root claims ${String(total)} bytes`);
  // A run has a file of its own, and a large file a chunk for each 256 KiB begun.
  if (!isCount(chunks, files + Math.floor(total / chunkBytesMin)))
    throw new FormatError(`a manifest root claims ${String(chunks)} chunks`);
  if (typeof caseSensitive !== "boolean") throw new FormatError("a manifest root does not say caseSensitive");
  if (!Array.isArray(segments)) throw new FormatError("a manifest root has no list of segments");
  const refs = segments.map(parseSegmentRef);
  if (sum(refs, "chunks") !== chunks) throw new FormatError("a manifest root's chunks are not its segments' chunks");
  if (sum(refs, "entries") !== entries)
    throw new FormatError("a manifest root's entries are not its segments' entries");
  return { entries, files, bytes: total, chunks, caseSensitive, segments: refs };
}

/**
 * The index space of a payload: items `0…s-1` are its segments, then its chunks in order. One item is what a swarm
 * asks for, sends, verifies and writes.
 */
export class ItemIndex {
  readonly segments: number;
  readonly items: number;
  /** First chunk item of each segment, and one more at the end. */
  readonly #firstItems: number[];

  constructor(root: ManifestRoot) {
    this.segments = root.segments.length;
    this.items = this.segments + root.chunks;
    this.#firstItems = [this.segments];
    for (const segment of root.segments) this.#firstItems.push(this.#firstItems.at(-1)! + segment.chunks);
  }

  /** The first item among the chunks that a segment lists. */
  firstChunkItem(segment: number): number {
    return this.#firstItems[segment]!;
  }

  /** Where a chunk item is listed: its segment, and its place among that segment's chunks. */
  locate(item: number): { readonly segment: number; readonly chunk: number } {
    let low = 0;
    let high = this.segments - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#firstItems[middle]! <= item) low = middle;
      else high = middle - 1;
    }
    return { segment: low, chunk: item - this.#firstItems[low]! };
  }
}

const rootVersion = 1;

function parseSegmentRef(value: unknown): SegmentRef {
  if (!Array.isArray(value) || value.length !== 4) throw new FormatError("a manifest root lists a segment wrongly");
  const [hash, sizeBytes, entries, chunks] = value as unknown[];
  if (!(hash instanceof Uint8Array) || hash.length !== digestBytes)
    throw new FormatError("a segment's hash is 32 bytes");
  if (!isCount(sizeBytes, segmentBytesMax) || sizeBytes === 0) {
    throw new FormatError(`a manifest root claims a segment of ${String(sizeBytes)} bytes`);
  }
  // An entry takes two bytes of its segment at least, a chunk those of its hash.
  if (!isCount(entries, sizeBytes / 2) || !isCount(chunks, sizeBytes / digestBytes)) {
    throw new FormatError("a manifest root claims more in a segment than it has bytes");
  }
  return { hash: hashFromBytes<"chunk">(hash), sizeBytes, entries, chunks };
}

function sum(refs: readonly SegmentRef[], field: "entries" | "chunks"): number {
  return refs.reduce((total, ref) => total + ref[field], 0);
}
