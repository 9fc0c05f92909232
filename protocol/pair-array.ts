/** Bytes of a pair: 32 of a variant, 32 of a payload. */
export const pairBytes = 64;

/** Pairs of variant and payload by number, in one array that grows. */
export class PairArray {
  #words = new Int32Array(16 * wordsPerPair);
  #bytes = new Uint8Array(this.#words.buffer);
  /** The first 32 bits of each variant: most comparisons end there. */
  #prefixes = new Uint32Array(16);

  /** All pairs, one after another, until the array grows. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** All pairs by words in this machine's order, until the array grows. */
  get words(): Int32Array {
    return this.#words;
  }

  /** Puts the pair at `offset` in the place of a number; places are taken in order. */
  put(number: number, bytes: Uint8Array, offset: number): void {
    if (number >= this.#prefixes.length) this.#grow();
    const at = number * pairBytes;
    for (let i = 0; i < pairBytes; i++) this.#bytes[at + i] = bytes[offset + i]!;
    this.#prefixes[number] = bigEndian(this.#bytes, at);
  }

  /** The bytes of several pairs, one after another. */
  gather(numbers: Uint32Array): Uint8Array {
    const words = new Int32Array(numbers.length * wordsPerPair);
    // This is most of what a change costs: all names are local ones here.
    const source = this.#words;
    const { length } = numbers;
    for (let i = 0, at = 0; i < length; i++) {
      const from = numbers[i]! * wordsPerPair;
      for (let word = from; word < from + wordsPerPair; word++) words[at++] = source[word]!;
    }
    return new Uint8Array(words.buffer);
  }

  /** Sorts numbers by the bytes of their pairs, in place. */
  sort(numbers: Uint32Array): Uint32Array {
    const keys = new Float64Array(numbers.length);
    // The prefix, and where the number stood: 53 bits. Numbers are sorted far faster than by a comparison of ours.
    for (let i = 0; i < keys.length; i++) keys[i] = this.#prefixes[numbers[i]!]! * indexRange + i;
    keys.sort();
    const before = numbers.slice();
    let previous = -1;
    let hasTie = false;
    for (let i = 0; i < keys.length; i++) {
      const prefix = Math.floor(keys[i]! / indexRange);
      numbers[i] = before[keys[i]! - prefix * indexRange]!;
      hasTie ||= prefix === previous;
      previous = prefix;
    }
    return hasTie ? numbers.sort((a, b) => this.compare(a, b)) : numbers;
  }

  /** Orders two pairs by their bytes. */
  compare(a: number, b: number): number {
    const difference = this.#prefixes[a]! - this.#prefixes[b]!;
    if (difference !== 0 || a === b) return difference;
    return compareAt(this.#bytes, a * pairBytes, this.#bytes, b * pairBytes, pairBytes);
  }

  /** Orders the pair's variant against the one at `offset`. */
  compareVariant(number: number, variant: Uint8Array, offset = 0): number {
    const difference = this.#prefixes[number]! - bigEndian(variant, offset);
    return difference !== 0 ? difference : compareAt(this.#bytes, number * pairBytes, variant, offset, 32);
  }

  /** The numbers below `end` of all pairs with this variant. */
  withVariant(variant: Uint8Array, end: number): number[] {
    const prefix = bigEndian(variant, 0);
    const found: number[] = [];
    for (
      let number = this.#prefixes.indexOf(prefix);
      number >= 0;
      number = this.#prefixes.indexOf(prefix, number + 1)
    ) {
      if (number < end && this.compareVariant(number, variant) === 0) found.push(number);
    }
    return found;
  }

  /** The numbers below `end` of all pairs with this payload. */
  withPayload(payload: Uint8Array, end: number): number[] {
    const first = new Int32Array(payload.slice(0, 4).buffer)[0]!;
    const found: number[] = [];
    for (let number = 0; number < end; number++) {
      if (this.#words[number * wordsPerPair + wordsPerPair / 2] !== first) continue;
      if (compareAt(this.#bytes, number * pairBytes + 32, payload, 0, 32) === 0) found.push(number);
    }
    return found;
  }

  #grow(): void {
    const words = new Int32Array(this.#words.length * 2);
    words.set(this.#words);
    this.#words = words;
    this.#bytes = new Uint8Array(words.buffer);
    const prefixes = new Uint32Array(this.#prefixes.length * 2);
    prefixes.set(this.#prefixes);
    this.#prefixes = prefixes;
  }
}

/** Compares `length` bytes as `compareBytes` does, without making views of them. */
export function compareAt(a: Uint8Array, atA: number, b: Uint8Array, atB: number, length: number): number {
  for (let i = 0; i < length; i++) {
    const difference = a[atA + i]! - b[atB + i]!;
    if (difference !== 0) return difference;
  }
  return 0;
}

export const wordsPerPair: number = pairBytes / 4;
/** More than a list may have. */
const indexRange = 2 ** 21;

function bigEndian(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}
