import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { chmod, type FileHandle, link, lstat, mkdir, open, rename, rm, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  assert,
  ChunkCorruptError,
  ChunkMissingError,
  FormatError,
  NoSpaceError,
  NotTrustedError,
  P2pCacheError,
  UnreachableError,
  UnusableError,
  UsageError,
  VersionError,
} from "../../protocol/errors.ts";
import { type ChunkHash, compareBytes, type VariantHash } from "../../protocol/hash.ts";
import { KIB, recordBytesMax } from "../../protocol/limits.ts";
import type { Repository, WaitOptions } from "../ports.ts";

export interface FolderOptions {
  /** As people and logs know the origin. */
  readonly name: string;
  /** The folder, usually on a mounted filer. It must exist. */
  readonly path: string;
  /** `network.name`: a repository of another network is refused. */
  readonly network: string;
  /**
   * Whether a folder without `p2pcache.json` is a new repository. To readers it is unreachable, since that is what a
   * mount point looks like while nothing is mounted there.
   */
  readonly publishes?: boolean;
}

/**
 * A repository in a folder (DESIGN section 4): plain files that are written beside their place, made durable and then
 * moved there, and never changed again; one of a wrong size is replaced by the same way. An abort is answered at once; the system call behind it ends when it does.
 */
export class FolderRepository implements Repository {
  readonly name: string;
  readonly #options: FolderOptions;
  #isChecked = false;
  readonly #directories = new Set<string>();
  /** Directories with new names in them, which are not yet durable. */
  readonly #unsynced = new Set<string>();

  private constructor(options: FolderOptions) {
    this.name = options.name;
    this.#options = options;
  }

  /**
   * Opens a repository. One that cannot be reached now is opened all the same, and checked when it is first used.
   * @throws {UsageError} when it belongs to another network; {VersionError} when its format is newer than this program.
   */
  static async open(options: FolderOptions): Promise<FolderRepository> {
    const repository = new FolderRepository(options);
    try {
      await repository.#check();
    } catch (error) {
      if (!(error instanceof UnreachableError)) throw error;
    }
    return repository;
  }

