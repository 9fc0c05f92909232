import { join } from "node:path";
import type { Bitmap } from "../../protocol/bitmap.ts";
import { ChunkMissingError, TreeDamagedError } from "../../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../../protocol/hash.ts";
import { ItemIndex } from "../../protocol/manifest.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import { type Variant, variantText } from "../../protocol/variant.ts";
import type { CommitResult, FetchStore, Holding, ServedPayload } from "../ports.ts";
import { Adoption } from "./adoption.ts";
import { Bookkeeping } from "./bookkeeping.ts";
import { Catalogue, type CatalogueEntry } from "./catalogue.ts";
import { loadItem, verifyHeldTree } from "./held-tree.ts";
import { Holdings, holdingOf, pathOf } from "./holdings.ts";
import { IndexFiles } from "./index-files.ts";
import type { JobPlace, TreeFault } from "./item-jobs.ts";
import { ItemWorkers } from "./item-workers.ts";
import { ObjectsCollector } from "./objects-collector.ts";
import { CacheOwner } from "./owner.ts";
import { placeTree } from "./placing.ts";
import { loadRecord, RecordKeeper } from "./record-objects.ts";
import { endIntent, entryOf, type RecoveryPlace, recoverStore } from "./recovery.ts";
import { beingCopied, leasedBy, type RemoveOptions, takeOut, tidy } from "./removal.ts";
import { Repairs } from "./repairs.ts";
import { Retention } from "./retention.ts";
import { type Found, RezCache } from "./rez-cache.ts";
import { cacheError, closeToOthers, makeDirectory } from "./rez-guard.ts";
import { Scrub } from "./scrub.ts";
import { readDiskSpace, SpaceLedger } from "./space.ts";
import type { StagedPayload } from "./staged-payload.ts";
import { type MakeRoom, Staging } from "./staging.ts";
import type { StoreOptions } from "./store-options.ts";
import { VariantPlaces } from "./variant-places.ts";

/**
 * What this machine has on its own disk: trees on their way in, and trees where Rez finds them, which are also what
 * peers are served from (DESIGN section 5). One process opens a cache at a time.
 */
export class PayloadStore implements FetchStore, AsyncDisposable {
  readonly adoption: Adoption;
  readonly bookkeeping: Bookkeeping;
  readonly repairs: Repairs;
  readonly scrub: Scrub;
  /** When what is held was used, and who wants it kept. */
  readonly retention: Retention;
  readonly #options: StoreOptions;
  readonly #place: RecoveryPlace;
  readonly #rez: RezCache;
  readonly #places: VariantPlaces;
  readonly #owners: readonly CacheOwner[];
  readonly #catalogue: Catalogue;
  readonly #holdings: Holdings;
  readonly #records: RecordKeeper;
  readonly #workers: ItemWorkers;
  readonly space: SpaceLedger;
  readonly #staging: Staging;
  readonly #objects: ObjectsCollector;
  readonly #indexFiles: IndexFiles;
  readonly #closing = new AbortController();
  readonly #commits = new Map<PayloadId, Promise<void>>();
  /** How to let go of the objects of what is on its way in. */
  readonly #uses = new WeakMap<StagedPayload, () => void>();
  /** Deletes behind the scenes what a crash left of removals; nothing else is deleted meanwhile. */
  #tidied: Promise<void> = Promise.resolve();

