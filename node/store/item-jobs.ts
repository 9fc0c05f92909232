import type { ChunkHash } from "../../protocol/hash.ts";
import type { ItemPlace } from "../ports.ts";

/** Where a chunk lies in a manifest: the segment that lists it, and its place among that segment's chunks. */
export interface ChunkPlace {
  readonly segment: ChunkHash;
  readonly chunk: number;
}

/** The directories that a job works in. */
export interface JobPlace {
  /** Manifest segments, by hash. */
  readonly objectsPath: string;
  /** The payload's tree, in staging or at its final place. */
  readonly treePath: string;
}

/** What a worker thread is asked to do; one answer each. */
export type ItemJob =
  | {
      readonly kind: "storeSegment";
      readonly objectsPath: string;
      readonly hash: ChunkHash;
      readonly bytes: Uint8Array;
    }
  /** Which of these segments lie there as they should; those that do not are thrown away, unless nothing `mayChange`. */
  | {
      readonly kind: "checkSegments";
      readonly objectsPath: string;
      readonly hashes: readonly ChunkHash[];
      readonly mayChange?: false;
    }
  | { readonly kind: "loadSegment"; readonly objectsPath: string; readonly hash: ChunkHash }
  | {
      readonly kind: "storeChunk";
      readonly at: JobPlace;
      readonly places: readonly ChunkPlace[];
      readonly bytes: Uint8Array;
    }
  | { readonly kind: "loadChunk"; readonly at: JobPlace; readonly place: ChunkPlace }
  /** The stretches of files that a chunk is made of. */
  | { readonly kind: "rangesOf"; readonly at: JobPlace; readonly place: ChunkPlace }
  /** Checks the whole manifest and makes the tree's directories and empty files. */
  | {
      readonly kind: "prepare";
      readonly at: JobPlace;
      readonly rootBytes: Uint8Array;
      readonly externalLinks: boolean;
      /** False where only the manifest is checked. */
      readonly makesTree: boolean;
    }
  /** Which of these chunks lie in the tree as they should. */
  | { readonly kind: "rehash"; readonly at: JobPlace; readonly places: readonly ChunkPlace[] }
  /** Makes links, final modes and times, all but the mode of the tree's top. */
  | { readonly kind: "finish"; readonly at: JobPlace; readonly rootBytes: Uint8Array }
  /** Makes each file and directory durable: for machines without `sync -f`. */
  | { readonly kind: "sync"; readonly at: JobPlace; readonly rootBytes: Uint8Array }
  /** Makes the names of segments durable. */
  | { readonly kind: "syncSegments"; readonly objectsPath: string; readonly hashes: readonly ChunkHash[] }
  /** Compares what one segment lists with a tree, bytes and all; modes and times too where it lies `asPlaced` by us. */
  | { readonly kind: "verifySegment"; readonly at: JobPlace; readonly segment: ChunkHash; readonly asPlaced: boolean }
  /** Compares a tree's names with its manifest: what should not be there. */
  | { readonly kind: "verifyNames"; readonly at: JobPlace; readonly rootBytes: Uint8Array; readonly asPlaced: boolean }
  /** The first difference in types, sizes and targets between what one segment lists and a tree; `asPlaced` as above. */
  | { readonly kind: "compareEntries"; readonly at: JobPlace; readonly segment: ChunkHash; readonly asPlaced: boolean }
  /** The first difference in the contents of some of a segment's chunks. */
  | {
      readonly kind: "compareChunks";
      readonly at: JobPlace;
      readonly segment: ChunkHash;
      /** Places among the segment's chunks, `to` not included. */
      readonly from: number;
      readonly to: number;
    }
  /** Which chunks and files of a segment are wrong in a placed tree. */
  | { readonly kind: "findDamage"; readonly at: JobPlace; readonly segment: ChunkHash }
  /** What that will take of the disk. */
  | ({ readonly kind: "measureDrafts" } & DraftsPlace & SegmentDamage)
  /** Makes ready to take in what is wrong, beside the tree; `files` are those of the whole tree. */
  | ({ readonly kind: "prepareDrafts" } & DraftsPlace & SegmentDamage)
  /** Makes right what one segment lists, by renaming drafts over it. */
  | ({ readonly kind: "mendSegment"; readonly asPlaced: boolean; readonly syncs: boolean } & DraftsPlace &
      Pick<SegmentDamage, "files">)
  /** Takes away what is not in the manifest. */
  | { readonly kind: "mendNames"; readonly at: JobPlace; readonly rootBytes: Uint8Array }
  /** What a directory takes of the disk. */
  | { readonly kind: "measure"; readonly path: string };

