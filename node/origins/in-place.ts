import { constants, readdirSync, readlinkSync, realpath } from "node:fs";
import { dirname } from "node:path";
import { promisify } from "node:util";
import {
  closeFile,
  errnoOf,
  type InPlaceFound,
  type InPlaceRequest,
  openFile,
  type Room,
  readFlags,
  readFully,
  statFile,
} from "./folder-files.ts";

/**
 * Reads an item in place. No link is followed below the mount: whoever may write to a released tree must not get other
 * files of the filer read (and, where their bytes are the item's, nothing is lost by refusing).
 * @throws what the system throws of a mount in trouble.
 */
export async function readRanges(request: InPlaceRequest, room: Room): Promise<InPlaceFound> {
  const root = await realRoot(request);
  if (typeof root !== "string") return root;
  const bytes = room(request.ranges.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
  let offset = 0;
  for (const { path, offsetBytes, sizeBytes } of request.ranges) {
    const why = await readRange(`${root}/${path}`, offsetBytes, bytes.subarray(offset, offset + sizeBytes));
    if (why !== undefined) return { kind: "changed", path, why };
    offset += sizeBytes;
  }
  return { kind: "bytes", bytes };
}

/** The root without its links, which must lead nowhere else in the repository's own mount. */
async function realRoot({ mount, root }: InPlaceRequest): Promise<string | InPlaceFound> {
  let base: string;
  try {
    base = await realPath(mount);
  } catch (error) {
    if (isAbsence(error)) return { kind: "notMounted" };
    throw error;
  }
  try {
    const real = await realPath(`${base}/${root}`);
    if (real.startsWith(base === "/" ? base : `${base}/`)) return real;
    return { kind: "changed", path: "", why: "leads out of the repository" };
  } catch (error) {
    if (!isAbsence(error)) throw error;
    if (readdirSync(base).length === 0) return { kind: "notMounted" };
    return { kind: "changed", path: "", why: "is not there any more" };
  }
}

/** Answers what is wrong; undefined once `into` is full. */
async function readRange(path: string, offsetBytes: number, into: Uint8Array): Promise<string | undefined> {
  let file: number;
  try {
    file = await openFile(path, readFlags | constants.O_NOFOLLOW);
  } catch (error) {
    if (isAbsence(error)) return "is not there any more";
    if (errnoOf(error) === "ELOOP") return "is a link now";
    throw error;
  }
  try {
    if (!(await statFile(file)).isFile()) return "is not a regular file any more";
    if (!(await isAt(file, path))) return "is reached by a link now";
    return (await readFully(file, into, offsetBytes)) < into.length ? "is shorter now" : undefined;
  } finally {
    await closeFile(file);
  }
}

/** Whether an open file is the one at a path without links: asked of the kernel, since names may change meanwhile. */
async function isAt(file: number, path: string): Promise<boolean> {
  let found: string;
  try {
    found = readlinkSync(`/proc/self/fd/${file}`);
  } catch {
    // No /proc: at least no link is there just now.
    return (await realPath(dirname(path))) === dirname(path);
  }
  // Replaced since it was opened (proc_pid_fd(5)): what it holds is looked at all the same.
  return found === path || found === `${path} (deleted)`;
}

function isAbsence(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "");
}

const realPath: (path: string) => Promise<string> = promisify(realpath.native);
