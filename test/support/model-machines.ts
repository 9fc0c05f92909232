import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { Evictor } from "../../node/evictor.ts";
import { KeepLists } from "../../node/keep-lists.ts";
import { type PublisherKey, publicKeyText } from "../../node/keys.ts";
import { type Lease, Leases } from "../../node/leases.ts";
import { noLog } from "../../node/log.ts";
import type { FetchStore, Holding, StagedTree } from "../../node/ports.ts";
import type { ItemWorkers } from "../../node/store/item-workers.ts";
import { MemoryPayloadStore } from "../../node/store/memory-payload-store.ts";
import { processMark } from "../../node/store/owner.ts";
import { PayloadStore } from "../../node/store/payload-store.ts";
import type { DiskSpace } from "../../node/store/space.ts";
import { NoSpaceError } from "../../protocol/errors.ts";
import type { EvictionLimits } from "../../protocol/eviction.ts";
import type { PayloadId, VariantHash } from "../../protocol/hash.ts";
import { checkNewer, encodeKeepList, isExpired, type SignedKeepList } from "../../protocol/keep-alive.ts";
import { KeepIndex } from "../../protocol/keep-index.ts";
import { storeOptions } from "../node/store/store-fixture.ts";
import { bury } from "./buried.ts";
import { sealedList } from "./keep-lists.ts";
import { engine, fill, type Payload, removeTree, repository } from "./payloads.ts";

export const hourMs = 3_600_000;
export const limits: EvictionLimits = {
  maxBytes: 32_000,
  maxVariants: undefined,
  maxAgeMs: undefined,
  freeBytesMin: 100_000,
  pinnedBytesMax: 12_000,
  minIdleMs: 24 * hourMs,
};
/** Whose list the machines follow. */
export const toolset = "fx";
const place = { host: "machine", site: "", rack: "" };
/** Of the disk; what others write there leaves less. */
const diskBytes = 1_000_000;

/** What both kinds of machine have: a clock, a disk that others fill, and who uses what. */
abstract class Machine {
  nowMs: number = Math.floor(Date.now() / 1000) * 1000;
  filledBytes = 0;
  /** How many other machines have a variant too. */
  readonly copies: Map<VariantHash, number> = new Map();
  leases!: Leases;
  evictor!: Evictor;
  readonly #held = new Map<VariantHash, Lease>();

  abstract readonly store: FetchStore & {
    holdings(): Holding[];
    announced(): readonly (readonly [VariantHash, PayloadId])[];
  };
  /** As the evictor and the leases see it. */
  protected abstract get parts(): { readonly evicted: unknown; readonly leased: Parameters<typeof Leases.open>[0] };

  readonly readSpace = async (): Promise<DiskSpace> => {
    const heldBytes = this.store?.holdings().reduce((sum, { bytes }) => sum + bytes, 0) ?? 0;
    const freeBytes = Math.max(0, diskBytes - this.filledBytes - heldBytes);
    return { totalBytes: diskBytes, freeBytes, freeInodes: undefined, blockBytes: 1 };
  };

  async freeBytes(): Promise<number> {
    return (await this.readSpace()).freeBytes;
  }

  /** The leases of connections ended with the process that was before. */
  async begin(): Promise<void> {
    this.leases = await Leases.open(this.parts.leased, () => undefined);
    this.evictor = this.newEvictor();
  }

  /** One that remembers nothing. */
  newEvictor(): Evictor {
    const { evicted } = this.parts;
    return new Evictor({
      store: evicted as ConstructorParameters<typeof Evictor>[0]["store"],
      leases: this.leases,
      keeps: () => this.keeps(),
      directory: () => ({ copies: (variant) => this.copies.get(variant) ?? 0 }),
      programs: { look: async () => undefined, areSeen: false, from: () => undefined },
      isFetched: () => false,
      limits: () => limits,
      clock: { monotonicMs: () => this.nowMs, wallMs: () => this.nowMs },
      log: noLog,
      announce: () => undefined,
    });
  }

  /** `outlives`: it is a process's, which goes on when this one's connections end. */
  async lease(variant: VariantHash, outlives: boolean): Promise<void> {
    const mark = outlives ? { process: processMark(process.pid) } : {};
    this.#held.set(variant, await this.leases.hold({ variants: [variant], name: "test", ...mark }));
  }

