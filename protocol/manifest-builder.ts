import { segmentEndsAfter } from "./chunker.ts";
import { assert } from "./errors.ts";
import { type ChunkHash, type Hasher, hashFromBytes, type PayloadId } from "./hash.ts";
import { KIB, segmentBytesMax } from "./limits.ts";
import { encodeRoot, type ManifestRoot, payloadId, type SegmentRef } from "./manifest.ts";
import { OpenDirectories } from "./open-directories.ts";
import {
  type ChunkRef,
  type DirectoryEntry,
  encodedPartBytes,
  encodeSegment,
  type FileFacts,
  type LinkEntry,
  type SegmentPart,
  type SmallFileEntry,
} from "./segments.ts";

/** A finished segment, ready to be written to the origin. */
export interface BuiltSegment {
  readonly hash: ChunkHash;
  readonly bytes: Uint8Array;
}

/** A finished manifest. */
export interface BuiltManifest {
  readonly root: ManifestRoot;
  readonly rootBytes: Uint8Array;
  readonly payload: PayloadId;
}

/** An entry that has no bytes of its own in any chunk. */
export type BytelessEntry = DirectoryEntry | LinkEntry | SmallFileEntry;

/**
 * Puts a manifest together from entries in the order of their path bytes. The caller reads and cuts the files; this
 * decides where segments end, and gives each to `onSegment` as soon as it is full.
 */
export class ManifestBuilder {
  readonly #hasher: Hasher;
  readonly #onSegment: (segment: BuiltSegment) => void;
  readonly #segments: SegmentRef[] = [];
  readonly #directories = new OpenDirectories();
  #parts: SegmentPart[] = [];
  #partsBytes = 0;
  #totals = { entries: 0, files: 0, bytes: 0, chunks: 0, caseSensitive: false };

  constructor(hasher: Hasher, onSegment: (segment: BuiltSegment) => void) {
    this.#hasher = hasher;
    this.#onSegment = onSegment;
  }

  /** A directory, a link or an empty file. */
  byteless(entry: BytelessEntry): void {
    this.#unit([entry], encodedPartBytes(entry));
  }

  /** Small files that share one chunk, with the byteless entries that stand between them. */
  run(chunk: ChunkRef, entries: readonly BytelessEntry[]): void {
    const files = entries.filter((entry) => entry.kind === "small" && entry.sizeBytes > 0) as SmallFileEntry[];
    const header = { kind: "run", chunk, files: files.length } as const;
    const parts = [header, ...entries];
    const unitBytes = parts.reduce((total, part) => total + encodedPartBytes(part), 0);
    this.#unit(parts, unitBytes);
    this.#endSegmentAfter(unitBytes, files.at(-1)!.digest);
  }

  /** A file of 1 MiB or more and its chunks, in order. */
  large(file: FileFacts, chunks: readonly ChunkRef[]): void {
    let part: SegmentPart = { kind: "large", ...file, chunks: [] };
    let offsetBytes = 0;
    let rest = chunks;
    let unitBytes = encodedPartBytes(part) + listHeadBytes;
    if (this.#partsBytes + unitBytes + chunkRefBytes > segmentBytesRoom) this.#endSegment();
    while (true) {
      const fit = Math.floor((segmentBytesRoom - this.#partsBytes - unitBytes) / chunkRefBytes);
      const here = rest.slice(0, fit);
      this.#unit([{ ...part, chunks: here }], unitBytes + here.length * chunkRefBytes);
      rest = rest.slice(fit);
      if (rest.length === 0) break;
      offsetBytes += here.reduce((total, chunk) => total + chunk.sizeBytes, 0);
      part = { kind: "continuation", path: file.path, offsetBytes, chunks: [] };
      this.#endSegment();
      unitBytes = encodedPartBytes(part) + listHeadBytes;
    }
    this.#endSegmentAfter(unitBytes + chunks.length * chunkRefBytes, file.digest);
  }

  /** No more entries. */
  finish(): BuiltManifest {
    this.#endSegment();
    const root: ManifestRoot = { ...this.#totals, segments: this.#segments };
    const rootBytes = encodeRoot(root);
    return { root, rootBytes, payload: payloadId(rootBytes, this.#hasher) };
  }

  #unit(parts: readonly SegmentPart[], unitBytes: number): void {
    assert(unitBytes <= segmentBytesRoom, "a unit fits one segment");
    if (this.#partsBytes + unitBytes > segmentBytesRoom) this.#endSegment();
    this.#parts.push(...parts);
    this.#partsBytes += unitBytes;
  }

  #endSegmentAfter(unitBytes: number, digest: Uint8Array): void {
    if (segmentEndsAfter(this.#partsBytes, unitBytes, digest)) this.#endSegment();
  }

  #endSegment(): void {
    if (this.#parts.length === 0) return;
    const bytes = encodeSegment(this.#parts);
    assert(bytes.length <= segmentBytesMax, "a segment has room for its parts");
    const hash = hashFromBytes<"chunk">(this.#hasher(bytes));
    const counts = { entries: 0, chunks: 0 };
    for (const part of this.#parts) this.#count(part, counts);
    this.#segments.push({ hash, sizeBytes: bytes.length, ...counts });
    this.#totals.entries += counts.entries;
    this.#totals.chunks += counts.chunks;
    this.#parts = [];
    this.#partsBytes = 0;
    this.#onSegment({ hash, bytes });
  }

  #count(part: SegmentPart, counts: { entries: number; chunks: number }): void {
    if (part.kind === "run") counts.chunks++;
    if (part.kind === "large" || part.kind === "continuation") counts.chunks += part.chunks.length;
    if (part.kind === "run" || part.kind === "continuation") return;
    counts.entries++;
    const { hasParent, collides } = this.#directories.enter(part.path, part.kind === "directory");
    assert(hasParent, "entries come after their directories, in the order of their paths");
    this.#totals.caseSensitive ||= collides;
    if (part.kind !== "small" && part.kind !== "large") return;
    this.#totals.files++;
    this.#totals.bytes += part.sizeBytes;
  }
}

/** The frame of a segment: two list heads and the version. */
const segmentBytesRoom: number = segmentBytesMax - KIB;
/** An encoded chunk at most: list head, 34 bytes of hash, 5 of size. */
const chunkRefBytes = 40;
/** What a list's head grows by as the list does. */
const listHeadBytes = 4;
