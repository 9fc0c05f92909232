import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync, type Stats } from "node:fs";
import { join } from "node:path";
import { Breath } from "./breath.ts";

/**
 * Compares copies of a tree with it: names, types, executable bits, mtimes of files in whole seconds, contents and link
 * targets. Answers one line for each difference, and stops after some.
 */
export async function compareTrees(source: string, copies: readonly string[], signal: AbortSignal): Promise<string[]> {
  const differences: string[] = [];
  const breath = new Breath(signal);
  const directories = [""];
  for (const relative of directories) {
    const names = readdirSync(join(source, relative)).sort();
    differences.push(...otherNames(names, copies, relative));
    for (const name of names) {
      if (differences.length >= differencesMax) return differences;
      const path = join(relative, name);
      const stats = lstatSync(join(source, path));
      const found = copies.flatMap((copy) => entryFault(join(source, path), stats, join(copy, path)) ?? []);
      differences.push(...found);
      if (found.length === 0 && stats.isDirectory()) directories.push(path);
      if (found.length === 0 && stats.isFile()) differences.push(...otherContents(source, copies, path));
      await breath.take();
    }
  }
  return differences;
}

function otherNames(names: readonly string[], copies: readonly string[], relative: string): string[] {
  return copies
    .map((copy) => join(copy, relative))
    .filter((directory) => readdirSync(directory).sort().join("\0") !== names.join("\0"))
    .map((directory) => `${directory}: other names`);
}

/** How a copy of an entry differs from it, contents apart. */
function entryFault(source: string, stats: Stats, copy: string): string | undefined {
  const copied = lstatSync(copy, { throwIfNoEntry: false });
  if (copied === undefined) return `${copy}: missing`;
  if ((copied.mode & typeBits) !== (stats.mode & typeBits)) return `${copy}: another type`;
  if (stats.isSymbolicLink())
    return readlinkSync(copy) === readlinkSync(source) ? undefined : `${copy}: another target`;
  if (!stats.isFile()) return undefined;
  if (copied.size !== stats.size) return `${copy}: another size`;
  if ((copied.mode & 0o100) !== (stats.mode & 0o100)) return `${copy}: another executable bit`;
  return wholeSeconds(copied) === wholeSeconds(stats) ? undefined : `${copy}: another mtime`;
}

/** Reads the source once for all copies. */
function otherContents(source: string, copies: readonly string[], path: string): string[] {
  const [first, ...others] = [source, ...copies].map((tree) => openSync(join(tree, path), "r"));
  const different = new Set<string>();
  try {
    for (let length = readInto(first!, ours); length > 0; length = readInto(first!, ours)) {
      for (const [at, other] of others.entries()) {
        const same = readInto(other, theirs) === length && ours.compare(theirs, 0, length, 0, length) === 0;
        if (!same) different.add(`${join(copies[at]!, path)}: other contents`);
      }
    }
  } finally {
    for (const descriptor of [first!, ...others]) closeSync(descriptor);
  }
  return [...different];
}

/** Fills the buffer unless the file ends. */
function readInto(descriptor: number, buffer: Buffer): number {
  let length = 0;
  while (length < buffer.length) {
    const read = readSync(descriptor, buffer, length, buffer.length - length, null);
    if (read === 0) break;
    length += read;
  }
  return length;
}

function wholeSeconds({ mtimeMs }: Stats): number {
  return Math.floor(mtimeMs / 1000);
}

const ours: Buffer = Buffer.alloc(1024 * 1024);
const theirs: Buffer = Buffer.alloc(ours.length);
/** S_IFMT (inode(7)). */
const typeBits = 0o170000;
/** Enough to see what is wrong. */
const differencesMax = 20;
