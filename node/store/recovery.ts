import { existsSync } from "node:fs";
import { readdir, readFile, unlink } from "node:fs/promises";
import { join } from "node:path";
import {
  type Hasher,
  type PayloadId,
  parsePayloadId,
  parseVariantHash,
  type VariantHash,
} from "../../protocol/hash.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import { rezHandle, sameHandle } from "../../protocol/rez-handle.ts";
import { isPathPart, variantHash } from "../../protocol/variant.ts";
import type { Catalogue, CatalogueEntry } from "./catalogue.ts";
import { pathOf } from "./holdings.ts";
import { isIndexRotten, mendIndex } from "./index-files.ts";
import { readBootId } from "./owner.ts";
import { loadRecordOf } from "./record-objects.ts";
import type { Found, IntendedSpot, Placement, RezCache, Spot } from "./rez-cache.ts";
import { deleteTree } from "./rez-files.ts";

/** What recovery works on: a cache and a state that this process owns. */
export interface RecoveryPlace {
  readonly rez: RezCache;
  readonly catalogue: Catalogue;
  readonly objectsPath: string;
  readonly stagingPath: string;
  readonly hasher: Hasher;
  readonly repositories: ReadonlyMap<string, string>;
  /** Permission bits of Rez's index files. */
  readonly indexMode: number;
  /** Told what could not be mended, and has been left for the next opening. */
  readonly onProblem: (problem: string) => void;
}

/** What a commit writes down before it moves anything. */
interface Intent {
  readonly hash: VariantHash;
  readonly spot: IntendedSpot;
  readonly placement: Omit<Placement, "tree">;
}

/** Where a commit writes down its intent. */
export function intentPath(stagedPath: string): string {
  return join(stagedPath, "intent.json");
}

/**
 * Ends what a crash left half done: an intent without its end is finished or undone, and the catalogue says again what
 * the disk says. Staged trees stay, for the fetch that takes them up. Hashes nothing and waits for nobody, so that a
 * node answers within 2 s of its start (P2): with Rez's lock held, the rest is left for the next opening.
 * Answers the payloads that lie in the cache as ours and could not be taken up: their repository may come back.
 */
export async function recoverStore(place: RecoveryPlace): Promise<ReadonlySet<PayloadId>> {
  const signal = AbortSignal.timeout(lockWaitMs);
  for (const name of await readdir(place.stagingPath)) {
    const path = join(place.stagingPath, name);
    await endIntent(place, path, signal).catch((error: unknown) => place.onProblem(`${path}: ${String(error)}`));
  }
  const found = new Map<string, Found>();
  for (const each of place.rez.ownEntries()) found.set(each.rootPath, each);
  for (const entry of place.catalogue.all()) {
    if (isEntry(found.get(pathOf(entry)), entry)) continue;
    if (!(await staysRotten(place, entry, signal))) await place.catalogue.remove(entry.hash);
  }
  for (const each of found.values()) {
    if (each.kind === "rootless") await removeRootless(place, each, signal);
    else await takeUp(place, each);
  }
  return strangersIn(place, found.values());
}

/** Whether only its index file is wrong. It is mended, now or by whoever comes upon it: the tree counts as held. */
async function staysRotten(place: RecoveryPlace, entry: CatalogueEntry, signal: AbortSignal): Promise<boolean> {
  if (!existsSync(pathOf(entry)) || !isIndexRotten(place, entry)) return false;
  await mendIndex(place, entry, signal).catch((error: unknown) => {
    place.onProblem(`${pathOf(entry)}.json is damaged, and was not mended: ${String(error)}`);
  });
  return true;
}

/** Payloads that lie in the cache as ours and are not in the catalogue. */
export function strangersIn(
  { rez, catalogue }: Pick<RecoveryPlace, "rez" | "catalogue">,
  found: Iterable<Found> = rez.ownEntries(),
): ReadonlySet<PayloadId> {
  const payloads = Array.from(found, ({ payload }) => payload).filter((payload) => payload !== undefined);
  return new Set(payloads.filter((payload) => !catalogue.hasPayload(payload)));
}

