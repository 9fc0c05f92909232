import {
  chmodSync,
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { Hasher } from "../../protocol/hash.ts";
import { type ChunkLayout, chunkLayouts } from "../../protocol/layout.ts";
import type { SegmentPart } from "../../protocol/segments.ts";
import { fileMode, openNew, readChunk, writeChunk } from "../tree-file.ts";
import type { SegmentDamage } from "./item-jobs.ts";
import { deleteTreeNow } from "./rez-files.ts";
import { entryFault, wrongChunk } from "./tree-checker.ts";
import { expectedNames, namesIn, type Parts } from "./tree-maker.ts";

// Repairs a placed tree where it lies, while programs may be running from it: what is wrong is made beside, in a
// directory of drafts on the same filesystem, and renamed over it. Nothing is ever written into a file that is there.

/** Which chunks of a segment are wrong in a tree, and which of its files must be made anew. */
export function findDamage(treePath: string, parts: readonly SegmentPart[], hasher: Hasher): SegmentDamage {
  const files = new Set<string>();
  const chunks: number[] = [];
  for (const [chunk, layout] of chunkLayouts(parts).entries()) {
    const wrong = wrongChunk(treePath, parts, layout, hasher);
    if (wrong === undefined) continue;
    chunks.push(chunk);
    for (const path of wrong) files.add(path);
  }
  for (const part of parts) {
    if (part.kind !== "small" && part.kind !== "large") continue;
    if (entryFault(join(treePath, part.path), part, { asPlaced: false }) !== undefined) files.add(part.path);
  }
  return { chunks, files: [...files] };
}

/** Bytes that will be written beside the tree. */
export function measureDrafts(parts: readonly SegmentPart[], damage: SegmentDamage): number {
  let bytes = 0;
  for (const { layout } of remadeChunks(parts, damage)) bytes += layout.chunk.sizeBytes;
  return bytes;
}

/**
 * Makes ready to take in what comes: directories, empty files, and what is right of large files that are to be made anew,
 * verified on the way.
 */
export function prepareDrafts(
  treePath: string,
  draftsPath: string,
  parts: readonly SegmentPart[],
  hasher: Hasher,
  { chunks, files }: SegmentDamage,
): void {
  const remade = new Set(files);
  for (const { layout, isWrong } of remadeChunks(parts, { chunks, files })) {
    for (const { path } of layout.ranges) mkdirSync(dirname(join(draftsPath, path)), { recursive: true, mode: 0o700 });
    if (!isWrong) writeChunk(draftsPath, [layout], readChunk(treePath, layout, hasher), hasher);
  }
  for (const part of parts) {
    if (part.kind !== "small" || part.sizeBytes > 0 || !remade.has(part.path)) continue;
    mkdirSync(dirname(join(draftsPath, part.path)), { recursive: true, mode: 0o700 });
    closeSync(openNew(join(draftsPath, part.path), fileMode(part)));
  }
}

/**
 * Makes right what one segment lists: directories, links, modes and times where they are, and files by renaming their
 * drafts over them. `asPlaced`: modes and times of what is not made anew count too. `syncs`: each change is made durable
 * by itself.
 */
export function mendSegment(
  treePath: string,
  draftsPath: string,
  parts: readonly SegmentPart[],
  {
    files,
    asPlaced,
    syncs,
  }: { readonly files: readonly string[]; readonly asPlaced: boolean; readonly syncs: boolean },
): void {
  const remade = new Set(files);
  for (const part of parts) {
    if (part.kind === "run" || part.kind === "continuation") continue;
    const path = join(treePath, part.path);
    const isFile = part.kind === "small" || part.kind === "large";
    if (isFile && remade.has(part.path)) moveIn(join(draftsPath, part.path), path, part, syncs);
    else if (entryFault(path, part, { asPlaced }) !== undefined) mendEntry(path, part, { draftsPath, asPlaced });
  }
}

/** Takes away what lies in a tree that p2pcache placed and is not in its manifest (P1), and closes its top again. */
export function mendNames(treePath: string, parts: Parts): void {
  for (const [directory, names] of expectedNames(parts)) {
    for (const name of namesIn(join(treePath, directory))) {
      const path = join(treePath, directory, name);
      if (!names.has(name)) inside(path, () => deleteTreeNow(path));
    }
  }
  chmodSync(treePath, 0o555);
}

/** The chunks that are wrong, and those of files of which others are. */
function* remadeChunks(
  parts: readonly SegmentPart[],
  { chunks, files }: SegmentDamage,
): Generator<{ readonly layout: ChunkLayout; readonly isWrong: boolean }> {
  const [remade, wrong] = [new Set(files), new Set(chunks)];
  for (const [chunk, layout] of chunkLayouts(parts).entries()) {
    const isWrong = wrong.has(chunk);
    if (isWrong || layout.ranges.some(({ path }) => remade.has(path))) yield { layout, isWrong };
  }
}

function moveIn(
  draft: string,
  path: string,
  part: Extract<SegmentPart, { kind: "small" | "large" }>,
  syncs: boolean,
): void {
  utimesSync(draft, part.mtimeSeconds, part.mtimeSeconds);
  chmodSync(draft, fileMode(part));
  if (syncs) sync(draft);
  inside(path, () => {
    clearForFile(path);
    renameSync(draft, path);
  });
  if (syncs) sync(dirname(path));
}

function mendEntry(
  path: string,
  part: Exclude<SegmentPart, { kind: "run" | "continuation" }>,
  { draftsPath, asPlaced }: { readonly draftsPath: string; readonly asPlaced: boolean },
): void {
  switch (part.kind) {
    case "directory":
      if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) {
        inside(path, () => {
          rmSync(path, { force: true });
          mkdirSync(path, { mode: 0o700 });
        });
      }
      // A copy that Rez made has directories that can be written.
      return chmodSync(path, asPlaced ? 0o555 : 0o755);
    case "link": {
      const draft = `${draftsPath}.link`;
      rmSync(draft, { force: true });
      symlinkSync(part.target, draft);
      return inside(path, () => {
        clearForFile(path);
        renameSync(draft, path);
      });
    }
    case "small":
    case "large":
      // Its content is right.
      chmodSync(path, fileMode(part));
      return utimesSync(path, part.mtimeSeconds, part.mtimeSeconds);
  }
}

/** Does something to a name in a directory that is read-only otherwise. */
function inside(path: string, change: () => void): void {
  const directory = dirname(path);
  const mode = lstatSync(directory).mode & 0o7777;
  const isOpen = (mode & 0o200) !== 0;
  if (!isOpen) chmodSync(directory, mode | 0o200);
  try {
    change();
  } finally {
    if (!isOpen) chmodSync(directory, mode);
  }
}

/** A rename goes over a file or a link; a directory in its place must go first. */
function clearForFile(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) deleteTreeNow(path);
}

function sync(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
