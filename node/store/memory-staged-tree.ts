import { Bitmap } from "../../protocol/bitmap.ts";
import {
  assert,
  ChunkCorruptError,
  ChunkMissingError,
  NotAdoptedError,
  TreeDamagedError,
} from "../../protocol/errors.ts";
import { bytesToHex, type ChunkHash, type Hasher, type PayloadId } from "../../protocol/hash.ts";
import { type ChunkLayout, chunkLayouts } from "../../protocol/layout.ts";
import { ItemIndex, type ManifestRoot } from "../../protocol/manifest.ts";
import { ManifestChecker } from "../../protocol/manifest-checker.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import { decodeSegment } from "../../protocol/segments.ts";
import type { ChunkDescription } from "../../protocol/transfer.ts";
import type { ItemPlace, StagedTree } from "../ports.ts";
import type { Reservation } from "./space.ts";

/** A payload on its way in, without a disk. */
export class MemoryStagedTree implements StagedTree {
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
export class MemoryForeignTree extends MemoryStagedTree {
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
