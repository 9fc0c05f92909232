import { randomBytes } from "node:crypto";
import {
  chmodSync,
  closeSync,
  fchmodSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { chmod, readdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { hasCode } from "./rez-guard.ts";

/** Writes `.x.json.tmp` with that mode, whatever the umask is, and renames it to `x.json`: Rez never sees half of it. */
export function writeIndexFile(directory: string, suffix: string, text: string, mode: number): void {
  const draft = join(directory, `.${suffix}.json.tmp`);
  rmSync(draft, { force: true });
  const file = openSync(draft, "wx", mode);
  try {
    writeFileSync(file, text);
    fchmodSync(file, mode);
    // An index file that a power cut left empty would end every `rez-env` in a traceback (REZ.md section 4).
    fsyncSync(file);
    renameSync(draft, join(directory, `${suffix}.json`));
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  } finally {
    closeSync(file);
  }
}

/** Makes names that were made, renamed or deleted in a directory last through a power cut. */
export function syncDirectory(directory: string): void {
  const file = openSync(directory, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/**
 * Moves a payload directory into `.sys/to_delete`, under a name like those that Rez gives, and marked as ours.
 * @returns where it is now; undefined where there was none.
 */
export function moveAside(rootPath: string, toDelete: string, qualifiedName: string): string | undefined {
  const target = join(toDelete, `${qualifiedName}-${trashMark}${randomBytes(12).toString("hex")}`);
  const stat = lstatSync(rootPath, { throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  // A directory that is not writable cannot be moved to another parent by its unprivileged owner.
  const isClosed = stat.isDirectory() && (stat.mode & 0o200) === 0;
  if (isClosed) chmodSync(rootPath, stat.mode | 0o200);
  try {
    renameSync(rootPath, target);
  } catch (error) {
    if (isClosed) chmodSync(rootPath, stat.mode & 0o7777);
    throw error;
  }
  return target;
}

/** Whether `moveAside` made this name in `.sys/to_delete`. */
export function isOwnTrash(name: string): boolean {
  return new RegExp(`-${trashMark}[0-9a-f]{24}$`).test(name);
}

/** Deletes a file or a whole tree, also one whose directories are read-only; links are deleted, never followed. */
export async function deleteTree(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (stat.isDirectory()) await makeWritable(path);
  await rm(path, { recursive: true, force: true });
}

/** The same at once: for worker threads. */
export function deleteTreeNow(path: string): void {
  const open = (directory: string): void => {
    chmodSync(directory, 0o700);
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) open(join(directory, entry.name));
    }
  };
  if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) open(path);
  rmSync(path, { recursive: true, force: true });
}

/** Deletes the hash, version and package directory as far as they are empty, as Rez does. */
export function deleteEmptyParents(directory: string): void {
  let path = directory;
  for (let level = 0; level < 3; level++) {
    try {
      rmdirSync(path);
    } catch {
      return;
    }
    path = dirname(path);
  }
}

/** @returns whether there was such a file. */
export function unlinkIfThere(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return false;
    throw error;
  }
}

/** `foo-1.0.0` of `<cache>/foo/1.0.0/e34b`. */
export function qualifiedName(directory: string): string {
  const version = basename(dirname(directory));
  const name = basename(dirname(dirname(directory)));
  return version === "_NO_VERSION" ? name : `${name}-${version}`;
}

async function makeWritable(directory: string): Promise<void> {
  try {
    await chmod(directory, 0o700);
  } catch (error) {
    // Gone, or another user's: then what comes next says so.
    if (!hasCode(error, "ENOENT", "EPERM")) throw error;
  }
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) await makeWritable(join(directory, entry.name));
  }
}

/** The first 8 of the 32 hex digits: "p2pc" in ASCII. Rez deletes whatever is there, we only our own. */
const trashMark = "70327063";
