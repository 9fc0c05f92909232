import { digestBytes } from "./hash.ts";
import type { ChunkRef, FileFacts, SegmentPart } from "./segments.ts";

/** One stretch of a chunk: where its bytes go. */
export interface FileRange {
  readonly path: string;
  /** In the file. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  /** What the file becomes, where this range is all of a small file; a large one is finished with the tree. */
  readonly whole: Pick<FileFacts, "executable" | "mtimeSeconds"> | undefined;
}

/** A chunk and the file ranges that it covers, in the chunk's order. */
export interface ChunkLayout {
  readonly chunk: ChunkRef;
  readonly ranges: readonly FileRange[];
  /** Of a run: its files' own digests, 32 bytes each, one after the other. */
  readonly fileDigests: Uint8Array | undefined;
}

/** The chunks that a checked segment lists, in item order. */
export function chunkLayouts(parts: readonly SegmentPart[]): ChunkLayout[] {
  const layouts: ChunkLayout[] = [];
  let run: { ranges: FileRange[]; fileDigests: Uint8Array } | undefined;
  for (const part of parts) {
    if (part.kind === "run") {
      // At most as many files as there are entries here, whatever the header says.
      run = { ranges: [], fileDigests: new Uint8Array(Math.min(part.files, parts.length) * digestBytes) };
      layouts.push({ chunk: part.chunk, ...run });
    } else if (part.kind === "small" && part.sizeBytes > 0 && run !== undefined) {
      // Not the entry itself: a worker keeps many layouts, and their digests, each by itself, would be most of its memory.
      const whole = { executable: part.executable, mtimeSeconds: part.mtimeSeconds };
      run.fileDigests.set(part.digest, run.ranges.length * digestBytes);
      run.ranges.push({ path: part.path, offsetBytes: 0, sizeBytes: part.sizeBytes, whole });
    } else if (part.kind === "large") {
      layouts.push(...slices(part.path, 0, part.chunks));
    } else if (part.kind === "continuation") {
      layouts.push(...slices(part.path, part.offsetBytes, part.chunks));
    }
  }
  return layouts;
}

function slices(path: string, offsetBytes: number, chunks: readonly ChunkRef[]): ChunkLayout[] {
  let offset = offsetBytes;
  return chunks.map((chunk) => {
    const range = { path, offsetBytes: offset, sizeBytes: chunk.sizeBytes, whole: undefined };
    offset += chunk.sizeBytes;
    return { chunk, ranges: [range], fileDigests: undefined };
  });
}
