/** A fixed number of bits, packed eight a byte with bit 0 lowest: which items of a payload somebody has. */
export class Bitmap {
  readonly length: number;
  readonly bytes: Uint8Array;
  #count = 0;

  constructor(length: number) {
    this.length = length;
    this.bytes = new Uint8Array(Math.ceil(length / 8));
  }

  /** A bitmap of `length` bits from outside, or undefined when the bytes are not exactly that. */
  static parse(bytes: Uint8Array, length: number): Bitmap | undefined {
    if (bytes.length !== Math.ceil(length / 8)) return undefined;
    const bitmap = new Bitmap(length);
    for (let i = 0; i < bytes.length * 8; i++) {
      if (((bytes[i >> 3]! >> (i & 7)) & 1) === 0) continue;
      if (i >= length) return undefined;
      bitmap.add(i);
    }
    return bitmap;
  }

  /** How many bits are set. */
  get count(): number {
    return this.#count;
  }

  /** False for a bit outside `0..length-1`. */
  has(bit: number): boolean {
    return ((this.bytes[bit >> 3]! >> (bit & 7)) & 1) === 1;
  }

  /** Sets a bit. Answers whether it was clear: false also for one outside `0..length-1`, which stays so. */
  add(bit: number): boolean {
    if (bit < 0 || bit >= this.length || this.has(bit)) return false;
    this.bytes[bit >> 3]! |= 1 << (bit & 7);
    this.#count++;
    return true;
  }

  /** Clears a bit. */
  remove(bit: number): void {
    if (!this.has(bit)) return;
    this.bytes[bit >> 3]! &= ~(1 << (bit & 7));
    this.#count--;
  }
}
