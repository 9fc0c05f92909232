import {
  chmodSync,
  closeSync,
  fsyncSync,
  futimesSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
} from "node:fs";
import { join } from "node:path";
import { TreeDamagedError } from "../../protocol/errors.ts";
import type { SegmentPart } from "../../protocol/segments.ts";
import { fileMode, openNew } from "../tree-file.ts";
import type { Measured } from "./item-jobs.ts";

/** A manifest's segments in order, each decoded. */
export type Parts = Iterable<readonly SegmentPart[]>;

/** Makes a staging tree's directories and empty files. What a crash left of them is used. */
export function makeSkeleton(treePath: string, parts: Parts): void {
  makeDirectory(treePath);
  for (const part of flat(parts)) {
    if (part.kind === "directory") makeDirectory(join(treePath, part.path));
    if (part.kind === "large") clearForSlices(join(treePath, part.path));
    if (part.kind !== "small" || !isBare(part)) continue;
    const file = openNew(join(treePath, part.path), fileMode(part));
    try {
      futimesSync(file, part.mtimeSeconds, part.mtimeSeconds);
    } finally {
      closeSync(file);
    }
  }
}

/** Whether `makeSkeleton` does something about an entry. */
export function isBare(part: SegmentPart): boolean {
  return part.kind === "directory" || part.kind === "large" || (part.kind === "small" && part.sizeBytes === 0);
}

/**
 * Gives a complete staging tree its links, and its final modes and times, all but the mode of its top. What the manifest
 * does not list goes: nothing else may lie under a final path (P1).
 * @throws {TreeDamagedError} when a file is not as long as it was when its last slice was written.
 */
export function finishTree(treePath: string, parts: Parts): void {
  const names = new ExpectedNames();
  const directories: string[] = [];
  for (const part of flat(parts)) {
    names.add(part);
    if (part.kind === "directory") directories.push(join(treePath, part.path));
    if (part.kind === "link") makeLink(join(treePath, part.path), part.target);
    if (part.kind !== "large") continue;
    const path = join(treePath, part.path);
    const size = lstatSync(path, { throwIfNoEntry: false })?.size ?? 0;
    if (size < part.sizeBytes) throw new TreeDamagedError(`${path} has ${size} bytes and not ${part.sizeBytes}`);
    if (size > part.sizeBytes) cutOff(path, part.sizeBytes);
    utimesSync(path, part.mtimeSeconds, part.mtimeSeconds);
    chmodSync(path, fileMode(part));
  }
  removeStrangers(treePath, names.byDirectory);
  // Deepest first: a directory of mode 0555 takes in nothing more.
  for (const path of directories.reverse()) chmodSync(path, 0o555);
}

/** Makes every file and directory of a tree durable by itself. */
export function syncTree(treePath: string, parts: Parts): void {
  syncOne(treePath);
  for (const part of flat(parts)) {
    if (part.kind === "directory" || part.kind === "small" || part.kind === "large") syncOne(join(treePath, part.path));
  }
}

/** The names that each directory of a tree has, by the directory's path; the top's is empty. */
export function expectedNames(parts: Parts): Map<string, Set<string>> {
  const names = new ExpectedNames();
  for (const part of flat(parts)) names.add(part);
  return names.byDirectory;
}

/** Gathers the names of a tree, entry by entry. */
class ExpectedNames {
  readonly byDirectory = new Map<string, Set<string>>([["", new Set()]]);

  add(part: SegmentPart): void {
    if (part.kind === "run" || part.kind === "continuation") return;
    const slash = part.path.lastIndexOf("/");
    this.byDirectory.get(slash < 0 ? "" : part.path.slice(0, slash))?.add(part.path.slice(slash + 1));
    if (part.kind === "directory") this.byDirectory.set(part.path, new Set());
  }
}

/** Names in a directory, none where it cannot be read or is no directory: a link would lead out of the tree. */
export function namesIn(path: string): string[] {
  try {
    return lstatSync(path).isDirectory() ? readdirSync(path) : [];
  } catch {
    return [];
  }
}

/** What a directory with all that is in it takes of the disk, as far as it can be seen. */
export function measureTree(path: string): Measured {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return { bytes: 0, inodes: 0 };
  let bytes = stat.blocks * 512; // stat(2): st_blocks counts 512 bytes each, whatever the filesystem's own blocks are.
  let inodes = 1;
  for (const name of stat.isDirectory() ? namesIn(path) : []) {
    const inside = measureTree(join(path, name));
    bytes += inside.bytes;
    inodes += inside.inodes;
  }
  return { bytes, inodes };
}

function* flat(parts: Parts): Generator<SegmentPart> {
  for (const segment of parts) yield* segment;
}

function syncOne(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Several threads will write slices of this file at once; what stands in their way must be gone by then. */
function clearForSlices(path: string): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat !== undefined && !stat.isFile()) rmSync(path, { recursive: true });
}

function removeStrangers(treePath: string, expected: ReadonlyMap<string, ReadonlySet<string>>): void {
  for (const [directory, names] of expected) {
    for (const name of namesIn(join(treePath, directory))) {
      if (!names.has(name)) rmSync(join(treePath, directory, name), { recursive: true, force: true });
    }
  }
}

/** All of its slices were verified; what follows them is not of this tree. */
function cutOff(path: string, sizeBytes: number): void {
  chmodSync(path, 0o600);
  truncateSync(path, sizeBytes);
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    if (lstatSync(path).isDirectory()) return chmodSync(path, 0o700);
    rmSync(path);
    mkdirSync(path, { mode: 0o700 });
  }
}

function makeLink(path: string, target: string): void {
  try {
    symlinkSync(target, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    rmSync(path, { recursive: true });
    symlinkSync(target, path);
  }
}
