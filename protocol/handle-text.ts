import { checkShape, isMap } from "./cbor.ts";
import { FormatError, UsageError } from "./errors.ts";
import { type PayloadId, parsePayloadId, parseVariantHash, type VariantHash } from "./hash.ts";
import { parseVariant, type Variant } from "./variant.ts";

/** What a user meant by a handle. */
export type NamedThing =
  | { readonly kind: "variant"; readonly variant: Variant }
  | { readonly kind: "variantHash"; readonly hash: VariantHash }
  | { readonly kind: "payload"; readonly payload: PayloadId };

/** Repository id to the real path of its mount on this machine, without a slash at its end. */
export type Repositories = ReadonlyMap<string, string>;

/** What an `.rxt` file asks for. */
export interface RxtVariants {
  readonly variants: Variant[];
  /** Handles that cannot be cached here: as text for people, and why. */
  readonly skipped: { readonly text: string; readonly reason: string }[];
  /** False where the context was made without package cache (`rez-env --no-pkg-cache`). */
  readonly caching: boolean;
}

/**
 * Reads what users type (DESIGN section 3): a Rez URI, `[repository:]foo-1.0.0[0]`, `[repository:]foo/1.0.0[0]`, a JSON
 * handle, `variant:<hex>` or `payload:<hex>`.
 * @throws {UsageError} that says what was understood; code REPOSITORY_NOT_CONFIGURED where only the mount is missing.
 */
export function parseHandleText(text: string, repositories: Repositories): NamedThing {
  const trimmed = text.trim();
  return refusingBadFormat(trimmed, () => {
    if (trimmed.startsWith("variant:")) {
      return { kind: "variantHash", hash: parseVariantHash(trimmed.slice("variant:".length)) };
    }
    if (trimmed.startsWith("payload:")) {
      return { kind: "payload", payload: parsePayloadId(trimmed.slice("payload:".length)) };
    }
    if (trimmed.startsWith("{")) {
      return { kind: "variant", variant: variantOfHandle(parseJson(trimmed), repositories) };
    }
    if (trimmed.startsWith("/")) return { kind: "variant", variant: variantOfUri(trimmed, repositories) };
    return { kind: "variant", variant: variantOfShortText(trimmed, repositories) };
  });
}

/**
 * The variants of a context that `rez-env -o` wrote (REZ.md section 13), in its order, each once.
 * @throws {UsageError} where `json` is no such context, or one that failed to resolve.
 */
export function parseRxt(json: unknown, repositories: Repositories): RxtVariants {
  refusingBadFormat("an .rxt file", () => checkShape(json, "an .rxt file"));
  const handles = isMap(json) ? json.resolved_packages : undefined;
  if (!isMap(json) || !Array.isArray(handles)) {
    throw new UsageError("not a resolved Rez context: an .rxt file is JSON with a list resolved_packages");
  }
  const variants = new Map<string, Variant>();
  const skipped: { text: string; reason: string }[] = [];
  for (const handle of handles as unknown[]) {
    try {
      const variant = variantOfHandle(handle, repositories);
      variants.set(JSON.stringify(variant), variant);
    } catch (error) {
      if (!(error instanceof UsageError) && !(error instanceof FormatError)) throw error;
      skipped.push({ text: handleForPeople(handle), reason: error.message });
    }
  }
  return { variants: [...variants.values()], skipped, caching: json.package_caching !== false };
}

/** `{ key, variables: { location, name, version?, index, repository_type } }`. */
function variantOfHandle(handle: unknown, repositories: Repositories): Variant {
  const variables = isMap(handle) && handle.key === "filesystem.variant" ? handle.variables : undefined;
  if (!isMap(variables) || variables.repository_type !== "filesystem") {
    throw new UsageError("not the handle of a variant in a filesystem repository of Rez");
  }
  const { location, name, version, index } = variables;
  if (typeof location !== "string") throw new UsageError("a Rez handle's location is a path");
  if (!isAbsolute(location)) throw new UsageError(`the location ${quoted(location)} is relative: it is in a bundle`);
  for (const [repository, path] of repositories) {
    if (path !== location) continue;
    return parseVariant({
      ...{ kind: "rez", repository, name },
      ...(version === undefined ? {} : { version }),
      ...(index === null || index === undefined ? {} : { index }),
    });
  }
  throw notMounted(location);
}

