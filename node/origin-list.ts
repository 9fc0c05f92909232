import { matchesGlob } from "../protocol/glob.ts";
import { type Variant, variantText } from "../protocol/variant.ts";
import { openHashEngine } from "./hasher.ts";
import { type OriginRelease, readReleases } from "./origin-releases.ts";
import { FolderRepository } from "./origins/folder-origin.ts";
import { walkVariants } from "./origins/folder-walk.ts";
import { publishersOf } from "./publishing.ts";
import { checkOrigins, requireNetwork } from "./settings/load.ts";
import type { Settings } from "./settings/schema.ts";

export interface OriginListOptions {
  /** As `repository:name-version[index]`, with `*` and `?`; the repository may be left out. */
  readonly pattern?: string;
  readonly signal?: AbortSignal;
}

/**
 * The latest record of every variant at each origin that may be asked, and whether it is trusted. Runs as the caller.
 * @throws {UnreachableError} when an origin fails; {UsageError} for an origin that this release cannot read.
 */
export async function* listOrigin(
  settings: Settings,
  options: OriginListOptions = {},
): AsyncGenerator<OriginRelease, void, undefined> {
  const network = requireNetwork(settings);
  checkOrigins(settings);
  const { hash: hasher } = openHashEngine();
  const { pattern, signal } = options;
  const matches = (variant: Variant): boolean => pattern === undefined || fits(variant, pattern);
  const reading = { publishers: publishersOf(settings), hasher, matches, ...(signal === undefined ? {} : { signal }) };
  for (const origin of settings.origins) {
    if (origin.kind !== "folder" || origin.policy === "never") continue;
    const { name, path } = origin;
    const folder = await FolderRepository.open({ name, path, network });
    yield* readReleases(folder, walkVariants(path), reading);
  }
}

function fits(variant: Variant, pattern: string): boolean {
  const text = variantText(variant);
  return matchesGlob(pattern.includes(":") ? text : text.slice(variant.repository.length + 1), pattern);
}
