import { createHash } from "node:crypto";
import { chmodSync, cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { rezCacheDirectory, rezHandle } from "../../protocol/rez-handle.ts";
import type { Variant } from "../../protocol/variant.ts";

/** What Rez itself would have cached of a variant: its tree, and its index file. */
export interface RezCopy {
  readonly directory: string;
  readonly path: string;
  readonly indexPath: string;
}

/**
 * Copies a tree into Rez's cache as Rez does (REZ.md section 2). `followLinks`: links become what they point at, as in
 * Rez's own copies; without it they stay links, as after `cp -a`.
 */
export function copyLikeRez(
  cachePath: string,
  location: string,
  variant: Variant,
  source: string,
  { followLinks = false }: { readonly followLinks?: boolean } = {},
): RezCopy {
  const handle = rezHandle(variant, location);
  const relative = rezCacheDirectory(handle, (bytes) => createHash("sha1").update(bytes).digest());
  const directory = join(cachePath, relative);
  const umask = process.umask(0o022);
  try {
    mkdirSync(directory, { recursive: true });
    const path = join(directory, "a");
    cpSync(source, path, { recursive: true, dereference: followLinks, verbatimSymlinks: !followLinks });
    chmodSync(path, 0o755);
    const indexPath = `${path}.json`;
    const data = variant.index === undefined ? {} : { data: [] };
    writeFileSync(indexPath, JSON.stringify({ handle, ...data }), { mode: 0o644 });
    return { directory, path, indexPath };
  } finally {
    process.umask(umask);
  }
}
