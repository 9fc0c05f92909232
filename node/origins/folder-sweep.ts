import { randomBytes } from "node:crypto";
import { link, lstat, open, rename, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { hexToBytes } from "../../protocol/hash.ts";
import type { HashMarks } from "../../protocol/hash-marks.ts";
import { entriesOf, folderError, isCode } from "./folder-walk.ts";

/** Some files and what they take. */
export interface Amount {
  readonly count: number;
  readonly bytes: number;
}

/** What a sweep found in a folder and, unless it was only to look, removed. */
export interface Swept {
  /** Chunks and segments that no record names. */
  readonly objects: Amount;
  /** What publishers left that were cut off. */
  readonly leftovers: Amount;
  readonly directories: number;
  /** Named by no record, and younger than the age floor. */
  readonly young: Amount;
  /** Named by a record. */
  readonly kept: Amount;
}

export interface SweepOptions {
  readonly named: HashMarks;
  /** What was written or used after this, in milliseconds since 1970 by the folder's own clock, stays. */
  readonly beforeMs: number;
  readonly dryRun: boolean;
  readonly signal?: AbortSignal;
  /** Runs before an object is looked at for the last time, for tests of who is faster. */
  readonly onRemove?: (path: string) => Promise<void>;
}

/** The time by a folder's own clock, by which its files are dated. @throws {UnreachableError} where it is not writable. */
export async function folderNowMs(path: string): Promise<number> {
  const probe = join(path, temporaryName());
  try {
    await using file = await open(probe, "wx", 0o600);
    return (await file.stat()).mtimeMs;
  } catch (error) {
    throw folderError(path, error);
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
  }
}

/** Removes from a repository's folder what no record names and nobody used for a while. @throws {UnreachableError} */
export async function sweepFolder(path: string, options: SweepOptions): Promise<Swept> {
  const sweep = new Sweep(options);
  await sweep.leftoversIn(path);
  await sweep.leftoversIn(join(path, "index"));
  for await (const entry of entriesOf(join(path, "chunks"))) {
    if (entry.isDirectory() && twoDigits.test(entry.name)) await sweep.chunksIn(join(path, "chunks", entry.name));
  }
  for await (const entry of entriesOf(join(path, "variants"))) {
    if (!entry.isDirectory() || !twoDigits.test(entry.name)) continue;
    const directory = join(path, "variants", entry.name);
    for await (const inner of entriesOf(directory)) {
      if (inner.isDirectory()) await sweep.leftoversIn(join(directory, inner.name));
    }
    await sweep.directory(directory);
  }
  return sweep.swept;
}

class Sweep {
  readonly #options: SweepOptions;
  readonly swept = {
    objects: { count: 0, bytes: 0 },
    leftovers: { count: 0, bytes: 0 },
    directories: 0,
    young: { count: 0, bytes: 0 },
    kept: { count: 0, bytes: 0 },
  };

  constructor(options: SweepOptions) {
    this.#options = options;
  }

  async chunksIn(directory: string): Promise<void> {
    for await (const { name } of entriesOf(directory)) {
      this.#options.signal?.throwIfAborted();
      const path = join(directory, name);
      if (leftoverName.test(name)) await this.#leftover(path);
      // What is not ours is nobody's here to judge.
      else if (objectName.test(name)) await this.#object(path, hexToBytes(name.slice(0, 64)));
    }
    await this.directory(directory);
  }

  async leftoversIn(directory: string): Promise<void> {
    for await (const { name } of entriesOf(directory)) {
      if (leftoverName.test(name)) await this.#leftover(join(directory, name));
    }
    await this.directory(directory);
  }

  /** Goes if it is empty, and old enough that no publisher is about to write in it. */
  async directory(path: string): Promise<void> {
    const { beforeMs, dryRun } = this.#options;
    const stats = await statOf(path);
    if (stats === undefined || stats.mtimeMs >= beforeMs) return;
    for await (const _ of entriesOf(path)) return;
    if (!dryRun) {
      try {
        await rmdir(path);
      } catch (error) {
        if (isCode(error, "ENOTEMPTY", "EEXIST", "ENOENT")) return;
        throw folderError(path, error);
      }
    }
    this.swept.directories++;
  }

  async #object(path: string, digest: Uint8Array): Promise<void> {
    const { named, beforeMs, dryRun, onRemove } = this.#options;
    const stats = await statOf(path);
    if (stats === undefined || !stats.isFile()) return;
    if (named.has(digest)) return add(this.swept.kept, stats.size);
    if (stats.mtimeMs >= beforeMs) return add(this.swept.young, stats.size);
    await onRemove?.(path);
    const isGone = dryRun || (await removeUnused(path, beforeMs));
    add(isGone ? this.swept.objects : this.swept.young, stats.size);
  }

  async #leftover(path: string): Promise<void> {
    const stats = await statOf(path);
    if (stats === undefined || !stats.isFile() || stats.mtimeMs >= this.#options.beforeMs) return;
    if (!this.#options.dryRun) {
      await rm(path, { force: true }).catch((error: unknown) => {
        throw folderError(path, error);
      });
    }
    add(this.swept.leftovers, stats.size);
  }
}

/**
 * Removes an object that a publisher may find at this moment: who wants to use it makes it young first. It is moved away,
 * which ends that, and looked at once more; one that has become young goes back. Answers whether it is gone.
 */
async function removeUnused(path: string, beforeMs: number): Promise<boolean> {
  const aside = join(path, "..", temporaryName());
  try {
    await rename(path, aside);
    const stats = await lstat(aside);
    // What somebody has written anew meanwhile is as good.
    if (stats.mtimeMs >= beforeMs) await link(aside, path).catch(unlessCode("EEXIST"));
    await rm(aside);
    return stats.mtimeMs < beforeMs;
  } catch (error) {
    if (isCode(error, "ENOENT")) return false;
    throw folderError(path, error);
  }
}

function unlessCode(code: string): (error: unknown) => void {
  return (error) => {
    if (!isCode(error, code)) throw error;
  };
}

async function statOf(path: string) {
  try {
    return await lstat(path);
  } catch (error) {
    if (isCode(error, "ENOENT")) return undefined;
    throw folderError(path, error);
  }
}

function add(amount: { count: number; bytes: number }, bytes: number): void {
  amount.count++;
  amount.bytes += bytes;
}

function temporaryName(): string {
  return `.${randomBytes(12).toString("hex")}.tmp`;
}

const twoDigits = /^[0-9a-f]{2}$/;
/** A chunk or segment, plain or compressed. */
const objectName = /^[0-9a-f]{64}(\.zst)?$/;
const leftoverName = /^\.[0-9a-f]{24}\.tmp$/;
