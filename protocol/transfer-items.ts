import type { ChunkDescription, TransferPlan } from "./transfer-events.ts";

/** The items of one payload: what they measure, which come with which, and which are here, verified. */
export class TransferItems {
  readonly #segmentSizesBytes: readonly number[];
  readonly #isStored: Uint8Array;
  #storedCount = 0;
  #description: ChunkDescription | undefined;

  constructor(plan: TransferPlan) {
    this.#segmentSizesBytes = plan.segmentSizesBytes;
    this.#isStored = new Uint8Array(plan.items);
  }

  get count(): number {
    return this.#isStored.length;
  }

  get storedCount(): number {
    return this.#storedCount;
  }

  get missingCount(): number {
    return this.count - this.#storedCount;
  }

  /** The segments say what the chunks are. */
  describe(description: ChunkDescription): void {
    this.#description = description;
  }

  hasStored(item: number): boolean {
    return this.#isStored[item] === 1;
  }

  /** An item is here. Answers whether that is new. */
  store(item: number): boolean {
    if (this.#isStored[item] === 1) return false;
    this.#isStored[item] = 1;
    this.#storedCount++;
    return true;
  }

  firstMissing(): number {
    return this.#isStored.indexOf(0);
  }

  /** Chunks that do not come with others. */
  *ownChunks(): Generator<number> {
    const comeWithOthers = new Set<number>();
    for (const [item, copies] of this.#description?.copiesOf ?? []) {
      // A crash, or rot, may have left the first and taken a copy: that one comes by itself.
      if (!this.hasStored(item)) for (const copy of copies) comeWithOthers.add(copy);
    }
    for (let item = this.#segmentSizesBytes.length; item < this.count; item++) {
      if (!comeWithOthers.has(item)) yield item;
    }
  }

  /** Items that are stored with this one. */
  copiesOf(item: number): readonly number[] {
    return this.#description?.copiesOf.get(item) ?? [];
  }

  sizeOf(item: number): number {
    const segments = this.#segmentSizesBytes;
    return item < segments.length ? segments[item]! : this.#description!.sizesBytes[item]!;
  }
}
