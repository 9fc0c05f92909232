import type { InPlaceFound, InPlaceRequest } from "./folder-files.ts";

// What a node and the child that reads a folder for it say to each other: lines of JSON, a question with one answer
// each, in any order. Bytes do not go that way: the child writes them into a slot of a file in memory that both have
// open, and the node takes them from there (decision 0025).

/** What the child is asked. `id` comes back with the answer; `slot` is the room for its bytes. */
export type ChildQuestion = { readonly id: number; readonly slot: number } & (
  | { readonly kind: "read"; readonly path: string; readonly bytesMax: number }
  | { readonly kind: "exists"; readonly path: string }
  | ({ readonly kind: "readInPlace" } & InPlaceRequest)
);

export type ChildAnswer = { readonly id: number } /** They lie in the slot. */ & (
  | { readonly kind: "bytes"; readonly sizeBytes: number }
  | { readonly kind: "absent" }
  | { readonly kind: "otherSize"; readonly foundBytes: number }
  | { readonly kind: "exists"; readonly exists: boolean }
  | Exclude<InPlaceFound, { kind: "bytes" }>
  /** The system said no. */
  | { readonly kind: "failed"; readonly code: string; readonly message: string }
);

/** The file in memory, as the child inherits it. */
export const windowDescriptor = 3;
/** As large as a chunk, or a record, may be. */
export const slotBytes: number = 2 * 1024 * 1024;
/** Questions at a time: enough for a filer that takes its time, and 16 MiB of memory at most. */
export const slots = 8;

/** Splits a stream into lines. Answers the lines that these bytes complete. */
export class LineReader {
  #rest = "";

  push(text: string): string[] {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop()!;
    return lines;
  }
}
