import { decodeAgain, decodeCanonical, encodeCanonical, isCount } from "./cbor.ts";
import { FormatError, VersionError } from "./errors.ts";
import { digestBytes } from "./hash.ts";
import { chunkBytesMax, chunkBytesMin, largeFileBytesMin, payloadBytesMax, segmentBytesMax } from "./limits.ts";
import { parseLinkTarget, parseTreePath, shown, utf8Bytes } from "./paths.ts";

/** A chunk as a manifest lists it. */
export interface ChunkRef {
  /** 32 bytes. */
  readonly digest: Uint8Array;
  readonly sizeBytes: number;
}

export interface DirectoryEntry {
  readonly kind: "directory";
  readonly path: string;
}

export interface LinkEntry {
  readonly kind: "link";
  readonly path: string;
  readonly target: string;
}

/** What a manifest keeps of a regular file. */
export interface FileFacts {
  readonly path: string;
  readonly executable: boolean;
  /** Whole seconds since 1970, rounded down. */
  readonly mtimeSeconds: number;
  readonly sizeBytes: number;
  /** BLAKE3 of the whole content, 32 bytes. */
  readonly digest: Uint8Array;
}

/** A file below 1 MiB: empty, or part of the run whose header stands before it. */
export interface SmallFileEntry extends FileFacts {
  readonly kind: "small";
}

/** A file of 1 MiB or more; its chunk list may go on at the start of the next segment. */
export interface LargeFileEntry extends FileFacts {
  readonly kind: "large";
  readonly chunks: readonly ChunkRef[];
}

/** The rest of a large file's chunk list: first in its segment. */
export interface ContinuationEntry {
  readonly kind: "continuation";
  readonly path: string;
  /** Where in the file its first chunk lies. */
  readonly offsetBytes: number;
  readonly chunks: readonly ChunkRef[];
}

/** One chunk that holds the next `files` non-empty small files, whole and in order. */
export interface RunHeader {
  readonly kind: "run";
  readonly chunk: ChunkRef;
  readonly files: number;
}

/** What a segment lists, in the order of its entries' path bytes. */
export type SegmentPart = DirectoryEntry | LinkEntry | SmallFileEntry | LargeFileEntry | ContinuationEntry | RunHeader;

/** Canonical CBOR of a segment: `[version, [part…]]`; see docs/formats.md. */
export function encodeSegment(parts: readonly SegmentPart[]): Uint8Array {
  return encodeCanonical([segmentVersion, parts.map(packPart)]);
}

/** Bytes that one part takes in its segment. */
export function encodedPartBytes(part: SegmentPart): number {
  return encodeCanonical(packPart(part)).length;
}

/**
 * Reads a segment from outside; what lies across segments is for `ManifestChecker`.
 * @throws {FormatError} when it breaks a rule; {VersionError} when its major version is not ours.
 */
export function decodeSegment(bytes: Uint8Array): SegmentPart[] {
  return unpackSegment(decodeCanonical(bytes, segmentBytesMax, "a manifest segment"));
}

/** Reads a segment that was checked as part of its manifest, and has its hash still. */
export function decodeCheckedSegment(bytes: Uint8Array): SegmentPart[] {
  return unpackSegment(decodeAgain(bytes));
}

function unpackSegment(value: unknown): SegmentPart[] {
  if (!Array.isArray(value) || value.length !== 2) throw new FormatError("a manifest segment is a pair");
  const [version, parts] = value as unknown[];
  if (version !== segmentVersion) throw new VersionError("a manifest segment", version);
  if (!Array.isArray(parts)) throw new FormatError("a manifest segment has no list of entries");
  return parts.map(unpackPart);
}

const segmentVersion = 1;
const code = { directory: 0, small: 1, large: 2, continuation: 3, run: 4, link: 5 } as const;

function packPart(part: SegmentPart): unknown[] {
  switch (part.kind) {
    case "directory":
      return [code.directory, utf8Bytes(part.path)];
    case "small":
      return [code.small, ...packFacts(part)];
    case "large":
      return [code.large, ...packFacts(part), part.chunks.map(packChunk)];
    case "continuation":
      return [code.continuation, utf8Bytes(part.path), part.offsetBytes, part.chunks.map(packChunk)];
    case "run":
      return [code.run, ...packChunk(part.chunk), part.files];
    case "link":
      return [code.link, utf8Bytes(part.path), utf8Bytes(part.target)];
  }
}

function packFacts(file: FileFacts): unknown[] {
  return [utf8Bytes(file.path), file.executable, file.mtimeSeconds, file.sizeBytes, file.digest];
}

