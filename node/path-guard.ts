import { constants, lstatSync, type Stats } from "node:fs";
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
