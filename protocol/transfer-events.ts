import type { Bitmap } from "./bitmap.ts";
import type { Pace } from "./politeness.ts";
import type { SourceName } from "./transfer-source.ts";

/** What is known of a payload before its segments are. */
export interface TransferPlan {
  /** Segments and chunks. */
  readonly items: number;
  readonly segmentSizesBytes: readonly number[];
  /** Segments that are here already. */
  readonly storedSegments: readonly number[];
  /** The origins that may be asked, in order of preference. */
  readonly origins: readonly SourceName[];
  /** Whether origins, and far peers, give what no near peer has at once (as if absent), or only under a lease. */
  readonly access?: "open" | "leased";
  /** Of the whole payload, if that is known: one of a few MiB is asked for in one request, of one peer that has it all. */
  readonly bytes?: number;
  /** What may be asked for at a time, of anybody; as much as windows have room for where it is absent. */
  readonly pace?: Pace;
  /** Whether it has to wait for something that time alone brings, as its turn at an origin: that is no lack of progress. */
  readonly isHeldBack?: () => boolean;
  /** Whether a peer has given us anything of any payload since a time: then it is busy, and not silent. */
  readonly hasGivenSince?: (peer: SourceName, sinceMs: number) => boolean;
}

/** What the segments say, once all of them are here and the manifest has been checked. */
export interface ChunkDescription {
  /** By item; entries of segments are not looked at. */
  readonly sizesBytes: Uint32Array;
  /** Items whose hash an earlier item has, by that item: they are stored with it. */
  readonly copiesOf: ReadonlyMap<number, readonly number[]>;
  /** Chunk items that are here already, each hashed again. */
  readonly stored: readonly number[];
}

/** Where a peer is, from here: another site is dealt with like an origin, another rack costs a little. */
export type Distance = "rack" | "site" | "far";

export type TransferEvent =
  | { readonly kind: "started" }
  | { readonly kind: "described"; readonly description: ChunkDescription }
  /** A peer is being asked what it has of the payload; origins wait for the answer of one that is likely to have it. */
  | { readonly kind: "joining"; readonly source: SourceName; readonly isLikely?: boolean }
  | {
      readonly kind: "joined";
      readonly source: SourceName;
      readonly have: Bitmap | "all";
      /** Absent: in the same site. */
      readonly distance?: Distance;
    }
  | { readonly kind: "has"; readonly source: SourceName; readonly items: readonly number[] }
  | { readonly kind: "left"; readonly source: SourceName }
  /** An item came, was verified and lies on the disk. */
  | { readonly kind: "stored"; readonly source: SourceName; readonly item: number }
  /** An item came, and its bytes are not what its hash says. */
  | { readonly kind: "corrupt"; readonly source: SourceName; readonly item: number }
  /** The source says that it does not have them; without items, that it has nothing any more. */
  | { readonly kind: "missing"; readonly source: SourceName; readonly items: readonly number[] }
  | {
      readonly kind: "busy";
      readonly source: SourceName;
      readonly items: readonly number[];
      readonly retryAfterMs: number;
    }
  /** The source could not be reached for them. */
  | { readonly kind: "failed"; readonly source: SourceName; readonly items: readonly number[] }
  /** The items `first…end-1` may be asked of origins, or of far peers, although others may not; or no longer. */
  | {
      readonly kind: "leased";
      readonly first: number;
      readonly end: number;
      /** Absent: from the origin too. */
      readonly isFarOnly?: boolean;
    }
  | { readonly kind: "lapsed"; readonly first: number; readonly end: number }
  /** From now on whatever no near peer has may be asked of far peers, and (unless `isFarOnly`) of origins. */
  | { readonly kind: "opened"; readonly isFarOnly?: boolean }
  /** From now on only under leases: others have come. */
  | { readonly kind: "closed" }
  /** The last `wakeAt` has come, or nearly: a timer may be a little early. */
  | { readonly kind: "woke" };

/** Why a transfer ends without its payload. */
export type TransferFault = "missing" | "corrupt" | "unreachable";

export type TransferAction =
  | { readonly kind: "ask"; readonly source: SourceName; readonly items: readonly number[] }
  | { readonly kind: "cancel"; readonly source: SourceName; readonly items: readonly number[] }
  /** It keeps failing: it counts for nothing until it joins again, which is of no use before this time. */
  | { readonly kind: "drop"; readonly source: SourceName; readonly retryAtMs: number }
  | { readonly kind: "strike"; readonly source: SourceName; readonly fault: "corrupt" | "claim"; readonly item: number }
  /** All segments are here: check the manifest and describe the chunks. */
  | { readonly kind: "segmentsComplete" }
  | { readonly kind: "complete" }
  | { readonly kind: "gaveUp"; readonly fault: TransferFault; readonly item: number; readonly missingItems: number }
  /** In place of the one before. */
  | { readonly kind: "wakeAt"; readonly atMs: number };
