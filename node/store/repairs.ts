import { lstatSync } from "node:fs";
import { join } from "node:path";
import { assert, BusyError, TreeDamagedError } from "../../protocol/errors.ts";
import { type ChunkHash, digestBytes, hashFromBytes, type PayloadId, type VariantHash } from "../../protocol/hash.ts";
import { ItemIndex, type ManifestRoot } from "../../protocol/manifest.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import type { ChunkDescription } from "../../protocol/transfer.ts";
import { variantText } from "../../protocol/variant.ts";
import type { Holding, ItemPlace, RepairStore, StagedTree } from "../ports.ts";
import type { CatalogueEntry } from "./catalogue.ts";
import { type Holdings, holdingOf, pathOf } from "./holdings.ts";
import type { IndexFiles } from "./index-files.ts";
import type { ChunkPlace, JobPlace, PreparedChunks, SegmentDamage, TreeFault } from "./item-jobs.ts";
import type { ItemWorkers } from "./item-workers.ts";
import type { ObjectsCollector } from "./objects-collector.ts";
import type { RecoveryPlace } from "./recovery.ts";
import { deleteTree } from "./rez-files.ts";
import { cacheError, makeDirectory } from "./rez-guard.ts";
import type { Reservation, SpaceLedger } from "./space.ts";
import { syncFilesystem } from "./sync-filesystem.ts";
import type { VariantPlaces } from "./variant-places.ts";

export interface RepairParts {
  readonly place: RecoveryPlace;
  readonly holdings: Holdings;
  readonly workers: ItemWorkers;
  readonly space: SpaceLedger;
  readonly objects: ObjectsCollector;
  /** Once what a crash left has been cleared. */
  readonly tidied: () => Promise<void>;
  readonly indexFiles: Pick<IndexFiles, "mend">;
  readonly places: Pick<VariantPlaces, "isThere">;
  /** Compares a held tree with its manifest; one that is right counts again. */
  readonly verify: (hash: VariantHash, signal?: AbortSignal) => Promise<readonly TreeFault[]>;
}

/**
 * Makes held trees right again where they lie, and touches nothing of them that is right: programs may be running from
 * them. What is wrong is made beside and renamed over what is there (decision 0090).
 */
export class Repairs implements RepairStore {
  readonly #parts: RepairParts;

  constructor(parts: RepairParts) {
    this.#parts = parts;
  }

  async open(hash: VariantHash, record: ReleaseRecord): Promise<DamagedTree | undefined> {
    const { place, objects, workers, space, places } = this.#parts;
    await this.#parts.tidied();
    await this.#parts.indexFiles.mend(hash);
    const entry = place.catalogue.get(hash);
    if (entry === undefined || entry.payload !== record.payload || !places.isThere(entry)) return undefined;
    if (!lstatSync(pathOf(entry)).isDirectory()) return undefined;
    const letGo = objects.use(hash, record);
    const path = join(repairsPath(place), hash);
    try {
      await deleteTree(path);
      makeDirectory(join(path, "tree"));
      const at = { objectsPath: place.objectsPath, treePath: pathOf(entry) };
      const hashes = record.root.segments.map((segment) => segment.hash);
      const { objectsPath } = place;
      const right = await workers.do<"checkSegments">({ kind: "checkSegments", objectsPath, hashes });
      const end = async () => {
        letGo();
        // What stays is deleted by the next repair of it, or at the next opening.
        await deleteTree(path).catch((error: unknown) => place.onProblem(`${path} was not deleted: ${String(error)}`));
      };
      return new DamagedTree(record, { entry, at, path, workers, space, right, end });
    } catch (error) {
      letGo();
      throw cacheError(path, error);
    }
  }

  async mend(hash: VariantHash, tree: DamagedTree, signal?: AbortSignal): Promise<Holding> {
    const { place, holdings } = this.#parts;
    const what = variantText(tree.record.variant);
    const syncs = !(await isSynced(tree.path, signal));
    await holdings.change(hash, async () => {
      const now = place.catalogue.get(hash);
      if (now === undefined || now.payload !== tree.payload || pathOf(now) !== tree.treePath) {
        throw new BusyError(`${what} was replaced while it was repaired`);
      }
      await tree.moveIn(syncs).catch((error: unknown) => {
        throw cacheError(place.rez.path, error);
      });
    });
    // Where that is not possible, each change was synced by itself.
    if (!syncs) await isSynced(tree.treePath, signal);
    const [fault] = await this.#parts.verify(hash, signal);
    if (fault !== undefined) {
      throw new TreeDamagedError(`${what} is still damaged after its repair: ${fault.path} ${fault.fault}`);
    }
    return holdingOf(place.catalogue.get(hash) ?? tree.entry);
  }

