import { PairArray, pairBytes, wordsPerPair } from "./pair-array.ts";
import { type Random, randomBelow } from "./random.ts";

/**
 * Pairs of variant and payload, each kept once and named by a number as long as somebody refers to it. Numbers of pairs
 * that nobody refers to any more are used again.
 */
export class PairTable {
  /** Words for each half word of a pair: nobody can foresee which pairs share a slot. */
  readonly #keys: Int32Array;
  readonly #scratch = new PairArray();
  readonly pairs: PairArray = new PairArray();
  #references = new Uint32Array(16);
  #hashes = new Int32Array(16);
  /** Open addressing with linear probing: the number of a pair plus one, or 0. */
  #slots = new Int32Array(64);
  #used = 0;
  readonly #free: number[] = [];

  constructor(random: Random) {
    this.#keys = Int32Array.from({ length: pairBytes / 2 }, () => randomBelow(2 ** 32, random) | 1);
  }

  /** Pairs that somebody refers to. */
  get size(): number {
    return this.#used - this.#free.length;
  }

  /** The number of the pair at `offset`, which is referred to once more. */
  intern(bytes: Uint8Array, offset: number): number {
    const hash = this.#load(bytes, offset);
    const slot = this.#slotOf(hash);
    const known = this.#slots[slot]! - 1;
    if (known >= 0) {
      this.#references[known]!++;
      return known;
    }
    const number = this.#free.pop() ?? this.#next();
    this.pairs.put(number, bytes, offset);
    this.#hashes[number] = hash;
    this.#references[number] = 1;
    if (this.size * 2 > this.#slots.length) this.#rehash();
    else this.#slots[slot] = number + 1;
    return number;
  }

  /** Whether the pair at `offset` is there. */
  has(bytes: Uint8Array, offset: number): boolean {
    return this.#slots[this.#slotOf(this.#load(bytes, offset))] !== 0;
  }

  /** How many refer to the pair at `offset`. */
  references(bytes: Uint8Array, offset: number): number {
    const number = this.#slots[this.#slotOf(this.#load(bytes, offset))]! - 1;
    return number < 0 ? 0 : this.#references[number]!;
  }

  addReference(number: number): void {
    this.#references[number]!++;
  }

  /** One reference less. */
  release(number: number): void {
    this.#references[number]!--;
    if (this.#references[number] !== 0) return;
    this.#vacate(number);
    this.#free.push(number);
  }

  /** The numbers of all pairs with this variant. */
  withVariant(variant: Uint8Array): number[] {
    return this.pairs.withVariant(variant, this.#used).filter((number) => this.#references[number]! > 0);
  }

  /** The numbers of all pairs with this payload. */
  withPayload(payload: Uint8Array): number[] {
    return this.pairs.withPayload(payload, this.#used).filter((number) => this.#references[number]! > 0);
  }

  /** Takes a pair up for comparison, and gives back its hash. */
  #load(bytes: Uint8Array, offset: number): number {
    this.#scratch.put(0, bytes, offset);
    // Multilinear over halves of 16 bits: two pairs share 17 bits of it with the chance of 2^-17, whoever chose them
    // (Lemire and Kaser, Strongly universal string hashing is fast, 2014). The rest spreads these bits.
    const { words } = this.#scratch;
    let sum = 0;
    for (let i = 0; i < wordsPerPair; i++) {
      const word = words[i]!;
      sum = (sum + Math.imul(word & 0xffff, this.#keys[2 * i]!) + Math.imul(word >>> 16, this.#keys[2 * i + 1]!)) | 0;
    }
    sum = Math.imul(sum ^ (sum >>> 16), 0x21f0aaad);
    sum = Math.imul(sum ^ (sum >>> 15), 0x735a2d97);
    return sum ^ (sum >>> 15);
  }

  /** Where the pair that was loaded stands, or would stand. */
  #slotOf(hash: number): number {
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    while (true) {
      const number = this.#slots[slot]! - 1;
      if (number < 0) return slot;
      if (this.#hashes[number] === hash && this.#isLoaded(number)) return slot;
      slot = (slot + 1) & mask;
    }
  }

  /** Takes a pair out of the slots, and moves back those that had to make way (Knuth, volume 3, section 6.4, R). */
  #vacate(number: number): void {
    const mask = this.#slots.length - 1;
    let hole = this.#hashes[number]! & mask;
    while (this.#slots[hole] !== number + 1) hole = (hole + 1) & mask;
    for (let slot = (hole + 1) & mask; this.#slots[slot] !== 0; slot = (slot + 1) & mask) {
      const home = this.#hashes[this.#slots[slot]! - 1]! & mask;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      this.#slots[hole] = this.#slots[slot]!;
      hole = slot;
    }
    this.#slots[hole] = 0;
  }

  #isLoaded(number: number): boolean {
    const { words } = this.pairs;
    const loaded = this.#scratch.words;
    for (let i = 0; i < wordsPerPair; i++) if (words[number * wordsPerPair + i] !== loaded[i]) return false;
    return true;
  }

  #next(): number {
    if (this.#used === this.#references.length) {
      const references = new Uint32Array(this.#used * 2);
      references.set(this.#references);
      this.#references = references;
      const hashes = new Int32Array(this.#used * 2);
      hashes.set(this.#hashes);
      this.#hashes = hashes;
    }
    return this.#used++;
  }

  /** Twice the slots; all pairs that are referred to find their places again. */
  #rehash(): void {
    this.#slots = new Int32Array(this.#slots.length * 2);
    const mask = this.#slots.length - 1;
    for (let number = 0; number < this.#used; number++) {
      if (this.#references[number] === 0) continue;
      let slot = this.#hashes[number]! & mask;
      while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
      this.#slots[slot] = number + 1;
    }
  }
}
