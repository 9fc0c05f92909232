import { type BigIntStats, closeSync, constants, fstatSync, lstatSync, openSync, readSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { cutLength, RunCutter } from "../../protocol/chunker.ts";
import { type ChunkHash, hashFromBytes } from "../../protocol/hash.ts";
import { chunkBytesMax, largeFileBytesMin, MIB, payloadBytesMax } from "../../protocol/limits.ts";
import {
  type BuiltManifest,
  type BuiltSegment,
  type BytelessEntry,
  ManifestBuilder,
} from "../../protocol/manifest-builder.ts";
import { linkLeavesTree, shown } from "../../protocol/paths.ts";
import { type ChunkRef, encodedPartBytes, type FileFacts, isKeptTime } from "../../protocol/segments.ts";
import type { HashEngine } from "../hasher.ts";
import { TreeMemory } from "./tree-memory.ts";
import {
  checkEntries,
  openTree,
  type TreeTop,
  treeChanged,
  treeError,
  unpublishable,
  type WalkOptions,
  walkTree,
} from "./walk-tree.ts";

/** Takes a chunk or a segment; its bytes are the taker's own from then on. */
export type ItemSink = (hash: ChunkHash, bytes: Uint8Array) => Promise<void>;

export interface ImportOptions extends WalkOptions {
  readonly engine: HashEngine;
  /** Called for every chunk that the manifest lists, so more than once where content repeats; at most 8 at a time. */
  readonly onChunk: ItemSink;
  readonly onSegment: ItemSink;
  /** Content bytes and files read so far; the last call says the totals. */
  readonly onProgress?: (bytes: number, files: number) => void;
  /** Keeps links that leave the tree. */
  readonly externalLinks?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Reads a tree once and makes it a manifest and its chunks (DESIGN section 3, decision 0001). Every item has been given
 * away and taken when it returns; the root's totals are those of the tree. Its buffers stay below 32 MiB.
 * @throws {UsageError} (UNPUBLISHABLE) for what the format or the options refuse; {TreeDamagedError} (TREE_CHANGED) when
 * the tree changes meanwhile; {UnusableError} for what cannot be read; what `onChunk` or `onSegment` rejects with.
 */
export async function importTree(treePath: string, options: ImportOptions): Promise<BuiltManifest> {
  const top = openTree(treePath, options);
  checkEntries(top, options);
  const intake = new Intake(top, options);
  const memory = new TreeMemory();
  try {
    let entries = 0;
    for (const entry of walkTree(top, options)) {
      memory.note(entry);
      // Reads are synchronous: without a turn now and then no abort, no progress and no write would come through.
      if (++entries % entriesPerTurn === 0) await nextTurn();
      options.signal?.throwIfAborted();
      if (entry.kind === "file") await intake.file(entry.path, entry.stats);
      else if (entry.kind === "link") await intake.link(entry.path, entry.target);
      else await intake.directory(entry.path, entry.stats);
    }
    const manifest = await intake.finish();
    await memory.compare(top, options);
    return manifest;
  } finally {
    await intake.settled();
  }
}

const entriesPerTurn = 256;
/** Chunks of at most 2 MiB each: 16 MiB at most, and twice what the thread pool can write at a time. */
const itemsOutstandingMax = 8;
/** One read(2) of a large file: a pipe of requests to a filer, without holding the loop for long. */
const readBytesMax = MIB;

/** Entries in order of their path bytes in, items and at last the manifest out. */
class Intake {
  readonly #top: TreeTop;
  readonly #options: ImportOptions;
  readonly #builder: ManifestBuilder;
  readonly #outbox = new Outbox();
  readonly #directories: { readonly path: string; readonly stats: BigIntStats }[] = [];
  readonly #links = new Map<string, string>();
  readonly #cutter = new RunCutter();
  /** The open run: its files, what stands between them, and after them what may yet turn out to. */
  #runEntries: BytelessEntry[] = [];
  #runEntriesToLastFile = 0;
  #runBytes = 0;
  readonly #runBuffer: Buffer = Buffer.allocUnsafeSlow(chunkBytesMax);
  readonly #fileBuffer: Buffer = Buffer.allocUnsafeSlow(2 * chunkBytesMax);
  #segments: BuiltSegment[] = [];
  #bytes = 0;
  #files = 0;

  constructor(top: TreeTop, options: ImportOptions) {
    this.#top = top;
    this.#options = options;
    this.#builder = new ManifestBuilder(options.engine.hash, (segment) => this.#segments.push(segment));
  }

  async directory(path: string, stats: BigIntStats): Promise<void> {
    this.#directories.push({ path, stats });
    await this.#byteless({ kind: "directory", path });
  }

  async link(path: string, target: string): Promise<void> {
    this.#links.set(path, target);
    await this.#byteless({ kind: "link", path, target });
  }

  async file(path: string, stats: BigIntStats): Promise<void> {
    const sizeBytes = Number(stats.size);
    if (this.#bytes + sizeBytes > payloadBytesMax) {
      throw unpublishable(`the tree ${shown(this.#top.path)} has more than ${payloadBytesMax} bytes`);
    }
    if (sizeBytes >= largeFileBytesMin) await this.#largeFile(path, stats, sizeBytes);
    else await this.#smallFile(path, stats, sizeBytes);
    this.#bytes += sizeBytes;
    this.#files++;
    this.#progress();
  }

  /** No more entries. */
  async finish(): Promise<BuiltManifest> {
    await this.#endRun();
    if (this.#options.externalLinks !== true) this.#checkLinks();
    const manifest = this.#builder.finish();
    await this.#sendSegments();
    await this.#outbox.emptied();
    this.#checkDirectories();
    this.#progress();
    return manifest;
  }

  /** Nothing is under way any more; what failed meanwhile is not told here. Never rejects. */
  async settled(): Promise<void> {
    await this.#outbox.settled();
  }

  async #byteless(entry: BytelessEntry): Promise<void> {
    const entryBytes = encodedPartBytes(entry);
    // Where not even an empty file would fit, no later file does, and the run is over.
    if (this.#runEntriesToLastFile > 0 && this.#cutter.fits(0, entryBytes)) {
      this.#cutter.pass(entryBytes);
      this.#runEntries.push(entry);
      return;
    }
    await this.#endRun();
    this.#builder.byteless(entry);
    await this.#sendSegments();
  }

  async #smallFile(path: string, stats: BigIntStats, sizeBytes: number): Promise<void> {
    const content = this.#fileBuffer.subarray(0, sizeBytes);
    await withFile(this.#top, path, stats, (descriptor) => readFully(descriptor, content, path));
    const digest = this.#options.engine.hash(content);
    const entry = { kind: "small", ...factsOf(path, stats, sizeBytes, digest) } as const;
    if (sizeBytes === 0) return this.#byteless(entry);
    const entryBytes = encodedPartBytes(entry);
    if (!this.#cutter.fits(sizeBytes, entryBytes)) await this.#endRun();
    content.copy(this.#runBuffer, this.#runBytes);
    this.#runBytes += sizeBytes;
    this.#runEntriesToLastFile = this.#runEntries.push(entry);
    if (this.#cutter.add(sizeBytes, entryBytes, digest)) await this.#endRun();
  }

  async #endRun(): Promise<void> {
    if (this.#runEntriesToLastFile === 0) return;
    const chunk = await this.#sendChunk(this.#runBuffer.subarray(0, this.#runBytes));
    this.#builder.run(chunk, this.#runEntries.slice(0, this.#runEntriesToLastFile));
    for (const entry of this.#runEntries.slice(this.#runEntriesToLastFile)) this.#builder.byteless(entry);
    this.#runEntries = [];
    this.#runEntriesToLastFile = 0;
    this.#runBytes = 0;
    this.#cutter.reset();
    await this.#sendSegments();
  }

  async #largeFile(path: string, stats: BigIntStats, sizeBytes: number): Promise<void> {
    await this.#endRun();
    const chunks: ChunkRef[] = [];
    const digest = await withFile(this.#top, path, stats, (descriptor) =>
      this.#largeContent(descriptor, path, sizeBytes, chunks),
    );
    this.#builder.large(factsOf(path, stats, sizeBytes, digest), chunks);
    await this.#sendSegments();
  }

  /** Cuts and sends a large file's content. Answers the digest of the whole. */
  async #largeContent(descriptor: number, path: string, sizeBytes: number, chunks: ChunkRef[]): Promise<Uint8Array> {
    const buffer = this.#fileBuffer;
    const whole = this.#options.engine.stream();
    let begin = 0;
    let end = 0;
    let unread = sizeBytes;
    let unsent = sizeBytes;
    while (unsent > 0) {
      if (end - begin < chunkBytesMax && unread > 0) {
        buffer.copyWithin(0, begin, end);
        end -= begin;
        begin = 0;
        const target = buffer.subarray(end, Math.min(buffer.length, end + unread));
        readFully(descriptor, target, path);
        for (let i = 0; i < target.length; i += readBytesMax) whole.update(target.subarray(i, i + readBytesMax));
        end += target.length;
        unread -= target.length;
      }
      const length = cutLength(buffer.subarray(begin, end));
      chunks.push(await this.#sendChunk(buffer.subarray(begin, begin + length)));
      begin += length;
      unsent -= length;
      this.#progress(sizeBytes - unsent);
      await nextTurn();
      this.#options.signal?.throwIfAborted();
    }
    return whole.digest();
  }

  /** Gives away a copy, since the buffer is used again; `slice` of a Buffer would be none. */
  async #sendChunk(content: Uint8Array): Promise<ChunkRef> {
    const digest = this.#options.engine.hash(content);
    await this.#send(this.#options.onChunk, hashFromBytes<"chunk">(digest), new Uint8Array(content));
    return { digest, sizeBytes: content.length };
  }

  async #sendSegments(): Promise<void> {
    if (this.#segments.length === 0) return;
    const segments = this.#segments;
    this.#segments = [];
    for (const { hash, bytes } of segments) await this.#send(this.#options.onSegment, hash, bytes);
  }

  async #send(sink: ItemSink, hash: ChunkHash, bytes: Uint8Array): Promise<void> {
    await this.#outbox.send(() => sink(hash, bytes));
    this.#options.signal?.throwIfAborted();
  }

  #progress(moreBytes = 0): void {
    this.#options.onProgress?.(this.#bytes + moreBytes, this.#files);
  }

  #checkLinks(): void {
    for (const [path, target] of this.#links) {
      if (!linkLeavesTree(path, this.#links)) continue;
      throw unpublishable(`the link ${shown(path)} -> ${shown(target)} leaves the tree`, {
        hint: "a record with externalLinks may keep such links",
      });
    }
  }

  /** Names that came, went or moved since the walk came by show in the times of their directories. */
  #checkDirectories(): void {
    checkUnchanged(this.#top.path, this.#top.stats);
    for (const { path, stats } of this.#directories) checkUnchanged(`${this.#top.path}/${path}`, stats);
  }
}

/** What is under way to the taker: few at a time, the first failure ends all. */
class Outbox {
  readonly #underway = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  /** Starts a task, once there is room. @throws what an earlier task rejected with. */
  async send(task: () => Promise<void>): Promise<void> {
    while (this.#underway.size >= itemsOutstandingMax) await Promise.race(this.#underway);
    this.#throwIfFailed();
    const ended: Promise<void> = task()
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .then(() => void this.#underway.delete(ended));
    this.#underway.add(ended);
  }

  /** @throws what a task rejected with. */
  async emptied(): Promise<void> {
    await this.settled();
    this.#throwIfFailed();
  }

  async settled(): Promise<void> {
    await Promise.all(this.#underway);
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

/** Opens a file of the tree, uses it, and makes sure that it is still what the walk saw. */
async function withFile<Result>(
  top: TreeTop,
  path: string,
  seen: BigIntStats,
  use: (descriptor: number) => Result | Promise<Result>,
): Promise<Result> {
  const descriptor = openFile(top, path);
  try {
    if (!isSame(seen, fstatSync(descriptor, { bigint: true }))) throw treeChanged(path);
    const result = await use(descriptor);
    if (!isSame(seen, fstatSync(descriptor, { bigint: true }))) throw treeChanged(path);
    return result;
  } finally {
    closeSync(descriptor);
  }
}

function openFile(top: TreeTop, path: string): number {
  try {
    // Without O_NONBLOCK a FIFO put in the file's place would be waited for.
    return openSync(`${top.path}/${path}`, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    throw treeError(error, path);
  }
}

function readFully(descriptor: number, target: Uint8Array, path: string): void {
  let filled = 0;
  while (filled < target.length) {
    let count: number;
    try {
      count = readSync(descriptor, target, filled, Math.min(target.length - filled, readBytesMax), null);
    } catch (error) {
      throw treeError(error, path);
    }
    if (count === 0) throw treeChanged(path);
    filled += count;
  }
}

function checkUnchanged(path: string, seen: BigIntStats): void {
  let now: BigIntStats;
  try {
    now = lstatSync(path, { bigint: true });
  } catch (error) {
    throw treeError(error, path);
  }
  if (!isSame(seen, now)) throw treeChanged(path);
}

function isSame(seen: BigIntStats, now: BigIntStats): boolean {
  const isSameFile = seen.ino === now.ino && seen.dev === now.dev;
  // Who sets the time of a file back after writing to it cannot set back when it did that.
  return isSameFile && seen.size === now.size && seen.mtimeNs === now.mtimeNs && seen.ctimeNs === now.ctimeNs;
}

function factsOf(path: string, stats: BigIntStats, sizeBytes: number, digest: Uint8Array): FileFacts {
  // Division of integers goes towards zero; before 1970 that is not down.
  const mtimeSeconds = Number((stats.mtimeNs - (((stats.mtimeNs % second) + second) % second)) / second);
  if (!isKeptTime(mtimeSeconds)) {
    throw unpublishable(`the time of ${shown(path)} is not one that every filesystem keeps`, { hint: "touch it" });
  }
  return { path, executable: (stats.mode & 0o100n) !== 0n, mtimeSeconds, sizeBytes, digest };
}

const second = 1_000_000_000n;
