import { stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { NoSpaceError } from "../../protocol/errors.ts";
import { evictionInodesMin } from "../../protocol/limits.ts";

/** What a filesystem has left for us; `bavail` and the like, as statfs(2) says. */
export interface DiskSpace {
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** Undefined where the filesystem does not count inodes. */
  readonly freeInodes: number | undefined;
  readonly blockBytes: number;
}

/** How much of the disk a cache may take (CONTRACTS, `cache.max_bytes` and `cache.free_bytes_min`). */
export interface SpaceLimits {
  readonly maxBytes: number;
  readonly freeBytesMin: number;
  readonly maxVariants?: number | undefined;
}

/** What is still to be written of a tree, and the whole of it. */
export interface Need {
  readonly bytes: number;
  readonly totalBytes: number;
  readonly inodes: number;
  /** 1 for a variant of which no other revision is held. */
  readonly variants?: number;
}

/** How full cache and disk are, what room is reserved for taken as written. */
export interface SpaceUse {
  readonly usedBytes: number;
  readonly freeBytes: number;
  readonly freeInodes: number | undefined;
  readonly blockBytes: number;
  /** For how many variants room is reserved. */
  readonly comingVariants: number;
}

/** Room that is kept for one fetch until it is released. */
export interface Reservation {
  /** So much has been written: the disk counts it from now on. */
  wrote(bytes: number): void;
  release(): void;
}

/** Reads a disk's space. Passed in, so that tests can fill it. */
export async function readDiskSpace(path: string): Promise<DiskSpace> {
  const { bsize, blocks, bavail, files, ffree } = await statfs(path);
  return {
    totalBytes: blocks * bsize,
    freeBytes: bavail * bsize,
    freeInodes: files === 0 ? undefined : ffree,
    blockBytes: bsize,
  };
}

/** The deepest directory on a path that is there already: its disk will hold what is made below it. */
export async function nearestExisting(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    if (at === dirname(at) || (await stat(at).catch(() => undefined)) !== undefined) return at;
  }
}

/** Keeps the cache within its limits: room is reserved before a fetch starts (P4). */
export class SpaceLedger {
  /** They may change: what is reserved stays so. */
  limits: SpaceLimits;
  readonly #read: () => Promise<DiskSpace>;
  readonly #usedBytes: () => number;
  readonly #heldVariants: () => number;
  /** What is still to be written, and the whole of what it is for. */
  #reservedBytes = 0;
  #reservedTotalBytes = 0;
  #reservedInodes = 0;
  #comingVariants = 0;

  /** `usedBytes` says what lies in the cache now, without what room is reserved for. */
  constructor(
    limits: SpaceLimits,
    read: () => Promise<DiskSpace>,
    usedBytes: () => number,
    heldVariants: () => number = () => 0,
  ) {
    this.limits = limits;
    this.#read = read;
    this.#usedBytes = usedBytes;
    this.#heldVariants = heldVariants;
  }

  async use(): Promise<SpaceUse> {
    const { freeBytes, freeInodes, blockBytes } = await this.#read();
    return {
      usedBytes: this.#usedBytes() + this.#reservedTotalBytes,
      freeBytes: freeBytes - this.#reservedBytes,
      freeInodes: freeInodes === undefined ? undefined : freeInodes - this.#reservedInodes,
      blockBytes,
      comingVariants: this.#comingVariants,
    };
  }

  /**
   * Keeps room for a tree that is still to be written.
   * @param what is named in the error. `bytes` and `inodes` are what is missing of it; `totalBytes` is all of it.
   * @throws {NoSpaceError} naming the limit that it would pass.
   */
  async reserve(what: string, need: Need): Promise<Reservation> {
    const disk = await this.#read();
    const bytes = diskBytesOf(need, disk);
    const inodes = need.inodes;
    const afterwards = this.#usedBytes() + this.#reservedTotalBytes + need.totalBytes;
    if (afterwards > this.limits.maxBytes) {
      throw new NoSpaceError(`${what} needs ${need.totalBytes} bytes, which would take the cache past its max_bytes`, {
        hint: "raise cache.max_bytes, or remove variants",
        details: { neededBytes: need.totalBytes, maxBytes: this.limits.maxBytes },
      });
    }
    if (disk.freeBytes - this.#reservedBytes - bytes < this.limits.freeBytesMin) {
      throw new NoSpaceError(`${what} needs ${bytes} bytes on a disk that has ${disk.freeBytes} left`, {
        hint: "free some space, or lower cache.free_bytes_min",
        details: { neededBytes: bytes, freeBytes: disk.freeBytes, freeBytesMin: this.limits.freeBytesMin },
      });
    }
    if (disk.freeInodes !== undefined && disk.freeInodes - this.#reservedInodes < inodes + inodesSpare) {
      throw new NoSpaceError(`${what} needs ${inodes} inodes on a disk that has ${disk.freeInodes} left`, {
        details: { neededInodes: inodes, freeInodes: disk.freeInodes },
      });
    }
    const { maxVariants = Number.POSITIVE_INFINITY } = this.limits;
    const variants = need.variants ?? 0;
    if (variants > 0 && this.#heldVariants() + this.#comingVariants + variants > maxVariants) {
      throw new NoSpaceError(`${what} would be one more than the ${maxVariants} variants of cache.max_variants`, {
        hint: "raise cache.max_variants, or remove variants",
        details: { maxVariants },
      });
    }
    return this.#keep(bytes, need.totalBytes, inodes, variants);
  }

  #keep(bytes: number, totalBytes: number, inodes: number, variants: number): Reservation {
    this.#reservedBytes += bytes;
    this.#reservedTotalBytes += totalBytes;
    this.#reservedInodes += inodes;
    this.#comingVariants += variants;
    let unwrittenBytes = bytes;
    let isKept = true;
    const wrote = (more: number) => {
      const written = Math.min(more, unwrittenBytes);
      unwrittenBytes -= written;
      this.#reservedBytes -= written;
    };
    const release = () => {
      if (!isKept) return;
      isKept = false;
      wrote(unwrittenBytes);
      this.#reservedTotalBytes -= totalBytes;
      this.#reservedInodes -= inodes;
      this.#comingVariants -= variants;
    };
    return { wrote, release };
  }
}

/** Each file ends in a block of its own, half empty on the average; all of it is the safe assumption. */
export function diskBytesOf({ bytes, inodes }: Need, { blockBytes }: Pick<DiskSpace, "blockBytes">): number {
  return bytes + inodes * blockBytes;
}

/** For objects, index files and whoever else writes on this disk. */
const inodesSpare = evictionInodesMin;
