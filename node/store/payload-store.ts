import { statSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Bitmap } from "../../protocol/bitmap.ts";
import { assert, ChunkMissingError, TreeDamagedError } from "../../protocol/errors.ts";
import type { Hasher, PayloadId, VariantHash } from "../../protocol/hash.ts";
import { ItemIndex } from "../../protocol/manifest.ts";
import { decodeEnvelope, decodeRecord, type ReleaseRecord } from "../../protocol/record.ts";
import { type RezHandle, rezHandle } from "../../protocol/rez-handle.ts";
import { type Variant, variantText } from "../../protocol/variant.ts";
import type { Clock, CommitResult, FetchStore, Holding, ServedPayload } from "../ports.ts";
import { Catalogue, type CatalogueEntry } from "./catalogue.ts";
import type { TreeFault } from "./item-jobs.ts";
import { ItemWorkers } from "./item-workers.ts";
import { CacheOwner, readBootId } from "./owner.ts";
import { loadRecord, storeRecord, writeDurably } from "./record-objects.ts";
import { checkEntries, recoverStore } from "./recovery.ts";
import { type Placement, RezCache } from "./rez-cache.ts";
import type { LockTiming } from "./rez-lock.ts";
import { type DiskSpace, readDiskSpace, SpaceLedger, type SpaceLimits } from "./space.ts";
import { loadItem, StagedPayload } from "./staged-payload.ts";

export interface StoreOptions {
  readonly cachePath: string;
  readonly statePath: string;
  readonly limits: SpaceLimits;
  /** Permission bits of Rez's index files. */
  readonly indexMode: number;
  readonly clock: Clock;
  readonly hasher: Hasher;
  /** The real path of each repository on this machine, by id. */
  readonly repositories: ReadonlyMap<string, string>;
  readonly lock?: LockTiming;
  readonly readSpace?: (path: string) => Promise<DiskSpace>;
}

/**
 * What this machine has on its own disk: trees on their way in, and trees where Rez finds them, which are also what
 * peers are served from (DESIGN section 5). One process opens a cache at a time.
 */
export class PayloadStore implements FetchStore, AsyncDisposable {
  readonly #options: StoreOptions;
  readonly #rez: RezCache;
  readonly #owners: readonly CacheOwner[];
  readonly #catalogue: Catalogue;
  readonly #workers: ItemWorkers;
  readonly #space: SpaceLedger;
  readonly #objectsPath: string;
  readonly #stagingPath: string;
  readonly #staged = new Map<PayloadId, StagedPayload>();
  readonly #damaged = new Set<VariantHash>();
  /** Placed before an unclean boot: neither served nor announced until checked. */
  readonly #unsure = new Set<VariantHash>();
  /** Called when a holding is found damaged or gone. */
  onLost: (variant: VariantHash, fault: string) => void = () => undefined;

