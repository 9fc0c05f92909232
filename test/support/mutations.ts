import { type Random, randomBelow } from "../../protocol/random.ts";

/**
 * Bytes that a stranger might send: mostly near misses of something valid, at times noise. The same for the same
 * random numbers.
 */
export function mutated(valid: readonly Uint8Array[], random: Random): Uint8Array {
  const roll = (bound: number) => randomBelow(bound, random);
  if (roll(8) === 0) return noiseOf(roll(200), roll);
  let bytes = valid[roll(valid.length)]!.slice();
  for (let times = 1 + roll(3); times > 0; times--) {
    const at = roll(bytes.length + 1);
    switch (roll(9)) {
      case 0: // Bits turn.
        for (let flips = 1 + roll(4); flips > 0; flips--) {
          const place = roll(bytes.length);
          if (bytes.length > 0) bytes[place]! ^= 1 << roll(8);
        }
        break;
      case 1:
        if (bytes.length > 0) bytes[roll(bytes.length)] = roll(256);
        break;
      case 2:
        bytes = bytes.subarray(0, at);
        break;
      case 3: {
        // The end of another.
        const other = valid[roll(valid.length)]!;
        bytes = joined(bytes.subarray(0, at), other.subarray(roll(other.length + 1)));
        break;
      }
      case 4: // A stretch is gone, or stands twice.
        bytes = joined(bytes.subarray(0, at), bytes.subarray(roll(bytes.length + 1)));
        break;
      case 5: // A huge length, as CBOR has it.
        bytes = joined(
          bytes.subarray(0, at),
          claims[roll(claims.length)]!,
          bytes.subarray(Math.min(bytes.length, at + 1)),
        );
        break;
      case 6: // Deep.
        bytes = joined(bytes.subarray(0, at), new Uint8Array(depths[roll(depths.length)]!).fill(nesting[roll(4)]!));
        break;
      case 7: // What JSON and JavaScript stumble over.
        bytes = joined(bytes.subarray(0, at), words[roll(words.length)]!, bytes.subarray(at));
        break;
      case 8:
        bytes = joined(bytes.subarray(0, at), noiseOf(roll(20), roll), bytes.subarray(at));
    }
  }
  return bytes;
}

function noiseOf(length: number, roll: (bound: number) => number): Uint8Array {
  return Uint8Array.from({ length }, () => roll(256));
}

function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(parts));
}

const claims: readonly Uint8Array[] = [0x5a, 0x5b, 0x7a, 0x7b, 0x9a, 0x9b, 0xba, 0xbb, 0x1b, 0x3b].map((head) =>
  Uint8Array.of(head, ...Array.from({ length: (head & 1) === 1 ? 8 : 4 }, () => 0xff)),
);
const depths = [20, 300, 6000];
/** CBOR's list of one, map of one and tag; JSON's list. */
const nesting = [0x81, 0xa1, 0xc1, "[".charCodeAt(0)];
const words: readonly Uint8Array[] = [
  ...[
    "null",
    "-0",
    "1e999",
    '"',
    "\\ud800",
    "\u0000",
    "../",
    '"__proto__":1,',
    '"toString":{},',
    "\u001b[2J",
    "=",
    "[",
    "{",
  ],
  ...["package.py[999999999]", "studio:", "variant:", "é"],
].map((word) => new Uint8Array(Buffer.from(word)));
