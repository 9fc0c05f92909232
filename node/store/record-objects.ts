import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { VariantHash } from "../../protocol/hash.ts";
import { recordBytesMax } from "../../protocol/limits.ts";

/** Where the envelope of a held variant's release record lies. */
export function recordPath(objectsPath: string, variant: VariantHash): string {
  return join(objectsPath, variant.slice(0, 2), `${variant}.dsse.json`);
}

/** Writes an envelope durably over an earlier one. */
export async function storeRecord(objectsPath: string, variant: VariantHash, envelope: Uint8Array): Promise<void> {
  await writeDurably(recordPath(objectsPath, variant), envelope);
}

/** The envelope, or undefined where there is none; whoever uses it checks it. */
export async function loadRecord(objectsPath: string, variant: VariantHash): Promise<Uint8Array | undefined> {
  try {
    const bytes = await readFile(recordPath(objectsPath, variant));
    return bytes.length > recordBytesMax ? undefined : bytes;
  } catch {
    return undefined;
  }
}

/** Writes a small file beside, makes it durable and moves it into its place. */
export async function writeDurably(path: string, bytes: Uint8Array | string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
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
    const directory = await open(dirname(path), "r");
    await directory.sync().finally(() => directory.close());
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}
