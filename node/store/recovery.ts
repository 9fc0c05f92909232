import { existsSync } from "node:fs";
import { readdir, readFile, rm, unlink } from "node:fs/promises";
import { join } from "node:path";
import { BusyError } from "../../protocol/errors.ts";
import { type Hasher, parseVariantHash, type VariantHash } from "../../protocol/hash.ts";
import { decodeEnvelope, decodeRecord, type ReleaseRecord } from "../../protocol/record.ts";
import { rezHandle } from "../../protocol/rez-handle.ts";
import type { Catalogue, CatalogueEntry } from "./catalogue.ts";
import { readBootId } from "./owner.ts";
import { loadRecord } from "./record-objects.ts";
import type { Placement, RezCache, Spot } from "./rez-cache.ts";

/** What recovery works on: a cache and a state that this process owns. */
export interface RecoveryPlace {
  readonly rez: RezCache;
  readonly catalogue: Catalogue;
  readonly objectsPath: string;
  readonly stagingPath: string;
  readonly hasher: Hasher;
  readonly repositories: ReadonlyMap<string, string>;
}

/** What a commit wrote down before it moved anything. */
interface Intent {
  readonly hash: VariantHash;
  readonly spot: Spot;
  readonly placement: Placement;
}

/**
 * Ends what a crash left half done: an intent without its end is finished or undone, our own leftovers are cleared, and
 * the catalogue says again what the disk says. Staged trees stay, for the fetch that takes them up. Hashes nothing, so
 * that a node answers within 2 s of its start (P2).
 */
export async function recoverStore(place: RecoveryPlace): Promise<void> {
  for (const name of await readdir(place.stagingPath)) await endIntent(place, join(place.stagingPath, name));
  await place.rez.emptyOwnLeftovers().catch(ignoreBusy);
  if (place.catalogue.isNew) await findHoldings(place);
  for (const entry of place.catalogue.all()) if (!isThere(entry)) await place.catalogue.remove(entry.hash);
}

async function endIntent(place: RecoveryPlace, stagedPath: string): Promise<void> {
  const intentPath = join(stagedPath, "intent.json");
  const intent = await readIntent(intentPath);
  if (intent === undefined) return;
  try {
    const placement = { ...intent.placement, tree: join(stagedPath, "tree") };
    const end = await place.rez.finishPlacing(intent.spot, placement, AbortSignal.timeout(lockWaitMs));
    if (end === "undone") return await unlink(intentPath);
    const record = await recordOf(place, intent.hash);
    if (record !== undefined) await place.catalogue.put(entryOf(intent.hash, record, intent.spot));
    await rm(stagedPath, { recursive: true, force: true });
  } catch (error) {
    // Rez's lock is held: the next opening, or the next fetch of this variant, tries again.
    ignoreBusy(error);
  }
}

/** The state directory was lost: what the cache's index files say is believed where a record of ours agrees. */
async function findHoldings(place: RecoveryPlace): Promise<void> {
  for (const found of place.rez.ownEntries()) {
    if (found.kind !== "cached" || found.variant === undefined) continue;
    const record = await recordOf(place, found.variant);
    if (record === undefined || record.payload !== found.payload || !existsSync(found.rootPath)) continue;
    const location = place.repositories.get(record.variant.repository);
    if (location === undefined) continue;
    const isItsPlace = place.rez.directoryOf(rezHandle(record.variant, location)) === found.directory;
    // Nobody knows what happened to it since: it is checked before it is announced.
    const entry = entryOf(found.variant, record, found);
    if (isItsPlace) await place.catalogue.put({ ...entry, unsureSinceBoot: "unknown" });
  }
}

/** What is wrong with entries of the catalogue, and what lies in the cache that it does not know; one line each. */
export function checkEntries(rez: RezCache, entries: readonly CatalogueEntry[]): string[] {
  const faults: string[] = [];
  const known = new Set<string>();
  for (const entry of entries) {
    const path = join(entry.directory, entry.suffix);
    known.add(path);
    if (!existsSync(path)) faults.push(`${path}: the payload has gone`);
    if (!existsSync(`${path}.json`)) faults.push(`${path}.json: the index file has gone`);
  }
  for (const found of rez.ownEntries()) {
    if (found.kind === "rootless") faults.push(`${found.indexPath}: an index file without its payload`);
    else if (!known.has(found.rootPath)) faults.push(`${found.rootPath}: placed by p2pcache, and not in the catalogue`);
  }
  return faults;
}

function isThere(entry: CatalogueEntry): boolean {
  const path = join(entry.directory, entry.suffix);
  return existsSync(`${path}.json`) && existsSync(path);
}

async function recordOf(place: RecoveryPlace, variant: VariantHash): Promise<ReleaseRecord | undefined> {
  const envelope = await loadRecord(place.objectsPath, variant);
  if (envelope === undefined) return undefined;
  try {
    return decodeRecord(decodeEnvelope(envelope).body, place.hasher);
  } catch {
    return undefined;
  }
}

function entryOf(hash: VariantHash, record: ReleaseRecord, { directory, suffix }: Spot): CatalogueEntry {
  const { variant, payload, revision, root } = record;
  const unsureSinceBoot = readBootId();
  return { variant, hash, payload, revision, directory, suffix, bytes: root.bytes, files: root.files, unsureSinceBoot };
}

async function readIntent(path: string): Promise<Intent | undefined> {
  try {
    const { hash, spot, placement } = JSON.parse(await readFile(path, "utf8")) as Intent;
    return { hash: parseVariantHash(hash), spot, placement };
  } catch {
    return undefined; // There is none, or the crash came while it was written: nothing was moved yet.
  }
}

function ignoreBusy(error: unknown): void {
  const isAborted = error instanceof DOMException && error.name === "TimeoutError";
  if (!isAborted && !(error instanceof BusyError)) throw error;
}

/** A lock that is held longer than this is not held by a Rez that works (REZ.md section 5). */
const lockWaitMs = 500;
