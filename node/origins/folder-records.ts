import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { FormatError } from "../../protocol/errors.ts";
import type { VariantHash } from "../../protocol/hash.ts";
import { recordBytesMax } from "../../protocol/limits.ts";
import { entriesOf, folderError } from "./folder-walk.ts";

/** One revision's envelope as it lies in a folder. */
export interface StoredRevision {
  readonly path: string;
  readonly bytes: Uint8Array;
  /** When it was written, by the folder's own clock. */
  readonly writtenMs: number;
}

/** All revisions of a variant, the first one first. @throws {FormatError} where one is missing or too large. */
export async function readRevisions(path: string, variant: VariantHash): Promise<StoredRevision[]> {
  const directory = join(path, "variants", variant.slice(0, 2), variant);
  const found = new Set<number>();
  for await (const { name } of entriesOf(directory)) {
    const [, digits] = /^(0|[1-9]\d{0,6})\.dsse\.json$/.exec(name) ?? [];
    if (digits !== undefined) found.add(Number(digits));
  }
  const revisions: StoredRevision[] = [];
  for (let revision = 0; revision < found.size; revision++) {
    const file = join(directory, `${revision}.dsse.json`);
    if (!found.has(revision)) throw new FormatError(`${file} is missing, while later revisions are there`);
    revisions.push(await readRevision(file));
  }
  return revisions;
}

async function readRevision(path: string): Promise<StoredRevision> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { size, mtimeMs } = await file.stat();
    if (size > recordBytesMax) throw new FormatError(`${path} has ${size} bytes, more than ${recordBytesMax}`);
    return { path, bytes: await file.readFile(), writtenMs: mtimeMs };
  } catch (error) {
    throw folderError(path, error);
  }
}
