import { lstatSync, readlinkSync, type Stats } from "node:fs";
import { join } from "node:path";
import { P2pCacheError } from "../../protocol/errors.ts";
import { compareBytes, type Hasher } from "../../protocol/hash.ts";
import { type ChunkLayout, chunkLayouts, type FileRange } from "../../protocol/layout.ts";
import type { SegmentPart } from "../../protocol/segments.ts";
import { checkChunk, fileMode, readRange } from "../tree-file.ts";
import { type SegmentFault, treeFaultsMax } from "./item-jobs.ts";
import { expectedNames, namesIn, type Parts } from "./tree-maker.ts";

/** Whether p2pcache made the tree: then modes and times are checked too. */
export interface CheckOptions {
  readonly asPlaced: boolean;
}

/** Compares what a segment lists with a tree: types, targets and contents, and modes and times. */
export function verifySegment(
  treePath: string,
  parts: readonly SegmentPart[],
  hasher: Hasher,
  options: CheckOptions,
): SegmentFault[] {
  const faults = new Faults();
  for (const part of parts) {
    if (part.kind === "run" || part.kind === "continuation") continue;
    const fault = entryFault(join(treePath, part.path), part, options);
    if (fault !== undefined) faults.add(part.path, fault);
  }
  for (const [chunk, layout] of chunkLayouts(parts).entries()) {
    for (const { path, fault } of chunkFaults(treePath, parts, layout, hasher)) faults.add(path, fault, chunk);
  }
  return faults.list;
}

/** The first difference in types, sizes and targets. */
export function compareEntries(
  treePath: string,
  parts: readonly SegmentPart[],
  options: CheckOptions,
): SegmentFault | undefined {
  for (const part of parts) {
    if (part.kind === "run" || part.kind === "continuation") continue;
    const fault = entryFault(join(treePath, part.path), part, options);
    if (fault !== undefined) return { path: part.path, fault };
  }
  return undefined;
}

