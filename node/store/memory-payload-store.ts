import { Bitmap } from "../../protocol/bitmap.ts";
import {
  assert,
  BusyError,
  ChunkCorruptError,
  ChunkMissingError,
  NotAdoptedError,
  NotTrustedError,
  TreeDamagedError,
} from "../../protocol/errors.ts";
import { bytesToHex, type ChunkHash, type Hasher, type PayloadId, type VariantHash } from "../../protocol/hash.ts";
import { type ChunkLayout, chunkLayouts } from "../../protocol/layout.ts";
import { ItemIndex, type ManifestRoot } from "../../protocol/manifest.ts";
import { ManifestChecker } from "../../protocol/manifest-checker.ts";
import { decodeEnvelope, decodeRecord, type ReleaseRecord } from "../../protocol/record.ts";
import { decodeSegment } from "../../protocol/segments.ts";
import type { ChunkDescription } from "../../protocol/transfer.ts";
import { type Variant, variantText } from "../../protocol/variant.ts";
import type {
  AdoptionStore,
  CommitResult,
  FetchStore,
  Holding,
  ItemPlace,
  ServedPayload,
  StagedTree,
} from "../ports.ts";
import { type DiskSpace, type Reservation, SpaceLedger, type SpaceLimits } from "./space.ts";

export interface MemoryStoreOptions {
  readonly hasher: Hasher;
  readonly limits?: SpaceLimits;
  /** Where each repository would be mounted, by id. */
  readonly repositories: ReadonlyMap<string, string>;
}

/** A payload store without a disk, for tests of what uses one: it verifies and refuses as the real one does. */
export class MemoryPayloadStore implements FetchStore {
  readonly #options: MemoryStoreOptions;
  readonly #space: SpaceLedger;
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
  /** What is at hand while Rez's lock is held by somebody else. */
  isLocked = false;

