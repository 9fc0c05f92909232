import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { chmod, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { originIndexBytesMax } from "../../protocol/limits.ts";
import { encodeIndex, type IndexEntry, originIndexPath, parseIndex } from "../../protocol/origin-index.ts";
import { variantText } from "../../protocol/variant.ts";
import { FileLock } from "./file-lock.ts";
import { folderError, isCode } from "./folder-walk.ts";

/** How an index is made anew: every variant of the folder, as its latest record says. */
export type IndexSource = () => AsyncIterable<IndexEntry>;

/**
 * Enters releases in a folder's index. Where there is none, or a broken one, it is made anew. Whoever writes has the lock
 * and renames a whole file into its place, so that readers and other publishers never see half of one.
 * @throws {BusyError} when others keep the lock; {UnreachableError} when the folder cannot be written.
 */
export async function enterInIndex(path: string, fresh: readonly IndexEntry[], all: IndexSource): Promise<void> {
  await withIndexLock(path, async () => {
    const entries = (await readIndex(path)) ?? (await collect(all()));
    for (const entry of fresh) {
      const text = variantText(entry.variant);
      const known = entries.get(text);
      if (known === undefined || known.revision <= entry.revision) entries.set(text, entry);
    }
    await writeIndex(path, entries.values());
  });
}

/** Makes a folder's index anew, where it does not say what the records say. Answers whether it was written. */
export async function rebuildIndex(path: string, all: IndexSource): Promise<boolean> {
  const before = await readBytes(path);
  if (before?.equals(encodeIndex((await collect(all())).values()))) return false;
  // Read again under the lock: somebody may have published meanwhile.
  await withIndexLock(path, async () => writeIndex(path, (await collect(all())).values()));
  return true;
}

/** By the variants' texts; undefined where there is none that can be read. */
async function readIndex(path: string): Promise<Map<string, IndexEntry> | undefined> {
  const bytes = await readBytes(path);
  if (bytes === undefined) return undefined;
  try {
    return new Map(parseIndex(bytes).map((entry) => [variantText(entry.variant), entry]));
  } catch {
    return undefined;
  }
}

async function collect(entries: AsyncIterable<IndexEntry>): Promise<Map<string, IndexEntry>> {
  const collected = new Map<string, IndexEntry>();
  for await (const entry of entries) collected.set(variantText(entry.variant), entry);
  return collected;
}

async function readBytes(path: string): Promise<Buffer | undefined> {
  const file = join(path, originIndexPath);
  try {
    await using opened = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const { size } = await opened.stat();
    return size > originIndexBytesMax ? undefined : await opened.readFile();
  } catch (error) {
    if (isCode(error, "ENOENT", "EISDIR")) return undefined;
    throw folderError(file, error);
  }
}

async function writeIndex(path: string, entries: Iterable<IndexEntry>): Promise<void> {
  const file = join(path, originIndexPath);
  const beside = join(dirname(file), temporaryName());
  try {
    await writeWhole(beside, encodeIndex(entries));
    await rename(beside, file);
  } catch (error) {
    await rm(beside, { force: true }).catch(() => undefined);
    throw folderError(file, error);
  }
}

async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  await using file = await open(path, "wx", 0o644);
  await file.chmod(0o644); // Whatever the publisher's umask.
  await file.writeFile(bytes);
  await file.sync();
}

async function withIndexLock(path: string, work: () => Promise<void>): Promise<void> {
  const directory = dirname(join(path, originIndexPath));
  await using _lock = await takeLock(directory);
  await work();
}

async function takeLock(directory: string): Promise<FileLock> {
  const lock = join(directory, ".lock");
  try {
    await mkdir(directory).then(
      () => chmod(directory, 0o755),
      (error: unknown) => {
        if (!isCode(error, "EEXIST")) throw error;
      },
    );
    return await FileLock.take(lock);
  } catch (error) {
    throw folderError(lock, error);
  }
}

/** As all files of ours on their way: `origin gc` clears what a crash leaves of them. */
function temporaryName(): string {
  return `.${randomBytes(12).toString("hex")}.tmp`;
}
