import { lstatSync, readlinkSync, type Stats } from "node:fs";
import { join } from "node:path";
import { P2pCacheError } from "../../protocol/errors.ts";
import { compareBytes, type Hasher } from "../../protocol/hash.ts";
import { type ChunkLayout, chunkLayouts, type FileRange } from "../../protocol/layout.ts";
import type { SegmentPart } from "../../protocol/segments.ts";
import { fileMode, readChunk, readRange } from "../tree-file.ts";
import { type TreeFault, treeFaultsMax } from "./item-jobs.ts";
import { expectedNames, namesIn, type Parts } from "./tree-maker.ts";

/** Compares what a segment lists with a placed tree: types, modes, times, targets and contents. */
export function verifySegment(treePath: string, parts: readonly SegmentPart[], hasher: Hasher): TreeFault[] {
  const faults = new Faults();
  for (const part of parts) {
    if (part.kind === "run" || part.kind === "continuation") continue;
    const fault = entryFault(join(treePath, part.path), part);
    if (fault !== undefined) faults.add(part.path, fault);
  }
  for (const layout of chunkLayouts(parts)) {
    if (isRight(treePath, layout, hasher)) continue;
    for (const range of layout.ranges) checkRange(treePath, range, digestOf(parts, range), hasher, faults);
  }
  return faults.list;
}

/** What lies in a placed tree beside what its manifest lists, and what is wrong with its top. */
export function verifyNames(treePath: string, parts: Parts): TreeFault[] {
  const faults = new Faults();
  const top = lstatSync(treePath, { throwIfNoEntry: false });
  const topFault = directoryFault(top);
  if (topFault !== undefined) faults.add("", topFault);
  for (const [directory, names] of expectedNames(parts)) {
    for (const name of namesIn(join(treePath, directory))) {
      if (!names.has(name)) faults.add(directory === "" ? name : `${directory}/${name}`, "is not in the manifest");
    }
  }
  return faults.list;
}

/** One fault a path, and no more than are of use. */
class Faults {
  readonly list: TreeFault[] = [];
  readonly #paths = new Set<string>();

  add(path: string, fault: string): void {
    if (this.#paths.has(path) || this.list.length >= treeFaultsMax) return;
    this.#paths.add(path);
    this.list.push({ path, fault });
  }
}

function isRight(treePath: string, layout: ChunkLayout, hasher: Hasher): boolean {
  try {
    readChunk(treePath, layout, hasher);
    return true;
  } catch (error) {
    if (error instanceof P2pCacheError) return false;
    throw error;
  }
}

/** The chunk is wrong: a run's files are known each by its own hash, a slice is all that there is of its chunk. */
function checkRange(
  treePath: string,
  range: FileRange,
  digest: Uint8Array | undefined,
  hasher: Hasher,
  faults: Faults,
): void {
  const bytes = new Uint8Array(range.sizeBytes);
  try {
    readRange(treePath, range, bytes);
  } catch (error) {
    if (!(error instanceof P2pCacheError)) throw error;
    return faults.add(range.path, "cannot be read as the file that it was");
  }
  const isOwn = digest !== undefined && compareBytes(hasher(bytes), digest) === 0;
  if (!isOwn) faults.add(range.path, "has other content");
}

/** The hash of a whole small file; a slice has none of its own. */
function digestOf(parts: readonly SegmentPart[], range: FileRange): Uint8Array | undefined {
  const file = parts.find((part) => part.kind === "small" && part.path === range.path);
  return file?.kind === "small" ? file.digest : undefined;
}

function entryFault(path: string, part: Exclude<SegmentPart, { kind: "run" | "continuation" }>): string | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return "is missing";
  switch (part.kind) {
    case "directory":
      return directoryFault(stat);
    case "link":
      if (!stat.isSymbolicLink()) return "is not a link";
      return readlinkSync(path) === part.target ? undefined : "points elsewhere";
    case "small":
    case "large":
      if (!stat.isFile()) return "is not a regular file";
      if (stat.size !== part.sizeBytes) return `has ${stat.size} bytes, not ${part.sizeBytes}`;
      if (modeOf(stat) !== fileMode(part)) return `has mode ${modeOf(stat).toString(8)}`;
      return Math.floor(stat.mtimeMs / 1000) === part.mtimeSeconds ? undefined : "has another time";
  }
}

function directoryFault(stat: Stats | undefined): string | undefined {
  if (stat === undefined) return "is missing";
  if (!stat.isDirectory()) return "is not a directory";
  return modeOf(stat) === 0o555 ? undefined : `has mode ${modeOf(stat).toString(8)}`;
}

function modeOf(stat: Stats): number {
  return stat.mode & 0o7777;
}
