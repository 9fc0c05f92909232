import { close, closeSync, constants, fstat, fstatSync, lstat, open, read, type Stats } from "node:fs";
import { promisify } from "node:util";

// Little is imported here, and nothing of ours: the child that reads a folder starts with it, and its memory counts.

/** What lies under a name. */
export type FoundFile =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | { readonly kind: "absent" }
  /** A file of more bytes than were asked for, or one that is no regular file (0 bytes then). */
  | { readonly kind: "otherSize"; readonly foundBytes: number };

/** An item of a release, to be read from the very tree that was published. */
export interface InPlaceRequest {
  /** Where this machine mounts the repository. */
  readonly mount: string;
  /** The tree's root under it; what is read must lie in there. */
  readonly root: string;
  readonly ranges: readonly { readonly path: string; readonly offsetBytes: number; readonly sizeBytes: number }[];
}

export type InPlaceFound =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  /** The mount is not there, or empty: nothing is mounted. */
  | { readonly kind: "notMounted" }
  /** What the release had at `path` is not there as it was; "" is its root. */
  | { readonly kind: "changed"; readonly path: string; readonly why: string };

/** The calls that reading a repository's folder is made of. Paths are absolute. They throw what the system throws. */
export interface FolderFiles {
  /** A whole file of at most `bytesMax` bytes, in a buffer of its own. */
  read(path: string, bytesMax: number, signal?: AbortSignal): Promise<FoundFile>;
  exists(path: string, signal?: AbortSignal): Promise<boolean>;
  /** Stretches of files of a tree, one after the other. */
  readInPlace(request: InPlaceRequest, signal?: AbortSignal): Promise<InPlaceFound>;
}

/** Gives the room that a read of so many bytes fills. */
export type Room = (sizeBytes: number) => Uint8Array;

/** Without O_NONBLOCK a FIFO in a file's place would be waited for. */
export const readFlags: number = constants.O_RDONLY | constants.O_NONBLOCK;

// Callbacks, promisified: half of what the promises of node:fs cost, and a tree in place takes four calls a file.
export const openFile: (path: string, flags: number) => Promise<number> = promisify(open);
export const closeFile: (file: number) => Promise<void> = promisify(close);
export const statFile: (file: number) => Promise<Stats> = promisify(fstat);
const lstatPath: (path: string) => Promise<Stats> = promisify(lstat);

/** A whole file of at most `bytesMax` bytes. @throws what the system throws, but for ENOENT. */
export async function readWhole(path: string, bytesMax: number, room: Room): Promise<FoundFile> {
  let file: number;
  try {
    file = await openFile(path, readFlags);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return { kind: "absent" };
    throw error;
  }
  try {
    // What an open file is, the system knows already: no wait, and a turn in the thread pool would cost ten times as much.
    const stats = fstatSync(file);
    // The read of a directory fails with what is wrong with it.
    const isReadable = stats.isFile() || stats.isDirectory();
    if (!isReadable || (stats.isFile() && stats.size > bytesMax)) {
      return { kind: "otherSize", foundBytes: isReadable ? stats.size : 0 };
    }
    const bytes = room(stats.isFile() ? stats.size : 1);
    return { kind: "bytes", bytes: bytes.subarray(0, await readFully(file, bytes, 0)) };
  } finally {
    closeSync(file);
  }
}

export async function pathExists(path: string): Promise<boolean> {
  try {
    await lstatPath(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw error;
  }
}

/** Fills `target` from an offset of a file on. Answers how many bytes there were. */
export async function readFully(file: number, target: Uint8Array, offsetBytes: number): Promise<number> {
  let filled = 0;
  while (filled < target.length) {
    const count = await readSome(file, target, filled, offsetBytes + filled);
    if (count === 0) break;
    filled += count;
  }
  return filled;
}

export function errnoOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

function readSome(file: number, target: Uint8Array, at: number, offsetBytes: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(file, target, at, target.length - at, offsetBytes, (error, count) => {
      if (error) reject(error);
      else resolve(count);
    });
  });
}
