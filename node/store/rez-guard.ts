import { accessSync, chmodSync, constants, existsSync, lstatSync, mkdirSync, realpathSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { NoSpaceError, P2pCacheError, UnusableError } from "../../protocol/errors.ts";
import { checkNoOtherWriter, checkPath, unusable } from "../path-guard.ts";

/**
 * Makes `<path>/.sys` and what is in it (REZ.md section 2), and the cache itself where it is missing.
 * @returns the cache's real path.
 * @throws {UnusableError} naming the directory that is read-only, not ours, or open to others.
 */
export function makeCacheDirectories(path: string): string {
  return asCacheErrors(path, () => {
    makeDirectories(path, 0o755);
    const root = realpathSync(path);
    checkPath(root);
    const system = join(root, ".sys");
    const ours = join(system, "p2pcache");
    // Rez writes into the first three itself where its own writing is on; each `rez-env` makes those that are missing.
    for (const directory of [system, join(system, "log"), join(system, "pending"), join(system, "to_delete")]) {
      makeDirectories(directory, 0o755);
    }
    makeDirectories(ours, 0o700);
    for (const directory of [system, join(system, "to_delete"), ours]) checkNoOtherWriter(directory);
    if ((lstatSync(ours).mode & 0o777) !== 0o700) chmodSync(ours, 0o700);
    for (const directory of [root, system, join(system, "to_delete"), ours]) checkWritable(directory);
    return root;
  });
}

/** `mkdir -p`, for its owner alone where it is new. @throws {UnusableError} */
export function makeDirectory(path: string): void {
  asCacheErrors(path, () => makeDirectories(path, 0o700));
}

/**
 * `mkdir -p`, one by one: Node's own way never ends below /proc, where nothing can be made, and calls a read-only mount
 * ENOENT.
 */
function makeDirectories(path: string, mode: number): void {
  if (existsSync(path)) return;
  makeDirectories(dirname(path), mode);
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    // Somebody else was faster.
    if (!hasCode(error, "EEXIST") || !statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw error;
  }
}

/** `mkdir -p` of `relative` under `root`, each new directory 0755 and each old one safe. @returns its path. */
export function makeSafeDirectory(root: string, relative: string, onMade: (parent: string) => void): string {
  let directory = root;
  for (const part of relative.split("/")) {
    const parent = directory;
    directory = join(parent, part);
    try {
      mkdirSync(directory, { mode: 0o755 });
      onMade(parent);
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw error;
    }
    checkNoOtherWriter(directory);
  }
  return directory;
}

/**
 * Makes a directory that is for its owner alone, or closes one that lets others in: under umask 0 what libraries make
 * in it is open to everybody.
 * @throws {UnusableError} when it belongs to somebody else, or cannot be made.
 */
export function closeToOthers(directory: string): void {
  asCacheErrors(directory, () => closeDirectory(directory));
}

function closeDirectory(directory: string): void {
  makeDirectories(directory, 0o700);
  const { uid, mode } = statSync(directory);
  const ownUid = process.geteuid?.();
  if (ownUid !== undefined && uid !== ownUid) {
    const hint = `chown it to user ${ownUid}, who runs p2pcache, or set another node.state`;
    throw new UnusableError(`${directory} cannot be used: it belongs to user ${uid}`, { hint });
  }
  if ((mode & 0o077) !== 0) chmodSync(directory, mode & 0o700);
  checkWritable(directory);
}

/** Runs `action`; what the filesystem refuses becomes an error with a code and an exit. */
function asCacheErrors<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw cacheError(path, error);
  }
}

/** An error of the filesystem as one of ours, naming the path it was about; every other error as it is. */
export function cacheError(path: string, error: unknown): unknown {
  // What went wrong first says more than what letting go of it came upon.
  if (error instanceof SuppressedError) return cacheError(path, error.suppressed);
  if (error instanceof P2pCacheError || !(error instanceof Error)) return error;
  const { code, path: where = path } = error as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT") return new NoSpaceError(`no space left for ${where}`, { cause: error });
  return unusable(where, error) ?? error;
}

/** Whether the error is the filesystem's with one of these codes. */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && codes.includes((error as NodeJS.ErrnoException).code ?? "");
}

function checkWritable(directory: string): void {
  try {
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw unusable(directory, cause as Error) ?? cause;
  }
}
