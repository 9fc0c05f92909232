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
export { hashFromBytes } from "./hash.ts";
export { partsPerAskMax } from "./limits.ts";
export { encodeMessage } from "./messages.ts";
export { type Random, randomBelow, seededRandom } from "./random.ts";