  async leave(tree: DamagedTree): Promise<void> {
    await tree.end();
  }
}

/** Where the drafts of repairs lie; what a crash leaves there is of no more use. */
export function repairsPath({ rez }: Pick<RecoveryPlace, "rez">): string {
  return join(rez.ownPath, "repairs");
}

/** A held tree as something on its way in: what is right of it is stored. */
class DamagedTree implements StagedTree {
  readonly record: ReleaseRecord;
  readonly index: ItemIndex;
  readonly entry: CatalogueEntry;
  /** `.sys/p2pcache/repairs/<variant>`. */
  readonly path: string;
  readonly #at: JobPlace;
  readonly #workers: ItemWorkers;
  readonly #space: SpaceLedger;
  readonly #end: () => Promise<void>;
  readonly #segments = new Set<number>();
  readonly #work = new Set<Promise<unknown>>();
  #reservation: Reservation | undefined;
  #chunks: { readonly digests: Uint8Array; readonly groups: ReadonlyMap<number, readonly number[]> } | undefined;
  #damage: readonly SegmentDamage[] = [];
  /** What has not come yet. */
  readonly #missing = new Set<number>();

  constructor(
    record: ReleaseRecord,
    parts: {
      readonly entry: CatalogueEntry;
      readonly at: JobPlace;
      readonly path: string;
      readonly workers: ItemWorkers;
      readonly space: SpaceLedger;
      readonly right: Uint8Array;
      readonly end: () => Promise<void>;
    },
  ) {
    this.record = record;
    this.index = new ItemIndex(record.root);
    this.entry = parts.entry;
    this.path = parts.path;
    this.#at = parts.at;
    this.#workers = parts.workers;
    this.#space = parts.space;
    this.#end = parts.end;
    for (const [item, isRight] of parts.right.entries()) if (isRight === 1) this.#segments.add(item);
  }

  get payload(): PayloadId {
    return this.record.payload;
  }

  get root(): ManifestRoot {
    return this.record.root;
  }

  get treePath(): string {
    return this.#at.treePath;
  }