function packChunk(chunk: ChunkRef): [Uint8Array, number] {
  return [chunk.digest, chunk.sizeBytes];
}

function unpackPart(value: unknown): SegmentPart {
  if (!Array.isArray(value)) throw new FormatError("a manifest entry is a list");
  const fields = value as unknown[];
  switch (fields[0]) {
    case code.directory:
      expectFields(fields, 2);
      return { kind: "directory", path: unpackPath(fields[1]) };
    case code.small:
      expectFields(fields, 6);
      return { kind: "small", ...unpackFacts(fields, 0, largeFileBytesMin - 1) };
    case code.large:
      expectFields(fields, 7);
      return {
        kind: "large",
        ...unpackFacts(fields, largeFileBytesMin, payloadBytesMax),
        chunks: unpackChunks(fields[6]),
      };
    case code.continuation:
      expectFields(fields, 4);
      return unpackContinuation(fields);
    case code.run:
      expectFields(fields, 4);
      return unpackRun(fields);
    case code.link:
      expectFields(fields, 3);
      return { kind: "link", path: unpackPath(fields[1]), target: parseLinkTarget(unpackBytes(fields[2])) };
    default:
      throw new FormatError("a manifest entry is of a kind that is not known");
  }
}

function unpackFacts(fields: unknown[], sizeMin: number, sizeMax: number): FileFacts {
  const path = unpackPath(fields[1]);
  const [executable, mtimeSeconds, sizeBytes, digest] = fields.slice(2);
  if (typeof executable !== "boolean")
    throw new FormatError(`the file ${shown(path)} does not say whether it can be run`);
  if (typeof mtimeSeconds !== "number" || !Number.isSafeInteger(mtimeSeconds) || !isKeptTime(mtimeSeconds)) {
    throw new FormatError(`the file ${shown(path)} has an impossible time`);
  }
  if (!isCount(sizeBytes, sizeMax) || sizeBytes < sizeMin) {
    throw new FormatError(`the file ${shown(path)} has an impossible size`);
  }
  return { path, executable, mtimeSeconds, sizeBytes, digest: unpackDigest(digest) };
}

function unpackContinuation(fields: unknown[]): ContinuationEntry {
  const path = unpackPath(fields[1]);
  const offsetBytes = fields[2];
  if (!isCount(offsetBytes, payloadBytesMax)) throw new FormatError(`${shown(path)} goes on at an impossible place`);
  return { kind: "continuation", path, offsetBytes, chunks: unpackChunks(fields[3]) };
}

function unpackRun(fields: unknown[]): RunHeader {
  const files = fields[3];
  const chunk = unpackChunk(fields.slice(1, 3));
  if (!isCount(files, chunk.sizeBytes) || files === 0) throw new FormatError("a run has an impossible number of files");
  return { kind: "run", chunk, files };
}

function unpackChunks(value: unknown): ChunkRef[] {
  if (!Array.isArray(value)) throw new FormatError("a file has no list of chunks");
  return value.map(unpackChunk);
}

function unpackChunk(value: unknown): ChunkRef {
  if (!Array.isArray(value) || value.length !== 2) throw new FormatError("a chunk is a pair of hash and size");
  const [digest, sizeBytes] = value as unknown[];
  if (!isCount(sizeBytes, chunkBytesMax) || sizeBytes === 0) {
    throw new FormatError(`a chunk has ${String(sizeBytes)} bytes, which is not in 1…${chunkBytesMax}`);
  }
  return { digest: unpackDigest(digest), sizeBytes };
}

function unpackPath(value: unknown): string {
  return parseTreePath(unpackBytes(value));
}

function unpackDigest(value: unknown): Uint8Array {
  const bytes = unpackBytes(value);
  if (bytes.length !== digestBytes) throw new FormatError("a hash in a manifest is not 32 bytes");
  return bytes;
}

function unpackBytes(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new FormatError("a manifest entry lacks bytes where they must be");
  return value;
}

function expectFields(fields: unknown[], count: number): void {
  if (fields.length !== count) throw new FormatError("a manifest entry has a wrong number of fields");
}

/** Chunks of a large file are this long at least, but for its last one: so that lists stay short. */
export const listedChunkBytesMin: number = chunkBytesMin;
/**
 * Whether ext4 keeps a time as it is: 34 bits from 1901 to 2446, in whole seconds since 1970 (ext4(5), inode timestamps).
 * Others would be found damaged wherever they are placed.
 */
export function isKeptTime(seconds: number): boolean {
  return seconds >= -(2 ** 31) && seconds < 2 ** 34 - 2 ** 31;
}
