/** What an error tells a program: exit codes of the command line (CONTRACTS, "Exit codes"). */
export type ExitCode = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 130;

/** What may stand beside the message of an error. */
export interface ErrorOptions {
  /** What to do about it, one line. */
  readonly hint?: string;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
}

/** The root of every error that a caller may see: `code` is for programs, `message` for people. */
export class P2pCacheError extends Error {
  readonly code: string;
  readonly exit: ExitCode;
  readonly hint: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(code: string, exit: ExitCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.exit = exit;
    this.hint = options.hint;
    this.details = options.details;
  }
}

/** The caller asked wrongly: a flag, a handle, a setting. Nothing was tried. */
export class UsageError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions & { readonly code?: string }) {
    super(options?.code ?? "USAGE", 2, message, options);
  }
}

/** Neither the origin nor any peer knows it. */
export class NotFoundError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions) {
    super("NOT_FOUND", 3, message, options);
  }
}

/** Rez's own copy of a variant cannot be taken for ours, and is left alone; the message goes on after "Rez has its own copy". */
export class NotAdoptedError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions) {
    super("NOT_ADOPTED", 9, message, options);
  }
}

/** Its publisher has taken it back: nobody should have it any more. */
export class WithdrawnError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions) {
    super("WITHDRAWN", 3, message, options);
  }
}

/** Bytes from outside that break a rule of a format: refused, never repaired. */
export class FormatError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions & { readonly code?: string }) {
    super(options?.code ?? "BAD_FORMAT", 4, message, options);
  }
}

/** A format of a newer major version: this program must be upgraded. */
export class VersionError extends P2pCacheError {
  constructor(what: string, version: unknown) {
    super("UNKNOWN_VERSION", 4, `${what} has format version ${String(version)}, which this p2pcache does not know`, {
      hint: "upgrade p2pcache on this machine",
    });
  }
}

/** A chunk or segment whose bytes are not the ones that its hash names: strike, ask another. */
export class ChunkCorruptError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions & { readonly code?: string }) {
    super(options?.code ?? "CHUNK_CORRUPT", 4, message, options);
  }
}

/** A release that was published in place, and has been changed since: its chunk cannot be had there any more. */
export class ReleaseChangedError extends ChunkCorruptError {
  /** `path` lies in the tree whose root is `root`; "" is the root itself. */
  constructor(root: string, path: string, why: string) {
    const what = path === "" ? "it" : path;
    super(`the release at ${root} no longer matches its manifest: ${what} ${why}`, {
      code: "RELEASE_CHANGED",
      hint: "what was published in place must stay as it was; publish it again, with --supersede, as it is now",
      details: { root, file: path },
    });
  }
}

/** A chunk or segment that this source does not have: ask another. */
export class ChunkMissingError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions) {
    super("CHUNK_MISSING", 3, message, options);
  }
}

/** A tree that changed while it was read, or is not what its manifest says. */
export class TreeDamagedError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions & { readonly code?: string }) {
    super(options?.code ?? "TREE_DAMAGED", 4, message, options);
  }
}

/** Signed by nobody we trust, in conflict, or forbidden. */
export class NotTrustedError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions & { readonly code?: string }) {
    super(options?.code ?? "NOT_TRUSTED", 5, message, options);
  }
}

/** A source that does not answer: later, or another. */
export class UnreachableError extends P2pCacheError {
  /** Somebody has to change something first: to ask again soon is of no use. */
  readonly isLasting: boolean;
  /** For how long the source wants to be left alone; undefined where it did not say. */
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    options?: ErrorOptions & { readonly code?: string; readonly isLasting?: boolean; readonly retryAfterMs?: number },
  ) {
    super(options?.code ?? "UNREACHABLE", 6, message, options);
    this.isLasting = options?.isLasting ?? false;
    this.retryAfterMs = options?.retryAfterMs;
  }
}

/** An origin whose site has a budget for it is read by others now: elsewhere, or later. It says nothing of the origin. */
export class NotOurTurnError extends UnreachableError {
  constructor(message: string, retryAfterMs: number) {
    super(message, { code: "ORIGIN_LIMITED", retryAfterMs });
  }
}

/** The deadline passed. */
export class DeadlineError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions) {
    super("DEADLINE", 6, message, options);
  }
}

/** No bytes, no inodes or no quota left for it. */
export class NoSpaceError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions) {
    super("NO_SPACE", 7, message, options);
  }
}

/** Somebody else holds what we need: the cache, the state, Rez's lock. */
export class BusyError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions & { readonly code?: string }) {
    super(options?.code ?? "BUSY", 8, message, options);
  }
}

/** The cache or the state cannot be used as it is: permissions, a read-only mount, a strange file. */
export class UnusableError extends P2pCacheError {
  constructor(message: string, options?: ErrorOptions) {
    super("UNUSABLE", 1, message, options);
  }
}

/** Guards our own promises, never a stranger's bytes. @throws {Error} when `condition` is false. */
export function assert(condition: unknown, promise: string): asserts condition {
  if (!condition) throw new Error(`broken promise: ${promise}`);
}
