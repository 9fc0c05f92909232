import { existsSync } from "node:fs";
import type { VariantHash } from "../../protocol/hash.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import { variantText } from "../../protocol/variant.ts";
import type { CatalogueEntry } from "./catalogue.ts";
import { type Holdings, pathOf } from "./holdings.ts";
import type { IndexFiles } from "./index-files.ts";
import type { ItemWorkers } from "./item-workers.ts";
import type { ObjectsCollector } from "./objects-collector.ts";
import { loadRecordOf } from "./record-objects.ts";
import { type RecoveryPlace, removeRootless, strangersIn, takeUp } from "./recovery.ts";
import type { RezCache } from "./rez-cache.ts";
import type { VariantPlaces } from "./variant-places.ts";

export interface BookkeepingParts {
  readonly place: RecoveryPlace;
  readonly holdings: Holdings;
  readonly places: Pick<VariantPlaces, "isThere">;
  readonly workers: ItemWorkers;
  readonly indexFiles: IndexFiles;
  readonly objects: Pick<ObjectsCollector, "without">;
  /** Checks all that must be before it counts. */
  readonly checkUnsure: () => Promise<void>;
}

/** What a check of the bookkeeping found. */
export interface StoreCheck {
  readonly checked: number;
  /** One line each. */
  readonly faults: readonly string[];
  /** Variants of which something must be fetched again. */
  readonly damaged: readonly VariantHash[];
}

/** What is kept about the cache, against the cache: looked at, mended, or made anew. */
export class Bookkeeping {
  readonly #parts: BookkeepingParts;

  constructor(parts: BookkeepingParts) {
    this.#parts = parts;
  }

  /** What the catalogue says against what the cache and `objects/` show. The trees themselves are not hashed. */
  async check(): Promise<StoreCheck> {
    const { place, holdings } = this.#parts;
    const entries = place.catalogue.all();
    const faults = checkEntries(place.rez, entries);
    const damaged: VariantHash[] = [];
    for (const entry of entries) {
      if (this.#parts.indexFiles.isRotten(entry, await this.#recordOf(entry))) {
        faults.push(`${pathOf(entry)}.json: the index file is damaged`);
      }
      const fault = holdings.isDamaged(entry.hash) ? "it is damaged" : await this.#objectsFault(entry);
      if (fault === undefined) continue;
      faults.push(`${variantText(entry.variant)}: ${fault}`);
      damaged.push(entry.hash);
    }
    return { checked: entries.length, faults, damaged };
  }

  /**
   * Makes the catalogue say again what the cache shows, and takes away what only confuses Rez. What it finds is checked
   * before it counts.
   */
  async mend(): Promise<void> {
    const { place, holdings, places } = this.#parts;
    for (const entry of place.catalogue.all()) {
      await this.#parts.indexFiles.mend(entry.hash);
      if (places.isThere(entry)) continue;
      await holdings.change(entry.hash, async () => {
        const now = place.catalogue.get(entry.hash);
        if (now !== undefined && !places.isThere(now)) await holdings.forget(entry.hash);
      });
    }
    await this.#takeUpAll();
    await this.#parts.checkUnsure();
  }

  /** Makes the database anew from the cache and `objects/`; all that is held is checked before it counts again. */
  async rebuild(): Promise<void> {
    const { place, objects } = this.#parts;
    // A removal beside it would take what is not taken up yet for something that nobody holds.
    await objects.without(async () => {
      await place.catalogue.renew();
      await this.#takeUpAll();
      return strangersIn(place);
    });
    await this.#parts.checkUnsure();
  }

  async #takeUpAll(): Promise<void> {
    const { place, holdings } = this.#parts;
    for (const found of place.rez.ownEntries()) {
      const { variant } = found;
      if (found.kind === "rootless") await removeRootless(place, found, AbortSignal.timeout(lockWaitMs));
      else if (variant !== undefined) {
        await holdings.change(variant, async () => {
          // It may have been removed since it was listed.
          const now = place.rez.ownEntriesIn(found.directory).find(({ suffix }) => suffix === found.suffix);
          if (now?.variant === variant && (await takeUp(place, now))) holdings.doubt(variant);
        });
      }
    }
  }

  #recordOf({ hash, payload }: CatalogueEntry): Promise<ReleaseRecord | undefined> {
    const { objectsPath, hasher } = this.#parts.place;
    return loadRecordOf(objectsPath, hash, payload, hasher);
  }

  async #objectsFault(entry: CatalogueEntry): Promise<string | undefined> {
    const { place, workers } = this.#parts;
    const { objectsPath } = place;
    const record = await this.#recordOf(entry);
    if (record === undefined) return "its release record has gone";
    const hashes = record.root.segments.map((segment) => segment.hash);
    const job = { kind: "checkSegments", objectsPath, hashes, mayChange: false } as const;
    const right = await workers.do<"checkSegments">(job);
    const wrong = hashes.find((_, i) => right[i] !== 1);
    return wrong === undefined ? undefined : `its manifest segment ${wrong} has gone, or is damaged`;
  }
}

/** What is wrong with entries of the catalogue, and what lies in the cache that it does not know; one line each. */
function checkEntries(rez: RezCache, entries: readonly CatalogueEntry[]): string[] {
  const faults: string[] = [];
  const known = new Set<string>();
  for (const entry of entries) {
    const path = pathOf(entry);
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

/** For Rez's lock; what is not mended now is named by the next check. */
const lockWaitMs = 10_000;
