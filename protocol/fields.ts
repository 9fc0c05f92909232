import { textBytesMax } from "./limits.ts";
import { utf8Bytes } from "./paths.ts";

/** Whether a decoded value is a list of at most `max` values of one kind. */
export function isListOf<T>(value: unknown, isOne: (item: unknown) => item is T, max: number): value is T[] {
  return Array.isArray(value) && value.length <= max && value.every(isOne);
}

/** Whether a decoded value is the bytes of a hash. */
export function isDigest(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array && value.length === 32;
}

/** Whether a decoded value is at most `max` bytes. */
export function isBytes(value: unknown, max: number): value is Uint8Array {
  return value instanceof Uint8Array && value.length <= max;
}

/** Whether a decoded value is a text that people may be shown, on a terminal too: no control characters. */
export function isText(value: unknown, bytesMax: number = textBytesMax): value is string {
  if (typeof value !== "string" || value.length > bytesMax) return false;
  return utf8Bytes(value).length <= bytesMax && !controls.test(value);
}

/** Whether a decoded value names a peer: base58 or base36, as libp2p writes peer ids. */
export function isPeerName(value: unknown): value is string {
  return typeof value === "string" && peerName.test(value);
}

const controls = /\p{Control}/u;
const peerName = /^[0-9A-Za-z]{1,64}$/;