  private constructor(
    options: StoreOptions,
    parts: {
      readonly place: RecoveryPlace;
      readonly owners: CacheOwner[];
      readonly workers: ItemWorkers;
      readonly strangers: ReadonlySet<PayloadId>;
      readonly retention: Retention;
    },
  ) {
    const { place } = parts;
    this.retention = parts.retention;
    this.#options = options;
    this.#place = place;
    this.#rez = place.rez;
    this.#places = new VariantPlaces(place.rez, options.repositories);
    this.#owners = parts.owners;
    this.#catalogue = place.catalogue;
    this.#holdings = new Holdings(place);
    this.#objects = new ObjectsCollector({ ...place, strangers: parts.strangers });
    this.#records = new RecordKeeper({ ...options, ...place });
    this.#workers = parts.workers;
    this.#staging = new Staging({ path: place.stagingPath, objectsPath: place.objectsPath, workers: parts.workers });
    const readSpace = options.readSpace ?? readDiskSpace;
    const usedBytes = () => place.catalogue.bytes + this.#staging.leftBytes;
    const [read, count] = [() => readSpace(place.rez.path), () => place.catalogue.all().length];
    this.space = new SpaceLedger(options.limits, read, usedBytes, count);
    const [holdings, workers, space, objects] = [this.#holdings, this.#workers, this.space, this.#objects];
    const [find, keep] = [(variant: Variant) => this.#places.foreign(variant), this.noteRecord.bind(this)];
    const unlessOutdated = this.#records.unlessOutdated.bind(this.#records);
    this.adoption = new Adoption({ place, holdings, workers, space, objects, find, keep, unlessOutdated });
    const [tidied, verify] = [() => this.#tidied, this.verify.bind(this)];
    this.#indexFiles = new IndexFiles(place, holdings);
    const shared = { place, holdings, workers, objects, places: this.#places, indexFiles: this.#indexFiles };
    this.repairs = new Repairs({ ...shared, space, tidied, verify });
    const checkUnsure = this.verifyUnsure.bind(this);
    this.bookkeeping = new Bookkeeping({ ...shared, checkUnsure });
    const positionPath = join(options.statePath, "scrub.json");
    this.scrub = new Scrub({ ...shared, objectsPath: place.objectsPath, positionPath, verify });
  }

  /**
   * Opens cache and state as their one owner, and ends what a crash left half done.
   * @throws {BusyError} CACHE_IN_USE; {UnusableError} naming what cannot be written.
   */
  static async open(options: StoreOptions): Promise<PayloadStore> {
    await using opened = new AsyncDisposableStack();
    const { statePath, onProblem = () => undefined } = options;
    const wallMs = () => options.clock.wallMs();
    const rez = RezCache.open(options.cachePath, { wallMs, lock: options.lock });
    closeToOthers(statePath);
    const owners = [join(rez.ownPath, "owner"), join(statePath, "owner")].map((path) => {
      const owner = CacheOwner.claim(path);
      opened.defer(() => owner.release());
      return owner;
    });
    const catalogue = opened.use(await Catalogue.open(join(statePath, "index"), { onProblem }));
    const workers = options.workers ?? opened.use(ItemWorkers.open());
    const [objectsPath, stagingPath] = [join(rez.ownPath, "objects"), join(rez.ownPath, "staging")];
    makeDirectory(stagingPath);
    const place = { ...options, rez, catalogue, objectsPath, stagingPath, onProblem };
    const strangers = await recoverStore(place);
    const retention = await Retention.open(catalogue, onProblem);
    const store = new PayloadStore(options, { place, owners, workers, strangers, retention });
    store.#tidied = tidy(place, store.#objects, store.#closing.signal);
    opened.move();
    return store;
  }

  /** Called when a holding is found damaged or gone. */
  set onLost(listener: (variant: VariantHash, fault: string) => void) {
    this.#holdings.onLost = listener;
  }

  /** Called where a fetch finds no room, and nothing of other fetches was left to delete. */
  set makeRoom(makeRoom: MakeRoom) {
    this.#staging.makeRoom = makeRoom;
  }

  get cachePath(): string {
    return this.#rez.path;
  }

  /** Bytes of all payloads held. */
  get bytes(): number {
    return this.#catalogue.bytes;
  }

  /** The node's next announcement epoch. */
  nextEpoch(least: number = this.#options.clock.wallMs()): Promise<number> {
    return this.#catalogue.nextEpoch(least);
  }

  knowsRepository(repository: string): boolean {
    return this.#options.repositories.has(repository);
  }

  foreign(variant: Variant): { readonly path: string; readonly state: string } | undefined {
    const found = this.#places.foreign(variant);
    return found === undefined ? undefined : { path: found.rootPath, state: found.kind };
  }

  /** Everything that is held, damaged or not. */
  holdings(): Holding[] {
    return this.#catalogue.all().map(holdingOf);
  }

  /** A held variant whose tree is where it should be. */
  holding(variant: VariantHash): Holding | undefined {
    const entry = this.#catalogue.get(variant);
    if (entry === undefined) return undefined;
    if (this.#holdings.isLeaving(variant)) return undefined;
    if (this.#places.isThere(entry)) return holdingOf(entry);
    if (this.#indexFiles.isRotten(entry)) void this.#indexFiles.mend(variant);
    else void this.#holdings.lose(entry, `${pathOf(entry)} has gone`);
    return undefined;
  }

  /** What may be announced: held, and neither damaged nor unsure. */
  announced(): (readonly [VariantHash, PayloadId])[] {
    return this.#holdings.sound().map(({ hash, payload }) => [hash, payload] as const);
  }

  /** The newest envelope of a variant that is kept; "held": the one before it, while that is the one by which it is held. */
  record(variant: VariantHash, which: "newest" | "held" = "newest"): Promise<Uint8Array | undefined> {
    return loadRecord(this.#place.objectsPath, variant, which);
  }

  /**
   * Keeps the newest record of a variant, durably, also one that takes back what is held (P6).
   * @throws {NotTrustedError} RECORD_OUTDATED when a higher revision is kept already.
   */
  noteRecord(hash: VariantHash, envelope: Uint8Array): Promise<void> {
    this.#objects.touch(hash);
    return this.#records.keep(hash, envelope, () => this.#catalogue.get(hash));
  }

  /**
   * Reserves room for a payload and makes its staging tree, or takes up an earlier one. While another transfer works on
   * the same payload, waits until that one leaves it.
   * @throws {NoSpaceError} before anything is written; {BusyError} LEASED, or when an earlier commit cannot be ended.
   */
  async stage(
    hash: VariantHash,
    record: ReleaseRecord,
    envelope: Uint8Array,
    signal?: AbortSignal,
  ): Promise<StagedPayload> {
    const letGo = this.#objects.use(hash, record);
    const prepare = async () => {
      await endIntent(this.#place, this.#staging.pathOf(record.payload), signal);
      await this.noteRecord(hash, envelope);
    };
    try {
      // Before room is made for it, which costs others their place.
      await this.#records.unlessOutdated(hash, record, async () => undefined);
      const held = this.#catalogue.get(hash);
      if (held !== undefined && this.#places.isThere(held)) this.#mayReplace(held);
      const isNew = this.#catalogue.get(hash) === undefined;
      const staged = await this.#staging.open(record, this.space, { prepare, signal, isNew });
      // The record that names its segments may be replaced by a later one while it comes in.
      this.#uses.set(staged, letGo);
      return staged;
    } catch (error) {
      letGo();
      throw cacheError(this.#rez.path, error);
    }
  }

  /** Ends work on a staged payload; what was verified stays for the next try. */
  async leave(staged: StagedPayload): Promise<void> {
    await this.#staging.leave(staged);
    this.#uses.get(staged)?.();
  }

  /**
   * Puts a complete staged tree where Rez finds it, and records the holding, in the place of what was held before.
   * @throws {BusyError} REZ_LOCK_HELD or LEASED, with the tree kept in staging and what was held before as it was; {NotTrustedError}
   * RECORD_OUTDATED when a later record was seen since it was staged; {UsageError} REPOSITORY_NOT_CONFIGURED.
   */
  async commit(hash: VariantHash, staged: StagedPayload, signal?: AbortSignal): Promise<CommitResult> {
    const { payload } = staged;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#commits.set(payload, promise);
    try {
      const result = await this.#commit(hash, staged, signal);
      this.#uses.get(staged)?.();
      return result;
    } catch (error) {
      throw cacheError(this.#rez.path, error);
    } finally {
      this.#commits.delete(payload);
      resolve();
    }
  }

  /** Something that peers may be served from; undefined when nothing of this payload is here. */
  async serve(payload: PayloadId): Promise<ServedPayload | undefined> {
    const staged = this.#staging.get(payload);
    if (staged !== undefined) {
      const load = (item: number) => this.#load(payload, staged.record, item);
      const { index, record, have } = staged;
      return { index, root: record.root, have: () => have, sizeOf: (item) => staged.sizeOf(item), load };
    }
    const entry = this.#holdings.soundWith(payload);
    const record = entry === undefined ? undefined : await this.#holdings.record(entry);
    if (entry === undefined || record === undefined) return undefined;
    const load = (item: number) => this.#load(payload, record, item);
    const have = (): Bitmap | "all" => "all";
    return { index: new ItemIndex(record.root), root: record.root, have, load };
  }

  /** Compares a held tree with its manifest, bytes and all. A signal ends it with nothing changed. */
  async verify(variant: VariantHash, signal?: AbortSignal): Promise<readonly TreeFault[]> {
    const entry = this.#catalogue.get(variant);
    const record = entry === undefined ? undefined : await this.#holdings.record(entry);
    if (entry === undefined || record === undefined) {
      return [{ path: "", item: null, fault: "its release record has gone from this disk" }];
    }
    const options = { asPlaced: entry.isAdopted !== true, signal };
    const faults = await verifyHeldTree(this.#workers, this.#jobPlace(entry), record, options);
    signal?.throwIfAborted();
    if (this.#catalogue.get(variant) !== entry || this.#holdings.isLeaving(variant)) return []; // Gone meanwhile.
    if (faults.length > 0) await this.#holdings.lose(entry, `${faults[0]!.path} ${faults[0]!.fault}`);
    else await this.#holdings.makeSure(entry);
    return faults;
  }

  /** Checks what was placed before an unclean boot; it is announced only then. Never rejects. */
  async verifyUnsure(): Promise<void> {
    await this.#holdings.checkUnsure((variant) => this.verify(variant), this.#closing.signal);
  }

  /** One line for all that is wrong with the bookkeeping. */
  async check(): Promise<{ readonly checked: number; readonly faults: readonly string[] }> {
    const { checked, faults } = await this.bookkeeping.check();
    return { checked, faults };
  }

  /** Whether a held variant was found damaged. */
  isDamaged(variant: VariantHash): boolean {
    return this.#holdings.isDamaged(variant);
  }

  /**
   * Removes a held variant from the disk, the way Rez does, and then what only it named. From its first step on nobody
   * is served from it; `onHidden` is called then, so that peers hear of it before anything goes. A commit of the variant
   * that is under way is waited for. Answers what was held.
   * @throws {BusyError} REZ_LOCK_HELD, or BUSY while somebody writes beside it: it stays held.
   */
  async remove(variant: VariantHash, options: RemoveOptions = {}): Promise<Holding | undefined> {
    await this.#tidied;
    // By it its tree is found.
    await this.#indexFiles.mend(variant, options.signal);
    const removed = await this.#holdings.remove(variant, async (entry) => {
      options.onHidden?.();
      await takeOut(this.#rez, entry, options.signal);
    });
    if (removed === undefined) return undefined;
    await this.#objects.collect().catch((error: unknown) => this.#place.onProblem(String(error)));
    return holdingOf(removed);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await using closing = new AsyncDisposableStack();
    for (const owner of this.#owners) closing.use(owner);
    closing.use(this.#catalogue);
    if (this.#options.workers === undefined) closing.use(this.#workers);
    await this.#staging.leaveAll();
    for (const entry of this.#holdings.sound()) await this.#holdings.makeSure(entry);
    await this.#tidied;
  }

  async #commit(hash: VariantHash, staged: StagedPayload, signal: AbortSignal | undefined): Promise<CommitResult> {
    const { record } = staged;
    const handle = this.#places.handleFor(record.variant);
    await staged.finish(signal);
    await this.#tidied;
    await this.#indexFiles.mend(hash, signal);
    let taken: Found | undefined;
    const replaces = () => this.#mayReplace({ hash, variant: record.variant });
    const place = async () => {
      const result = await placeTree(this.#place, staged, { hash, handle, signal, replaces });
      if (result.kind === "placed") return entryOf(hash, record, { directory: join(result.path, ".."), ...result });
      taken = result.found;
      return undefined;
    };
    const entry = await this.#records.unlessOutdated(hash, record, () => this.#holdings.replace(hash, place));
    if (entry === undefined) return await this.#leaveTaken(hash, staged, taken!);
    // Its intent goes last with it: a crash before leads to the same end.
    await this.#staging.throwAway(staged).catch((error: unknown) => this.#place.onProblem(String(error)));
    return { kind: "placed", holding: holdingOf(entry) };
  }

  /** A tree goes when another takes its place, but not from under a program. @throws {BusyError} LEASED. */
  #mayReplace({ hash, variant }: Pick<CatalogueEntry, "hash" | "variant">): true {
    const by = this.retention.runnerOf(hash);
    if (by === undefined) return true;
    throw leasedBy(`the tree of ${variantText(variant)} that is to be replaced`, by);
  }

  async #leaveTaken(hash: VariantHash, staged: StagedPayload, found: Found): Promise<CommitResult> {
    if (found.ours) throw beingCopied(found.rootPath);
    await this.#staging.throwAway(staged);
    const before = this.#catalogue.get(hash);
    if (before !== undefined && !this.#places.isThere(before)) await this.#holdings.forget(hash);
    return { kind: "taken", path: found.rootPath };
  }

  /** Reads an item from wherever its tree lies now: a commit may move it between two tries. */
  async #load(payload: PayloadId, record: ReleaseRecord, item: number): Promise<Uint8Array<ArrayBuffer>> {
    const staged = this.#staging.get(payload);
    if (staged !== undefined) {
      try {
        return await staged.load(item);
      } catch (error) {
        await this.#commits.get(payload);
        if (this.#holdings.soundWith(payload) === undefined) throw error;
      }
    }
    const entry = this.#holdings.soundWith(payload);
    if (entry === undefined) throw new ChunkMissingError(`${payload} is no longer here`);
    try {
      return await loadItem(this.#workers, this.#jobPlace(entry), record.root, new ItemIndex(record.root), item);
    } catch (error) {
      const isGone = error instanceof ChunkMissingError || error instanceof TreeDamagedError;
      if (isGone) await this.#holdings.lose(entry, error.message);
      throw error;
    }
  }

  #jobPlace(entry: CatalogueEntry): JobPlace {
    return { objectsPath: this.#place.objectsPath, treePath: pathOf(entry) };
  }
}
