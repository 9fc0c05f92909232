import {
  FormatError,
  NoSpaceError,
  P2pCacheError,
  UnreachableError,
  UsageError,
  VersionError,
} from "../../protocol/errors.ts";
import type { ChunkHash, VariantHash } from "../../protocol/hash.ts";
import { KIB } from "../../protocol/limits.ts";

// What readers and writers of a repository's folder agree on: where things lie, what `p2pcache.json` says, and what the
// failure of a system call means. docs/formats.md has the format.

/** Which folder, and whose. */
export interface FolderOptions {
  /** As people and logs know the origin. */
  readonly name: string;
  /** The folder, usually on a mounted filer. It must exist. */
  readonly path: string;
  /** `network.name`: a repository of another network is refused. */
  readonly network: string;
}

export const descriptionPath = "p2pcache.json";
export const descriptionBytesMax: number = 64 * KIB;
const formatVersion = 1;

export function chunkPath(hash: ChunkHash): string {
  return `chunks/${hash.slice(0, 2)}/${hash}`;
}

export function recordPath(variant: VariantHash, revision: number): string {
  return `variants/${variant.slice(0, 2)}/${variant}/${revision}.dsse.json`;
}

/** What `p2pcache.json` of a new repository says. */
export function describeRepository(network: string): Uint8Array {
  return Buffer.from(`${JSON.stringify({ formatVersion, network })}\n`);
}

/**
 * Reads `p2pcache.json`, which lies at `path`.
 * @throws {FormatError} {VersionError} {UsageError} when the repository is not one of this network that we can read.
 */
export function checkDescription(bytes: Uint8Array, path: string, network: string): void {
  let value: { readonly formatVersion?: unknown; readonly network?: unknown } | null;
  try {
    value = JSON.parse(Buffer.from(bytes).toString()) as typeof value;
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

/** What a failed call at an absolute path means to whoever uses the origin; our own errors stay as they are. */
export function folderFailure(name: string, path: string, error: unknown): unknown {
  const code = codeOf(error);
  if (error instanceof P2pCacheError || code === undefined) return error;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new NoSpaceError(`the origin ${name} is full (${path}: ${code})`, { cause: error });
  }
  return folderUnreachable(name, path, `fails with ${code}`, { cause: error });
}

export function folderUnreachable(
  name: string,
  path: string,
  why: string,
  options: { readonly cause?: unknown; readonly code?: string; readonly hint?: string } = {},
): UnreachableError {
  return new UnreachableError(`the origin ${name} cannot be used: ${path} ${why}`, options);
}

/** Of a system's error its errno, of ours its code. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
}