  /** Its connection ends. */
  async endLease(variant: VariantHash): Promise<void> {
    await this.#held.get(variant)!.leave();
  }

  /** Fetches a release as a node does, with all its items at hand. `share` of them come, then it is cut short. */
  async fetch(payload: Payload, cut = false): Promise<void> {
    const staged = await this.stage(payload);
    try {
      if (cut) return;
      await fill(staged, payload);
      await this.store.commit(payload.hash, staged);
      this.use(payload.hash);
    } finally {
      await this.store.leave(staged);
    }
  }

  protected abstract stage(payload: Payload): Promise<StagedTree>;
  /** What the newest list says. */
  abstract keeps(): KeepIndex;
  /** Takes the list of a toolset's owner in, as it comes from an origin. @throws {NotTrustedError} (P6) */
  abstract takeList(list: SignedKeepList): Promise<void>;
  /** Of the list that counts; 0 before the first. */
  abstract readonly listVersion: number;
  abstract use(variant: VariantHash): void;
  abstract lastUsedMs(variant: VariantHash): number | undefined;
  abstract pin(variant: VariantHash): Promise<void>;
  abstract unpin(variant: VariantHash): Promise<void>;
  abstract damage(variant: VariantHash): Promise<void>;
  /** Ends the process in good order, and starts another one. */
  abstract restart(): Promise<void>;
  /** Ends the process as it is, and starts another one. */
  abstract crash(): Promise<void>;
  abstract [Symbol.asyncDispose](): Promise<void>;
}

export type { Machine };

/** A machine without a disk. */
export class MemoryMachine extends Machine {
  readonly store: MemoryPayloadStore;
  readonly #uses = new Map<VariantHash, number>();
  readonly #pins = new Set<VariantHash>();
  readonly #written = new Map<string, unknown>();
  #list: SignedKeepList | undefined;
  #index:
    | { readonly index: KeepIndex; readonly of: SignedKeepList | undefined; readonly isExpired: boolean }
    | undefined;

  constructor() {
    super();
    const repositories = new Map([[repository, "/mnt"]]);
    this.store = new MemoryPayloadStore({
      hasher: engine.hash,
      repositories,
      limits,
      readSpace: () => this.readSpace(),
    });
  }

  static async open(): Promise<MemoryMachine> {
    const machine = new MemoryMachine();
    await machine.begin();
    return machine;
  }

  protected get parts() {
    const entries = () =>
      this.store.holdings().map((held) => ({ ...held, ...this.store.recordOf(held.variant)!, hash: held.variant }));
    const retention = {
      entries,
      entry: (variant: VariantHash) => entries().find(({ hash }) => hash === variant),
      lastUsedMs: (variant: VariantHash) => this.#uses.get(variant),
      lastUses: async () => this.#uses,
      isPinned: (variant: VariantHash) => this.#pins.has(variant),
    };
    const { store } = this;
    const leased: Parameters<typeof Leases.open>[0] = {
      leases: async () => this.#written,
      noteLease: async (id: string, lease: object | undefined) => {
        if (lease === undefined) this.#written.delete(id);
        else this.#written.set(id, JSON.parse(JSON.stringify(lease)));
      },
    };
    Object.defineProperty(leased, "runnerOf", { set: (runnerOf) => Object.assign(store, { runnerOf }) });
    return { evicted: { retention, space: store.space, remove: store.remove.bind(store) }, leased };
  }

  protected async stage({ hash, record, envelope }: Payload): Promise<StagedTree> {
    for (;;) {
      try {
        return await this.store.stage(hash, record, envelope);
      } catch (error) {
        const { bytes } = record.root;
        const need = { bytes, totalBytes: bytes, inodes: record.root.entries };
        if (!(error instanceof NoSpaceError) || !(await this.evictor.makeRoom(record, need))) throw error;
      }
    }
  }

  keeps(): KeepIndex {
    const list = this.#list;
    const expired = list !== undefined && isExpired(list, this.nowMs);
    if (this.#index?.of !== list || this.#index?.isExpired !== expired) {
      const index = new KeepIndex(list === undefined ? [] : [list], place, this.nowMs);
      this.#index = { index, of: list, isExpired: expired };
    }
    return this.#index!.index;
  }

