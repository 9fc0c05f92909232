import { randomBytes } from "node:crypto";
import { mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { namesIn } from "./rez-index.ts";

/**
 * Room that is kept for the few small files that a removal needs (Rez's lock among them): on a disk with no byte or inode
 * left it is given up first, and taken back once the removal has made room. Answers whether there was any.
 */
export function spendBallast(ownPath: string): boolean {
  const names = namesIn(pathIn(ownPath));
  for (const name of names) rmSync(join(pathIn(ownPath), name), { force: true });
  return names.length > 0;
}

/** Where there is no room for it now, there will be later. */
export function fillBallast(ownPath: string): void {
  const directory = pathIn(ownPath);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (let i = 0; i < files; i++) {
      const path = join(directory, String(i));
      if (statSync(path, { throwIfNoEntry: false })?.size === fileBytes) continue;
      // Nothing that a filesystem could leave out, or compress.
      writeFileSync(path, randomBytes(fileBytes), { mode: 0o600 });
    }
  } catch {
    // What was written counts, and the rest comes next time.
  }
}

function pathIn(ownPath: string): string {
  return join(ownPath, "ballast");
}

/** A lock is a draft and a link, which tmpfs counts as two inodes; a move may need a block for its directory. */
const files = 8;
const fileBytes: number = 64 * 1024;
