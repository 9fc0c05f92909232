import { defaultAttributes } from "../protocol/record.ts";
import type { Variant } from "../protocol/variant.ts";
import { openHashEngine } from "./hasher.ts";
import { type Published, publishVariant } from "./payloads/publisher.ts";
import { type Withdrawn, withdrawVariant } from "./payloads/withdrawer.ts";
import { noteInIndex, openPublishing, openSigner } from "./publishing.ts";
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
  readonly onProgress?: (bytes: number, files: number) => void;
  /** Told what went wrong beside the release, which holds all the same. */
  readonly onWarning?: (message: string) => void;
  readonly signal?: AbortSignal;
}

/** What a publisher wants to take back. */
export interface UnpublishRequest {
  readonly variant: Variant;
  /** For people; empty for none. */
  readonly reason: string;
  readonly onWarning?: (message: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * Releases a tree to the configured origin, signed with the publisher's key; runs in the caller's own process, as the
 * caller. @throws {UsageError} when no folder origin or no key is configured, and what `publishVariant` throws.
 */
export async function publish(settings: Settings, request: PublishRequest): Promise<Published> {
  const sign = await openSigner(settings);
  const origin = await openPublishing(settings);
  const engine = openHashEngine();
  const { variant, treePath, requires, cachable = true, externalLinks = false, onWarning, ...rest } = request;
  const published = await publishVariant({
    ...rest,
    variant,
    treePath,
    repository: origin.repository,
    engine,
    sign,
    attributes: { ...defaultAttributes, variantRequires: requires, cachable, externalLinks },
    now: new Date().toISOString(),
  });
  const entry = { variant, revision: published.revision, isWithdrawn: false };
  const fault = await noteInIndex(origin, entry, engine.hash);
  if (fault !== undefined) onWarning?.(fault);
  return published;
}

/**
 * Takes a variant back at the configured origin, with a record signed like a release.
 * @throws {UsageError} when no folder origin or no key is configured, and what `withdrawVariant` throws.
 */
export async function unpublish(settings: Settings, request: UnpublishRequest): Promise<Withdrawn> {
  const sign = await openSigner(settings);
  const origin = await openPublishing(settings);
  const engine = openHashEngine();
  const { onWarning, ...rest } = request;
  const { repository } = origin;
  const withdrawn = await withdrawVariant({ ...rest, repository, engine, sign, now: new Date().toISOString() });
  const entry = { variant: request.variant, revision: withdrawn.revision, isWithdrawn: true };
  const fault = await noteInIndex(origin, entry, engine.hash);
  if (fault !== undefined) onWarning?.(fault);
  return withdrawn;
}
