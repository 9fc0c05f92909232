import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Hasher, PayloadId, VariantHash } from "../../protocol/hash.ts";
import { recordBytesMax } from "../../protocol/limits.ts";
import { decodeEnvelope, decodeRecord, type ReleaseRecord } from "../../protocol/record.ts";

/** Where the envelope of the newest release record of a variant lies. */
function recordPath(objectsPath: string, variant: VariantHash): string {
  return join(objectsPath, variant.slice(0, 2), `${variant}.dsse.json`);
}

/**
 * Writes the newest envelope of a variant durably. The one that was there is kept beside it while what it names is
 * `held`, so that a held tree can be served and checked until the new one has come in whole.
 */
export async function storeRecord(
  objectsPath: string,
  variant: VariantHash,
  envelope: Uint8Array,
  { held, hasher }: { readonly held: PayloadId | undefined; readonly hasher: Hasher },
): Promise<void> {
  const path = recordPath(objectsPath, variant);
  const before = await loadRecord(objectsPath, variant);
  if (before !== undefined && held !== undefined && decode(before, hasher)?.payload === held) {
    await writeDurably(heldPath(path), before);
  }
  await writeDurably(path, envelope);
}

/** The newest envelope, or undefined where there is none; whoever uses it checks it. */
export function loadRecord(objectsPath: string, variant: VariantHash): Promise<Uint8Array | undefined> {
  return load(recordPath(objectsPath, variant));
}

/**
 * The record by which a payload is held as a variant. Its signature was checked before it was stored; that it names the
 * payload is checked here.
 */
export async function loadRecordOf(
  objectsPath: string,
  variant: VariantHash,
  payload: PayloadId,
  hasher: Hasher,
): Promise<ReleaseRecord | undefined> {
  const path = recordPath(objectsPath, variant);
  for (const each of [path, heldPath(path)]) {
    const envelope = await load(each);
    const record = envelope === undefined ? undefined : decode(envelope, hasher);
    if (record?.payload === payload) return record;
  }
  return undefined;
}

/** What the record before the newest names is no longer held. */
export async function forgetHeldRecord(objectsPath: string, variant: VariantHash): Promise<void> {
  await rm(heldPath(recordPath(objectsPath, variant)), { force: true });
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

function heldPath(path: string): string {
  return `${path}.held`;
}

async function load(path: string): Promise<Uint8Array | undefined> {
  try {
    const { size } = await stat(path);
    return size > recordBytesMax ? undefined : await readFile(path);
  } catch {
    return undefined;
  }
}

function decode(envelope: Uint8Array, hasher: Hasher): ReleaseRecord | undefined {
  try {
    return decodeRecord(decodeEnvelope(envelope).body, hasher);
  } catch {
    return undefined;
  }
}
