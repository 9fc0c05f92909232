import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { type FileHandle, mkdir, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Bitmap } from "../../protocol/bitmap.ts";
import { type ChunkHash, digestBytes, hashFromBytes, type PayloadId } from "../../protocol/hash.ts";
import { ItemIndex, type ManifestRoot } from "../../protocol/manifest.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import type { ChunkDescription } from "../../protocol/transfer.ts";
import type { StagedTree } from "../ports.ts";
import type { ChunkPlace, JobPlace } from "./item-jobs.ts";
import type { ItemWorkers } from "./item-workers.ts";
import { segmentPath } from "./segment-objects.ts";
import type { Reservation } from "./space.ts";

/**
 * A payload on its way in: its tree under `staging/`, and a bitmap of the items that were verified and written. What
 * the bitmap says survives a crash, and is hashed again before it counts.
 */
export class StagedPayload implements StagedTree, AsyncDisposable {
  readonly record: ReleaseRecord;
  readonly index: ItemIndex;
  /** `.sys/p2pcache/staging/<payload>`. */
  readonly path: string;
  /** The items that lie here verified, and may be served. */
  readonly have: Bitmap;
  readonly #place: JobPlace;
  readonly #workers: ItemWorkers;
  readonly #haveFile: FileHandle;
  readonly #reservation: Reservation;
  #copiesOf: ReadonlyMap<number, readonly number[]> = new Map();
  #digests: Uint8Array = new Uint8Array(0);

  private constructor(
    record: ReleaseRecord,
    path: string,
    parts: { workers: ItemWorkers; objectsPath: string; haveFile: FileHandle; reservation: Reservation },
  ) {
    this.record = record;
    this.index = new ItemIndex(record.root);
    this.path = path;
    this.have = new Bitmap(this.index.items);
    this.#place = { objectsPath: parts.objectsPath, treePath: join(path, "tree") };
    this.#workers = parts.workers;
    this.#haveFile = parts.haveFile;
    this.#reservation = parts.reservation;
  }

  /** Makes the staging directory, or takes up the one that an earlier try left. */
  static async open(
    record: ReleaseRecord,
    path: string,
    parts: { workers: ItemWorkers; objectsPath: string; reservation: Reservation },
  ): Promise<StagedPayload> {
    await mkdir(path, { recursive: true, mode: 0o700 });
    const haveFile = await open(join(path, "have"), existsSync(join(path, "have")) ? "r+" : "w+", 0o600);
    return new StagedPayload(record, path, { ...parts, haveFile });
  }

  get payload(): PayloadId {
    return this.record.payload;
  }

  get root(): ManifestRoot {
    return this.record.root;
  }

  get treePath(): string {
    return this.#place.treePath;
  }

