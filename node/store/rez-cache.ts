import { createHash } from "node:crypto";
import { chmodSync, existsSync, renameSync, statSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { nextSuffix, type RezHandle, rezCacheDirectory } from "../../protocol/rez-handle.ts";
import { checkNoOtherWriter } from "../path-guard.ts";
import { clearDeadDrafts } from "./owner.ts";
import {
  deleteEmptyParents,
  deleteTree,
  isOwnTrash,
  moveAside,
  qualifiedName,
  syncDirectory,
  unlinkIfThere,
  writeIndexFile,
} from "./rez-files.ts";
import { cacheError, makeCacheDirectories, makeSafeDirectory } from "./rez-guard.ts";
import {
  type Found,
  findHandle,
  findOwn,
  findSuffix,
  indexText,
  markedText,
  namesIn,
  type P2pcacheKey,
  takenSuffixes,
} from "./rez-index.ts";
import { type LockTiming, RezLock, systemTiming } from "./rez-lock.ts";

export type { Found, P2pcacheKey } from "./rez-index.ts";

/** Where a payload goes: the hash directory, absolute, and its name in it. */
export interface Spot {
  readonly directory: string;
  readonly suffix: string;
}

/** A spot as it is told before anything moves. */
export interface IntendedSpot extends Spot {
  /** The entries of ours that go once the new one is there: suffix and payload of each, so that none goes by mistake. */
  readonly replaces?: readonly string[];
}

/** What is said of a payload in its index file. */
export interface Placement {
  readonly handle: RezHandle;
  /** The variant's own requirements; written only where the handle has an index. */
  readonly variantRequires?: readonly string[];
  readonly p2pcache: P2pcacheKey;
  /** Mode of the index file: every user that resolves must be able to touch it (REZ.md section 6). */
  readonly indexMode: number;
  /** The tree to place, on the cache's filesystem, all modes final but the top's, which is writable. */
  readonly tree: string;
}

/** `onIntent` is awaited under the lock and before anything is moved; it makes the intent durable, in milliseconds. */
export interface PlaceRequest extends Placement {
  readonly onIntent: (spot: IntendedSpot) => Promise<void>;
  /** Which of our own entries that Rez can use the new one replaces; none when it is left out. */
  readonly replaces?: (found: Found) => boolean;
  readonly signal?: AbortSignal;
}

/** What is written into the index file of an entry that is adopted. */
export interface MarkRequest extends Pick<Placement, "p2pcache" | "indexMode"> {
  readonly signal?: AbortSignal;
}

interface RewriteOptions {
  readonly isRotten: () => boolean;
  readonly indexMode: number;
  readonly signal?: AbortSignal | undefined;
}

export type PlaceResult =
  | { readonly kind: "placed"; readonly path: string; readonly suffix: string }
  /** The handle is there already, or is being copied; the tree was left where it is. */
  | { readonly kind: "taken"; readonly found: Found };

export interface RezCacheOptions {
  readonly lock?: LockTiming | undefined;
  /** Milliseconds since 1970, as file times have them. */
  readonly wallMs?: () => number;
}

/** Rez's package cache on disk: finds, places and removes payloads the way Rez does (REZ.md sections 2 to 7). */
export class RezCache {
  /** The cache's real path. */
  readonly path: string;
  /** `.sys/p2pcache`: ours alone, on the same filesystem. */
  readonly ownPath: string;
  readonly #timing: LockTiming;
  readonly #wallMs: () => number;
  /** Out of Rez's sight, and not deleted yet. */
  readonly #trash = new Set<string>();

  private constructor(path: string, options: RezCacheOptions) {
    this.path = path;
    this.ownPath = join(path, ".sys", "p2pcache");
    this.#timing = options.lock ?? systemTiming;
    this.#wallMs = options.wallMs ?? Date.now;
  }

  /** Makes what is missing. @throws {UnusableError} naming the directory that is read-only or open to others. */
  static open(cachePath: string, options: RezCacheOptions = {}): RezCache {
    return new RezCache(makeCacheDirectories(cachePath), options);
  }

  /** The hash directory of a handle, absolute; it need not be there. */
  directoryOf(handle: RezHandle): string {
    return join(this.path, rezCacheDirectory(handle, sha1));
  }

  /** What Rez would say of the handle; of several entries the one that it can use, ours before others'. */
  locate(handle: RezHandle): Found | { readonly kind: "absent" } {
    return findHandle(this.directoryOf(handle), handle, this.#wallMs())[0] ?? { kind: "absent" };
  }

  /** Every entry that its index file calls ours, where its handle belongs: for a catalogue that was lost. */
  *ownEntries(): Generator<Found> {
    for (const directory of this.#hashDirectories()) yield* this.ownEntriesIn(directory);
  }

  /** Those in one hash directory. */
  ownEntriesIn(directory: string): Found[] {
    return findOwn(directory, this.#wallMs()).filter(({ handle }) => this.directoryOf(handle) === directory);
  }

  /**
   * Moves a finished tree to where Rez finds it (REZ.md section 6). What others left half done is theirs: reported as
   * taken, to be removed first if the caller wants so; what we left half done is replaced. What is replaced goes only
   * when the new entry is in its place, under another suffix: programs may be running from the old one.
   * @throws {BusyError} REZ_LOCK_HELD. {NoSpaceError} {UnusableError} with the tree back where it was.
   */
  async place(request: PlaceRequest): Promise<PlaceResult> {
    const trash: string[] = [];
    try {
      using _lock = await this.#takeLock(request.signal);
      const relative = rezCacheDirectory(request.handle, sha1);
      const directory = makeSafeDirectory(this.path, relative, syncDirectory);
      const old = findHandle(directory, request.handle, this.#wallMs());
      const found = old.find((each) => !isReplaced(each, request));
      if (found !== undefined) return { kind: "taken", found };
      const suffix = nextSuffix(takenSuffixes(directory));
      const replaces = old.length === 0 ? {} : { replaces: old.map(replacedKey) };
      await request.onIntent({ directory, suffix, ...replaces });
      this.#moveIn({ directory, suffix }, request);
      for (const each of old) trash.push(...this.#takeOut(each));
      return { kind: "placed", path: join(directory, suffix), suffix };
    } catch (error) {
      throw cacheError(this.path, error);
    } finally {
      await this.#deleteTrash(trash);
    }
  }

  /**
   * Ends, after a crash, what `place` had announced to `onIntent`. "finished": the payload is where Rez finds it.
   * and what it replaces is gone. "undone": it is not, and nothing of it is left outside `placement.tree`.
   */
  async finishPlacing(spot: IntendedSpot, placement: Placement, signal?: AbortSignal): Promise<"finished" | "undone"> {
    const trash: string[] = [];
    try {
      using _lock = await this.#takeLock(signal);
      const rootPath = join(spot.directory, spot.suffix);
      const isOurSpot = spot.directory === this.directoryOf(placement.handle) && /^[a-z]+$/.test(spot.suffix);
      if (!isOurSpot || existsSync(placement.tree) || !existsSync(rootPath)) return "undone";
      checkNoOtherWriter(spot.directory);
      const all = findHandle(spot.directory, placement.handle, this.#wallMs());
      const old = all.filter((found) => found.ours && spot.replaces?.includes(replacedKey(found)));
      if (existsSync(`${rootPath}.json`)) {
        if (!all.some((found) => found.kind === "cached" && isPlaced(found, spot, placement))) return "undone";
      } else if (all.length > old.length) {
        // Somebody else was faster; a second entry of one handle would only confuse Rez (REZ.md section 4).
        const aside = moveAside(rootPath, this.#toDelete, qualifiedName(spot.directory));
        if (aside !== undefined) trash.push(aside);
        return "undone";
      } else {
        chmodSync(rootPath, 0o555);
        this.#writeIndex(spot, placement);
      }
      for (const each of old) trash.push(...this.#takeOut(each));
      return "finished";
    } catch (error) {
      throw cacheError(this.path, error);
    } finally {
      await this.#deleteTrash(trash);
    }
  }

  /**
   * Removes an entry: its index file first, so that Rez stops using it, then its payload. "gone": it is no longer what
   * was found. "copying": somebody writes it just now; it is left alone.
   * @throws {BusyError} REZ_LOCK_HELD.
   */
  async remove(found: Found, signal?: AbortSignal): Promise<"removed" | "gone" | "copying"> {
    let trash: string[];
    try {
      using _lock = await this.#takeLock(signal);
      const now = findSuffix(found.directory, found.suffix, found.handle, this.#wallMs());
      if (now === undefined || now.ours !== found.ours || now.payload !== found.payload) return "gone";
      if (now.kind === "copying") return "copying";
      trash = this.#takeOut(now);
      deleteEmptyParents(found.directory);
    } catch (error) {
      throw cacheError(this.path, error);
    }
    await this.#deleteTrash(trash);
    return "removed";
  }

  /**
   * Writes our key into the index file of an entry of others, which Rez does not look at (REZ.md section 3); its time,
   * Rez's "last used", stays. Answers false where the entry is no longer what was found.
   * @throws {BusyError} REZ_LOCK_HELD.
   */
  async mark(found: Found, { p2pcache, indexMode, signal }: MarkRequest): Promise<boolean> {
    const { directory, suffix, handle, indexPath } = found;
    try {
      using _lock = await this.#takeLock(signal);
      const now = findSuffix(directory, suffix, handle, this.#wallMs());
      const text = markedText(indexPath, p2pcache);
      if (now?.kind !== "cached" || now.ours || text === undefined) return false;
      rewriteIndexFile({ directory, suffix }, text, indexMode);
      return true;
    } catch (error) {
      throw cacheError(this.path, error);
    }
  }

  /**
   * Writes an index file of ours anew, if under the lock it is still what it should not be, and its payload is there.
   * @throws {BusyError} REZ_LOCK_HELD.
   */
  async rewriteIndex({ directory, suffix }: Spot, text: string, options: RewriteOptions): Promise<boolean> {
    try {
      using _lock = await this.#takeLock(options.signal);
      const isHere = existsSync(join(directory, suffix)) && !existsSync(join(directory, `.copying-${suffix}`));
      if (!isHere || !options.isRotten()) return false;
      rewriteIndexFile({ directory, suffix }, text, options.indexMode);
      return true;
    } catch (error) {
      throw cacheError(this.path, error);
    }
  }

  /**
   * Clears what a crash of ours left: drafts of index files, removals cut off, payloads not yet deleted. Only for the
   * owner of the cache, at its start, after every intent was given to `finishPlacing`.
   */
  async emptyOwnLeftovers(signal?: AbortSignal): Promise<void> {
    clearDeadDrafts(this.ownPath);
    for (const directory of this.#hashDirectories()) {
      if (!namesIn(directory).some((name) => leftover.test(name))) continue;
      using _lock = await this.#takeLock(signal);
      for (const name of namesIn(directory)) this.#clearLeftover(directory, name);
    }
    for (const name of namesIn(this.#toDelete)) {
      if (isOwnTrash(name)) await deleteTree(join(this.#toDelete, name));
    }
  }

  /** Ends removals that were cut off in one hash directory by a disk that failed. */
  async finishRemovals(directory: string, signal?: AbortSignal): Promise<void> {
    if (!namesIn(directory).some((name) => leftover.test(name))) return;
    const trash: string[] = [];
    try {
      using _lock = await this.#takeLock(signal);
      for (const name of namesIn(directory)) trash.push(...this.#clearLeftover(directory, name));
      deleteEmptyParents(directory);
    } catch (error) {
      throw cacheError(this.path, error);
    }
    await this.#deleteTrash(trash);
  }

  /** What cannot be deleted now is tried again with the next, and at the next opening: Rez does not see it any more. */
  async #deleteTrash(trash: readonly string[]): Promise<void> {
    for (const path of trash) this.#trash.add(path);
    for (const path of this.#trash) {
      const isDeleted = await deleteTree(path).then(
        () => true,
        () => false,
      );
      if (isDeleted) this.#trash.delete(path);
    }
  }

  get #toDelete(): string {
    return join(this.path, ".sys", "to_delete");
  }

  #takeLock(signal: AbortSignal | undefined): Promise<RezLock> {
    return RezLock.take(join(this.path, ".sys", ".lock.lock"), this.ownPath, { timing: this.#timing, signal });
  }

  /** Under the lock: the tree, its mode, its index file; or all as it was. */
  #moveIn(spot: Spot, placement: Placement): void {
    const rootPath = join(spot.directory, spot.suffix);
    renameSync(placement.tree, rootPath);
    try {
      chmodSync(rootPath, 0o555);
      this.#writeIndex(spot, placement);
    } catch (error) {
      unlinkIfThere(`${rootPath}.json`);
      chmodSync(rootPath, 0o755);
      renameSync(rootPath, placement.tree);
      throw error;
    }
  }

  #writeIndex(spot: Spot, { handle, variantRequires, p2pcache, indexMode }: Placement): void {
    writeIndexFile(spot.directory, spot.suffix, indexText(handle, variantRequires, p2pcache), indexMode);
    syncDirectory(spot.directory);
  }

  /** Under the lock. The index file's new name says, should we crash, that the payload beside it is to go. */
  #takeOut({ directory, suffix, indexPath }: Found): string[] {
    const removing = join(directory, `.${suffix}.json.removing`);
    renameSync(indexPath, removing);
    try {
      syncDirectory(directory);
      return this.#finishTakingOut(directory, suffix);
    } catch (error) {
      // It is still there whole, and Rez may go on using it.
      if (existsSync(join(directory, suffix))) renameSync(removing, indexPath);
      throw error;
    }
  }

  #finishTakingOut(directory: string, suffix: string): string[] {
    const aside = moveAside(join(directory, suffix), this.#toDelete, qualifiedName(directory));
    for (const name of [`.copying-${suffix}`, `.${suffix}.json.removing`]) {
      try {
        unlinkIfThere(join(directory, name));
      } catch {
        // The payload has gone already; the next opening clears what says that it is to go.
      }
    }
    return aside === undefined ? [] : [aside];
  }

  #clearLeftover(directory: string, name: string): string[] {
    const [, suffix, kind] = leftover.exec(name) ?? [];
    if (suffix === undefined) return [];
    // An index file beside the mark means that the name has been given again: then the payload is not the old one.
    const isOldPayload = kind === "removing" && !existsSync(join(directory, `${suffix}.json`));
    if (isOldPayload) return this.#finishTakingOut(directory, suffix);
    unlinkIfThere(join(directory, name));
    return [];
  }

  /** Every `<name>/<version>/<hash4>`; names with a dot first are not Rez's packages. */
  *#hashDirectories(): Generator<string> {
    const shown = (path: string) => namesIn(path).filter((name) => !name.startsWith("."));
    for (const name of shown(this.path)) {
      for (const version of shown(join(this.path, name))) {
        for (const hash of shown(join(this.path, name, version))) {
          yield join(this.path, name, version, hash);
        }
      }
    }
  }
}

/** Its time, Rez's "last used", stays. */
function rewriteIndexFile({ directory, suffix }: Spot, text: string, indexMode: number): void {
  const indexPath = join(directory, `${suffix}.json`);
  checkNoOtherWriter(directory);
  const { atime, mtime, mode } = statSync(indexPath);
  writeIndexFile(directory, suffix, text, (mode & 0o666) | indexMode);
  utimesSync(indexPath, atime, mtime);
  syncDirectory(directory);
}

/** Others' entries never are; ours that Rez cannot use always are; a copy under way never is. */
function isReplaced(found: Found, { replaces }: PlaceRequest): boolean {
  if (!found.ours || found.kind === "copying") return false;
  return found.kind !== "cached" || replaces?.(found) === true;
}

/** Says which entry an intent replaces: a suffix alone may have been given again. */
function replacedKey({ suffix, payload }: Found): string {
  return `${suffix} ${payload}`;
}

function isPlaced(found: Found, spot: Spot, { p2pcache }: Placement): boolean {
  return found.suffix === spot.suffix && found.payload === p2pcache.payload && found.variant === p2pcache.variant;
}

/** Rez's choice for its directories: no secret hangs on it. */
function sha1(bytes: Uint8Array): Uint8Array {
  return createHash("sha1").update(bytes).digest();
}

/** Names that only p2pcache gives. */
const leftover = /^\.([a-z]+)\.json\.(tmp|removing)$/;
