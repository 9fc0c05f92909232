import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { ChunkCorruptError, ChunkMissingError } from "../../protocol/errors.ts";
import { bytesToHex, type ChunkHash, type Hasher } from "../../protocol/hash.ts";
import { segmentBytesMax } from "../../protocol/limits.ts";

/** Where a segment of what is held, or on its way in, lies. */
function segmentPath(objectsPath: string, hash: ChunkHash): string {
  return join(objectsPath, hash.slice(0, 2), hash);
}

/**
 * Verifies a segment and writes it durably.
 * @throws {ChunkCorruptError} when the bytes are not what the hash says: nothing is written then.
 */
export function storeSegment(
  objectsPath: string,
  hash: ChunkHash,
  bytes: Uint8Array,
  hasher: Hasher,
  unique: string,
): void {
  if (bytesToHex(hasher(bytes)) !== hash)
    throw new ChunkCorruptError(`${bytes.length} bytes are not the segment ${hash}`);
  const path = segmentPath(objectsPath, hash);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const beside = `${path}.${unique}`;
  try {
    const file = openSync(beside, "w", 0o600);
    try {
      writeFileSync(file, bytes);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(beside, path);
  } catch (error) {
    unlinkIfThere(beside);
    throw error;
  }
}

/**
 * Reads a segment back and verifies it.
 * @throws {ChunkMissingError} when it is not there, or no longer what its hash says: it must be fetched again.
 */
export function loadSegment(objectsPath: string, hash: ChunkHash, hasher: Hasher): Uint8Array<ArrayBuffer> {
  const path = segmentPath(objectsPath, hash);
  try {
    if (statSync(path).size <= segmentBytesMax) {
      const bytes = readFileSync(path);
      if (bytesToHex(hasher(bytes)) === hash) return new Uint8Array(bytes);
    }
    rmSync(path, { recursive: true });
  } catch (cause) {
    throw new ChunkMissingError(`the manifest segment ${hash} cannot be read`, { cause });
  }
  throw new ChunkMissingError(`the manifest segment ${hash} was damaged on this disk`);
}

/** Whether a segment lies there as it should; nothing is changed. */
export function isSegmentRight(objectsPath: string, hash: ChunkHash, hasher: Hasher): boolean {
  const path = segmentPath(objectsPath, hash);
  try {
    return statSync(path).size <= segmentBytesMax && bytesToHex(hasher(readFileSync(path))) === hash;
  } catch {
    return false;
  }
}

/** Whether a segment lies there as it should; one that does not is thrown away, to be fetched again. */
export function hasSegment(objectsPath: string, hash: ChunkHash, hasher: Hasher): boolean {
  try {
    return loadSegment(objectsPath, hash, hasher).length > 0;
  } catch {
    return false;
  }
}

/** Makes the names of segments durable: for machines where the whole filesystem cannot be synced at once. */
export function syncSegmentNames(objectsPath: string, hashes: readonly ChunkHash[]): void {
  for (const directory of new Set(hashes.map((hash) => dirname(segmentPath(objectsPath, hash))))) {
    const file = openSync(directory, "r");
    try {
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It was never made.
  }
}
