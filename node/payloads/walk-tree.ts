import { type BigIntStats, type Dirent, lstatSync, readdirSync, readlinkSync, realpathSync, statSync } from "node:fs";
import { P2pCacheError, TreeDamagedError, UnreachableError, UnusableError, UsageError } from "../../protocol/errors.ts";
import { entriesMax } from "../../protocol/limits.ts";
import { compareUtf8, parseLinkTarget, parseUtf8, shown, treePathFault, utf8Bytes } from "../../protocol/paths.ts";

/** What a walk lets pass that it refuses otherwise. */
export interface WalkOptions {
  /** Leaves out devices, sockets and FIFOs, and drops the setuid and setgid bits of files. */
  readonly stripSpecial?: boolean;
  /** Takes files and directories that others may not read: in a cache everybody may. */
  readonly allowPrivate?: boolean;
  /** At most this many entries; `entriesMax` unless a test says less. */
  readonly entriesMax?: number;
}

/** One entry of a tree; `path` is relative to its top, and `stats` is the entry's own, taken just now. */
export type WalkedEntry =
  | { readonly kind: "directory"; readonly path: string; readonly stats: BigIntStats }
  | { readonly kind: "file"; readonly path: string; readonly stats: BigIntStats }
  | { readonly kind: "link"; readonly path: string; readonly target: string };

/** The top of a tree. */
export interface TreeTop {
  /** Absolute, without symbolic links. */
  readonly path: string;
  readonly stats: BigIntStats;
}

/**
 * Finds the top of a tree; a symbolic link to a directory is resolved.
 * @throws {UsageError} (UNPUBLISHABLE) when it is missing, no directory, or private.
 */
export function openTree(treePath: string, options: WalkOptions = {}): TreeTop {
  let top: TreeTop;
  try {
    const path = realpathSync(treePath);
    top = { path, stats: statSync(path, { bigint: true }) };
  } catch (error) {
    if (errorCode(error) === "ENOENT") throw unpublishable(`there is no tree at ${shown(treePath)}`, { cause: error });
    throw treeError(error, treePath);
  }
  if (!top.stats.isDirectory()) throw unpublishable(`the tree ${shown(treePath)} is not a directory`);
  checkPrivate(treePath, top.stats, options);
  return top;
}

/**
 * Lists a tree in the order of its full path bytes, the top left out. Links are read, never followed. Holds the names of
 * the directories on its way down, and no more. Its calls are synchronous: five times as quick as the thread pool's on
 * trees of small files, and only the publisher's own process walks trees.
 * @throws {UsageError} (UNPUBLISHABLE) for what the format or the options refuse; {TreeDamagedError} (TREE_CHANGED) for
 * what goes away meanwhile; {UnusableError} for what cannot be read; {UnreachableError} when its disk fails.
 */
export function* walkTree(top: TreeTop, options: WalkOptions = {}): Generator<WalkedEntry, void, undefined> {
  const limit = options.entriesMax ?? entriesMax;
  let entries = 0;
  for (const entry of walkDirectory(top.path, "", options)) {
    if (++entries > limit) throw tooMany(top, limit);
    yield entry;
  }
}

/**
 * Counts the entries of a tree by their names alone, so that one of too many is refused before any of it is read.
 * @throws {UsageError} (UNPUBLISHABLE); what cannot be listed is for the walk to tell.
 */
export function checkEntries(top: TreeTop, options: WalkOptions = {}): void {
  const limit = options.entriesMax ?? entriesMax;
  let entries = 0;
  const directories = [top.path];
  for (let path = directories.pop(); path !== undefined; path = directories.pop()) {
    for (const dirent of listing(path)) {
      // What is stripped counts only once it is known to be left out.
      if (options.stripSpecial === true && !dirent.isFile() && !dirent.isDirectory() && !dirent.isSymbolicLink())
        continue;
      if (++entries > limit) throw tooMany(top, limit);
      if (dirent.isDirectory()) directories.push(`${path}/${dirent.name}`);
    }
  }
}

/** Nothing where it cannot be read. */
function listing(path: string): Dirent[] {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch {
    return [];
  }
}

function tooMany(top: TreeTop, limit: number): UsageError {
  return unpublishable(`the tree ${shown(top.path)} has more than ${limit} entries`, {
    hint: "publish its parts as packages of their own",
  });
}

/** What a failed system call on something in a tree means: an error that names it, in one line. */
export function treeError(error: unknown, path: string): unknown {
  const code = errorCode(error);
  if (error instanceof P2pCacheError || code === undefined) return error;
  if (code === "ENOENT" || code === "ENOTDIR" || code === "ELOOP") return treeChanged(path, error);
  if (code === "EACCES" || code === "EPERM") {
    return new UnusableError(`${shown(path)} cannot be read: permission denied`, { cause: error });
  }
  return new UnreachableError(`${shown(path)} cannot be read: ${code}`, { cause: error });
}

