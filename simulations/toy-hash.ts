import type { Hasher } from "../protocol/hash.ts";

/**
 * Thirty-two bytes that differ for different bytes, and nothing more: who simulates has nobody to fear. The bytes of an
 * envelope are hashed once, however many members receive it.
 */
export const toyHash: Hasher = (bytes) => {
  const known = digests.get(bytes);
  if (known !== undefined) return known;
  const digest = digestOf(bytes);
  digests.set(bytes, digest);
  return digest;
};

const digests = new WeakMap<Uint8Array, Uint8Array>();

function digestOf(bytes: Uint8Array): Uint8Array {
  let a = 0x9e3779b9 ^ bytes.length;
  let b = 0x85ebca6b;
  for (const byte of bytes) {
    a = Math.imul(a ^ byte, 0x01000193);
    b = Math.imul(b + byte, 0x27d4eb2f) ^ (a >>> 15);
  }
  const digest = new Uint8Array(32);
  const view = new DataView(digest.buffer);
  for (let word = 0; word < 8; word++) {
    a = Math.imul(a ^ (a >>> 16), 0x21f0aaad) + b;
    b = Math.imul(b ^ (b >>> 15), 0x735a2d97) + word;
    view.setUint32(word * 4, a ^ b);
  }
  return digest;
}
