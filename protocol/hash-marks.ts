import { digestBytes } from "./hash.ts";

/**
 * A set of hashes for millions of them: it keeps the first 64 bits of each, in flat memory, 16 bytes a hash or a little
 * more. It may take a hash for one that was added, once in 2^64 / hashes; it never misses one that was.
 */
export class HashMarks {
  /** Two words a place; both zero: free. */
  #words: Uint32Array = new Uint32Array(2 * placesMin);
  #count = 0;

  get size(): number {
    return this.#count;
  }

  /** Adds a hash's 32 bytes. */
  add(digest: Uint8Array): void {
    const [high, low] = wordsOf(digest);
    if (this.#count * 2 >= this.#words.length / 2) this.#grow();
    const place = this.#find(high, low);
    if (this.#words[place] !== 0 || this.#words[place + 1] !== 0) return;
    this.#words[place] = high;
    this.#words[place + 1] = low;
    this.#count++;
  }

  has(digest: Uint8Array): boolean {
    const [high, low] = wordsOf(digest);
    const place = this.#find(high, low);
    return this.#words[place] !== 0 || this.#words[place + 1] !== 0;
  }

  /** Where these words stand, or could stand: half of all places are free. */
  #find(high: number, low: number): number {
    const words = this.#words;
    const mask = words.length / 2 - 1;
    for (let at = low & mask; ; at = (at + 1) & mask) {
      const [a, b] = [words[2 * at]!, words[2 * at + 1]!];
      if ((a === high && b === low) || (a === 0 && b === 0)) return 2 * at;
    }
  }

  #grow(): void {
    const before = this.#words;
    this.#words = new Uint32Array(2 * before.length);
    for (let i = 0; i < before.length; i += 2) {
      const [high, low] = [before[i]!, before[i + 1]!];
      if (high === 0 && low === 0) continue;
      const place = this.#find(high, low);
      this.#words[place] = high;
      this.#words[place + 1] = low;
    }
  }
}

/** The first 64 bits of a digest, never both zero. */
function wordsOf(digest: Uint8Array): readonly [number, number] {
  const view = new DataView(digest.buffer, digest.byteOffset, digestBytes);
  const [high, low] = [view.getUint32(0), view.getUint32(4)];
  return high === 0 && low === 0 ? [0, 1] : [high, low];
}

/** A power of two. */
const placesMin = 1 << 12;
