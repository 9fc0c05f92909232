import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { assert, ChunkCorruptError, FormatError, UsageError, VersionError } from "../../protocol/errors.ts";
import type { ChunkHash, VariantHash } from "../../protocol/hash.ts";
import { KIB } from "../../protocol/limits.ts";
import { giveBuffer, isOwnBuffer } from "../chunk-buffers.ts";

// What lies in a repository, whatever it is read through (DESIGN section 4): names of objects, and their bytes.

/** Says what the tree is: its format version and its network. */
export const descriptionPath = "p2pcache.json";
export const descriptionBytesMax: number = 64 * KIB;
const formatVersion = 1;

/** How the bytes of a chunk or segment lie there: as they are, or compressed with zstd (decision 0020). */
export type ChunkForm = "plain" | "zst";

/** Where a chunk or segment lies in one of its two forms; a repository has either. */
export function chunkPath(hash: ChunkHash, form: ChunkForm = "plain"): string {
  return `chunks/${hash.slice(0, 2)}/${hash}${form === "zst" ? ".zst" : ""}`;
}

export function recordPath(variant: VariantHash, revision: number): string {
  return `variants/${variant.slice(0, 2)}/${variant}/${revision}.dsse.json`;
}

/** Of a file of the policy, by its name. @throws {Error} for a name that is none: it would lead elsewhere. */
export function policyPath(name: string): string {
  assert(/^(targets\/([a-z]+\/)?)?[A-Za-z0-9][A-Za-z0-9._-]*\.json$/.test(name), "files of a policy lie in its folder");
  return `policy/${name}`;
}

/** The bytes of `p2pcache.json` for a new repository. */
export function describeRepository(network: string): Uint8Array {
  return Buffer.from(`${JSON.stringify({ formatVersion, network })}\n`);
}

/**
 * Checks the bytes of `p2pcache.json`; `place` names the file in errors.
 * @throws {FormatError} {VersionError} when it is of a newer format; {UsageError} OTHER_NETWORK
 */
export function checkDescription(bytes: Uint8Array, place: string, network: string): void {
  let value: { readonly formatVersion?: unknown; readonly network?: unknown } | null;
  try {
    value = JSON.parse(Buffer.from(bytes).toString()) as typeof value;
  } catch (cause) {
    throw new FormatError(`${place} is not JSON`, { cause });
  }
  if (value?.formatVersion !== formatVersion) throw new VersionError(place, value?.formatVersion);
  if (value.network === network) return;
  throw new UsageError(`${place} is of the network ${JSON.stringify(value.network)}, not ${JSON.stringify(network)}`, {
    code: "OTHER_NETWORK",
    hint: "check network.name and the origin's place in the configuration",
  });
}

/**
 * A chunk's bytes as they are best kept: compressed where that saves a tenth or more, as they are otherwise. The work
 * is done in the thread pool; of a large chunk that does not look compressible only a sample is tried.
 */
export async function packChunk(bytes: Uint8Array): Promise<{ readonly form: ChunkForm; readonly bytes: Uint8Array }> {
  const plain = { form: "plain", bytes } as const;
  if (bytes.length > 2 * sampleBytes) {
    const at = (bytes.length - sampleBytes) >> 1;
    const sample = bytes.subarray(at, at + sampleBytes);
    if (!isWorthIt(sample.length, (await compress(sample, sampleLevel)).length)) return plain;
  }
  const packed = await compress(bytes, level);
  return isWorthIt(bytes.length, packed.length) ? { form: "zst", bytes: packed } : plain;
}

/**
 * The chunk of `sizeBytes` bytes in a `.zst` object, in a buffer of its own; never more than that is written out, and
 * the decoder takes 8 MiB at most. `packed` is given away. `place` names the object in errors.
 * @throws {ChunkCorruptError} when it is not zstd, or holds more or less.
 */
export async function unpackChunk(packed: Uint8Array, sizeBytes: number, place: string): Promise<Uint8Array> {
  const options = {
    maxOutputLength: Math.max(1, sizeBytes),
    // One buffer for all of it: five times faster than 16 KiB at a time (2 MiB, zlib of Node 26).
    chunkSize: Math.max(64, sizeBytes),
    params: { [constants.ZSTD_d_windowLogMax]: windowLogMax },
  };
  let bytes: Uint8Array;
  try {
    bytes = await decompress(packed, options);
  } catch (cause) {
    const isLonger = (cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE";
    const fault = isLonger ? `holds more than the ${sizeBytes} bytes of its chunk` : "is not a whole zstd frame";
    throw new ChunkCorruptError(`${place} ${fault}`, { cause });
  } finally {
    if (isOwnBuffer(packed)) giveBuffer(packed.buffer);
  }
  if (bytes.length === sizeBytes) return bytes;
  throw new ChunkCorruptError(`${place} holds ${bytes.length} bytes, and its chunk has ${sizeBytes}`);
}

function isWorthIt(plainBytes: number, packedBytes: number): boolean {
  return packedBytes <= 0.9 * plainBytes;
}

async function compress(bytes: Uint8Array, compressionLevel: number): Promise<Uint8Array> {
  return await zstd(bytes, {
    pledgedSrcSize: bytes.length,
    params: { [constants.ZSTD_c_compressionLevel]: compressionLevel },
  });
}

const zstd = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** Long enough to be typical; 0.6 ms for noise (level 1, Node 26 on this project's machines). */
const sampleBytes: number = 64 * KIB;
const sampleLevel = 1;
/** zstd's own default: 130 MB/s for noise and more for what compresses. */
const level = 3;
/** 8 MiB, which RFC 8878 (3.1.1.1.2) asks every decoder to bear; chunks have 2 MiB. */
const windowLogMax = 23;
