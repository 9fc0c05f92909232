import { decode, encode, rfc8949EncodeOptions } from "cborg";
import { FormatError } from "./errors.ts";
import { compareBytes } from "./hash.ts";
import { shown } from "./paths.ts";

/** A CBOR value of ours: maps become plain objects, byte strings Uint8Arrays. */
export type CborMap = { readonly [key: string]: unknown };

/** Canonical CBOR: shortest forms, sorted keys (RFC 8949, section 4.2.1). */
export function encodeCanonical(value: unknown): Uint8Array {
  return encode(value, rfc8949EncodeOptions);
}

/**
 * Decodes canonical CBOR of at most `bytesMax` bytes; anything else is refused, and nothing is allocated beyond a
 * small multiple of what came in. Values nested deeper than any format of ours end in the same refusal.
 * @throws {FormatError} when the bytes are too many, or not canonical.
 */
export function decodeCanonical(bytes: Uint8Array, bytesMax: number, what: string): unknown {
  if (bytes.length > bytesMax) throw new FormatError(`${what} has ${bytes.length} bytes, more than ${bytesMax}`);
  let value: unknown;
  let again: Uint8Array;
  try {
    value = decode(bytes, decodeOptions);
    // Sorted keys, valid UTF-8, shortest floats: the decoder does not look at them, the encoder knows only one form.
    again = encodeCanonical(value);
  } catch (cause) {
    // The decoder's message may quote what came in.
    throw new FormatError(`${what} is not CBOR: ${shown(cause instanceof Error ? cause.message : "")}`, { cause });
  }
  if (compareBytes(again, bytes) !== 0) throw new FormatError(`${what} is not canonical CBOR`);
  checkShape(value, what);
  return value;
}

/**
 * Decodes bytes that were found canonical before and have not changed since, as their hash proves: encoding them again
 * costs more time and memory than decoding them.
 */
export function decodeAgain(bytes: Uint8Array): unknown {
  return decode(bytes, decodeOptions);
}

/**
 * Refuses values (CBOR's or JSON's) that are dangerous to touch at all: so deep that a walk would exhaust the stack, or
 * with keys that hide what every object has, so that even `String(value)` would throw.
 * @throws {FormatError}
 */
export function checkShape(value: unknown, what: string, depth = 0): void {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return;
  if (depth >= depthMax) throw new FormatError(`${what} is nested too deeply`);
  if (Array.isArray(value)) {
    for (const item of value) checkShape(item, what, depth + 1);
    return;
  }
  for (const [key, item] of Object.entries(value)) {
    if (key in Object.prototype) throw new FormatError(`${what} has a field ${shown(key)}`);
    checkShape(item, what, depth + 1);
  }
}

/** Whether a decoded value is a map. */
export function isMap(value: unknown): value is CborMap {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
}

/** Whether a decoded value is a whole number in `0..max`. */
export function isCount(value: unknown, max: number = Number.MAX_SAFE_INTEGER): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= max;
}

/** Three times what the deepest format needs. */
const depthMax = 16;
const decodeOptions = {
  strict: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowBigInt: false,
  allowInfinity: false,
  allowNaN: false,
  rejectDuplicateMapKeys: true,
};
