import { constants } from "node:fs";
import { type FileHandle, mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { Bitmap } from "../../protocol/bitmap.ts";
import { assert, ChunkMissingError, FormatError, TreeDamagedError } from "../../protocol/errors.ts";
import { type ChunkHash, digestBytes, hashFromBytes, type PayloadId } from "../../protocol/hash.ts";
import { ItemIndex, type ManifestRoot } from "../../protocol/manifest.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import type { ChunkDescription } from "../../protocol/transfer.ts";
import type { ItemPlace, StagedTree } from "../ports.ts";
import { loadItem } from "./held-tree.ts";
import type { ChunkPlace, JobPlace } from "./item-jobs.ts";
import type { ItemWorkers } from "./item-workers.ts";
import { cacheError, hasCode } from "./rez-guard.ts";
import type { Reservation } from "./space.ts";
import { syncFilesystem } from "./sync-filesystem.ts";

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
  #sizesBytes: Uint32Array | undefined;
  /** By hash: what is being written just now. */
  readonly #puts = new Map<ChunkHash, Promise<void>>();
  readonly #work = new Set<Promise<unknown>>();
  #isFinished = false;
  #isRefused = false;
  #isLeft = false;

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
    const { workers, objectsPath } = parts;
    const hashes = record.root.segments.map(({ hash }) => hash);
    const right = await workers.do<"checkSegments">({ kind: "checkSegments", objectsPath, hashes });
    await mkdir(path, { recursive: true, mode: 0o700 });
    const haveFile = await openHaveFile(join(path, "have"));
    const staged = new StagedPayload(record, path, { ...parts, haveFile });
    for (const item of hashes.keys()) if (right[item] === 1) staged.have.add(item);
    return staged;
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

  /** Its manifest breaks a rule: no further try can end better. */
  get isRefused(): boolean {
    return this.#isRefused;
  }

  /** The manifest segments that are here already. */
  storedSegments(): number[] {
    return [...this.record.root.segments.keys()].filter((item) => this.have.has(item));
  }

  /**
   * All segments are here: checks the whole manifest, makes the tree's directories and hashes again what an earlier
   * try had marked.
   * @throws {FormatError} when the manifest breaks a rule; {ChunkMissingError} when a segment on this disk was damaged.
   */
  describe(): Promise<ChunkDescription> {
    return this.#underway(this.#describe());
  }

  /**
   * Verifies an item and writes it. The buffer is given away. Two puts of the same bytes come one after the other: a
   * small file that is made anew must not be torn away from under the one who is writing it.
   * @throws {ChunkCorruptError} when the bytes are not the item's; {NoSpaceError}.
   */
  async put(item: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const hash = this.hashOf(item);
    while (this.#puts.has(hash)) await this.#puts.get(hash)!.catch(() => undefined);
    if (this.have.has(item)) return;
    assert(!this.#isLeft, "nothing is put into a payload that was left");
    const put = this.#underway(this.#write(item, hash, bytes)).finally(() => this.#puts.delete(hash));
    this.#puts.set(hash, put);
    await put;
  }

  /** What an item measures, once the payload was described. */
  sizeOf(item: number): number | undefined {
    return this.#sizesBytes?.[item];
  }

  /** The name under which an origin has an item; a chunk's is known once the payload was described. */
  hashOf(item: number): ChunkHash {
    if (item < this.index.segments) return this.record.root.segments[item]!.hash;
    assert(this.#digests.length > 0, "a chunk is named once its payload was described");
    const at = (item - this.index.segments) * digestBytes;
    return hashFromBytes<"chunk">(this.#digests.subarray(at, at + digestBytes));
  }

  /** Says where a chunk lies as it was published; undefined for segments, and where nothing was published in place. */
  placeOf(item: number): (() => Promise<ItemPlace>) | undefined {
    const { variant, inPlaceRoot: root } = this.record;
    if (root === undefined || item < this.index.segments) return undefined;
    return async () => {
      const place = this.#chunkPlace(item);
      const ranges = await this.#underway(this.#workers.do<"rangesOf">({ kind: "rangesOf", at: this.#place, place }));
      return { repository: variant.repository, root, ranges };
    };
  }

  /** The items that have come with an item, itself first: those with the same bytes. */
  withCopies(item: number): readonly number[] {
    return [item, ...(this.#copiesOf.get(item) ?? [])];
  }

  /** An item's bytes, verified, for a peer. @throws {ChunkMissingError} {TreeDamagedError} when it is not here (any more). */
  async load(item: number): Promise<Uint8Array<ArrayBuffer>> {
    if (!this.have.has(item)) throw new ChunkMissingError(`item ${item} of ${this.payload} is not here yet`);
    try {
      return await loadItem(this.#workers, this.#place, this.record.root, this.index, item);
    } catch (error) {
      const isLost = error instanceof ChunkMissingError || error instanceof TreeDamagedError;
      // What is wrong here must not be committed; once it was finished, the tree may have moved to its place.
      if (isLost && !this.#isFinished) this.have.remove(item);
      throw error;
    }
  }

  /**
   * All items are in: final modes, links and times, and all of it made durable.
   * @throws {TreeDamagedError} when something of it was changed since it came; the next try fetches that again.
   */
  finish(signal?: AbortSignal): Promise<void> {
    return this.#underway(this.#finish(signal));
  }

  /** Waits for what is being written, and lets go of it. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isLeft) return;
    this.#isLeft = true;
    await Promise.allSettled([...this.#work]);
    this.#reservation.release();
    await this.#haveFile.close();
  }

  async #describe(): Promise<ChunkDescription> {
    const { rootBytes, attributes } = this.record;
    const { externalLinks } = attributes;
    const job = { kind: "prepare", at: this.#place, rootBytes, externalLinks, makesTree: true } as const;
    const prepared = await this.#workers.do<"prepare">(job);
    const copiesOf = new Map<number, number[]>();
    for (let i = 0; i < prepared.copies.length; i += 2) {
      const [first, copy] = [prepared.copies[i]!, prepared.copies[i + 1]!];
      const known = copiesOf.get(first);
      if (known === undefined) copiesOf.set(first, [copy]);
      else known.push(copy);
    }
    this.#copiesOf = copiesOf;
    this.#digests = prepared.digests;
    this.#sizesBytes = prepared.sizesBytes;
    const stored = await this.#rehashMarked();
    return { sizesBytes: prepared.sizesBytes, copiesOf, stored };
  }

  async #write(item: number, hash: ChunkHash, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const transfer = [bytes.buffer];
    const sizeBytes = bytes.length;
    if (item < this.index.segments) {
      const { objectsPath } = this.#place;
      await this.#workers.do<"storeSegment">({ kind: "storeSegment", objectsPath, hash, bytes }, { transfer });
      this.have.add(item);
      return;
    }
    const items = this.withCopies(item).filter((each) => !this.have.has(each));
    const places = items.map((each) => this.#chunkPlace(each));
    await this.#workers.do<"storeChunk">({ kind: "storeChunk", at: this.#place, places, bytes }, { transfer });
    this.#reservation.wrote(sizeBytes * items.length);
    await this.#mark(items);
  }

  async #finish(signal: AbortSignal | undefined): Promise<void> {
    if (this.have.count < this.index.items) {
      throw new TreeDamagedError(
        `${this.index.items - this.have.count} items of ${this.payload} have been lost in staging`,
      );
    }
    this.#isFinished = true;
    await this.#workers.do<"finish">({ kind: "finish", at: this.#place, rootBytes: this.record.rootBytes });
    try {
      await syncFilesystem(this.treePath, signal);
    } catch {
      signal?.throwIfAborted();
      await this.#workers.do<"sync">({ kind: "sync", at: this.#place, rootBytes: this.record.rootBytes });
    }
  }

  async #rehashMarked(): Promise<number[]> {
    const marked = await this.#readMarked();
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
    const right = new Set(batches.flatMap((batch, i) => batch.filter((_, place) => results[i]![place] === 1)));
    // Items with the same bytes come together: with one of them missing, all of them are asked for again.
    for (const [first, copies] of this.#copiesOf) {
      const group = [first, ...copies];
      if (!group.every((item) => right.has(item))) for (const item of group) right.delete(item);
    }
    for (const item of right) this.have.add(item);
    await this.#haveFile.truncate(this.have.bytes.length);
    await this.#haveFile.write(this.have.bytes, 0, this.have.bytes.length, 0);
    return [...right];
  }

  /** What an earlier try marked; nothing where the file is not a bitmap of this payload. */
  async #readMarked(): Promise<Bitmap | undefined> {
    const { bytesRead, buffer } = await this.#haveFile.read(new Uint8Array(this.have.bytes.length + 1), {
      position: 0,
    });
    return Bitmap.parse(buffer.subarray(0, bytesRead), this.index.items);
  }

  /** Remembers items across a crash: the write goes to the page cache, which a dying process does not take along. */
  async #mark(items: readonly number[]): Promise<void> {
    for (const item of items) {
      this.have.add(item);
      const at = item >> 3;
      try {
        await this.#haveFile.write(this.have.bytes, at, 1, at);
      } catch (error) {
        throw cacheError(this.path, error);
      }
    }
  }

  /** Work that must be over before another may take up this directory. */
  #underway<T>(unnamed: Promise<T>): Promise<T> {
    const work = unnamed.catch((error: unknown) => {
      throw cacheError(this.path, error);
    });
    const ended: Promise<unknown> = work.then(
      () => this.#work.delete(ended),
      (error: unknown) => {
        this.#isRefused ||= error instanceof FormatError;
        this.#work.delete(ended);
      },
    );
    this.#work.add(ended);
    return work;
  }

  #chunkPlace(item: number): ChunkPlace {
    const { segment, chunk } = this.index.locate(item);
    return { segment: this.record.root.segments[segment]!.hash, chunk };
  }
}

/** Chunks that one job hashes again: about 32 MiB, so that other jobs get their turn. */
const rehashBatch = 64;

/** The bitmap's file; whatever else lies in its place is thrown away. */
async function openHaveFile(path: string): Promise<FileHandle> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  try {
    return await open(path, flags, 0o600);
  } catch (error) {
    if (!hasCode(error, "EISDIR", "ELOOP", "ENXIO", "EACCES")) throw error;
    await rm(path, { recursive: true });
    return await open(path, flags, 0o600);
  }
}
