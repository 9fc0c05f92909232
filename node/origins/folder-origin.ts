import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { chmod, link, lstat, mkdir, open, rename, rm, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { assert, NotTrustedError, P2pCacheError, UnreachableError, UnusableError } from "../../protocol/errors.ts";
import { type ChunkHash, compareBytes, type VariantHash } from "../../protocol/hash.ts";
import { recordBytesMax } from "../../protocol/limits.ts";
import type { Repository } from "../ports.ts";
import { directFiles } from "./direct-files.ts";
import { codeOf, type FolderOptions } from "./folder-faults.ts";
import { FolderReader } from "./folder-reader.ts";
import { folderNowMs } from "./folder-sweep.ts";
import { chunkPath, describeRepository, descriptionPath, packChunk, recordPath } from "./objects.ts";
import { isWholeFrame } from "./zstd-frame.ts";

export interface RepositoryOptions extends FolderOptions {
  /**
   * Whether a folder without `p2pcache.json` is a new repository. To readers it is unreachable, since that is what a
   * mount point looks like while nothing is mounted there.
   */
  readonly publishes?: boolean;
  /** Whether chunks are compressed where that saves a tenth or more (decision 0020); it does unless told otherwise. */
  readonly compress?: boolean;
}

/**
 * A repository in a folder (DESIGN section 4), read and written in this very process, as a publisher does: plain files
 * that are written beside their place, made durable and then moved there, and never changed again; one of a wrong size
 * is replaced by the same way.
 */
export class FolderRepository extends FolderReader implements Repository {
  readonly #publishes: boolean;
  readonly #compresses: boolean;
  readonly #directories = new Set<string>();
  /** Directories with new names in them, which are not yet durable. */
  readonly #unsynced = new Set<string>();
  /** Objects of somebody else that could not be made young: they are written anew. */
  readonly #untouchable = new Set<string>();
  #probed: { readonly atMs: number; readonly folderMs: number } | undefined;

  private constructor(options: RepositoryOptions) {
    super(options, directFiles);
    this.#publishes = options.publishes === true;
    this.#compresses = options.compress !== false;
  }

  /**
   * Opens a repository. One that cannot be reached now is opened all the same, and checked when it is first used.
   * @throws {UsageError} when it belongs to another network; {VersionError} when its format is newer than this program.
   */
  static async open(options: RepositoryOptions): Promise<FolderRepository> {
    const repository = new FolderRepository(options);
    try {
      await repository.check();
    } catch (error) {
      if (!(error instanceof UnreachableError)) throw error;
    }
    return repository;
  }

  /** The folder says from now on what it is, before anything is released. @throws {UsageError} when it is of another network. */
  async found(): Promise<void> {
    await this.#begin();
    await this.#syncDirectories();
  }

  async has(hash: ChunkHash, sizeBytes: number): Promise<boolean> {
    await this.check();
    const path = await this.#chunkAt(hash, sizeBytes);
    if (path === undefined) return false;
    this.#leftBehind(path);
    return true;
  }

  async reuse(hash: ChunkHash, sizeBytes: number): Promise<boolean> {
    await this.check();
    const path = await this.#chunkAt(hash, sizeBytes);
    if (path === undefined) return false;
    this.#leftBehind(path);
    const outcome = await this.#makeYoung(path);
    if (outcome === "forbidden") this.#untouchable.add(path);
    return outcome === "young";
  }

  /** As one that was written just now, by the clock that `origin gc` judges by; "gone": it was just being removed. */
  async #makeYoung(path: string): Promise<"young" | "gone" | "forbidden"> {
    try {
      const nowMs = await this.#folderNowMs();
      const { mtimeMs } = await lstat(this.absolute(path));
      if (mtimeMs < nowMs) await utimes(this.absolute(path), nowMs / 1000, nowMs / 1000);
      return "young";
    } catch (error) {
      const cause = error instanceof P2pCacheError ? error.cause : error;
      if (isCode(cause, "ENOENT")) return "gone";
      if (isCode(cause, "EPERM", "EACCES", "EROFS")) return "forbidden"; // Only its owner may.
      throw this.failure(path, error);
    }
  }

  /** By a probe file now and then, not one a chunk. */
  async #folderNowMs(): Promise<number> {
    const nowMs = performance.now();
    if (this.#probed === undefined || nowMs - this.#probed.atMs > probeMs) {
      this.#probed = { atMs: nowMs, folderMs: await folderNowMs(this.absolute(".")) };
    }
    return this.#probed.folderMs + (nowMs - this.#probed.atMs);
  }

  /** The file is durable at once, its name with the next record: one sync a directory, not one a chunk. */
  async putChunk(hash: ChunkHash, bytes: Uint8Array): Promise<void> {
    await this.#begin();
    const there = await this.#chunkAt(hash, bytes.length);
    if (there !== undefined && !this.#untouchable.has(there)) return this.#leftBehind(there);
    const { form, bytes: kept } = await this.#pack(hash, bytes);
    const path = chunkPath(hash, form);
    // Whoever else writes it meanwhile writes the same bytes, so that replacing it changes nothing; what was cut short
    // is replaced whole.
    await this.#write(path, kept, rename);
    this.#untouchable.delete(path);
    if (form === "plain") await this.#removePacked(hash);
  }

  /** One that was cut short: readers may look for it first. */
  async #removePacked(hash: ChunkHash): Promise<void> {
    const path = chunkPath(hash, "zst");
    await rm(this.absolute(path), { force: true }).catch((error: unknown) => {
      throw this.failure(path, error);
    });
  }

  async putRecord(variant: VariantHash, revision: number, envelope: Uint8Array): Promise<void> {
    await this.#begin();
    const isFirst = revision === 0 || (await this.exists(recordPath(variant, revision - 1)));
    assert(isFirst, "revisions leave no gap, or readers would not find them");
    await this.#syncDirectories();
    const path = recordPath(variant, revision);
    if (!(await this.#writeOnce(path, envelope))) {
      const existing = await this.read(path, recordBytesMax);
      if (existing === undefined || compareBytes(existing, envelope) !== 0) {
        throw new NotTrustedError(`${this.name} has another record as ${this.absolute(path)}`, {
          code: "RECORD_CONFLICT",
          hint: "somebody else released this revision; publish again to see what they released",
        });
      }
    }
    await this.#syncDirectories();
  }

  protected override async isNew(): Promise<boolean> {
    return this.#publishes && (await this.exists("."));
  }

  /** Before something is written: the repository is ours, or becomes one now. */
  async #begin(): Promise<void> {
    await this.check();
    if (this.isChecked) return;
    await this.#writeOnce(descriptionPath, describeRepository(this.options.network));
    await this.check();
  }

  /** Where a chunk lies whole, as far as its size tells, or the headers of its frame. */
  async #chunkAt(hash: ChunkHash, sizeBytes: number): Promise<string | undefined> {
    const plain = chunkPath(hash);
    if ((await this.#sizeOf(plain)) === sizeBytes) return plain;
    const packed = chunkPath(hash, "zst");
    return (await this.#isWholeFrame(packed, sizeBytes)) ? packed : undefined;
  }

  async #isWholeFrame(path: string, sizeBytes: number): Promise<boolean> {
    const fileBytes = await this.#sizeOf(path);
    if (fileBytes === undefined) return false;
    try {
      await using file = await open(this.absolute(path), constants.O_RDONLY | constants.O_NOFOLLOW);
      const read = async (at: number, lengthBytes: number) => {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(lengthBytes), 0, lengthBytes, at);
        return buffer.subarray(0, bytesRead);
      };
      return await isWholeFrame(read, fileBytes, sizeBytes);
    } catch (error) {
      if (isCode(error, "ENOENT")) return false;
      throw this.failure(path, error);
    }
  }

  /** How a chunk is kept: what was cut short is replaced in its own form, or readers would find it first. */
  async #pack(hash: ChunkHash, bytes: Uint8Array): ReturnType<typeof packChunk> {
    const isCutShort = (await this.#sizeOf(chunkPath(hash))) !== undefined;
    return !this.#compresses || isCutShort ? { form: "plain", bytes } : await packChunk(bytes);
  }

  /** Of a regular file; undefined where there is none. */
  async #sizeOf(path: string): Promise<number | undefined> {
    try {
      const stats = await lstat(this.absolute(path));
      return stats.isFile() ? stats.size : undefined;
    } catch (error) {
      if (codeOf(error) === "ENOENT") return undefined;
      throw this.failure(path, error);
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
      if (error instanceof P2pCacheError && codeOf(error.cause) === "EEXIST") return false;
      throw error;
    }
  }

  async #write(path: string, bytes: Uint8Array, place: (from: string, to: string) => Promise<void>): Promise<void> {
    const absolute = this.absolute(path);
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
      if (!isCode(error, "EACCES", "EPERM", "EROFS")) throw this.failure(path, error);
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
    const absolute = this.absolute(path);
    try {
      await mkdir(absolute);
      await chmod(absolute, 0o755); // Whatever the publisher's umask.
      this.#unsynced.add(dirname(path));
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
    }
    this.#directories.add(path);
  }

  async #syncDirectories(): Promise<void> {
    for (const path of [...this.#unsynced]) {
      this.#unsynced.delete(path);
      try {
        await using directory = await open(this.absolute(path), constants.O_RDONLY);
        await directory.sync();
      } catch (error) {
        this.#unsynced.add(path);
        throw this.failure(path, error);
      }
    }
  }

  /** A record will name what somebody wrote and may have died before making the name durable: we make it so. */
  #leftBehind(path: string): void {
    this.#unsynced.add(dirname(path));
    this.#unsynced.add(dirname(dirname(path)));
  }
}

/** How long the folder's clock is believed to go as fast as ours. */
const probeMs = 60_000;

async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  await using file = await open(path, "wx", 0o644);
  await file.chmod(0o644); // Whatever the publisher's umask.
  await file.writeFile(bytes);
  await file.sync();
}

function isCode(error: unknown, ...codes: string[]): boolean {
  return codes.includes(codeOf(error) ?? "");
}
