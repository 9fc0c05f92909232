import { join } from "node:path";
import { ChunkCorruptError, ChunkMissingError, FormatError, ReleaseChangedError } from "../../protocol/errors.ts";
import type { ChunkHash, VariantHash } from "../../protocol/hash.ts";
import { originIndexBytesMax, policyFileBytesMax, recordBytesMax } from "../../protocol/limits.ts";
import { originIndexPath } from "../../protocol/origin-index.ts";
import type { ChunkOptions, Origin, WaitOptions } from "../ports.ts";
import { type FolderOptions, folderFailure, folderUnreachable } from "./folder-faults.ts";
import type { FolderFiles } from "./folder-files.ts";
import { FormGuess } from "./form-guess.ts";
import {
  type ChunkForm,
  checkDescription,
  chunkPath,
  descriptionBytesMax,
  descriptionPath,
  policyPath,
  recordPath,
  unpackChunk,
} from "./objects.ts";

/** How a folder is read. */
export interface ReaderOptions extends FolderOptions {
  /**
   * Where this machine mounts the repositories whose releases may be read in place, by id; absent where none may. It is
   * looked at anew each time.
   */
  readonly inPlace?: ReadonlyMap<string, string>;
}

/**
 * A repository in a folder (DESIGN section 4), read: by the calls of `files`, which a node has made in a child process.
 * A chunk is looked for among the repository's objects first: these never change, and a release that was published both
 * ways can be had also when its tree was changed.
 */
export class FolderReader implements Origin {
  readonly name: string;
  protected readonly options: ReaderOptions;
  protected readonly files: FolderFiles;
  readonly #forms = new FormGuess();
  #isChecked = false;

  constructor(options: ReaderOptions, files: FolderFiles) {
    this.name = options.name;
    this.options = options;
    this.files = files;
  }

  async latestRecord(variant: VariantHash, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    options.signal?.throwIfAborted();
    await this.check(options);
    let revision = -1;
    while (await this.exists(recordPath(variant, revision + 1), options)) revision++;
    if (revision >= 0) return await this.read(recordPath(variant, revision), recordBytesMax, options);
    await this.checkAgain(options);
    return undefined;
  }

  async chunk(hash: ChunkHash, sizeBytes: number, options: ChunkOptions = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    await this.check(options);
    const stored = await this.#storedChunk(hash, sizeBytes, options);
    if (stored !== undefined) return stored;
    const inPlace = await this.#chunkInPlace(options);
    if (inPlace !== undefined) return inPlace;
    await this.checkAgain(options);
    throw new ChunkMissingError(`${this.name} has no chunk ${hash}`);
  }

  async index(options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    options.signal?.throwIfAborted();
    await this.check(options);
    return await this.read(originIndexPath, originIndexBytesMax, options);
  }

  async policyFile(name: string, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    options.signal?.throwIfAborted();
    await this.check(options);
    const bytes = await this.read(policyPath(name), policyFileBytesMax, options);
    if (bytes === undefined) await this.checkAgain(options);
    return bytes;
  }

  /**
   * Makes sure that the folder is a repository of our network, once.
   * @throws {UsageError} {VersionError} {FormatError} when it is none; {UnreachableError} when it cannot be asked.
   */
  async check(options: WaitOptions = {}): Promise<void> {
    if (this.#isChecked) return;
    const bytes = await this.read(descriptionPath, descriptionBytesMax, options);
    if (bytes === undefined) {
      if (await this.isNew()) return;
      const why = "is not there, or has no p2pcache.json: not mounted, or still empty";
      throw folderUnreachable(this.name, this.options.path, why);
    }
    checkDescription(bytes, this.absolute(descriptionPath), this.options.network);
    this.#isChecked = true;
  }

  /** Whether a folder without `p2pcache.json` is a new repository. That is what a mount point looks like, too. */
  protected isNew(): Promise<boolean> {
    return Promise.resolve(false);
  }

  /** Whether `p2pcache.json` was there, and right. */
  protected get isChecked(): boolean {
    return this.#isChecked;
  }

  /** Something is missing: is it only that, or has the whole mount gone? */
  protected async checkAgain(options: WaitOptions = {}): Promise<void> {
    this.#isChecked = false;
    await this.check(options);
  }

  protected async exists(path: string, { signal }: WaitOptions = {}): Promise<boolean> {
    try {
      return await this.files.exists(this.absolute(path), signal);
    } catch (error) {
      throw this.failure(path, error);
    }
  }

  /** Reads a whole file of at most `bytesMax` bytes; undefined where there is none. */
  protected async read(path: string, bytesMax: number, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    const found = await this.#find(path, bytesMax, options);
    switch (found.kind) {
      case "bytes":
        return found.bytes;
      case "absent":
        return undefined;
      case "otherSize":
        throw new FormatError(`${this.absolute(path)} has ${found.foundBytes} bytes, more than ${bytesMax}`);
    }
  }

  protected absolute(path: string): string {
    return join(this.options.path, path);
  }

  protected failure(path: string, error: unknown): unknown {
    return folderFailure(this.name, this.absolute(path), error);
  }

  async #storedChunk(hash: ChunkHash, sizeBytes: number, options: WaitOptions): Promise<Uint8Array | undefined> {
    for (const form of this.#forms.inOrder()) {
      const bytes = await this.#chunkAs(form, hash, sizeBytes, options);
      if (bytes === undefined) continue;
      this.#forms.found(form);
      return bytes;
    }
    return undefined;
  }

  async #chunkAs(
    form: ChunkForm,
    hash: ChunkHash,
    sizeBytes: number,
    options: WaitOptions,
  ): Promise<Uint8Array | undefined> {
    const path = chunkPath(hash, form);
    const found = await this.#find(path, sizeBytes, options);
    if (found.kind === "absent") return undefined;
    if (found.kind === "bytes" && form === "zst") {
      return await unpackChunk(found.bytes, sizeBytes, this.absolute(path));
    }
    if (found.kind === "bytes" && found.bytes.length === sizeBytes) return found.bytes;
    const foundBytes = found.kind === "bytes" ? found.bytes.length : found.foundBytes;
    throw new ChunkCorruptError(`${this.name} has ${foundBytes} bytes for chunk ${hash}, which has ${sizeBytes}`);
  }

  /** The bytes from the release's own tree; undefined where it was not published in place, or none may be read so. */
  async #chunkInPlace({ place, onInPlace, signal }: ChunkOptions): Promise<Uint8Array | undefined> {
    if (place === undefined || this.options.inPlace === undefined) return undefined;
    const release = await place();
    const mount = this.options.inPlace.get(release.repository);
    if (mount === undefined) return undefined;
    const path = join(mount, release.root);
    const { root, ranges } = release;
    try {
      const found = await this.files.readInPlace({ mount, root, ranges }, signal);
      switch (found.kind) {
        case "bytes":
          onInPlace?.(path);
          return found.bytes;
        case "notMounted":
          throw folderUnreachable(
            this.name,
            mount,
            `is not mounted: the repository ${release.repository} has a release in it`,
          );
        case "changed":
          throw new ReleaseChangedError(path, found.path, found.why);
      }
    } catch (error) {
      throw folderFailure(this.name, path, error);
    }
  }

  async #find(path: string, bytesMax: number, { signal }: WaitOptions): ReturnType<FolderFiles["read"]> {
    try {
      return await this.files.read(this.absolute(path), bytesMax, signal);
    } catch (error) {
      throw this.failure(path, error);
    }
  }
}