/** The first difference in the contents of some of a segment's chunks. */
export function compareChunks(
  treePath: string,
  parts: readonly SegmentPart[],
  hasher: Hasher,
  { from, to }: { readonly from: number; readonly to: number },
): SegmentFault | undefined {
  for (const layout of chunkLayouts(parts).slice(from, to)) {
    const [fault] = chunkFaults(treePath, parts, layout, hasher);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/** What lies in a tree beside what its manifest lists, and what is wrong with its top. */
export function verifyNames(treePath: string, parts: Parts, options: CheckOptions): SegmentFault[] {
  const faults = new Faults();
  const top = lstatSync(treePath, { throwIfNoEntry: false });
  const topFault = directoryFault(top, options);
  if (topFault !== undefined) faults.add("", topFault);
  for (const [directory, names] of expectedNames(parts)) {
    for (const name of namesIn(join(treePath, directory))) {
      if (!names.has(name)) faults.add(directory === "" ? name : `${directory}/${name}`, "is not in the manifest");
    }
  }
  return faults.list;
}

/** One entry a path, with all that is wrong there, and no more entries than are of use. */
class Faults {
  readonly #byPath = new Map<string, SegmentFault>();

  get list(): SegmentFault[] {
    return [...this.#byPath.values()];
  }

  /** `chunk` is the one whose bytes are wrong; the first one of a path is told. */
  add(path: string, fault: string, chunk?: number): void {
    const known = this.#byPath.get(path);
    if (known === undefined && this.#byPath.size >= treeFaultsMax) return;
    const first = known?.chunk ?? chunk;
    // What cannot be read any more was said to be missing, or something else, before.
    const isSaid = known !== undefined && (fault === unreadable || known.fault.endsWith(fault));
    const text = known === undefined ? fault : isSaid ? known.fault : `${known.fault}, and ${fault}`;
    this.#byPath.set(path, { path, fault: text, ...(first === undefined ? {} : { chunk: first }) });
  }
}

const unreadable = "cannot be read as the file that it was";

/** The files of a wrong chunk that are wrong; undefined for a chunk that is right. */
export function wrongChunk(
  treePath: string,
  parts: readonly SegmentPart[],
  layout: ChunkLayout,
  hasher: Hasher,
): readonly string[] | undefined {
  const faults = chunkFaults(treePath, parts, layout, hasher);
  return faults.length === 0 ? undefined : faults.map(({ path }) => path);
}

/** One for each file of a wrong chunk that is wrong; none for a chunk that is right. */
function chunkFaults(
  treePath: string,
  parts: readonly SegmentPart[],
  layout: ChunkLayout,
  hasher: Hasher,
): SegmentFault[] {
  if (isRight(treePath, layout, hasher)) return [];
  return layout.ranges.flatMap((range) => {
    const fault = rangeFault(treePath, range, digestOf(parts, range), hasher);
    return fault === undefined ? [] : [{ path: range.path, fault }];
  });
}

function isRight(treePath: string, layout: ChunkLayout, hasher: Hasher): boolean {
  try {
    checkChunk(treePath, layout, hasher);
    return true;
  } catch (error) {
    if (error instanceof P2pCacheError) return false;
    throw error;
  }
}

/** The chunk is wrong: a run's files are known each by its own hash, a slice is all that there is of its chunk. */
function rangeFault(
  treePath: string,
  range: FileRange,
  digest: Uint8Array | undefined,
  hasher: Hasher,
): string | undefined {
  const bytes = new Uint8Array(range.sizeBytes);
  try {
    readRange(treePath, range, bytes);
  } catch (error) {
    if (!(error instanceof P2pCacheError)) throw error;
    return unreadable;
  }
  const isOwn = digest !== undefined && compareBytes(hasher(bytes), digest) === 0;
  return isOwn ? undefined : "has other content";
}

/** The hash of a whole small file; a slice has none of its own. */
function digestOf(parts: readonly SegmentPart[], range: FileRange): Uint8Array | undefined {
  const file = parts.find((part) => part.kind === "small" && part.path === range.path);
  return file?.kind === "small" ? file.digest : undefined;
}

/** What is wrong with one entry, but for its content; undefined where nothing is. */
export function entryFault(
  path: string,
  part: Exclude<SegmentPart, { kind: "run" | "continuation" }>,
  options: CheckOptions,
): string | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return "is missing";
  switch (part.kind) {
    case "directory":
      return directoryFault(stat, options);
    case "link":
      if (!stat.isSymbolicLink()) return "is not a link";
      return readlinkSync(path) === part.target ? undefined : "points elsewhere";
    case "small":
    case "large":
      if (!stat.isFile()) return "is not a regular file";
      if (stat.size !== part.sizeBytes) return `has ${stat.size} bytes, not ${part.sizeBytes}`;
      return options.asPlaced ? fileFault(stat, part) : undefined;
  }
}

/** Mode and time; contents are compared chunk by chunk. */
function fileFault(stat: Stats, part: Extract<SegmentPart, { kind: "small" | "large" }>): string | undefined {
  const hasMode = modeOf(stat) === fileMode(part) ? [] : [`has mode ${modeOf(stat).toString(8)}`];
  const hasTime = Math.floor(stat.mtimeMs / 1000) === part.mtimeSeconds ? [] : ["has another time"];
  return hasMode.length + hasTime.length === 0 ? undefined : [...hasMode, ...hasTime].join(", and ");
}

function directoryFault(stat: Stats | undefined, { asPlaced }: CheckOptions): string | undefined {
  if (stat === undefined) return "is missing";
  if (!stat.isDirectory()) return "is not a directory";
  return !asPlaced || modeOf(stat) === 0o555 ? undefined : `has mode ${modeOf(stat).toString(8)}`;
}

function modeOf(stat: Stats): number {
  return stat.mode & 0o7777;
}