  storedSegments(): number[] {
    return [...this.#segments];
  }

  /** Looks at the whole tree, reserves room for what is made anew, and takes along what is right of large files. */
  async describe(signal?: AbortSignal): Promise<ChunkDescription> {
    const { rootBytes, attributes } = this.record;
    const job = { kind: "prepare", at: this.#at, rootBytes, externalLinks: attributes.externalLinks } as const;
    const prepared = await this.#workers.do<"prepare">({ ...job, makesTree: false });
    const groups = groupsOf(prepared);
    this.#chunks = { digests: prepared.digests, groups };
    await this.#look(signal);
    await this.#prepareDrafts(signal);
    const copiesOf = new Map(
      [...groups].filter(([first, [item]]) => first === item).map(([first, all]) => [first, all.slice(1)]),
    );
    const stored: number[] = [];
    for (let item = this.index.segments; item < this.index.items; item++) {
      // Items with the same bytes come together.
      if (!this.withCopies(item).some((each) => this.#missing.has(each))) stored.push(item);
    }
    return { sizesBytes: prepared.sizesBytes, copiesOf, stored };
  }

  hashOf(item: number): ChunkHash {
    if (item < this.index.segments) return this.root.segments[item]!.hash;
    assert(this.#chunks !== undefined, "a chunk is named once its payload was described");
    const at = (item - this.index.segments) * digestBytes;
    return hashFromBytes<"chunk">(this.#chunks.digests.subarray(at, at + digestBytes));
  }

  withCopies(item: number): readonly number[] {
    return this.#chunks?.groups.get(item) ?? [item];
  }

  placeOf(item: number): (() => Promise<ItemPlace>) | undefined {
    const { variant, inPlaceRoot: root } = this.record;
    if (root === undefined || item < this.index.segments) return undefined;
    return async () => {
      const ranges = await this.#workers.do<"rangesOf">({ kind: "rangesOf", at: this.#at, place: this.#placeOf(item) });
      return { repository: variant.repository, root, ranges };
    };
  }

  async put(item: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const work = item < this.index.segments ? this.#putSegment(item, bytes) : this.#putChunk(item, bytes);
    this.#work.add(work);
    await work.finally(() => this.#work.delete(work));
  }

  /** All that was wrong takes its place in the tree. */
  async moveIn(syncs: boolean): Promise<void> {
    assert(this.#chunks !== undefined, "what is moved in was described");
    if (this.#missing.size > 0)
      throw new TreeDamagedError(`${this.#missing.size} items of ${this.payload} are missing`);
    const asPlaced = this.entry.isAdopted !== true;
    const files = this.#files();
    for (const { hash: segment } of this.root.segments) {
      const drafts = { at: this.#at, segment, draftsPath: this.#draftsPath };
      await this.#workers.do<"mendSegment">({ kind: "mendSegment", ...drafts, files, asPlaced, syncs });
    }
    const { rootBytes } = this.record;
    // What programs wrote beside the files of a copy that Rez made is not ours to judge.
    if (asPlaced) await this.#workers.do<"mendNames">({ kind: "mendNames", at: this.#at, rootBytes });
  }

  async end(): Promise<void> {
    await Promise.allSettled([...this.#work]);
    this.#reservation?.release();
    await this.#end();
  }

  get #draftsPath(): string {
    return join(this.path, "tree");
  }

  async #look(signal: AbortSignal | undefined): Promise<void> {
    const damage: SegmentDamage[] = [];
    for (const [i, { hash: segment }] of this.root.segments.entries()) {
      signal?.throwIfAborted();
      const found = await this.#workers.do<"findDamage">({ kind: "findDamage", at: this.#at, segment });
      damage.push(found);
      for (const chunk of found.chunks) this.#missing.add(this.index.firstChunkItem(i) + chunk);
    }
    this.#damage = damage;
  }

  async #prepareDrafts(signal: AbortSignal | undefined): Promise<void> {
    const files = this.#files();
    if (files.length === 0) return;
    const jobs = this.root.segments.map(({ hash: segment }, i) => {
      return { at: this.#at, segment, draftsPath: this.#draftsPath, chunks: this.#damage[i]!.chunks, files } as const;
    });
    let bytes = 0;
    for (const job of jobs) bytes += await this.#workers.do<"measureDrafts">({ kind: "measureDrafts", ...job });
    const need = { bytes, totalBytes: bytes, inodes: 2 * files.length };
    this.#reservation = await this.#space.reserve(`the repair of ${variantText(this.record.variant)}`, need);
    for (const job of jobs) {
      signal?.throwIfAborted();
      await this.#workers.do<"prepareDrafts">({ kind: "prepareDrafts", ...job });
    }
  }

  #files(): string[] {
    return [...new Set(this.#damage.flatMap(({ files }) => files))];
  }

  async #putSegment(item: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.#segments.has(item)) return;
    const { objectsPath } = this.#at;
    const job = { kind: "storeSegment", objectsPath, hash: this.hashOf(item), bytes } as const;
    await this.#workers.do<"storeSegment">(job, { transfer: [bytes.buffer] });
    this.#segments.add(item);
  }

  async #putChunk(item: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const items = this.withCopies(item).filter((each) => this.#missing.has(each));
    if (items.length === 0) return;
    const places = items.map((each) => this.#placeOf(each));
    const at = { ...this.#at, treePath: this.#draftsPath };
    await this.#workers.do<"storeChunk">({ kind: "storeChunk", at, places, bytes }, { transfer: [bytes.buffer] });
    for (const each of items) this.#missing.delete(each);
  }

  #placeOf(item: number): ChunkPlace {
    const { segment, chunk } = this.index.locate(item);
    return { segment: this.root.segments[segment]!.hash, chunk };
  }
}

export type { DamagedTree };

/** Items with the same bytes, in order, for each of them. */
function groupsOf({ copies }: PreparedChunks): Map<number, number[]> {
  const groups = new Map<number, number[]>();
  for (let i = 0; i < copies.length; i += 2) {
    const [first, copy] = [copies[i]!, copies[i + 1]!];
    const group = groups.get(first) ?? [first];
    group.push(copy);
    groups.set(first, group);
    groups.set(copy, group);
  }
  return groups;
}

/** Whether what was written lasts through a power cut. @throws the signal's reason. */
async function isSynced(path: string, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    await syncFilesystem(path, signal);
    return true;
  } catch {
    signal?.throwIfAborted();
    return false;
  }
}
