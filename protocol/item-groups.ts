import { chunkBytesTarget, MIB } from "./limits.ts";

/** What of a payload everyone knows before its segments are here: enough to cut it the same way everywhere. */
export interface PayloadShape {
  readonly segments: number;
  /** Segments and chunks. */
  readonly items: number;
  /** Bytes of all chunks together. */
  readonly bytes: number;
}

/** The groups in which the items of a payload are leased: the segments, then stretches of about 16 MiB of chunks. */
export class ItemGroups {
  readonly count: number;
  readonly items: number;
  readonly #segments: number;
  readonly #itemsPerGroup: number;

  constructor({ segments, items, bytes }: PayloadShape) {
    const chunks = items - segments;
    const chunkBytes = chunks === 0 ? chunkBytesTarget : Math.max(1, bytes / chunks);
    this.items = items;
    this.#segments = segments;
    this.#itemsPerGroup = Math.max(1, Math.round(groupBytes / chunkBytes));
    this.count = 1 + Math.ceil(chunks / this.#itemsPerGroup);
  }

  /** The group of an item. */
  of(item: number): number {
    return item < this.#segments ? 0 : 1 + Math.floor((item - this.#segments) / this.#itemsPerGroup);
  }

  first(group: number): number {
    return group === 0 ? 0 : this.#segments + (group - 1) * this.#itemsPerGroup;
  }

  /** The item after a group's last. */
  end(group: number): number {
    return group === 0 ? this.#segments : Math.min(this.items, this.first(group) + this.#itemsPerGroup);
  }
}

/** DESIGN section 7, rule 2. */
const groupBytes: number = 16 * MIB;
/** The largest payload in groups of the target size, and its segments. */
export const groupsMax: number = 65_536 + 1;
