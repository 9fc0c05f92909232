/** What benches measure of this room; all others import its files. */
export {
  type Announcement,
  decodeAnnouncement,
  digestHoldings,
  encodeAnnouncement,
  type PackedHoldings,
} from "./announcement.ts";
export { Directory } from "./directory.ts";
export { hashFromBytes } from "./hash.ts";
export { type Random, randomBelow, seededRandom } from "./random.ts";
