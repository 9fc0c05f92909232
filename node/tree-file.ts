import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  futimesSync,
  openSync,
  readSync,
  rmSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { ChunkCorruptError, ChunkMissingError, FormatError, TreeDamagedError } from "../protocol/errors.ts";
import { compareBytes, digestBytes, type Hasher } from "../protocol/hash.ts";
import type { ChunkLayout, FileRange } from "../protocol/layout.ts";
import { chunkBytesMax } from "../protocol/limits.ts";
import { shown } from "../protocol/paths.ts";
import type { FileFacts } from "../protocol/segments.ts";

// The one way in and out for payload bytes: what is written was verified in memory first, and what is read was
// verified before anyone gets it. Calls are synchronous: they run in worker threads (PERFORMANCE section 4).

/**
 * Verifies a chunk and writes it to every place that it has in the tree.
 * @throws {ChunkCorruptError} when the bytes are not the chunk's; {FormatError} when the manifest contradicts itself:
 * nothing is written then.
 */
export function writeChunk(treePath: string, layouts: readonly ChunkLayout[], bytes: Uint8Array, hasher: Hasher): void {
  const { chunk } = layouts[0]!;
  if (bytes.length !== chunk.sizeBytes || compareBytes(hasher(bytes), chunk.digest) !== 0) {
    throw new ChunkCorruptError(`${bytes.length} bytes are not the chunk that they were said to be`, {
      details: { file: wrongFile(layouts[0]!, bytes, hasher) },
    });
  }
  for (const layout of layouts) checkFileDigests(layout, bytes, hasher);
  for (const { ranges } of layouts) {
    let offset = 0;
    for (const range of ranges) {
      writeRange(treePath, range, bytes.subarray(offset, offset + range.sizeBytes));
      offset += range.sizeBytes;
    }
  }
}

/**
 * Reads a chunk back from the files that it covers, and verifies it.
 * @throws {ChunkMissingError} when a file has gone; {TreeDamagedError} when the bytes have changed.
 */
export function readChunk(treePath: string, layout: ChunkLayout, hasher: Hasher): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(layout.chunk.sizeBytes);
  fillChunk(treePath, layout, hasher, bytes);
  return bytes;
}

/**
 * The same for whoever wants to know only whether the chunk is right: one buffer a thread is used again and again, since
 * 10 GB of fresh ones would be garbage faster than it is collected.
 */
export function checkChunk(treePath: string, layout: ChunkLayout, hasher: Hasher): void {
  scratch ??= new Uint8Array(chunkBytesMax);
  fillChunk(treePath, layout, hasher, scratch.subarray(0, layout.chunk.sizeBytes));
}

let scratch: Uint8Array | undefined;

function fillChunk(treePath: string, layout: ChunkLayout, hasher: Hasher, bytes: Uint8Array): void {
  let offset = 0;
  for (const range of layout.ranges) {
    readRange(treePath, range, bytes.subarray(offset, offset + range.sizeBytes));
    offset += range.sizeBytes;
  }
  if (compareBytes(hasher(bytes), layout.chunk.digest) !== 0)
    throw damaged(`the content of ${rangeNames(layout)} has changed`);
}

/** Reads one file, or one stretch of it, as it is now. @throws {ChunkMissingError} {TreeDamagedError} */
export function readRange(treePath: string, range: FileRange, into: Uint8Array): void {
  const file = openToRead(join(treePath, range.path), range.path);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw damaged(`${shown(range.path)} is not a regular file`);
    if (range.whole !== undefined && stat.size !== range.sizeBytes)
      throw damaged(`${shown(range.path)} has another length`);
    let filled = 0;
    while (filled < into.length) {
      const count = readSync(file, into, filled, into.length - filled, range.offsetBytes + filled);
      if (count === 0) throw damaged(`${shown(range.path)} is cut off`);
      filled += count;
    }
  } catch (cause) {
    // A disk that cannot give its blocks back has lost them.
    throw codeOf(cause) === "EIO" ? damaged(`${shown(range.path)} cannot be read from its disk`, cause) : cause;
  } finally {
    closeSync(file);
  }
}

/** The permission bits of a published file. */
export function fileMode(file: Pick<FileFacts, "executable">): number {
  return file.executable ? 0o555 : 0o444;
}