  /** The manifest segments that are here already. */
  storedSegments(): number[] {
    const stored: number[] = [];
    for (const [item, { hash }] of this.record.root.segments.entries()) {
      if (existsSync(segmentPath(this.#place.objectsPath, hash)) && this.have.add(item)) stored.push(item);
    }
    return stored;
  }

  /**
   * All segments are here: checks the whole manifest, makes the tree's directories and hashes again what an earlier
   * try had marked.
   * @throws {FormatError} when the manifest breaks a rule; {ChunkMissingError} when a segment on this disk was damaged.
   */
  async describe(): Promise<ChunkDescription> {
    const { rootBytes, attributes } = this.record;
    const { externalLinks } = attributes;
    const prepared = await this.#workers.do<"prepare">({ kind: "prepare", at: this.#place, rootBytes, externalLinks });
    const copiesOf = new Map<number, number[]>();
    for (let i = 0; i < prepared.copies.length; i += 2) {
      const [first, copy] = [prepared.copies[i]!, prepared.copies[i + 1]!];
      const known = copiesOf.get(first);
      if (known === undefined) copiesOf.set(first, [copy]);
      else known.push(copy);
    }
    this.#copiesOf = copiesOf;
    this.#digests = prepared.digests;
    const stored = await this.#rehashMarked();
    return { sizesBytes: prepared.sizesBytes, copiesOf, stored };
  }

  /**
   * Verifies an item and writes it. The buffer is given away.
   * @throws {ChunkCorruptError} when the bytes are not the item's; {NoSpaceError}.
   */
  async put(item: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.have.has(item)) return;
    const transfer = [bytes.buffer];
    if (item < this.index.segments) {
      const { hash } = this.record.root.segments[item]!;
      const { objectsPath } = this.#place;
      await this.#workers.do<"storeSegment">({ kind: "storeSegment", objectsPath, hash, bytes }, { transfer });
      this.have.add(item);
      return;
    }
    const items = this.withCopies(item);
    const places = items.map((each) => this.#chunkPlace(each));
    await this.#workers.do<"storeChunk">({ kind: "storeChunk", at: this.#place, places, bytes }, { transfer });
    await this.#mark(items);
  }

  /** The name under which an origin has an item; a chunk's is known once the payload was described. */
  hashOf(item: number): ChunkHash {
    if (item < this.index.segments) return this.record.root.segments[item]!.hash;
    const at = (item - this.index.segments) * digestBytes;
    return hashFromBytes<"chunk">(this.#digests.subarray(at, at + digestBytes));
  }

  /** The items that have come with an item, itself first: those with the same bytes. */
  withCopies(item: number): readonly number[] {
    return [item, ...(this.#copiesOf.get(item) ?? [])];
  }

  /** An item's bytes, verified, for a peer. @throws {ChunkMissingError} when it is not here (any more). */
  load(item: number): Promise<Uint8Array<ArrayBuffer>> {
    return loadItem(this.#workers, this.#place, this.#hashOfSegment(item), item, this.index);
  }

  /** All items are in: final modes, links and times, and all of it made durable. */
  async finish(): Promise<void> {
    await this.#workers.do<"finish">({ kind: "finish", at: this.#place, rootBytes: this.record.rootBytes });
    try {
      // Node has no syncfs: one child that syncs the filesystem beats an fsync for each of 100,000 files.
      await promisify(execFile)("sync", ["-f", this.treePath]);
    } catch {
      await this.#workers.do<"sync">({ kind: "sync", at: this.#place, rootBytes: this.record.rootBytes });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#reservation.release();
    await this.#haveFile.close();
  }

  async #rehashMarked(): Promise<number[]> {
    const marked = Bitmap.parse(await readFile(join(this.path, "have")), this.index.items);
    const items: number[] = [];
    for (let item = this.index.segments; item < this.index.items; item++) if (marked?.has(item)) items.push(item);
    const batches: number[][] = [];
    for (let i = 0; i < items.length; i += rehashBatch) batches.push(items.slice(i, i + rehashBatch));
    const results = await Promise.all(
      batches.map((batch) => {
        const places = batch.map((item) => this.#chunkPlace(item));
        return this.#workers.do<"rehash">({ kind: "rehash", at: this.#place, places });
      }),
    );
    const right = batches.flatMap((batch, i) => batch.filter((_, place) => results[i]![place] === 1));
    for (const item of right) this.have.add(item);
    await this.#haveFile.write(this.have.bytes, 0, this.have.bytes.length, 0);
    return right;
  }

  /** Remembers items across a crash: the write goes to the page cache, which a dying process does not take along. */
  async #mark(items: readonly number[]): Promise<void> {
    for (const item of items) {
      this.have.add(item);
      const at = item >> 3;
      await this.#haveFile.write(this.have.bytes, at, 1, at);
    }
  }

  #chunkPlace(item: number): ChunkPlace {
    const { segment, chunk } = this.index.locate(item);
    return { segment: this.record.root.segments[segment]!.hash, chunk };
  }

  #hashOfSegment(item: number): ChunkHash {
    const segment = item < this.index.segments ? item : this.index.locate(item).segment;
    return this.record.root.segments[segment]!.hash;
  }
}

/** Reads an item back in a worker thread, and verifies it. `segment` is the item itself or the one that lists it. */
export function loadItem(
  workers: ItemWorkers,
  at: JobPlace,
  segment: ChunkHash,
  item: number,
  index: ItemIndex,
): Promise<Uint8Array<ArrayBuffer>> {
  if (item < index.segments) {
    return workers.do<"loadSegment">({ kind: "loadSegment", objectsPath: at.objectsPath, hash: segment });
  }
  const place = { segment, chunk: index.locate(item).chunk };
  // The same item goes to the same thread, which may still have it.
  return workers.do<"loadChunk">({ kind: "loadChunk", at, place }, { affinity: item });
}

/** Chunks that one job hashes again: about 32 MiB, so that other jobs get their turn. */
const rehashBatch = 64;
