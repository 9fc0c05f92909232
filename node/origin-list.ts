import { matchesGlob } from "../protocol/glob.ts";
import { type Variant, variantText } from "../protocol/variant.ts";
import { systemClock } from "./clock.ts";
import { openHashEngine } from "./hasher.ts";
import { openHttpOrigin } from "./http-origins.ts";
import { indexedVariants, type OriginRelease, type ReleaseListOptions, readReleases } from "./origin-releases.ts";
import { FolderRepository } from "./origins/folder-origin.ts";
import { walkVariants } from "./origins/folder-walk.ts";
import { RecordTrust } from "./record-trust.ts";
import { requireNetwork } from "./settings/load.ts";
import type { OriginSettings, Settings } from "./settings/schema.ts";

export interface OriginListOptions {
  /** As `repository:name-version[index]`, with `*` and `?`; the repository may be left out. */
  readonly pattern?: string;
  readonly signal?: AbortSignal;
}

/**
 * The latest record of every variant at each origin that may be asked, and whether it is trusted. Runs as the caller.
 * @throws {UnreachableError} when an origin fails; {NotFoundError} for a server without an index.
 */
export async function* listOrigin(
  settings: Settings,
  options: OriginListOptions = {},
): AsyncGenerator<OriginRelease, void, undefined> {
  const network = requireNetwork(settings);
  const { hash: hasher } = openHashEngine();
  const { pattern, signal } = options;
  const matches = (variant: Variant): boolean => pattern === undefined || fits(variant, pattern);
  const reading = {
    publishers: await RecordTrust.look(settings, hasher),
    hasher,
    matches,
    ...(signal === undefined ? {} : { signal }),
  };
  for (const origin of settings.origins) if (origin.policy !== "never") yield* releasesAt(origin, network, reading);
}

/** A folder is walked; a server says in its index what there is. */
async function* releasesAt(
  origin: OriginSettings,
  network: string,
  reading: ReleaseListOptions,
): AsyncGenerator<OriginRelease, void, undefined> {
  const { name } = origin;
  if (origin.kind === "folder") {
    const folder = await FolderRepository.open({ name, path: origin.path, network });
    return yield* readReleases(folder, walkVariants(origin.path), reading);
  }
  await using server = await openHttpOrigin(origin, { network, clock: systemClock });
  yield* readReleases(server, indexedVariants(server, reading), reading);
}

function fits(variant: Variant, pattern: string): boolean {
  const text = variantText(variant);
  return matchesGlob(pattern.includes(":") ? text : text.slice(variant.repository.length + 1), pattern);
}