/**
 * Finishes or undoes a commit that was cut off in this staging directory; nothing where none was.
 * @throws {BusyError} REZ_LOCK_HELD, or the signal's reason: all is as it was.
 */
export async function endIntent(place: RecoveryPlace, stagedPath: string, signal?: AbortSignal): Promise<void> {
  const path = intentPath(stagedPath);
  const intent = await readIntent(path);
  if (intent === undefined) return;
  const { hash, spot } = intent;
  const placement = { ...intent.placement, tree: join(stagedPath, "tree") };
  const end = await place.rez.finishPlacing(spot, placement, signal);
  if (end === "undone") return await unlink(path);
  const record = await loadRecordOf(place.objectsPath, hash, placement.p2pcache.payload, place.hasher);
  if (record !== undefined) await place.catalogue.put(entryOf(hash, record, spot));
  await deleteTree(stagedPath);
}

/** The entry of what has just been placed. */
export function entryOf(
  hash: VariantHash,
  record: ReleaseRecord,
  { directory, suffix }: Spot,
  more: Pick<CatalogueEntry, "isAdopted"> = {},
): CatalogueEntry {
  const { variant, payload, revision, root } = record;
  const unsureSinceBoot = readBootId();
  const { bytes, files } = root;
  return { variant, hash, payload, revision, directory, suffix, bytes, files, unsureSinceBoot, ...more };
}

/** An index file whose payload has gone breaks the environments that Rez makes with it (REZ.md section 4). */
export async function removeRootless(place: RecoveryPlace, found: Found, signal: AbortSignal): Promise<void> {
  try {
    await place.rez.remove(found, signal);
  } catch (error) {
    place.onProblem(`${found.indexPath} has no payload any more and could not be removed: ${String(error)}`);
  }
}

/**
 * A payload with our index file that the catalogue does not know (the state directory was lost, or is another one): it
 * is believed where a record of ours agrees, and checked before it is announced, since nobody knows what happened to it.
 * Answers whether it was taken up.
 */
export async function takeUp(place: RecoveryPlace, found: Found): Promise<boolean> {
  const { variant, payload } = found;
  if (found.kind !== "cached" || variant === undefined || payload === undefined) return false;
  if (place.catalogue.get(variant) !== undefined) return false;
  const record = await loadRecordOf(place.objectsPath, variant, payload, place.hasher);
  if (record === undefined || variantHash(record.variant, place.hasher) !== variant) return false;
  const location = place.repositories.get(record.variant.repository);
  if (location === undefined || !sameHandle(rezHandle(record.variant, location), found.handle)) return false;
  const more = found.adopted === true ? ({ isAdopted: true } as const) : {};
  await place.catalogue.put({ ...entryOf(variant, record, found, more), unsureSinceBoot: noBoot });
  return true;
}

/** Whether what lies at an entry's place is, by its index file, what the entry says. */
export function isEntry(found: Found | undefined, entry: CatalogueEntry): boolean {
  if (found === undefined || !found.ours || pathOf(entry) !== found.rootPath) return false;
  return found.kind !== "rootless" && found.variant === entry.hash && found.payload === entry.payload;
}

/** Undefined where there is none that is whole: a crash came while it was written, and nothing was moved yet. */
async function readIntent(path: string): Promise<Intent | undefined> {
  try {
    const intent = JSON.parse(await readFile(path, "utf8")) as Intent;
    const { spot, placement } = intent;
    const { name, version, location } = placement.handle.variables;
    const isWhole =
      [spot.directory, spot.suffix, location].every((text) => typeof text === "string") &&
      (spot.replaces === undefined || Array.isArray(spot.replaces)) &&
      Number.isSafeInteger(placement.indexMode) &&
      isPathPart(name) &&
      (version === undefined || isPathPart(version));
    if (!isWhole) return undefined;
    parsePayloadId(placement.p2pcache.payload);
    return { ...intent, hash: parseVariantHash(intent.hash) };
  } catch {
    return undefined;
  }
}

/** What makes an entry be checked before it is announced, whatever boot this is. */
const noBoot = "unknown";
/** A lock that is held longer than this is not held by a Rez that works (REZ.md section 5). */
const lockWaitMs = 500;
