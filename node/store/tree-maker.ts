import {
  chmodSync,
  closeSync,
  fsyncSync,
  futimesSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
} from "node:fs";
import { join } from "node:path";
import { TreeDamagedError } from "../../protocol/errors.ts";
import type { Hasher } from "../../protocol/hash.ts";
import { chunkLayouts } from "../../protocol/layout.ts";
import type { SegmentPart } from "../../protocol/segments.ts";
import { fileMode, openNew, readChunk } from "../tree-file.ts";
import type { TreeFault } from "./item-jobs.ts";

/** A manifest's segments in order, each decoded. */
export type Parts = Iterable<readonly SegmentPart[]>;

/** Makes a staging tree's directories and empty files. What a crash left of them is used. */
export function makeSkeleton(treePath: string, parts: Parts): void {
  makeDirectory(treePath);
  for (const part of flat(parts)) {
    if (part.kind === "directory") makeDirectory(join(treePath, part.path));
    if (part.kind !== "small" || part.sizeBytes > 0) continue;
    const file = openNew(join(treePath, part.path), fileMode(part));
    try {
      futimesSync(file, part.mtimeSeconds, part.mtimeSeconds);
    } finally {
      closeSync(file);
    }
  }
}

/** Gives a complete staging tree its links, and its final modes and times, all but the mode of its top. */
export function finishTree(treePath: string, parts: Parts): void {
  const directories: string[] = [];
  for (const part of flat(parts)) {
    const path = "path" in part ? join(treePath, part.path) : treePath;
    if (part.kind === "directory") directories.push(path);
    if (part.kind === "link") makeLink(path, part.target);
    if (part.kind !== "large") continue;
    const size = lstatSync(path).size;
    if (size !== part.sizeBytes) throw new TreeDamagedError(`${path} has ${size} bytes and not ${part.sizeBytes}`);
    utimesSync(path, part.mtimeSeconds, part.mtimeSeconds);
    chmodSync(path, fileMode(part));
  }
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

/** Compares a placed tree with its manifest: types, modes, times, targets, contents, and what should not be there. */
export function verifyTree(treePath: string, parts: Parts, hasher: Hasher, faultsMax: number): TreeFault[] {
  const faults: TreeFault[] = [];
  const expected = new Map<string, Set<string>>([["", new Set()]]);
  const report = (path: string, fault: string) => void (faults.length < faultsMax && faults.push({ path, fault }));
  for (const segment of parts) {
    for (const part of segment) {
      if (part.kind === "run" || part.kind === "continuation") continue;
      expect(expected, part.path, part.kind === "directory");
      const fault = entryFault(join(treePath, part.path), part);
      if (fault !== undefined) report(part.path, fault);
    }
    for (const layout of chunkLayouts(segment)) {
      try {
        readChunk(treePath, layout, hasher);
      } catch (error) {
        report(layout.ranges[0]!.path, error instanceof Error ? error.message : String(error));
      }
    }
  }
  for (const [directory, names] of expected) {
    for (const name of namesIn(join(treePath, directory))) {
      if (!names.has(name)) report(directory === "" ? name : `${directory}/${name}`, "is not in the manifest");
    }
  }
  return faults;
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

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST" || !lstatSync(path).isDirectory()) throw error;
    chmodSync(path, 0o700);
  }
}

function makeLink(path: string, target: string): void {
  try {
    symlinkSync(target, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    unlinkSync(path);
    symlinkSync(target, path);
  }
}

function expect(expected: Map<string, Set<string>>, path: string, isDirectory: boolean): void {
  const slash = path.lastIndexOf("/");
  expected.get(slash < 0 ? "" : path.slice(0, slash))?.add(path.slice(slash + 1));
  if (isDirectory) expected.set(path, new Set());
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return []; // It was reported as missing already.
  }
}

function entryFault(path: string, part: Exclude<SegmentPart, { kind: "run" | "continuation" }>): string | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return "is missing";
  switch (part.kind) {
    case "directory":
      if (!stat.isDirectory()) return "is not a directory";
      return (stat.mode & 0o222) === 0 ? undefined : "can be written";
    case "link":
      if (!stat.isSymbolicLink()) return "is not a link";
      return readlinkSync(path) === part.target ? undefined : "points elsewhere";
    case "small":
    case "large":
      if (!stat.isFile()) return "is not a regular file";
      if (stat.size !== part.sizeBytes) return `has ${stat.size} bytes, not ${part.sizeBytes}`;
      if ((stat.mode & 0o777) !== fileMode(part)) return `has mode ${(stat.mode & 0o777).toString(8)}`;
      return Math.floor(stat.mtimeMs / 1000) === part.mtimeSeconds ? undefined : "has another time";
  }
}
