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
}

/** The chunks that a checked segment lists, in item order. */
export function chunkLayouts(parts: readonly SegmentPart[]): ChunkLayout[] {
  const layouts: ChunkLayout[] = [];
  let run: { ranges: FileRange[]; files: number } | undefined;
  for (const part of parts) {
    if (part.kind === "run") {
      run = { ranges: [], files: part.files };
      layouts.push({ chunk: part.chunk, ranges: run.ranges });
    } else if (part.kind === "small" && part.sizeBytes > 0 && run !== undefined) {
      // Not the entry itself: a worker keeps many layouts, and the digests in them would be most of their memory.
      const whole = { executable: part.executable, mtimeSeconds: part.mtimeSeconds };
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
    return { chunk, ranges: [range] };
  });
}