  private constructor(
    options: StoreOptions,
    parts: { rez: RezCache; owners: CacheOwner[]; catalogue: Catalogue; workers: ItemWorkers },
  ) {
    this.#options = options;
    this.#rez = parts.rez;
    this.#owners = parts.owners;
    this.#catalogue = parts.catalogue;
    this.#workers = parts.workers;
    this.#objectsPath = join(parts.rez.ownPath, "objects");
    this.#stagingPath = join(parts.rez.ownPath, "staging");
    const readSpace = options.readSpace ?? readDiskSpace;
    this.#space = new SpaceLedger(
      options.limits,
      () => readSpace(parts.rez.path),
      () => parts.catalogue.bytes,
    );
  }

  /**
   * Opens cache and state as their one owner, and ends what a crash left half done.
   * @throws {BusyError} CACHE_IN_USE; {UnusableError} naming what cannot be written.
   */
  static async open(options: StoreOptions): Promise<PayloadStore> {
    await using opened = new AsyncDisposableStack();
    const rez = RezCache.open(options.cachePath, options.lock === undefined ? {} : { lock: options.lock });
    await mkdir(options.statePath, { recursive: true, mode: 0o700 });
    const owners = [join(rez.ownPath, "owner"), join(options.statePath, "owner")].map((path) => {
      const owner = CacheOwner.claim(path);
      opened.defer(() => owner.release());
      return owner;
    });
    const catalogue = opened.use(await Catalogue.open(join(options.statePath, "index")));
    const workers = opened.use(ItemWorkers.open());
    const store = new PayloadStore(options, { rez, owners, catalogue, workers });
    await mkdir(store.#stagingPath, { recursive: true, mode: 0o700 });
    await recoverStore({
      rez,
      catalogue,
      objectsPath: store.#objectsPath,
      stagingPath: store.#stagingPath,
      ...options,
    });
    for (const entry of catalogue.all()) {
      const boot = entry.unsureSinceBoot;
      if (boot !== undefined && boot !== readBootId()) store.#unsure.add(entry.hash);
    }
    opened.move();
    return store;
  }

  get cachePath(): string {
    return this.#rez.path;
  }

  /** Bytes of all payloads held. */
  get bytes(): number {
    return this.#catalogue.bytes;
  }

  /** The node's next announcement epoch. */
  nextEpoch(): Promise<number> {
    return this.#catalogue.nextEpoch(this.#options.clock.wallMs());
  }

  knowsRepository(repository: string): boolean {
    return this.#options.repositories.has(repository);
  }

  foreign(variant: Variant): { readonly path: string; readonly state: string } | undefined {
    const handle = this.#handleOf(variant);
    const found = handle === undefined ? undefined : this.#rez.locate(handle);
    if (found === undefined || found.kind === "absent" || found.ours) return undefined;
    return { path: found.rootPath, state: found.kind };
  }

  /** Everything that is held, damaged or not. */
  holdings(): Holding[] {
    return this.#catalogue.all().map((entry) => this.#holding(entry));
  }

  /** A held variant whose tree is where it should be. */
  holding(variant: VariantHash): Holding | undefined {
    const entry = this.#catalogue.get(variant);
    return entry === undefined ? undefined : this.#holding(entry);
  }

  /** What may be announced: held, and neither damaged nor unsure. */
  announced(): (readonly [VariantHash, PayloadId])[] {
    return this.#catalogue
      .all()
      .filter(({ hash }) => !this.#damaged.has(hash) && !this.#unsure.has(hash))
      .map(({ hash, payload }) => [hash, payload] as const);
  }

  /** The envelope of a variant that is held or on its way in. */
  record(variant: VariantHash): Promise<Uint8Array | undefined> {
    return loadRecord(this.#objectsPath, variant);
  }

  /**
   * Reserves room for a payload and makes its staging tree, or takes up an earlier one.
   * @throws {NoSpaceError} before anything is written.
   */
  async stage(hash: VariantHash, record: ReleaseRecord, envelope: Uint8Array): Promise<StagedPayload> {
    const { root, payload } = record;
    const need = { bytes: root.bytes, totalBytes: root.bytes, inodes: root.entries + root.segments.length };
    const reservation = await this.#space.reserve(variantText(record.variant), need);
    try {
      await storeRecord(this.#objectsPath, hash, envelope);
      const parts = { workers: this.#workers, objectsPath: this.#objectsPath, reservation };
      const staged = await StagedPayload.open(record, join(this.#stagingPath, payload), parts);
      this.#staged.set(payload, staged);
      return staged;
    } catch (error) {
      reservation.release();
      throw error;
    }
  }

  /** Ends work on a staged payload; what was verified stays for the next try. */
  async leave(staged: StagedPayload): Promise<void> {
    if (this.#staged.get(staged.record.payload) === staged) this.#staged.delete(staged.record.payload);
    await staged[Symbol.asyncDispose]();
  }

  /**
   * Puts a complete staged tree where Rez finds it, and records the holding.
   * @throws {BusyError} REZ_LOCK_HELD, with the tree kept in staging.
   */
  async commit(hash: VariantHash, staged: StagedPayload, signal?: AbortSignal): Promise<CommitResult> {
    const { record } = staged;
    const handle = this.#handleOf(record.variant);
    assert(handle !== undefined, "what is committed was asked for by a configured repository");
    await staged.finish();
    // An earlier revision, or a damaged tree: never mended in place, since programs may be running from it.
    await this.remove(hash);
    const placement = this.#placement(hash, handle, staged);
    const result = await this.#rez.place({
      ...placement,
      ...(signal === undefined ? {} : { signal }),
      onIntent: (spot) => writeDurably(join(staged.path, "intent.json"), JSON.stringify({ hash, spot, placement })),
    });
    if (result.kind === "taken") {
      const isSame = result.found.ours && result.found.payload === record.payload;
      if (!isSame) {
        await this.#throwAway(staged);
        return { kind: "taken", path: result.found.rootPath };
      }
    }
    const spot =
      result.kind === "placed" ? { directory: join(result.path, ".."), suffix: result.suffix } : result.found;
    const entry = this.#entry(hash, record, spot);
    await this.#catalogue.put(entry);
    this.#damaged.delete(hash);
    this.#unsure.delete(hash);
    await this.#throwAway(staged);
    return { kind: "placed", holding: this.#holding(entry) };
  }

  /** Something that peers may be served from; undefined when nothing of this payload is here. */
  async serve(payload: PayloadId): Promise<ServedPayload | undefined> {
    const staged = this.#staged.get(payload);
    if (staged !== undefined) {
      const load = (item: number) => this.#load(payload, staged.record, item);
      return { index: staged.index, root: staged.record.root, have: () => staged.have, load };
    }
    const entry = this.#catalogue.byPayload(payload);
    if (entry === undefined || this.#damaged.has(entry.hash) || this.#unsure.has(entry.hash)) return undefined;
    const record = await this.#heldRecord(entry);
    if (record === undefined) return undefined;
    const load = (item: number) => this.#load(payload, record, item);
    const have = (): Bitmap | "all" => "all";
    return { index: new ItemIndex(record.root), root: record.root, have, load };
  }

  /** Compares a held tree with its manifest, bytes and all. */
  async verify(variant: VariantHash): Promise<readonly TreeFault[]> {
    const entry = this.#catalogue.get(variant);
    const record = entry === undefined ? undefined : await this.#heldRecord(entry);
    if (entry === undefined || record === undefined) {
      return [{ path: "", fault: "its release record has gone from this disk" }];
    }
    const at = { objectsPath: this.#objectsPath, treePath: join(entry.directory, entry.suffix) };
    const faults = await this.#workers
      .do<"verify">({ kind: "verify", at, rootBytes: record.rootBytes })
      .catch((error: Error) => [{ path: "", fault: error.message }]);
    if (faults.length > 0) this.#lose(variant, `${faults[0]!.path} ${faults[0]!.fault}`);
    else await this.#makeSure(entry);
    return faults;
  }

  /** Checks what was placed before an unclean boot; it is announced only then. */
  async verifyUnsure(): Promise<void> {
    for (const variant of [...this.#unsure]) await this.verify(variant);
  }

  /** When Rez, or we, used a held variant last: the time of its index file (REZ.md section 7). */
  lastUsed(variant: VariantHash): Date | undefined {
    const entry = this.#catalogue.get(variant);
    if (entry === undefined) return undefined;
    return statSync(`${join(entry.directory, entry.suffix)}.json`, { throwIfNoEntry: false })?.mtime;
  }

  /** What the catalogue says against what the cache shows. Nothing is hashed. */
  async check(): Promise<{ readonly checked: number; readonly faults: readonly string[] }> {
    const entries = this.#catalogue.all();
    const faults = checkEntries(this.#rez, entries);
    for (const entry of entries) {
      if ((await this.#heldRecord(entry)) === undefined)
        faults.push(`${variantText(entry.variant)}: its release record has gone`);
    }
    return { checked: entries.length, faults };
  }

  /** Whether a held variant was found damaged. */
  isDamaged(variant: VariantHash): boolean {
    return this.#damaged.has(variant);
  }

  /** Removes a held variant from the disk, the way Rez does. */
  async remove(variant: VariantHash): Promise<void> {
    const entry = this.#catalogue.get(variant);
    if (entry === undefined) return;
    const handle = this.#handleOf(entry.variant);
    const found = handle === undefined ? undefined : this.#rez.locate(handle);
    if (found !== undefined && found.kind !== "absent" && found.ours) await this.#rez.remove(found);
    await this.#catalogue.remove(variant);
    this.#damaged.delete(variant);
    this.#unsure.delete(variant);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const staged of [...this.#staged.values()]) await this.leave(staged);
    for (const entry of this.#catalogue.all()) if (!this.#unsure.has(entry.hash)) await this.#makeSure(entry);
    await this.#workers[Symbol.asyncDispose]();
    await this.#catalogue[Symbol.asyncDispose]();
    for (const owner of this.#owners) owner.release();
  }

  /** Reads an item from wherever its tree lies now: a commit may move it between two tries. */
  async #load(payload: PayloadId, record: ReleaseRecord, item: number): Promise<Uint8Array<ArrayBuffer>> {
    const staged = this.#staged.get(payload);
    if (staged !== undefined) {
      try {
        return await staged.load(item);
      } catch (error) {
        if (this.#catalogue.byPayload(payload) === undefined) throw error;
      }
    }
    const entry = this.#catalogue.byPayload(payload);
    if (entry === undefined) throw new ChunkMissingError(`${payload} is no longer here`);
    const index = new ItemIndex(record.root);
    const segment = record.root.segments[item < index.segments ? item : index.locate(item).segment]!;
    const at = { objectsPath: this.#objectsPath, treePath: join(entry.directory, entry.suffix) };
    try {
      return await loadItem(this.#workers, at, segment.hash, item, index);
    } catch (error) {
      if (error instanceof ChunkMissingError || error instanceof TreeDamagedError)
        this.#lose(entry.hash, error.message);
      throw error;
    }
  }

  #lose(variant: VariantHash, fault: string): void {
    if (this.#damaged.has(variant)) return;
    this.#damaged.add(variant);
    this.onLost(variant, fault);
  }

  async #heldRecord(entry: CatalogueEntry): Promise<ReleaseRecord | undefined> {
    const envelope = await loadRecord(this.#objectsPath, entry.hash);
    if (envelope === undefined) return undefined;
    try {
      // Its signature was checked when it was staged; its root is checked against the payload that we hold.
      const record = decodeRecord(decodeEnvelope(envelope).body, this.#options.hasher);
      return record.payload === entry.payload ? record : undefined;
    } catch {
      return undefined;
    }
  }

  /** Rez's handle of a variant on this machine; undefined where its repository is not configured. */
  #handleOf(variant: Variant): RezHandle | undefined {
    const location = this.#options.repositories.get(variant.repository);
    return location === undefined ? undefined : rezHandle(variant, location);
  }

  #placement(hash: VariantHash, handle: RezHandle, staged: StagedPayload): Placement {
    return {
      handle,
      variantRequires: staged.record.attributes.variantRequires,
      p2pcache: { payload: staged.record.payload, variant: hash },
      indexMode: this.#options.indexMode,
      tree: staged.treePath,
    };
  }

  #entry(hash: VariantHash, record: ReleaseRecord, spot: { directory: string; suffix: string }): CatalogueEntry {
    const { variant, payload, revision, root } = record;
    const { directory, suffix } = spot;
    const unsureSinceBoot = readBootId();
    return {
      variant,
      hash,
      payload,
      revision,
      directory,
      suffix,
      bytes: root.bytes,
      files: root.files,
      unsureSinceBoot,
    };
  }

  async #makeSure(entry: CatalogueEntry): Promise<void> {
    this.#unsure.delete(entry.hash);
    if (entry.unsureSinceBoot === undefined) return;
    const { unsureSinceBoot: _, ...sure } = entry;
    await this.#catalogue.put(sure);
  }

  async #throwAway(staged: StagedPayload): Promise<void> {
    await this.leave(staged);
    await rm(staged.path, { recursive: true, force: true });
  }

  #holding(entry: CatalogueEntry): Holding {
    const { hash, payload, bytes, files, directory, suffix } = entry;
    const path = join(directory, suffix);
    return {
      variant: hash,
      payload,
      text: variantText(entry.variant),
      name: entry.variant.name,
      version: entry.variant.version,
      path,
      bytes,
      files,
    };
  }
}
