import { randomBytes } from "node:crypto";
import { rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Room that is kept for the few small files that a removal needs (Rez's lock among them): on a disk with no byte left, it
 * is given up first, and taken back once the removal has made room.
 */
export function spendBallast(ownPath: string): boolean {
  const path = pathIn(ownPath);
  const isThere = statSync(path, { throwIfNoEntry: false }) !== undefined;
  rmSync(path, { force: true });
  return isThere;
}

/** Where there is no room for it now, there will be later. */
export function fillBallast(ownPath: string): void {
  const path = pathIn(ownPath);
  if (statSync(path, { throwIfNoEntry: false })?.size === ballastBytes) return;
  try {
    // Nothing that a filesystem could leave out, or compress.
    writeFileSync(path, randomBytes(ballastBytes), { mode: 0o600 });
  } catch {
    rmSync(path, { force: true });
  }
}

function pathIn(ownPath: string): string {
  return join(ownPath, "ballast");
}

/** A few blocks of any filesystem for drafts, directories and its own journal. */
const ballastBytes: number = 256 * 1024;
