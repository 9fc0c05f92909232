import { closeSync, constants, existsSync, fstatSync, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { isCount, isMap } from "../../protocol/cbor.ts";
import { type PayloadId, parsePayloadId, parseVariantHash, type VariantHash } from "../../protocol/hash.ts";
import { type RezHandle, sameHandle } from "../../protocol/rez-handle.ts";
import { isPathPart } from "../../protocol/variant.ts";
import { hasCode } from "./rez-guard.ts";

/** What p2pcache writes beside Rez's own keys: a hint, never trusted. */
export interface P2pcacheKey {
  readonly payload: PayloadId;
  readonly variant: VariantHash;
  /** Rez made this copy, and p2pcache has adopted it. */
  readonly adopted?: true;
}

/**
 * What the cache has of a handle (REZ.md section 4). Rez uses it when it is `cached`, and wrongly when it is
 * `rootless`: an index file whose payload directory has gone.
 */
export interface Found {
  readonly kind: "cached" | "copying" | "stalled" | "rootless";
  readonly handle: RezHandle;
  /** The hash directory, absolute. */
  readonly directory: string;
  readonly suffix: string;
  /** Whether p2pcache placed or adopted it; then what that is. */
  readonly ours: boolean;
  readonly payload?: PayloadId;
  readonly variant?: VariantHash;
  readonly adopted?: true;
  readonly indexPath: string;
  readonly rootPath: string;
}

/** Everything in the hash directory that has this handle: what Rez would use first, ours before others. */
export function findHandle(directory: string, handle: RezHandle, wallMs: number): Found[] {
  const found: Found[] = [];
  for (const name of namesIn(directory)) {
    if (!name.endsWith(".json")) continue;
    const suffix = name.slice(0, -".json".length);
    const entry = findSuffix(directory, suffix, handle, wallMs);
    if (entry !== undefined) found.push(entry);
  }
  return found.sort((a, b) => rank(a) - rank(b) || (a.suffix < b.suffix ? -1 : 1));
}

/** The entry under this suffix, undefined where it is not there or not this handle's. */
export function findSuffix(directory: string, suffix: string, handle: RezHandle, wallMs: number): Found | undefined {
  const indexPath = join(directory, `${suffix}.json`);
  const index = readIndex(indexPath);
  if (index === undefined || !sameHandle(index.handle, handle)) return undefined;
  const key = parseKey(index.p2pcache);
  const rootPath = join(directory, suffix);
  const kind = stateOf(directory, suffix, wallMs);
  return { kind, handle, directory, suffix, ours: key !== undefined, ...key, indexPath, rootPath };
}

/** Every entry in the hash directory that p2pcache placed, of whatever handle: as its index file says, so a hint. */
export function findOwn(directory: string, wallMs: number): Found[] {
  const found: Found[] = [];
  for (const name of namesIn(directory)) {
    const suffix = /^([a-z]+)\.json$/.exec(name)?.[1];
    const handle = suffix === undefined ? undefined : readIndex(join(directory, name))?.handle;
    const entry = suffix !== undefined && isHandle(handle) ? findSuffix(directory, suffix, handle, wallMs) : undefined;
    if (entry?.ours) found.push(entry);
  }
  return found;
}

/** Suffixes with an index file, a payload directory, a copy under way or a removal that was cut off. */
export function takenSuffixes(directory: string): Set<string> {
  const taken = new Set<string>();
  for (const name of namesIn(directory)) {
    const match = /^(?:([a-z]+)|([a-z]+)\.json|\.copying-([a-z]+)|\.([a-z]+)\.json\.removing)$/.exec(name);
    const suffix = match?.slice(1).find((part) => part !== undefined);
    if (suffix !== undefined) taken.add(suffix);
  }
  return taken;
}

/** The index file's text; Rez has the variant's requires in `data` where there are variants (REZ.md section 2). */
export function indexText(handle: RezHandle, requires: readonly string[] | undefined, key: P2pcacheKey): string {
  const data = handle.variables.index === null || requires === undefined ? {} : { data: requires };
  const { payload, variant, adopted } = key;
  const more = adopted === true ? { adopted } : {};
  return JSON.stringify({ handle, ...data, p2pcache: { payload, variant, ...more } });
}

/** The text of an index file with our key in it, and all else as it was; undefined where it cannot be read. */
export function markedText(indexPath: string, key: P2pcacheKey): string | undefined {
  const index = readIndex(indexPath);
  return index === undefined ? undefined : JSON.stringify({ ...index, p2pcache: key });
}

/** Names in a directory, none where there is no such directory. */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (hasCode(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}

function stateOf(directory: string, suffix: string, wallMs: number): Found["kind"] {
  const copying = statSync(join(directory, `.copying-${suffix}`), { throwIfNoEntry: false });
  // A time in the future comes of a clock that was set back: whoever copies would have touched it since.
  if (copying !== undefined) return Math.abs(wallMs - copying.mtimeMs) > copyingMsMax ? "stalled" : "copying";
  return existsSync(join(directory, suffix)) ? "cached" : "rootless";
}

/** Undefined where the file cannot be read or has no JSON object in it: Rez's own commands fail on such (section 4). */
function readIndex(path: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(readIndexText(path) ?? "");
    return isMap(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Undefined where there is none that can be read, or what is there is none. */
export function readIndexText(path: string): string | undefined {
  let file: number | undefined;
  try {
    // Without O_NONBLOCK, a pipe of that name would hang us.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(file);
    if (!stat.isFile() || stat.size > indexBytesMax) return undefined;
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

export function isHandle(value: unknown): value is RezHandle {
  if (!isMap(value) || value.key !== "filesystem.variant" || !isMap(value.variables)) return false;
  const { location, name, version, index, repository_type } = value.variables;
  if (typeof location !== "string" || repository_type !== "filesystem") return false;
  if (typeof name !== "string" || !isPathPart(name)) return false;
  if (version !== undefined && (typeof version !== "string" || !isPathPart(version))) return false;
  return index === null || isCount(index);
}

export function parseKey(value: unknown): P2pcacheKey | undefined {
  if (!isMap(value) || typeof value.payload !== "string" || typeof value.variant !== "string") return undefined;
  try {
    const [payload, variant] = [parsePayloadId(value.payload), parseVariantHash(value.variant)];
    return { payload, variant, ...(value.adopted === true ? { adopted: true } : {}) };
  } catch {
    return undefined;
  }
}

function rank(found: Found): number {
  return kinds.indexOf(found.kind) * 2 + (found.ours ? 0 : 1);
}

const kinds = ["cached", "copying", "stalled", "rootless"];
/** Rez touches `.copying-x` five times a second and gives it up after this (package_cache.py, _COPYING_TIME_MAX). */
const copyingMsMax = 5000;
/** Rez's own have a few hundred bytes; the rest is room for hundreds of requirements. */
const indexBytesMax = 1024 * 1024;
