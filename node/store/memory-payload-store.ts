import { assert, BusyError, NotTrustedError } from "../../protocol/errors.ts";
import type { ChunkHash, Hasher, PayloadId, VariantHash } from "../../protocol/hash.ts";
import { ItemIndex } from "../../protocol/manifest.ts";
import {
  decodeEnvelope,
  decodeRecord,
  newerRecord,
  type ReleaseRecord,
  type SignedRecord,
} from "../../protocol/record.ts";
import { type Variant, variantText } from "../../protocol/variant.ts";
import type {
  AdoptionStore,
  CommitResult,
  FetchStore,
  Holding,
  RepairStore,
  ServedPayload,
  StagedTree,
} from "../ports.ts";
import { MemoryForeignTree, MemoryStagedTree } from "./memory-staged-tree.ts";
import { leasedBy } from "./removal.ts";
import { type DiskSpace, SpaceLedger, type SpaceLimits } from "./space.ts";

export interface MemoryStoreOptions {
  readonly hasher: Hasher;
  readonly limits?: SpaceLimits;
  /** What its disk has left; one without end unless given. */
  readonly readSpace?: () => Promise<DiskSpace>;
  /** Where each repository would be mounted, by id. */
  readonly repositories: ReadonlyMap<string, string>;
}

/** A payload store without a disk, for tests of what uses one: it verifies and refuses as the real one does. */
export class MemoryPayloadStore implements FetchStore {
  readonly #options: MemoryStoreOptions;
  readonly space: SpaceLedger;
  readonly #held = new Map<VariantHash, HeldInMemory>();
  readonly #damaged = new Set<VariantHash>();
  readonly #envelopes = new Map<VariantHash, Uint8Array>();
  /** Items by payload, also of those that were left. */
  readonly #kept = new Map<PayloadId, Map<number, Uint8Array<ArrayBuffer>>>();
  readonly #active = new Map<PayloadId, MemoryStagedTree>();
  readonly #foreign = new Map<string, ForeignInMemory>();
  readonly adoption: AdoptionStore = {
    open: async (hash, record, envelope) => this.#openForeign(hash, record, envelope),
    adopt: async (hash, copy) => this.#adopt(hash, copy),
    leave: () => undefined,
  };
  readonly repairs: RepairStore = {
    open: async (hash, record) => this.#openDamaged(hash, record),
    mend: async (hash, tree) => this.#mend(hash, tree),
    leave: async () => undefined,
  };
  /** The program that runs from a variant now. */
  runnerOf: (variant: VariantHash) => string | undefined = () => undefined;
  /** What is at hand while Rez's lock is held by somebody else. */
  isLocked = false;

