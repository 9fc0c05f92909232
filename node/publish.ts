import { UsageError } from "../protocol/errors.ts";
import { defaultAttributes } from "../protocol/record.ts";
import type { Variant } from "../protocol/variant.ts";
import { openHashEngine } from "./hasher.ts";
import { findInPlaceRoot } from "./in-place-root.ts";
import { keyId, loadPublisherKey, sign } from "./keys.ts";
import { FolderRepository } from "./origins/folder-origin.ts";
import { type Published, publishVariant } from "./payloads/publisher.ts";
import { requireNetwork } from "./settings/load.ts";
import type { Settings } from "./settings/schema.ts";

/** What a publisher wants to release. */
export interface PublishRequest {
  readonly variant: Variant;
  readonly treePath: string;
  readonly requires: readonly string[];
  readonly cachable?: boolean;
  readonly externalLinks?: boolean;
  readonly stripSpecial?: boolean;
  readonly allowPrivate?: boolean;
  readonly supersede?: boolean;
  /** The tree's chunks are not written: origins read them where it lies. */
  readonly inPlace?: boolean;
  readonly onProgress?: (bytes: number, files: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * Releases a tree to the configured origin, signed with the publisher's key; runs in the caller's own process, as the
 * caller. @throws {UsageError} when no folder origin or no key is configured, and what `publishVariant` throws.
 */
export async function publish(settings: Settings, request: PublishRequest): Promise<Published> {
  const network = requireNetwork(settings);
  const folders = settings.origins.filter((origin) => origin.kind === "folder");
  const origin = folders.find(({ name }) => settings.publish.origin === undefined || name === settings.publish.origin);
  if (origin === undefined) {
    throw new UsageError("no folder origin is configured to publish to", {
      hint: 'add [[origin]] with kind = "folder"',
    });
  }
  const key = await loadPublisherKey(settings.publish.keyFile);
  const { compress } = settings.publish;
  const { variant, treePath, requires, cachable = true, externalLinks = false, inPlace = false, ...rest } = request;
  const inPlaceRoot = inPlace ? await findInPlaceRoot(settings, variant, treePath) : undefined;
  const options = { name: origin.name, path: origin.path, network, publishes: true, compress };
  const repository = await FolderRepository.open(options);
  return await publishVariant({
    ...rest,
    ...(inPlaceRoot === undefined ? {} : { inPlaceRoot }),
    variant,
    treePath,
    repository,
    engine: openHashEngine(),
    sign: { keyid: keyId(key.rawPublic), sign: (message) => sign(key, message) },
    attributes: { ...defaultAttributes, variantRequires: requires, cachable, externalLinks },
    now: new Date().toISOString(),
  });
}
