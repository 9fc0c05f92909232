import { isDeepStrictEqual } from "node:util";
import { isMap } from "../../protocol/cbor.ts";
import type { VariantHash } from "../../protocol/hash.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import { type RezHandle, rezHandle, sameHandle } from "../../protocol/rez-handle.ts";
import type { CatalogueEntry } from "./catalogue.ts";
import { type Holdings, pathOf } from "./holdings.ts";
import { loadRecordOf } from "./record-objects.ts";
import type { RecoveryPlace } from "./recovery.ts";
import { indexText, isHandle, type P2pcacheKey, parseKey, readIndexText } from "./rez-index.ts";

/** Rez's index files of what is held: found where a bit of one flipped, and written anew from the record. */
export class IndexFiles {
  readonly #place: RecoveryPlace;
  readonly #holdings: Holdings;
  readonly #mending = new Map<VariantHash, Promise<void>>();

  constructor(place: RecoveryPlace, holdings: Holdings) {
    this.#place = place;
    this.#holdings = holdings;
  }

  /** Whether an entry's index file is there, is ours, and does not say what it should. */
  isRotten(entry: CatalogueEntry, record?: ReleaseRecord): boolean {
    return isIndexRotten(this.#place, entry, record);
  }

  /** Writes the index file of a held variant anew if it rotted. Never rejects: what cannot be mended is told. */
  async mend(variant: VariantHash, signal?: AbortSignal): Promise<void> {
    const before = this.#mending.get(variant);
    if (before !== undefined) return await before;
    const mended = this.#mend(variant, signal)
      .catch((error: unknown) => this.#place.onProblem(`the index file of ${variant} was not mended: ${String(error)}`))
      .finally(() => this.#mending.delete(variant));
    this.#mending.set(variant, mended);
    await mended;
  }

  async #mend(variant: VariantHash, signal: AbortSignal | undefined): Promise<void> {
    const { catalogue, objectsPath, hasher } = this.#place;
    const entry = catalogue.get(variant);
    if (entry === undefined) return;
    const record = await loadRecordOf(objectsPath, variant, entry.payload, hasher);
    if (!this.isRotten(entry, record)) return;
    await this.#holdings.change(variant, async () => {
      const now = catalogue.get(variant);
      if (now !== undefined) await mendIndex(this.#place, now, signal);
    });
  }
}

/**
 * Writes an entry's index file anew from its record, if it rotted: Rez's own commands fail on such (REZ.md section 4).
 * Answers whether it did. @throws {BusyError} REZ_LOCK_HELD.
 */
export async function mendIndex(place: RecoveryPlace, entry: CatalogueEntry, signal?: AbortSignal): Promise<boolean> {
  const { rez, objectsPath, hasher, indexMode } = place;
  const record = await loadRecordOf(objectsPath, entry.hash, entry.payload, hasher);
  const handle = handleOf(place, entry);
  if (record === undefined || handle === undefined || !isIndexRotten(place, entry, record)) return false;
  const text = indexText(handle, record.attributes.variantRequires, keyOf(entry));
  const isRotten = () => isIndexRotten(place, entry, record);
  if (!(await rez.rewriteIndex(entry, text, { isRotten, indexMode, signal }))) return false;
  place.onProblem(`${pathOf(entry)}.json was damaged, and was written anew`);
  return true;
}

/** What Rez wrote itself into the index file of a copy that was adopted, or a record before this one, is not compared. */
export function isIndexRotten(place: RecoveryPlace, entry: CatalogueEntry, record?: ReleaseRecord): boolean {
  const handle = handleOf(place, entry);
  const text = readIndexText(`${pathOf(entry)}.json`);
  if (handle === undefined || text === undefined) return false;
  const index = parse(text);
  if (index === undefined) return true;
  const isNamed = sameHandle(index.handle, handle);
  if (!isNamed || !isDeepStrictEqual(index.p2pcache, keyOf(entry))) {
    return !isAnothers(place, entry, { text, index, isNamed });
  }
  if (entry.isAdopted === true || record === undefined || record.revision !== entry.revision) return false;
  const right = parse(indexText(handle, record.attributes.variantRequires, keyOf(entry)));
  return !isDeepStrictEqual({ ...index, handle }, { ...right, handle });
}

/** Whether somebody else has put it there, whole, since ours went: no flipped bit makes such a file of ours. */
function isAnothers(
  { rez }: RecoveryPlace,
  { hash, payload, directory }: CatalogueEntry,
  { text, index, isNamed }: { text: string; index: Readonly<Record<string, unknown>>; isNamed: boolean },
): boolean {
  if (text.includes(hash) || text.includes(payload)) return false;
  const isRez = Object.keys(index).every((key) => key === "handle" || key === "data");
  if (isNamed) return isRez;
  const isHere = isHandle(index.handle) && rez.directoryOf(index.handle) === directory;
  return isHere && (isRez || parseKey(index.p2pcache) !== undefined);
}

/** Undefined where its repository is not configured any more, or lies elsewhere: then nobody can say what is right. */
function handleOf({ rez, repositories }: RecoveryPlace, entry: CatalogueEntry): RezHandle | undefined {
  const location = repositories.get(entry.variant.repository);
  const handle = location === undefined ? undefined : rezHandle(entry.variant, location);
  return handle === undefined || rez.directoryOf(handle) !== entry.directory ? undefined : handle;
}

function keyOf({ payload, hash: variant, isAdopted }: CatalogueEntry): P2pcacheKey {
  return { payload, variant, ...(isAdopted === true ? { adopted: true } : {}) };
}

function parse(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isMap(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