/** Opens a file that must be new; whatever a crash left in its place is thrown away. */
export function openNew(path: string, mode: number): number {
  const flags = constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW;
  try {
    return openSync(path, flags, mode);
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error;
    rmSync(path, { recursive: true });
    return openSync(path, flags, mode);
  }
}

/** A run's chunk and its files' own digests are two words about the same bytes: they must agree. */
function checkFileDigests({ ranges, fileDigests }: ChunkLayout, bytes: Uint8Array, hasher: Hasher): void {
  if (fileDigests === undefined) return;
  let offset = 0;
  for (const [i, { path, sizeBytes }] of ranges.entries()) {
    const digest = fileDigests.subarray(i * digestBytes, (i + 1) * digestBytes);
    if (compareBytes(hasher(bytes.subarray(offset, offset + sizeBytes)), digest) !== 0) {
      throw new FormatError(
        `the manifest contradicts itself: the hash of ${shown(path)} is not that of its run's bytes`,
      );
    }
    offset += sizeBytes;
  }
}

/** The first file of wrong bytes that is not what it should be: of a run its files' own digests tell. */
function wrongFile({ ranges, fileDigests }: ChunkLayout, bytes: Uint8Array, hasher: Hasher): string | undefined {
  let offset = 0;
  for (const [i, { path, sizeBytes }] of ranges.entries()) {
    const digest = fileDigests?.subarray(i * digestBytes, (i + 1) * digestBytes);
    if (digest === undefined) return path;
    if (compareBytes(hasher(bytes.subarray(offset, offset + sizeBytes)), digest) !== 0) return path;
    offset += sizeBytes;
  }
  return ranges[0]?.path;
}

/** While slices of a file are missing, nobody else may read it. */
const slicedMode = 0o600;

function writeRange(treePath: string, range: FileRange, bytes: Uint8Array): void {
  const path = join(treePath, range.path);
  if (range.whole === undefined) writeSlice(path, range.offsetBytes, bytes);
  else writeWhole(path, range.whole, bytes);
}

function writeSlice(path: string, offset: number, bytes: Uint8Array): void {
  const file = openSliced(path);
  try {
    writeAll(file, bytes, offset);
  } finally {
    closeSync(file);
  }
}

/** Slices of one file come to several threads at once: nothing is deleted here. */
function openSliced(path: string): number {
  const flags = constants.O_CREAT | constants.O_WRONLY | constants.O_NOFOLLOW;
  try {
    return openSync(path, flags, slicedMode);
  } catch (error) {
    if (codeOf(error) !== "EACCES") throw error;
    // It was finished and then could not be committed; since then a slice was found to be wrong.
    chmodSync(path, slicedMode);
    return openSync(path, flags, slicedMode);
  }
}

function writeWhole(path: string, facts: NonNullable<FileRange["whole"]>, bytes: Uint8Array): void {
  const file = openNew(path, fileMode(facts));
  try {
    writeAll(file, bytes, 0);
    futimesSync(file, facts.mtimeSeconds, facts.mtimeSeconds);
  } catch (error) {
    // A full disk: half a file under its final name would take up what room there is left.
    unlinkSync(path);
    throw error;
  } finally {
    closeSync(file);
  }
}

function writeAll(file: number, bytes: Uint8Array, offset: number): void {
  for (let written = 0; written < bytes.length; ) {
    written += writeSync(file, bytes, written, bytes.length - written, offset + written);
  }
}

function openToRead(path: string, name: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    // Too many open files say nothing about the tree.
    if (["EMFILE", "ENFILE", "ENOMEM"].includes(codeOf(cause) ?? "")) throw cause;
    throw new ChunkMissingError(`${shown(name)} cannot be read`, { cause });
  }
}

function damaged(message: string, cause?: unknown): TreeDamagedError {
  return new TreeDamagedError(message, { code: "ITEM_DAMAGED", cause });
}

function rangeNames(layout: ChunkLayout): string {
  const first = shown(layout.ranges[0]?.path ?? "");
  return layout.ranges.length > 1 ? `${first} or one of ${layout.ranges.length - 1} files after it` : first;
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