/** @returns the error for something that is not what it was when the walk came by. */
export function treeChanged(path: string, cause?: unknown): TreeDamagedError {
  return new TreeDamagedError(`${shown(path)} changed while it was read`, {
    code: "TREE_CHANGED",
    hint: "publish again when nobody writes to the tree",
    ...(cause === undefined ? {} : { cause }),
  });
}

/** @returns the error for something that may not be published. */
export function unpublishable(message: string, options: { hint?: string; cause?: unknown } = {}): UsageError {
  return new UsageError(message, { code: "UNPUBLISHABLE", ...options });
}

/** `name` for an entry; `name/` for the place of what lies in it, which other names may come before (`a`, `a-b`, `a/c`). */
interface WalkEvent {
  readonly name: string;
  readonly descends: boolean;
}

function* walkDirectory(topPath: string, directory: string, options: WalkOptions): Generator<WalkedEntry> {
  for (const event of sortedEvents(topPath, directory)) {
    if (event.descends) {
      yield* walkDirectory(topPath, joined(directory, event.name.slice(0, -1)), options);
      continue;
    }
    const entry = readEntry(topPath, joined(directory, event.name), options);
    if (entry !== undefined) yield entry;
  }
}

function sortedEvents(topPath: string, directory: string): WalkEvent[] {
  const absolute = joined(topPath, directory);
  let found: Dirent<Buffer>[];
  try {
    found = readdirSync(absolute, { withFileTypes: true, encoding: "buffer" });
  } catch (error) {
    throw treeError(error, absolute);
  }
  const events: WalkEvent[] = [];
  for (const dirent of found) {
    const name = parseName(dirent.name, absolute);
    events.push({ name, descends: false });
    if (dirent.isDirectory()) events.push({ name: `${name}/`, descends: true });
  }
  return events.sort((a, b) => compareUtf8(a.name, b.name));
}

function parseName(bytes: Buffer, directory: string): string {
  try {
    return parseUtf8(bytes, "a name");
  } catch (cause) {
    // Latin-1 shows every byte; those past ASCII as \xNN, so that people can find the file.
    const text = [...bytes.toString("latin1")].map(escapedPastAscii).join("");
    throw unpublishable(`the name "${text}" in ${shown(directory)} is not UTF-8`, { cause });
  }
}

function escapedPastAscii(character: string): string {
  const code = character.charCodeAt(0);
  return code >= 0x20 && code < 0x7f ? character : `\\x${code.toString(16).padStart(2, "0")}`;
}

/** Undefined for what `stripSpecial` leaves out. */
function readEntry(topPath: string, path: string, options: WalkOptions): WalkedEntry | undefined {
  const fault = treePathFault(path, utf8Bytes(path).length);
  if (fault !== undefined) throw unpublishable(`the path ${shown(path)} ${fault}`);
  const absolute = joined(topPath, path);
  try {
    const stats = lstatSync(absolute, { bigint: true });
    if (stats.isSymbolicLink()) return { kind: "link", path, target: readTarget(absolute, path) };
    if (stats.isDirectory()) {
      checkPrivate(path, stats, options);
      return { kind: "directory", path, stats };
    }
    if (stats.isFile()) {
      checkSpecialBits(path, stats, options);
      checkPrivate(path, stats, options);
      return { kind: "file", path, stats };
    }
  } catch (error) {
    throw treeError(error, absolute);
  }
  if (options.stripSpecial === true) return undefined;
  throw unpublishable(`${shown(path)} is a device, a socket or a FIFO`, { hint: stripHint });
}

function readTarget(absolute: string, path: string): string {
  const bytes = readlinkSync(absolute, { encoding: "buffer" });
  try {
    return parseLinkTarget(bytes);
  } catch (cause) {
    throw unpublishable(`the target of the link ${shown(path)} cannot be kept: ${(cause as Error).message}`, { cause });
  }
}

function checkSpecialBits(path: string, stats: BigIntStats, options: WalkOptions): void {
  if (options.stripSpecial === true || (stats.mode & 0o6000n) === 0n) return;
  throw unpublishable(`${shown(path)} is setuid or setgid, which is never kept`, { hint: stripHint });
}

/** Whether others may read a file, or list and enter a directory: in a cache everybody may. */
function checkPrivate(path: string, stats: BigIntStats, options: WalkOptions): void {
  const needed = stats.isDirectory() ? 0o005n : 0o004n;
  if (options.allowPrivate === true || (stats.mode & needed) === needed) return;
  throw unpublishable(`${shown(path)} may not be read by others, and in caches everybody could read it`, {
    hint: "--allow-private publishes it all the same",
  });
}

function joined(directory: string, name: string): string {
  if (directory === "") return name;
  return name === "" ? directory : `${directory}/${name}`;
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
}

const stripHint = "--strip-special leaves such files out, or drops such bits";
