import { constants, lstatSync, type Stats, statSync } from "node:fs";
import { dirname } from "node:path";
import { UnusableError } from "../protocol/errors.ts";

/**
 * Refuses a directory in which another user may put, rename or delete things: what we verified could become something
 * else. Sticky directories pass (/tmp): in them only an entry's owner may rename it.
 * @throws {UnusableError} naming the directory and its mode.
 */
export function checkNoOtherWriter(directory: string): void {
  const stat = lstatSync(directory);
  if (!stat.isDirectory()) throw new UnusableError(`${directory} is not a directory`);
  if (stat.uid !== 0 && stat.uid !== process.geteuid?.()) {
    throw notSafe(directory, stat, "it belongs to another user", `chown it to the user that runs p2pcache`);
  }
  if ((stat.mode & constants.S_IWOTH) !== 0 && !isSticky(stat)) {
    throw notSafe(directory, stat, "everybody may write there", `chmod o-w ${directory}`);
  }
  if ((stat.mode & constants.S_IWGRP) !== 0 && !isSticky(stat) && stat.gid !== process.getegid?.()) {
    throw notSafe(directory, stat, "a group that is not ours may write there", `chmod g-w ${directory}`);
  }
}

/** `checkNoOtherWriter` for every directory from `/` down to `realPath`, which has no links in it. */
export function checkPath(realPath: string): void {
  const parent = dirname(realPath);
  if (parent !== realPath) checkPath(parent);
  checkNoOtherWriter(realPath);
}

function notSafe(directory: string, stat: Stats, reason: string, hint: string): UnusableError {
  const mode = (stat.mode & 0o7777).toString(8).padStart(4, "0");
  return new UnusableError(`${directory} cannot be trusted: ${reason} (mode ${mode}, owner ${stat.uid}:${stat.gid})`, {
    hint,
    details: { directory, mode, uid: stat.uid, gid: stat.gid },
  });
}

function isSticky(stat: Stats): boolean {
  return (stat.mode & 0o1000) !== 0;
}

/**
 * What the filesystem refused as an error of ours: names the path and, where that decides, whose directory it is and who
 * we are. Undefined for errors of another kind.
 */
export function unusable(path: string, cause: Error): UnusableError | undefined {
  const { code } = cause as NodeJS.ErrnoException;
  const reason = code === undefined ? undefined : refusals.get(code);
  if (reason === undefined) return undefined;
  const message = `${path} cannot be used: ${reason}`;
  if (code !== "EACCES" && code !== "EPERM") return new UnusableError(message, { cause });
  const user = process.geteuid?.();
  const { at, uid, mode } = nearestOwner(path);
  const octal = (mode & 0o7777).toString(8).padStart(4, "0");
  const hint = uid === user ? `chmod u+rwx ${at}` : `run this as user ${uid}, or chown ${at} to user ${user}`;
  return new UnusableError(`${message} (user ${user}; ${at} belongs to user ${uid}, mode ${octal})`, { cause, hint });
}

/** Whose the deepest part of a path is that we can see. */
function nearestOwner(path: string): { readonly at: string; readonly uid: number; readonly mode: number } {
  for (let at = path; at !== dirname(at); at = dirname(at)) {
    try {
      const { uid, mode } = statSync(at);
      return { at, uid, mode };
    } catch {
      // Not there, or behind what we may not look into.
    }
  }
  return { at: "/", uid: 0, mode: 0o755 };
}

const refusals: ReadonlyMap<string, string> = new Map([
  ["EROFS", "it is on a read-only mount"],
  ["EACCES", "this process may not write there"],
  ["EPERM", "this process may not change it"],
  ["EIO", "its disk cannot read or write there"],
  ["EEXIST", "something else is in its place"],
  ["ENOTDIR", "a part of its path is not a directory"],
  ["ELOOP", "its links lead in a circle"],
]);