  constructor(options: MemoryStoreOptions) {
    this.#options = options;
    const limits = options.limits ?? { maxBytes: Number.MAX_SAFE_INTEGER, freeBytesMin: 0 };
    const heldBytes = () => [...this.#held.values()].reduce((sum, { holding }) => sum + holding.bytes, 0);
    this.#space = new SpaceLedger(limits, async () => endlessDisk, heldBytes);
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

  /** @throws {NotTrustedError} RECORD_OUTDATED when a higher revision is kept already. */
  async noteRecord(hash: VariantHash, envelope: Uint8Array): Promise<void> {
    const { hasher } = this.#options;
    const known = this.#envelopes.get(hash);
    const [before, given] = [known, envelope].map((each) => each && decodeRecord(decodeEnvelope(each).body, hasher));
    if (before !== undefined && given!.revision < before.revision) {
      throw new NotTrustedError(`revision ${given!.revision} is outdated`, { code: "RECORD_OUTDATED" });
    }
    this.#envelopes.set(hash, envelope);
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
    const need = { bytes: root.bytes, totalBytes: root.bytes, inodes: root.entries };
    const reservation = await this.#space.reserve(variantText(record.variant), need);
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
    this.#held.set(hash, { holding, record: tree.record, files });
    this.#damaged.delete(hash);
    return { kind: "placed", holding };
  }

  async serve(payload: PayloadId): Promise<ServedPayload | undefined> {
    const staged = this.#active.get(payload);
    if (staged !== undefined) {
      const { index, root, have } = staged;
      return { index, root, have: () => have, sizeOf: (i) => staged.sizeOf(i), load: (item) => staged.load(item) };
    }
    const held = [...this.#held.values()].find(({ holding }) => holding.payload === payload);
    if (held === undefined || this.#damaged.has(held.holding.variant)) return undefined;
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

  #openForeign(hash: VariantHash, record: ReleaseRecord, envelope: Uint8Array): StagedTree {
    const chunks = this.#foreign.get(variantText(record.variant))?.chunks ?? new Map();
    this.#envelopes.set(hash, envelope);
    return new MemoryForeignTree(record, chunks, this.#options.hasher);
  }

  #adopt(hash: VariantHash, copy: StagedTree): Holding {
    assert(copy instanceof MemoryForeignTree, "what is adopted was opened as a foreign copy");
    const { variant, root, payload } = copy.record;
    const text = variantText(variant);
    const { path } = this.#foreign.get(text)!;
    const { name, version } = variant;
    const holding = { variant: hash, payload, text, name, version, path, bytes: root.bytes, files: root.files };
    this.#foreign.delete(text);
    this.#kept.set(payload, copy.items);
    this.#held.set(hash, { holding, record: copy.record, files: copy.files() });
    return holding;
  }

  /** Changes every byte of a held variant. */
  damage(variant: VariantHash): void {
    const held = this.#held.get(variant);
    assert(held !== undefined, "what is damaged is held");
    for (const bytes of this.#kept.get(held.holding.payload)?.values() ?? []) bytes.fill(0xff);
  }

  async #load({ holding, record }: HeldInMemory, item: number): Promise<Uint8Array<ArrayBuffer>> {
    const tree = new MemoryStagedTree(
      record,
      this.#kept.get(holding.payload) ?? new Map(),
      undefined,
      this.#options.hasher,
    );
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
}

interface ForeignInMemory {
  readonly path: string;
  readonly state: string;
  /** Its contents, by the names of chunks. */
  readonly chunks?: ReadonlyMap<ChunkHash, Uint8Array>;
}

class MemoryStagedTree implements StagedTree {
  readonly record: ReleaseRecord;
  readonly index: ItemIndex;
  readonly have: Bitmap;
  readonly items: Map<number, Uint8Array<ArrayBuffer>>;
  readonly #reservation: Reservation | undefined;
  readonly #hasher: Hasher;
  /** Of the chunks, in item order; empty until the payload was described. */
  protected layouts: readonly ChunkLayout[] = [];
  #copiesOf: ReadonlyMap<number, readonly number[]> = new Map();

  constructor(
    record: ReleaseRecord,
    items: Map<number, Uint8Array<ArrayBuffer>>,
    reservation: Reservation | undefined,
    hasher: Hasher,
  ) {
    this.record = record;
    this.index = new ItemIndex(record.root);
    this.have = new Bitmap(this.index.items);
    this.items = items;
    this.#reservation = reservation;
    this.#hasher = hasher;
    for (const [item, { hash }] of record.root.segments.entries()) if (this.#isRight(item, hash)) this.have.add(item);
  }

  get payload(): PayloadId {
    return this.record.payload;
  }

  get root(): ManifestRoot {
    return this.record.root;
  }

  storedSegments(): number[] {
    return [...this.root.segments.keys()].filter((item) => this.have.has(item));
  }

  async describe(): Promise<ChunkDescription> {
    const checker = new ManifestChecker(this.root, { externalLinks: this.record.attributes.externalLinks });
    const segments = this.root.segments.map((_, item) => decodeSegment(this.#bytesOf(item)));
    for (const [i, parts] of segments.entries()) checker.add(parts, this.root.segments[i]!);
    checker.finish();
    this.layouts = segments.flatMap(chunkLayouts);
    this.takeKnown();
    const groups = Map.groupBy(this.layouts.keys(), (chunk) => bytesToHex(this.layouts[chunk]!.chunk.digest));
    const groupsOfItems = [...groups.values()].map((chunks) => chunks.map((chunk) => chunk + this.index.segments));
    this.#copiesOf = new Map(
      groupsOfItems.filter(({ length }) => length > 1).map(([first, ...copies]) => [first!, copies]),
    );
    const stored = groupsOfItems
      .filter((group) => group.every((item) => this.#isRight(item, this.hashOf(item))))
      .flat();
    for (const item of stored) this.have.add(item);
    const sizesBytes = new Uint32Array(this.index.items);
    for (const [i, { chunk }] of this.layouts.entries()) sizesBytes[this.index.segments + i] = chunk.sizeBytes;
    return { sizesBytes, copiesOf: this.#copiesOf, stored };
  }

  sizeOf(item: number): number | undefined {
    return this.layouts[item - this.index.segments]?.chunk.sizeBytes;
  }

  /** What is known of the chunks before they come. */
  protected takeKnown(): void {}

  hashOf(item: number): ChunkHash {
    if (item < this.index.segments) return this.root.segments[item]!.hash;
    const layout = this.layouts[item - this.index.segments];
    assert(layout !== undefined, "a chunk is named once its payload was described");
    return bytesToHex(layout.chunk.digest) as ChunkHash;
  }

  placeOf(item: number): (() => Promise<ItemPlace>) | undefined {
    const { variant, inPlaceRoot: root } = this.record;
    if (root === undefined || item < this.index.segments) return undefined;
    const { ranges } = this.layouts[item - this.index.segments]!;
    return async () => ({ repository: variant.repository, root, ranges });
  }

  withCopies(item: number): readonly number[] {
    return [item, ...(this.#copiesOf.get(item) ?? [])];
  }

  async put(item: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.have.has(item)) return;
    const given = structuredClone(bytes, { transfer: [bytes.buffer] });
    if (bytesToHex(this.#hasher(given)) !== this.hashOf(item)) {
      throw new ChunkCorruptError(`${given.length} bytes are not the item that they were said to be`);
    }
    for (const each of this.withCopies(item)) {
      this.items.set(each, given.slice());
      this.have.add(each);
    }
    this.#reservation?.wrote(given.length);
  }

  async load(item: number): Promise<Uint8Array<ArrayBuffer>> {
    if (!this.have.has(item)) throw new ChunkMissingError(`item ${item} is not here`);
    return this.#bytesOf(item).slice();
  }

  /** The contents of all files. @throws {TreeDamagedError} while items are missing. */
  files(): Map<string, Uint8Array> {
    if (this.have.count < this.index.items) throw new TreeDamagedError("items are missing");
    const parts = new Map<string, Uint8Array[]>();
    for (const [i, { ranges }] of this.layouts.entries()) {
      let offset = 0;
      for (const { path, sizeBytes } of ranges) {
        const slice = this.items.get(this.index.segments + i)!.subarray(offset, offset + sizeBytes);
        parts.set(path, [...(parts.get(path) ?? []), slice]);
        offset += sizeBytes;
      }
    }
    return new Map([...parts].map(([path, slices]) => [path, new Uint8Array(Buffer.concat(slices))]));
  }

  end(): void {
    this.#reservation?.release();
  }

  #isRight(item: number, hash: ChunkHash): boolean {
    const bytes = this.items.get(item);
    return bytes !== undefined && bytesToHex(this.#hasher(bytes)) === hash;
  }

  #bytesOf(item: number): Uint8Array<ArrayBuffer> {
    if (!this.items.has(item)) throw new ChunkMissingError(`item ${item} is not here`);
    if (!this.#isRight(item, this.hashOf(item))) throw new TreeDamagedError(`item ${item} has changed`);
    return this.items.get(item)!;
  }
}

/** What somebody else has put there: all of its chunks are here, or it is refused. */
class MemoryForeignTree extends MemoryStagedTree {
  readonly #chunks: ReadonlyMap<ChunkHash, Uint8Array>;

  constructor(record: ReleaseRecord, chunks: ReadonlyMap<ChunkHash, Uint8Array>, hasher: Hasher) {
    super(record, new Map(), undefined, hasher);
    this.#chunks = chunks;
  }

  protected override takeKnown(): void {
    for (let item = this.index.segments; item < this.index.items; item++) {
      const bytes = this.#chunks.get(this.hashOf(item));
      if (bytes === undefined) throw new NotAdoptedError(`item ${item} has other content`);
      this.items.set(item, new Uint8Array(bytes));
    }
  }
}

const endlessDisk: DiskSpace = { totalBytes: 1e15, freeBytes: 1e15, freeInodes: undefined, blockBytes: 4096 };
