import { UsageError } from "../protocol/errors.ts";
import type { Hasher } from "../protocol/hash.ts";
import type { IndexEntry } from "../protocol/origin-index.ts";
import { keyId, loadPublisherKey, parsePublicKey, sign } from "./keys.ts";
import { indexEntryOf, readReleases } from "./origin-releases.ts";
import { enterInIndex, rebuildIndex } from "./origins/folder-index.ts";
import { FolderRepository } from "./origins/folder-origin.ts";
import { walkVariants } from "./origins/folder-walk.ts";
import type { RecordSigner } from "./payloads/latest-record.ts";
import type { Origin } from "./ports.ts";
import { requireNetwork } from "./settings/load.ts";
import type { FolderOriginSettings, Settings } from "./settings/schema.ts";

/** The folder origin that releases go to. @throws {UsageError} where none is configured. */
export function publishingOrigin(settings: Settings): FolderOriginSettings {
  const folders = settings.origins.filter((origin) => origin.kind === "folder");
  const origin = folders.find(({ name }) => settings.publish.origin === undefined || name === settings.publish.origin);
  if (origin !== undefined) return origin;
  throw new UsageError("no folder origin is configured to publish to", {
    hint: 'add [[origin]] with kind = "folder"',
  });
}

/** Opens the configured origin for who publishes; `publishes`: an empty folder becomes one. @throws {UsageError} when it is of another network. */
export async function openPublishing(
  settings: Settings,
  { publishes = true }: { readonly publishes?: boolean } = {},
): Promise<{ repository: FolderRepository; path: string }> {
  const network = requireNetwork(settings);
  const { name, path } = publishingOrigin(settings);
  const { compress } = settings.publish;
  return { repository: await FolderRepository.open({ name, path, network, publishes, compress }), path };
}

/** Signs with the publisher's key. @throws {UsageError} where there is none, or others may read it. */
export async function openSigner(settings: Settings): Promise<RecordSigner> {
  const key = await loadPublisherKey(settings.publish.keyFile);
  return { keyid: keyId(key.rawPublic), sign: (message) => sign(key, message) };
}

/** The raw keys of `trust.publishers`, by key id. */
export function publisherKeys({ publishers }: Settings["trust"]): Map<string, Uint8Array> {
  return new Map(
    publishers.map((text) => {
      const raw = parsePublicKey(text);
      return [keyId(raw), raw];
    }),
  );
}

/**
 * Enters a release in the index of its origin's folder. The index is a hint: what goes wrong with it is answered, for a
 * warning, and undoes nothing. Never rejects.
 */
export async function noteInIndex(
  origin: { readonly repository: Origin; readonly path: string },
  entry: IndexEntry,
  hasher: Hasher,
): Promise<string | undefined> {
  try {
    await enterInIndex(origin.path, [entry], () => indexEntries(origin.repository, origin.path, hasher));
    return undefined;
  } catch (error) {
    return `the index of the origin ${origin.repository.name} was not updated: ${(error as Error).message}`;
  }
}

/** Makes the index of a folder anew where it is wrong; answers what went wrong with that. Never rejects. */
export async function renewIndex(
  origin: { readonly repository: Origin; readonly path: string },
  hasher: Hasher,
): Promise<string | undefined> {
  try {
    await rebuildIndex(origin.path, () => indexEntries(origin.repository, origin.path, hasher));
    return undefined;
  } catch (error) {
    return `the index of the origin ${origin.repository.name} was not made anew: ${(error as Error).message}`;
  }
}

async function* indexEntries(origin: Origin, path: string, hasher: Hasher): AsyncGenerator<IndexEntry> {
  const options = { publishers: new Map(), hasher, matches: () => true };
  for await (const release of readReleases(origin, walkVariants(path), options)) {
    const entry = indexEntryOf(release);
    if (entry !== undefined) yield entry;
  }
}