  async latestRecord(variant: VariantHash, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    options.signal?.throwIfAborted();
    return await abortable(this.#latestRecord(variant, options), options);
  }

  async chunk(hash: ChunkHash, sizeBytes: number, options: WaitOptions = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    return await abortable(this.#chunk(hash, sizeBytes), options);
  }

  async has(hash: ChunkHash, sizeBytes: number): Promise<boolean> {
    await this.#check();
    if (!(await this.#exists(chunkPath(hash), sizeBytes))) return false;
    this.#leftBehind(chunkPath(hash));
    return true;
  }

  async reuse(hash: ChunkHash, sizeBytes: number): Promise<boolean> {
    if (!(await this.has(hash, sizeBytes))) return false;
    const now = new Date();
    try {
      await utimes(this.#absolute(chunkPath(hash)), now, now);
    } catch (error) {
      if (isCode(error, "ENOENT")) return false; // It was just being removed.
      // Only its owner may: whoever removes it then is that owner, too.
      if (!isCode(error, "EPERM") && !isCode(error, "EACCES")) throw this.#failure(chunkPath(hash), error);
    }
    return true;
  }

  /** The file is durable at once, its name with the next record: one sync a directory, not one a chunk. */
  async putChunk(hash: ChunkHash, bytes: Uint8Array): Promise<void> {
    await this.#begin();
    const path = chunkPath(hash);
    if (await this.#exists(path, bytes.length)) return this.#leftBehind(path);
    // Whoever else writes it meanwhile writes the same bytes, so that replacing it changes nothing; what was cut short
    // is replaced whole.
    await this.#write(path, bytes, rename);
  }

  async putRecord(variant: VariantHash, revision: number, envelope: Uint8Array): Promise<void> {
    await this.#begin();
    const isFirst = revision === 0 || (await this.#exists(recordPath(variant, revision - 1)));
    assert(isFirst, "revisions leave no gap, or readers would not find them");
    await this.#syncDirectories();
    const path = recordPath(variant, revision);
    if (!(await this.#writeOnce(path, envelope))) {
      const existing = await this.#read(path, recordBytesMax);
      if (existing === undefined || compareBytes(existing, envelope) !== 0) {
        throw new NotTrustedError(`${this.name} has another record as ${this.#absolute(path)}`, {
          code: "RECORD_CONFLICT",
          hint: "somebody else released this revision; publish again to see what they released",
        });
      }
    }
    await this.#syncDirectories();
  }

  async #latestRecord(variant: VariantHash, options: WaitOptions): Promise<Uint8Array | undefined> {
    await this.#check();
    let revision = -1;
    while (await this.#exists(recordPath(variant, revision + 1))) {
      options.signal?.throwIfAborted();
      revision++;
    }
    if (revision >= 0) return await this.#read(recordPath(variant, revision), recordBytesMax);
    await this.#checkAgain();
    return undefined;
  }

  async #chunk(hash: ChunkHash, sizeBytes: number): Promise<Uint8Array> {
    await this.#check();
    const bytes = await this.#read(chunkPath(hash), sizeBytes, (foundBytes) => {
      return new ChunkCorruptError(`${this.name} has ${foundBytes} bytes for chunk ${hash}, which has ${sizeBytes}`);
    });
    if (bytes !== undefined) return bytes;
    await this.#checkAgain();
    throw new ChunkMissingError(`${this.name} has no chunk ${hash}`);
  }

  /** Makes sure that the folder is a repository of our network, once. Answers whether `p2pcache.json` is there. */
  async #check(): Promise<boolean> {
    if (this.#isChecked) return true;
    const bytes = await this.#read(descriptionPath, descriptionBytesMax);
    if (bytes === undefined) {
      if (this.#options.publishes === true && (await this.#exists("."))) return false;
      throw this.#unreachable(this.#options.path, "is not there, or has no p2pcache.json: not mounted, or still empty");
    }
    checkDescription(bytes, this.#absolute(descriptionPath), this.#options.network);
    this.#isChecked = true;
    return true;
  }

  /** Something is missing: is it only that, or has the whole mount gone? */
  async #checkAgain(): Promise<void> {
    this.#isChecked = false;
    await this.#check();
  }

  /** Before something is written: the repository is ours, or becomes one now. */
  async #begin(): Promise<void> {
    if (await this.#check()) return;
    const description = { formatVersion, network: this.#options.network };
    await this.#writeOnce(descriptionPath, Buffer.from(`${JSON.stringify(description)}\n`));
    await this.#check();
  }

  /** With `sizeBytes`: as a file of just that size. */
  async #exists(path: string, sizeBytes?: number): Promise<boolean> {
    try {
      const stats = await lstat(this.#absolute(path));
      return sizeBytes === undefined || (stats.isFile() && stats.size === sizeBytes);
    } catch (error) {
      if (isCode(error, "ENOENT")) return false;
      throw this.#failure(path, error);
    }
  }

  /**
   * Reads a whole file of at most `bytesMax` bytes; undefined where there is none. With `wrongSize`, of just so many.
   */
  async #read(path: string, bytesMax: number, wrongSize?: (foundBytes: number) => Error): Promise<Buffer | undefined> {
    try {
      // Without O_NONBLOCK a FIFO in its place would be waited for.
      await using file = await open(this.#absolute(path), constants.O_RDONLY | constants.O_NONBLOCK);
      const { size } = await file.stat();
      if (wrongSize !== undefined && size !== bytesMax) throw wrongSize(size);
      if (size > bytesMax) throw new FormatError(`${this.#absolute(path)} has ${size} bytes, more than ${bytesMax}`);
      const bytes = Buffer.allocUnsafeSlow(size);
      const read = await readFully(file, bytes);
      if (read < size && wrongSize !== undefined) throw wrongSize(read);
      return bytes.subarray(0, read);
    } catch (error) {
      if (isCode(error, "ENOENT")) return undefined;
      throw this.#failure(path, error);
    }
  }

  /** Writes a file unless its name is taken. Answers whether it did. */
  async #writeOnce(path: string, bytes: Uint8Array): Promise<boolean> {
    try {
      await this.#write(path, bytes, async (from, to) => {
        await link(from, to);
        await rm(from);
      });
      return true;
    } catch (error) {
      if (error instanceof P2pCacheError && isCode(error.cause, "EEXIST")) return false;
      throw error;
    }
  }

  async #write(path: string, bytes: Uint8Array, place: (from: string, to: string) => Promise<void>): Promise<void> {
    const absolute = this.#absolute(path);
    const beside = join(dirname(absolute), `.${randomBytes(12).toString("hex")}.tmp`);
    try {
      await this.#makeDirectory(dirname(path));
      try {
        await writeDurably(beside, bytes).catch(async (error: unknown) => {
          if (!isCode(error, "ENOENT")) throw error;
          this.#directories.clear(); // An empty one was cleared away since we saw it.
          await this.#makeDirectory(dirname(path));
          await writeDurably(beside, bytes);
        });
        await place(beside, absolute);
      } catch (error) {
        await rm(beside, { force: true }).catch(() => undefined); // What went wrong first is what counts.
        throw error;
      }
    } catch (error) {
      if (!isCode(error, "EACCES", "EPERM", "EROFS")) throw this.#failure(path, error);
      throw new UnusableError(`the origin ${this.name} cannot be written: ${absolute}: ${codeOf(error)}`, {
        hint: "publish as the user whom its folder belongs to, and see that its mount is not read-only",
        cause: error,
      });
    }
    this.#unsynced.add(dirname(path));
  }

  async #makeDirectory(path: string): Promise<void> {
    if (path === "." || this.#directories.has(path)) return;
    await this.#makeDirectory(dirname(path));
    const absolute = this.#absolute(path);
    try {
      await mkdir(absolute);
      await chmod(absolute, 0o755); // Whatever the publisher's umask.
      this.#unsynced.add(dirname(path));
    } catch (error) {
      if (!isCode(error, "EEXIST")) throw error;
    }
    this.#directories.add(path);
  }

  async #syncDirectories(): Promise<void> {
    for (const path of [...this.#unsynced]) {
      this.#unsynced.delete(path);
      try {
        await using directory = await open(this.#absolute(path), constants.O_RDONLY);
        await directory.sync();
      } catch (error) {
        this.#unsynced.add(path);
        throw this.#failure(path, error);
      }
    }
  }

  /** A record will name what somebody wrote and may have died before making the name durable: we make it so. */
  #leftBehind(path: string): void {
    this.#unsynced.add(dirname(path));
    this.#unsynced.add(dirname(dirname(path)));
  }

  #absolute(path: string): string {
    return join(this.#options.path, path);
  }

  #failure(path: string, error: unknown): unknown {
    const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
    if (error instanceof P2pCacheError || code === undefined) return error;
    if (code === "ENOSPC" || code === "EDQUOT") {
      return new NoSpaceError(`the origin ${this.name} is full (${this.#absolute(path)}: ${code})`, { cause: error });
    }
    return this.#unreachable(this.#absolute(path), `fails with ${code}`, error);
  }

  #unreachable(path: string, why: string, cause?: unknown): UnreachableError {
    const options = cause === undefined ? {} : { cause };
    return new UnreachableError(`the origin ${this.name} cannot be used: ${path} ${why}`, options);
  }
}