  constructor(options: MemoryStoreOptions) {
    this.#options = options;
    const limits = options.limits ?? { maxBytes: Number.MAX_SAFE_INTEGER, freeBytesMin: 0 };
    const heldBytes = () => [...this.#held.values()].reduce((sum, { holding }) => sum + holding.bytes, 0);
    this.space = new SpaceLedger(limits, options.readSpace ?? (async () => endlessDisk), heldBytes);
  }

  holdings(): Holding[] {
    return [...this.#held.values()].map(({ holding }) => holding);
  }

  holding(variant: VariantHash): Holding | undefined {
    return this.#held.get(variant)?.holding;
  }

  isDamaged(variant: VariantHash): boolean {
    return this.#damaged.has(variant);
  }

  knowsRepository(repository: string): boolean {
    return this.#options.repositories.has(repository);
  }

  foreign(variant: Variant): { readonly path: string; readonly state: string } | undefined {
    const there = this.#foreign.get(variantText(variant));
    return there === undefined ? undefined : { path: there.path, state: there.state };
  }

  announced(): (readonly [VariantHash, PayloadId])[] {
    return this.holdings()
      .filter(({ variant }) => !this.#damaged.has(variant))
      .map(({ variant, payload }) => [variant, payload] as const);
  }

  async record(variant: VariantHash): Promise<Uint8Array | undefined> {
    return this.#envelopes.get(variant);
  }

  /** @throws {NotTrustedError} RECORD_OUTDATED when a higher revision is kept already; RECORD_CONFLICT. */
  async noteRecord(hash: VariantHash, envelope: Uint8Array): Promise<void> {
    const given = decodeRecord(decodeEnvelope(envelope).body, this.#options.hasher);
    this.#checkNotOutdated(hash, given);
    const known = this.#known(hash);
    if (known === undefined || newerRecord<SignedRecord>(known, given) !== known) this.#envelopes.set(hash, envelope);
  }

  async remove(variant: VariantHash, { onHidden }: { readonly onHidden?: () => void } = {}): Promise<void> {
    if (this.isLocked) throw new BusyError("Rez's lock was not free", { code: "REZ_LOCK_HELD" });
    const wasHeld = this.#held.delete(variant);
    this.#damaged.delete(variant);
    if (wasHeld) onHidden?.();
  }

  /** @throws {NoSpaceError} before anything is kept; {BusyError} while the payload is being worked on. */
  async stage(hash: VariantHash, record: ReleaseRecord, envelope: Uint8Array): Promise<StagedTree> {
    const { root, payload } = record;
    if (this.#active.has(payload)) throw new BusyError(`${payload} is being worked on`);
    this.#checkNotOutdated(hash, record);
    this.#checkNotRun(hash);
    const need = { bytes: root.bytes, totalBytes: root.bytes, inodes: root.entries };
    const reservation = await this.space.reserve(variantText(record.variant), need);
    await this.noteRecord(hash, envelope);
    const items = this.#kept.get(payload) ?? new Map();
    this.#kept.set(payload, items);
    const staged = new MemoryStagedTree(record, items, reservation, this.#options.hasher);
    this.#active.set(payload, staged);
    return staged;
  }

  async leave(staged: StagedTree): Promise<void> {
    if (this.#active.get(staged.payload) !== staged) return;
    this.#active.get(staged.payload)?.end();
    this.#active.delete(staged.payload);
  }

  async commit(hash: VariantHash, staged: StagedTree, signal?: AbortSignal): Promise<CommitResult> {
    const tree = this.#active.get(staged.payload);
    assert(tree !== undefined && tree === staged, "what is committed is being worked on");
    signal?.throwIfAborted();
    const files = tree.files();
    this.#checkNotOutdated(hash, tree.record);
    this.#checkNotRun(hash);
    if (this.isLocked) throw new BusyError("Rez's lock was not free", { code: "REZ_LOCK_HELD" });
    await this.leave(staged);
    const foreign = this.foreign(tree.record.variant);
    if (foreign !== undefined) {
      this.#kept.delete(staged.payload);
      return { kind: "taken", path: foreign.path };
    }
    const { variant, root, payload } = tree.record;
    const { name, version } = variant;
    const text = variantText(variant);
    const path = `/memory/${hash}`;
    const holding = { variant: hash, payload, text, name, version, path, bytes: root.bytes, files: root.files };
    this.#held.set(hash, { holding, record: tree.record, files, items: tree.items });
    this.#kept.delete(payload);
    this.#damaged.delete(hash);
    return { kind: "placed", holding };
  }

  async serve(payload: PayloadId): Promise<ServedPayload | undefined> {
    const staged = this.#active.get(payload);
    if (staged !== undefined) {
      const { index, root, have } = staged;
      return { index, root, have: () => have, sizeOf: (i) => staged.sizeOf(i), load: (item) => staged.load(item) };
    }
    const isSound = ({ holding }: HeldInMemory) => holding.payload === payload && !this.#damaged.has(holding.variant);
    const held = [...this.#held.values()].find(isSound);
    if (held === undefined) return undefined;
    const { root } = held.record;
    const load = (item: number) => this.#load(held, item);
    return { index: new ItemIndex(root), root, have: () => "all", load };
  }

  /** The contents of a held tree's files. */
  files(variant: VariantHash): ReadonlyMap<string, Uint8Array> {
    return this.#held.get(variant)?.files ?? new Map();
  }

  /** Somebody else puts something at a variant's place; where it is a payload, its chunks are given. */
  putForeign(
    variant: Variant,
    path: string,
    more: { readonly state?: string; readonly chunks?: ReadonlyMap<ChunkHash, Uint8Array> } = {},
  ): void {
    this.#foreign.set(variantText(variant), { path, state: "cached", ...more });
  }

  /** The record of what is held. */
  recordOf(variant: VariantHash): ReleaseRecord | undefined {
    return this.#held.get(variant)?.record;
  }

  async #openForeign(hash: VariantHash, record: ReleaseRecord, envelope: Uint8Array): Promise<StagedTree> {
    const chunks = this.#foreign.get(variantText(record.variant))?.chunks ?? new Map();
    await this.noteRecord(hash, envelope);
    return new MemoryForeignTree(record, chunks, this.#options.hasher);
  }

  #known(hash: VariantHash): SignedRecord | undefined {
    const envelope = this.#envelopes.get(hash);
    return envelope === undefined ? undefined : decodeRecord(decodeEnvelope(envelope).body, this.#options.hasher);
  }

  #checkNotOutdated(hash: VariantHash, { revision }: SignedRecord): void {
    if ((this.#known(hash)?.revision ?? 0) <= revision) return;
    throw new NotTrustedError(`revision ${revision} is outdated`, { code: "RECORD_OUTDATED" });
  }

  #checkNotRun(hash: VariantHash): void {
    const by = this.#held.has(hash) ? this.runnerOf(hash) : undefined;
    if (by !== undefined) throw leasedBy(hash, by);
  }

  #openDamaged(hash: VariantHash, record: ReleaseRecord): StagedTree | undefined {
    const held = this.#held.get(hash);
    if (held?.holding.payload !== record.payload) return undefined;
    return new MemoryStagedTree(record, held.items, undefined, this.#options.hasher);
  }

  #mend(hash: VariantHash, tree: StagedTree): Holding {
    assert(tree instanceof MemoryStagedTree, "what is mended was opened for it");
    const held = this.#held.get(hash);
    if (held?.holding.payload !== tree.payload) throw new BusyError("it was replaced meanwhile");
    this.#held.set(hash, { ...held, files: tree.files() });
    this.#damaged.delete(hash);
    return held.holding;
  }

  #adopt(hash: VariantHash, copy: StagedTree): Holding {
    assert(copy instanceof MemoryForeignTree, "what is adopted was opened as a foreign copy");
    this.#checkNotOutdated(hash, copy.record);
    const { variant, root, payload } = copy.record;
    const text = variantText(variant);
    const { path } = this.#foreign.get(text)!;
    const { name, version } = variant;
    const holding = { variant: hash, payload, text, name, version, path, bytes: root.bytes, files: root.files };
    this.#foreign.delete(text);
    this.#held.set(hash, { holding, record: copy.record, files: copy.files(), items: copy.items });
    return holding;
  }

  /** Changes every byte of a held variant. */
  damage(variant: VariantHash): void {
    const held = this.#held.get(variant);
    assert(held !== undefined, "what is damaged is held");
    for (const bytes of held.items.values()) bytes.fill(0xff);
  }

  /** Looks at all of a held variant, as the real one does. */
  async verify(variant: VariantHash): Promise<void> {
    const held = this.#held.get(variant);
    if (held === undefined) return;
    for (let item = 0; item < held.items.size; item++) await this.#load(held, item).catch(() => undefined);
  }

  async #load({ holding, record, items }: HeldInMemory, item: number): Promise<Uint8Array<ArrayBuffer>> {
    const tree = new MemoryStagedTree(record, items, undefined, this.#options.hasher);
    try {
      await tree.describe();
      return await tree.load(item);
    } catch (error) {
      this.#damaged.add(holding.variant);
      throw error;
    }
  }
}

interface HeldInMemory {
  readonly holding: Holding;
  readonly record: ReleaseRecord;
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Its own: another variant of the same tree has others. */
  readonly items: Map<number, Uint8Array<ArrayBuffer>>;
}

interface ForeignInMemory {
  readonly path: string;
  readonly state: string;
  /** Its contents, by the names of chunks. */
  readonly chunks?: ReadonlyMap<ChunkHash, Uint8Array>;
}

const endlessDisk: DiskSpace = { totalBytes: 1e15, freeBytes: 1e15, freeInodes: undefined, blockBytes: 4096 };