  async takeList(list: SignedKeepList): Promise<void> {
    const known = this.#list === undefined ? undefined : encodeKeepList(this.#list);
    if (checkNewer(known, encodeKeepList(list))) this.#list = list;
  }

  get listVersion(): number {
    return this.#list?.version ?? 0;
  }

  use(variant: VariantHash): void {
    this.#uses.set(variant, this.nowMs);
  }

  lastUsedMs(variant: VariantHash): number | undefined {
    return this.#uses.get(variant);
  }

  async pin(variant: VariantHash): Promise<void> {
    this.#pins.add(variant);
  }

  async unpin(variant: VariantHash): Promise<void> {
    this.#pins.delete(variant);
  }

  async damage(variant: VariantHash): Promise<void> {
    this.store.damage(variant);
    await this.store.verify(variant);
  }

  async restart(): Promise<void> {
    await this.begin();
  }

  async crash(): Promise<void> {
    await this.begin();
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

/** A machine with a real store. */
export class DiskMachine extends Machine {
  store!: PayloadStore;
  #lists!: KeepLists;
  readonly #folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-model-"));
  readonly #workers: ItemWorkers;
  readonly #owner: PublisherKey;

  constructor(workers: ItemWorkers, owner: PublisherKey) {
    super();
    this.#workers = workers;
    this.#owner = owner;
  }

  /** `owner`: of the toolset whose list it follows. */
  static async open(workers: ItemWorkers, owner: PublisherKey): Promise<DiskMachine> {
    const machine = new DiskMachine(workers, owner);
    await machine.#open();
    return machine;
  }

  protected get parts() {
    return { evicted: this.store, leased: this.store.retention };
  }

  protected async stage({ hash, record, envelope }: Payload): Promise<StagedTree> {
    return await this.store.stage(hash, record, envelope);
  }

  keeps(): KeepIndex {
    return this.#lists.index();
  }

  async takeList(list: SignedKeepList): Promise<void> {
    await this.#lists.take(list.toolset, sealedList(this.#owner, list));
  }

  get listVersion(): number {
    return this.#lists.all()[0]?.version ?? 0;
  }

  use(variant: VariantHash): void {
    const at = new Date(this.nowMs);
    fs.utimesSync(`${this.store.holding(variant)!.path}.json`, at, at);
  }

  lastUsedMs(variant: VariantHash): number | undefined {
    return this.store.retention.lastUsedMs(variant);
  }

  async pin(variant: VariantHash): Promise<void> {
    await this.store.retention.pin(variant, new Date(this.nowMs).toISOString());
  }

  async unpin(variant: VariantHash): Promise<void> {
    await this.store.retention.unpin(variant);
  }

  async damage(variant: VariantHash): Promise<void> {
    const path = join(this.store.holding(variant)!.path, "0.py");
    fs.chmodSync(path, 0o644);
    fs.writeFileSync(path, "rotten");
    await this.store.verify(variant);
  }

  async restart(): Promise<void> {
    await this.store[Symbol.asyncDispose]();
    await this.#open();
  }

  /** Its disk is what it was before the store ended in good order: that was another one. */
  async crash(): Promise<void> {
    const before = `${this.#folder}-crashed`;
    assert.is(spawnSync("cp", ["-a", this.#folder, before]).status, 0);
    await this.store[Symbol.asyncDispose]();
    removeTree(this.#folder);
    fs.renameSync(before, this.#folder);
    bury(this.#folder);
    await this.#open();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store[Symbol.asyncDispose]();
    removeTree(this.#folder);
  }

  async #open(): Promise<void> {
    const clock = { monotonicMs: () => performance.now(), wallMs: () => this.nowMs };
    const readSpace = this.readSpace;
    const workers = this.#workers;
    this.#lists = await KeepLists.open(new Map([[toolset, publicKeyText(this.#owner)]]), {
      directory: join(this.#folder, "lists"),
      place,
      clock,
      onRefused: (_, reason) => assert.unreachable(reason),
    });
    this.store = await PayloadStore.open({ ...storeOptions(this.#folder), limits, clock, readSpace, workers });
    await this.begin();
    this.store.makeRoom = (record, need) => this.evictor.makeRoom(record, need);
  }
}
