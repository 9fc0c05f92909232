import type { Dirent } from "node:fs";
import { opendir } from "node:fs/promises";
import { join } from "node:path";
import { P2pCacheError, UnreachableError } from "../../protocol/errors.ts";
import { parseVariantHash, type VariantHash } from "../../protocol/hash.ts";

/** The variants of which a repository's folder has records, in no order; what is not ours is passed over. */
export async function* walkVariants(path: string): AsyncGenerator<VariantHash, void, undefined> {
  for await (const digits of entriesOf(join(path, "variants"))) {
    if (!digits.isDirectory() || !/^[0-9a-f]{2}$/.test(digits.name)) continue;
    for await (const { name } of entriesOf(join(path, "variants", digits.name))) {
      if (/^[0-9a-f]{64}$/.test(name) && name.startsWith(digits.name)) yield parseVariantHash(name);
    }
  }
}

/** A directory's entries, a few at a time; none where there is no directory. @throws {UnreachableError} */
export async function* entriesOf(path: string): AsyncGenerator<Dirent, void, undefined> {
  try {
    for await (const entry of await opendir(path, { bufferSize: 256 })) yield entry;
  } catch (error) {
    if (isCode(error, "ENOENT")) return;
    throw folderError(path, error);
  }
}

/** A failed system call on an origin's folder as an error that names it, in one line. */
export function folderError(path: string, error: unknown): unknown {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  if (error instanceof P2pCacheError || code === undefined) return error;
  return new UnreachableError(`the origin's folder cannot be used: ${path} fails with ${code}`, { cause: error });
}

export function isCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && codes.includes((error as NodeJS.ErrnoException).code ?? "");
}
