import type { PayloadId } from "../protocol/hash.ts";
import { ItemGroups } from "../protocol/item-groups.ts";
import { KIB } from "../protocol/limits.ts";

/** A payload as the members of a world know it. */
export interface VirtualPayload {
  readonly number: number;
  readonly id: PayloadId;
  readonly segmentSizesBytes: readonly number[];
  readonly sizesBytes: Uint32Array;
  readonly items: number;
  readonly bytes: number;
  readonly groups: ItemGroups;
}

/** A payload of so many bytes in so many items; the first ones are segments. */
export function virtualPayload(number: number, bytes: number, items: number): VirtualPayload {
  const segments = Math.max(1, Math.ceil((items * entryBytes) / segmentBytes));
  const segmentSizesBytes = Array.from({ length: segments }, () => Math.min(segmentBytes, items * entryBytes));
  const chunks = items - segments;
  const sizesBytes = new Uint32Array(items);
  const mean = Math.floor(bytes / chunks);
  for (let item = 0; item < items; item++) sizesBytes[item] = item < segments ? segmentSizesBytes[item]! : mean;
  sizesBytes[items - 1]! += bytes - mean * chunks;
  const total = sizesBytes.reduce((sum, size) => sum + size, 0);
  const id = number.toString(16).padStart(64, "0") as PayloadId;
  return {
    ...{ number, id, segmentSizesBytes, sizesBytes, items, bytes: total },
    groups: new ItemGroups({ segments, items, bytes }),
  };
}

const segmentBytes: number = 128 * KIB;
/** What a chunk takes in a segment. */
const entryBytes = 64;
