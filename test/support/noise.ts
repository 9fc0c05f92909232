import { seededRandom } from "../../protocol/random.ts";

/** Bytes without any pattern, the same for the same seed on every machine. */
export function noise(seed: number, length: number): Uint8Array {
  const random = seededRandom(seed);
  const bytes = new Uint8Array(Math.ceil(length / 4) * 4);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < bytes.length; i += 4) view.setUint32(i, random() * 2 ** 32, true);
  return bytes.subarray(0, length);
}
