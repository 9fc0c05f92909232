import {
  chunkBytesMax,
  chunkBytesMin,
  chunkBytesTarget,
  KIB,
  runFileWeightMin,
  segmentBytesMax,
  segmentBytesMin,
} from "./limits.ts";

/**
 * Where a chunk of a large file ends: FastCDC with normalised chunking (Xia et al., USENIX ATC 2016).
 * @param bytes the rest of the file from the chunk's start; `chunkBytesMax` of it are enough, less only at its end.
 * @returns the chunk's length, at most `chunkBytesMax`.
 */
export function cutLength(bytes: Uint8Array): number {
  const end = Math.min(bytes.length, chunkBytesMax);
  if (end <= chunkBytesMin) return end;
  const normal = Math.min(end, normalPoint);
  let fingerprint = 0;
  let i = chunkBytesMin;
  for (; i < normal; i++) {
    fingerprint = ((fingerprint << 1) + gear[bytes[i]!]!) | 0;
    if ((fingerprint & strictMask) === 0) return i + 1;
  }
  for (; i < end; i++) {
    fingerprint = ((fingerprint << 1) + gear[bytes[i]!]!) | 0;
    if ((fingerprint & looseMask) === 0) return i + 1;
  }
  return end;
}

/**
 * Decides which consecutive small files share one chunk. A file weighs its size, and at least `runFileWeightMin`
 * (decision 0001). A run ends after a file if it weighs `chunkBytesMin` or more and the file's digest says so; or before
 * a file that would take it past `chunkBytesMax`, or whose entries would not fit one segment.
 */
export class RunCutter {
  #weight = 0;
  #entryBytes = 0;

  /** Whether the open run can take in a file of this size, whose entry has this many encoded bytes. */
  fits(sizeBytes: number, entryBytes: number): boolean {
    return (
      this.#weight + weightOf(sizeBytes) <= chunkBytesMax &&
      this.#entryBytes + entryBytes <= segmentBytesMax - slackBytes
    );
  }

  /** Takes in a file. Answers whether the run ends after it. */
  add(sizeBytes: number, entryBytes: number, digest: Uint8Array): boolean {
    this.#weight += weightOf(sizeBytes);
    this.#entryBytes += entryBytes;
    return this.#weight >= chunkBytesMin && digestBelow(digest, 0, weightOf(sizeBytes) / chunkBytesTarget);
  }

  /** Takes in an entry without bytes that stands between two files of the run. */
  pass(entryBytes: number): void {
    this.#entryBytes += entryBytes;
  }

  /** The run has ended. */
  reset(): void {
    this.#weight = 0;
    this.#entryBytes = 0;
  }
}

/**
 * Whether a manifest segment ends after a unit (a run or a large file), so that versions of a package share segments.
 * @param segmentBytes encoded bytes of the segment so far; `unitBytes` those of its last unit, whose last digest is given.
 */
export function segmentEndsAfter(segmentBytes: number, unitBytes: number, digest: Uint8Array): boolean {
  return segmentBytes >= segmentBytesMin && digestBelow(digest, 8, unitBytes / segmentBytesMin);
}

/** Whether the 64 bits of a digest at `offset`, as a fraction of 2^64, are below `fraction`. */
function digestBelow(digest: Uint8Array, offset: number, fraction: number): boolean {
  // 48 bits are exact in a double, and no fraction here is finer.
  let bits = 0;
  for (let i = 0; i < 6; i++) bits = bits * 256 + digest[offset + i]!;
  return bits < fraction * 2 ** 48;
}

function weightOf(sizeBytes: number): number {
  return Math.max(sizeBytes, runFileWeightMin);
}

/** Room in a segment for its frame (1 KiB, as in manifest-builder.ts) and for a run's header. */
const slackBytes = 2 * KIB;

// Masks of 21 and 17 bits around 512 KiB (normalisation level 2), on the top bits, which see the last 32 bytes. With a
// minimum of 256 KiB the switch from strict to loose stands at 384 KiB, which brings the mean to the target.
const strictMask = 0xfffff800 | 0;
const looseMask = 0xffff8000 | 0;
const normalPoint = 384 * KIB;

/** The gear table: 256 numbers of 32 bits, frozen by test vectors (mulberry-style mixing of the index). */
const gear = Int32Array.from({ length: 256 }, (_, byte) => {
  let z = Math.imul(byte + 1, 0x9e3779b9);
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return z ^ (z >>> 15);
});