/** `/mnt/sw/packages/foo/1.0.0/package.py[0]`, as Rez prints it and as `ls` shows it. */
function variantOfUri(text: string, repositories: Repositories): Variant {
  const match = uriForm.exec(text);
  if (match === null) {
    throw new UsageError(`${quoted(text)} is a path, but not of a package: it ends in package.py[index]`, {
      hint: acceptedForms,
    });
  }
  const [, folder = "", index = ""] = match;
  const [repository, path] = longestMatch(folder, repositories) ?? [];
  if (repository === undefined || path === undefined) throw notMounted(folder);
  const [name = "", version, ...more] = folder.slice(path.length + 1).split("/");
  if (more.length > 0) {
    throw new UsageError(
      `${quoted(text)} is too deep in ${repository} (${path}): expected <name>/<version>/package.py`,
    );
  }
  return variantOf(repository, name, version, index);
}

/** `[repository:]foo-1.0.0[0]`: Rez's names have no dash, so the first one ends the name. */
function variantOfShortText(text: string, repositories: Repositories): Variant {
  const match = shortForm.exec(text);
  if (match === null) throw new UsageError(`${quoted(text)} is not a handle`, { hint: acceptedForms });
  const [, repository, name = "", version, index = ""] = match;
  return variantOf(repository ?? onlyRepository(text, repositories), name, version, index, repositories);
}

function variantOf(
  repository: string,
  name: string,
  version: string | undefined,
  index: string,
  repositories?: Repositories,
): Variant {
  const variant = parseVariant({
    ...{ kind: "rez", repository, name },
    ...(version === undefined ? {} : { version }),
    ...(index === "" ? {} : { index: Number(index) }),
  });
  if (repositories !== undefined && !repositories.has(repository)) {
    throw new UsageError(`the repository ${quoted(repository)} is not configured: set repositories.${repository}`, {
      code: notConfigured,
      hint: configuredOnes(repositories),
    });
  }
  return variant;
}

function onlyRepository(text: string, repositories: Repositories): string {
  const [first, ...others] = repositories.keys();
  if (first === undefined) {
    throw new UsageError(`no repository is configured for ${quoted(text)}: set repositories.<id>`, {
      code: notConfigured,
    });
  }
  if (others.length === 0) return first;
  throw new UsageError(
    `${quoted(text)} is ambiguous: it may be in any of the repositories ${[first, ...others].join(", ")}`,
    { hint: `write ${first}:${text} for the one in ${first}` },
  );
}

/** The repository with the longest path that the folder lies in. */
function longestMatch(folder: string, repositories: Repositories): [string, string] | undefined {
  let longest: [string, string] | undefined;
  for (const [repository, path] of repositories) {
    if (folder.startsWith(`${path}/`) && path.length > (longest?.[1].length ?? -1)) longest = [repository, path];
  }
  return longest;
}

function notMounted(path: string): UsageError {
  return new UsageError(`no configured repository is at ${quoted(path)}: set repositories.<id> to its path`, {
    code: notConfigured,
  });
}

function configuredOnes(repositories: Repositories): string {
  return repositories.size === 0 ? "none is configured" : `configured: ${[...repositories.keys()].join(", ")}`;
}

/** What a user typed is never a bad file: the formats' own refusals become usage errors that show the text. */
function refusingBadFormat<T>(text: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    throw new UsageError(`${quoted(text)}: ${cause.message}`, { hint: acceptedForms, cause });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UsageError(`${quoted(text)} begins like a JSON handle, but is not JSON`, { cause });
  }
}

function handleForPeople(handle: unknown): string {
  const variables = isMap(handle) && isMap(handle.variables) ? handle.variables : undefined;
  if (typeof variables?.name !== "string") return shortened(JSON.stringify(handle) ?? "nothing");
  const version = typeof variables.version === "string" ? `-${variables.version}` : "";
  const index = typeof variables.index === "number" ? `[${variables.index}]` : "";
  return shortened(`${variables.name}${version}${index}`);
}

/** Rez knows Windows' paths too: `c:\packages`, `\\server\share`. */
function isAbsolute(location: string): boolean {
  return /^(\/|\\\\|[A-Za-z]:[\\/])/.test(location);
}

function quoted(text: string): string {
  return JSON.stringify(shortened(text));
}

function shortened(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}...` : text;
}

const notConfigured = "REPOSITORY_NOT_CONFIGURED";
const acceptedForms =
  "a handle is [repository:]foo-1.0.0[0], [repository:]foo/1.0.0[0], /path/package.py[0], JSON, variant:<hex> or payload:<hex>";
/** `<folder>/package.py[<index or nothing>]`, the brackets may be missing. */
const uriForm = /^(.+)\/package\.(?:py|yaml)(?:\[(\d{0,9})\])?$/;
/** Names as Rez has them (utils/formatting.py, PACKAGE_NAME_REGSTR). */
const shortForm = /^(?:([^:/[\]\s]+):)?([a-zA-Z_0-9](?:\.?[a-zA-Z0-9_])*)(?:[-/]([^:/[\]\s]+))?(?:\[(\d{0,9})\])?$/;