/** A segment of a placed tree, and where what is made anew of it lies meanwhile. */
interface DraftsPlace {
  readonly at: JobPlace;
  readonly segment: ChunkHash;
  readonly draftsPath: string;
}

/** Faults of one tree that are told: enough to see what happened to it. */
export const treeFaultsMax = 1000;

/** What `prepare` learnt of the chunks. */
export interface PreparedChunks {
  /** By item; the entries of segments are 0. */
  readonly sizesBytes: Uint32Array;
  /** Hashes of all chunks in item order, 32 bytes each. */
  readonly digests: Uint8Array;
  /** Items that have the hash of an earlier one, as flat pairs: earlier, later, earlier, later… */
  readonly copies: Uint32Array;
}

/** What a directory with all that is in it takes of the disk. */
export interface Measured {
  readonly bytes: number;
  readonly inodes: number;
}

/** One thing that is wrong with a placed tree. */
export interface TreeFault {
  readonly path: string;
  /** The item whose bytes are wrong, of several the first; null where none is, or it is not known. */
  readonly item: number | null;
  readonly fault: string;
}

/** What is wrong with one path of a segment. */
export interface SegmentFault {
  readonly path: string;
  /** The place among the segment's chunks of the one that is wrong. */
  readonly chunk?: number;
  readonly fault: string;
}

/** What is wrong with the contents of a segment's files. */
export interface SegmentDamage {
  /** Places among the segment's chunks. */
  readonly chunks: readonly number[];
  /** What must be made anew. */
  readonly files: readonly string[];
}

/** What each kind of job answers. */
export interface ItemJobResults {
  readonly storeSegment: undefined;
  /** One byte a segment: 1 where it is right. */
  readonly checkSegments: Uint8Array;
  readonly loadSegment: Uint8Array<ArrayBuffer>;
  readonly storeChunk: undefined;
  readonly loadChunk: Uint8Array<ArrayBuffer>;
  readonly rangesOf: ItemPlace["ranges"];
  readonly prepare: PreparedChunks;
  /** One byte a place: 1 where the chunk is right. */
  readonly rehash: Uint8Array;
  readonly finish: undefined;
  readonly sync: undefined;
  readonly verifySegment: readonly SegmentFault[];
  readonly verifyNames: readonly SegmentFault[];
  readonly syncSegments: undefined;
  readonly compareEntries: SegmentFault | undefined;
  readonly compareChunks: SegmentFault | undefined;
  readonly findDamage: SegmentDamage;
  /** Bytes. */
  readonly measureDrafts: number;
  readonly prepareDrafts: undefined;
  readonly mendSegment: undefined;
  readonly mendNames: undefined;
  readonly measure: Measured;
}

/** What comes back of a job: one of `result` and `failure`. */
export interface JobAnswer {
  readonly id: number;
  readonly result?: unknown;
  readonly failure?: JobFailure;
  /** The job's own buffer, done with. */
  readonly given?: ArrayBuffer;
}

/** An error that crosses from a worker to its caller. */
export interface JobFailure {
  readonly class:
    | "ChunkCorruptError"
    | "ChunkMissingError"
    | "TreeDamagedError"
    | "FormatError"
    | "NoSpaceError"
    | "UnusableError"
    | "Error";
  readonly message: string;
  /** Of our own errors, or errno's. */
  readonly code: string | undefined;
  readonly hint: string | undefined;
  /** Of our own errors. */
  readonly details?: Readonly<Record<string, unknown>> | undefined;
}