const descriptionPath = "p2pcache.json";
const descriptionBytesMax: number = 64 * KIB;
const formatVersion = 1;

function chunkPath(hash: ChunkHash): string {
  return `chunks/${hash.slice(0, 2)}/${hash}`;
}

function recordPath(variant: VariantHash, revision: number): string {
  return `variants/${variant.slice(0, 2)}/${variant}/${revision}.dsse.json`;
}

function checkDescription(bytes: Buffer, path: string, network: string): void {
  let value: { readonly formatVersion?: unknown; readonly network?: unknown } | null;
  try {
    value = JSON.parse(bytes.toString()) as typeof value;
  } catch (cause) {
    throw new FormatError(`${path} is not JSON`, { cause });
  }
  if (value?.formatVersion !== formatVersion) throw new VersionError(path, value?.formatVersion);
  if (value.network === network) return;
  throw new UsageError(`${path} is of the network ${JSON.stringify(value.network)}, not ${JSON.stringify(network)}`, {
    code: "OTHER_NETWORK",
    hint: "check network.name and the origin's path in the configuration",
  });
}

async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  await using file = await open(path, "wx", 0o644);
  await file.chmod(0o644); // Whatever the publisher's umask.
  await file.writeFile(bytes);
  await file.sync();
}

/** Answers how many bytes there were. */
async function readFully(file: FileHandle, target: Buffer): Promise<number> {
  let filled = 0;
  while (filled < target.length) {
    const { bytesRead } = await file.read(target, filled, target.length - filled, null);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}

/** What work answers, or the reason of an abort, whichever comes first. */
async function abortable<Result>(work: Promise<Result>, { signal }: WaitOptions): Promise<Result> {
  if (signal === undefined) return await work;
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([aborted.promise, work]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function isCode(error: unknown, ...codes: string[]): boolean {
  return codes.includes(codeOf(error) ?? "");
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
}
