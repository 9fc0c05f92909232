/** What benches measure of this room; all others import its files. */
export {
  type Announcement,
  decodeAnnouncement,
  digestHoldings,
  encodeAnnouncement,
  type PackedHoldings,
} from "./announcement.ts";
export { Directory } from "./directory.ts";
export { DirectoryReader } from "./directory-reader.ts";
export { writeHeads, writeParts } from "./directory-writer.ts";
export { type EvictionInput, type HeldFacts, planEviction } from "./eviction.ts";
export { reasonText } from "./eviction-text.ts";
export { hashFromBytes } from "./hash.ts";
export { parseKeepList, type SignedKeepList } from "./keep-alive.ts";
export { KeepIndex } from "./keep-index.ts";
export { partsPerAskMax } from "./limits.ts";
export { encodeMessage } from "./messages.ts";
export { type Random, randomBelow, seededRandom } from "./random.ts";
export type { Variant } from "./variant.ts";
