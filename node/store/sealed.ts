import { crc32 } from "node:zlib";
import { isMap } from "../../protocol/cbor.ts";

// What is kept here and has no hash of its own carries a checksum: a bit that flipped on the disk is noticed by whoever
// reads it, and never passed on. It guards against rot, not against anybody who can write here.

/** A text with a last line that says its checksum. */
export function sealBytes(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.from(sealOf(bytes))]);
}

/** What was sealed; undefined where it is not what it was. */
export function unsealBytes(sealed: Uint8Array): Uint8Array | undefined {
  // Written before there were seals. No bit that flips in a seal makes it end like that.
  if (sealed.at(-1) === closingBrace) return sealed;
  if (sealed.length < sealLength) return undefined;
  const bytes = sealed.subarray(0, sealed.length - sealLength);
  const seal = sealed.subarray(sealed.length - sealLength);
  return Buffer.from(sealOf(bytes)).equals(seal) ? bytes : undefined;
}

/** A value of JSON beside its checksum. */
export function sealValue(value: unknown): object {
  const text = JSON.stringify(value);
  return { value, crc32: crc32(text) };
}

/** The value; undefined where it is not what it was. */
export function unsealValue(sealed: unknown): unknown {
  if (!isMap(sealed) || crc32(JSON.stringify(sealed.value) ?? "") !== sealed.crc32) return undefined;
  return sealed.value;
}

function sealOf(bytes: Uint8Array): string {
  return `\n#crc32 ${crc32(bytes).toString(16).padStart(8, "0")}\n`;
}

const sealLength = sealOf(new Uint8Array(0)).length;
const closingBrace = 0x7d;
