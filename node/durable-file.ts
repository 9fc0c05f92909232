import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Replaces a small file whole: written beside, made durable, moved into its place; readable by its owner alone. It
 * lasts once this has ended, also where its directory is new.
 */
export async function writeDurably(path: string, bytes: Uint8Array | string): Promise<void> {
  const made = await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const beside = `${path}.new`;
  const file = await open(beside, "w", 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  try {
    await rename(beside, path);
    // A directory that a crash left may be as new as one that was made just now: the one above counts in any case.
    const top = dirname(made ?? dirname(path));
    for (let at = dirname(path); at !== top; at = dirname(at)) await syncDirectory(at);
    await syncDirectory(top).catch(unlessClosed);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}

/** Somebody else's directory, in which nothing of ours is new, may be one to pass through only. */
function unlessClosed(error: NodeJS.ErrnoException): void {
  if (!["EACCES", "EPERM", "EINVAL"].includes(error.code ?? "")) throw error;
}
