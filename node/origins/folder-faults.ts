import { NoSpaceError, P2pCacheError, UnreachableError } from "../../protocol/errors.ts";

// What readers and writers of a repository's folder share: which folder, and what the failure of a system call means.

/** Which folder, and whose. */
export interface FolderOptions {
  /** As people and logs know the origin. */
  readonly name: string;
  /** The folder, usually on a mounted filer. It must exist. */
  readonly path: string;
  /** `network.name`: a repository of another network is refused. */
  readonly network: string;
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
  options: ConstructorParameters<typeof UnreachableError>[1] = {},
): UnreachableError {
  return new UnreachableError(`the origin ${name} cannot be used: ${path} ${why}`, options);
}

/** Of a system's error its errno, of ours its code. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
}
