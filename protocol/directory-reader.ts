import { isAscending, type PackedHoldings } from "./announcement.ts";
import { FormatError } from "./errors.ts";
import { holdingsPerPeerMax, pairsMax, pairsPerFrameMax, partsPerAskMax, peersMax } from "./limits.ts";
import type { DirectoryAnswer, EnvelopedHead } from "./messages.ts";
import { PairArray, pairBytes } from "./pair-array.ts";

/** What a frame of an answer gives; the shell opens the envelopes and hands the rest to `Gossip`. */
export type DirectoryRead =
  | { readonly kind: "heads"; readonly heads: readonly EnvelopedHead[] }
  | { readonly kind: "part"; readonly head: EnvelopedHead; readonly whole: PackedHoldings }
  /** It gives nothing by itself. */
  | { readonly kind: "pairs" }
  | { readonly kind: "end" };

/** Reads one answer of the directory protocol, frame by frame; keeps the pairs that came, 68 bytes each. */
export class DirectoryReader {
  readonly #partsMax: number;
  readonly #pairsMax: number;
  readonly #pairs = new PairArray();
  #pairCount = 0;
  #parts = 0;
  #heads = 0;
  #hasEnded = false;

  /** `parts` lists were asked for: more cannot come, nor pairs that are in none of them. */
  constructor(parts: number = partsPerAskMax) {
    this.#partsMax = Math.min(parts, partsPerAskMax);
    this.#pairsMax = Math.min(pairsMax, parts * holdingsPerPeerMax);
  }

  /** Takes in the next frame. @throws {FormatError} when it breaks a rule: nothing after it counts. */
  read(message: DirectoryAnswer, body: Uint8Array): DirectoryRead {
    if (this.#hasEnded) throw new FormatError("a directory goes on after its end");
    if ((message.kind === "heads" || message.kind === "end") && body.length > 0) {
      throw new FormatError(`a directory's ${message.kind} have ${body.length} bytes of body`);
    }
    switch (message.kind) {
      case "heads":
        this.#heads += message.heads.length;
        // Its own is one more.
        if (this.#heads > peersMax + 1) throw new FormatError(`a directory has more than ${peersMax} heads`);
        return { kind: "heads", heads: message.heads };
      case "pairs":
        this.#takePairs(body);
        return { kind: "pairs" };
      case "part": {
        this.#parts++;
        if (this.#parts > this.#partsMax) throw new FormatError(`a directory has more than ${this.#partsMax} parts`);
        const { envelope, remainingMs } = message;
        return { kind: "part", head: { envelope, remainingMs }, whole: this.#whole(body) };
      }
      case "end":
        this.#hasEnded = true;
        return { kind: "end" };
    }
  }

  #takePairs(body: Uint8Array): void {
    const count = body.length / pairBytes;
    if (!Number.isInteger(count) || count === 0 || count > pairsPerFrameMax) {
      throw new FormatError(`a frame of a directory has ${body.length} bytes of pairs`);
    }
    if (this.#pairCount + count > this.#pairsMax) {
      throw new FormatError(`a directory has more than ${this.#pairsMax} pairs of variant and payload`);
    }
    for (let at = 0; at < body.length; at += pairBytes) this.#pairs.put(this.#pairCount++, body, at);
  }

  #whole(body: Uint8Array): PackedHoldings {
    const numbers = decodeNumbers(body, this.#pairCount);
    if (numbers === undefined) throw new FormatError("a part of a directory names pairs that did not come");
    const whole = this.#pairs.gather(this.#pairs.sort(numbers));
    if (!isAscending(whole, pairBytes)) throw new FormatError("a part of a directory names a variant twice");
    return whole;
  }
}

/**
 * Ascending numbers as the gaps between them, each in groups of seven bits, lowest first (LEB128): of 1,000 out of
 * 50,000 most take one byte.
 */
export function encodeNumbers(numbers: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(numbers.length * 5);
  let length = 0;
  let next = 0;
  for (const number of numbers) {
    let gap = number - next;
    for (; gap > 0x7f; gap >>>= 7) bytes[length++] = (gap & 0x7f) | 0x80;
    bytes[length++] = gap;
    next = number + 1;
  }
  return bytes.slice(0, length);
}

/** Ascending numbers below `end`, at most `holdingsPerPeerMax`; undefined for any other bytes. */
export function decodeNumbers(bytes: Uint8Array, end: number): Uint32Array | undefined {
  let count = 0;
  for (const byte of bytes) if (byte < 0x80) count++;
  if (count > holdingsPerPeerMax || (bytes.length > 0 && bytes.at(-1)! >= 0x80)) return undefined;
  const numbers = new Uint32Array(count);
  let next = 0;
  let at = 0;
  for (let index = 0; index < count; index++) {
    const start = at;
    let gap = 0;
    do gap += (bytes[at]! & 0x7f) * 2 ** (7 * (at - start));
    while (bytes[at++]! >= 0x80 && at - start < groupsMax);
    const hasOneForm = at - start === 1 || bytes[at - 1] !== 0;
    if (bytes[at - 1]! >= 0x80 || !hasOneForm || next + gap >= end) return undefined;
    numbers[index] = next + gap;
    next += gap + 1;
  }
  return numbers;
}

/** 2^21 is more than `pairsMax`. */
const groupsMax = 3;
