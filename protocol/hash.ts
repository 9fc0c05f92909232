import { FormatError } from "./errors.ts";

declare const hashOf: unique symbol;

/** A BLAKE3-256 hash as text: 64 lower-case hex digits. `Of` says what was hashed, so that two kinds never mix. */
export type Hash<Of extends string> = string & { readonly [hashOf]: Of };

/** Names a variant on the network: the hash of its canonical CBOR. */
export type VariantHash = Hash<"variant">;
/** Names a file tree: the hash of its manifest root. */
export type PayloadId = Hash<"payload">;
/** Names an item's bytes: a chunk's or a manifest segment's. */
export type ChunkHash = Hash<"chunk">;

/** BLAKE3-256 of some bytes, 32 bytes long; passed in, since engines live in node/. */
export type Hasher = (bytes: Uint8Array) => Uint8Array;

/** Bytes of a digest. */
export const digestBytes = 32;

const hexDigits = /^[0-9a-f]{64}$/;

/** @throws {FormatError} unless `text` is 64 lower-case hex digits. */
export function parseVariantHash(text: string): VariantHash {
  return parseHash<"variant">(text);
}

/** @throws {FormatError} unless `text` is 64 lower-case hex digits. */
export function parsePayloadId(text: string): PayloadId {
  return parseHash<"payload">(text);
}

/** @throws {FormatError} unless `text` is 64 lower-case hex digits. */
export function parseChunkHash(text: string): ChunkHash {
  return parseHash<"chunk">(text);
}

/** A digest's 32 bytes as text. @throws {FormatError} unless there are 32 of them. */
export function hashFromBytes<Of extends string>(bytes: Uint8Array): Hash<Of> {
  if (bytes.length !== digestBytes) throw new FormatError(`a hash has ${digestBytes} bytes, not ${bytes.length}`);
  return bytesToHex(bytes) as Hash<Of>;
}

/** Lower-case hex digits, two a byte. */
export function bytesToHex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += hexOfByte[byte];
  return text;
}

/** The bytes of an even number of hex digits; the caller has checked that they are. */
export function hexToBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = (digitOfCode[text.charCodeAt(2 * i)]! << 4) | digitOfCode[text.charCodeAt(2 * i + 1)]!;
  }
  return bytes;
}

/** Below zero, zero or above it, as byte strings are ordered. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

function parseHash<Of extends string>(text: string): Hash<Of> {
  if (!hexDigits.test(text)) throw new FormatError(`not a hash of 64 lower-case hex digits: ${text.slice(0, 80)}`);
  return text as Hash<Of>;
}

/** By character code: parsing digit by digit is ten times as fast as `Number.parseInt` of slices. */
const digitOfCode = Uint8Array.from({ length: 128 }, (_, code) =>
  Math.max(0, "0123456789abcdef".indexOf(String.fromCharCode(code))),
);
const hexOfByte = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
