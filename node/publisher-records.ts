import { P2pCacheError, UnreachableError, UsageError } from "../protocol/errors.ts";
import { bytesToHex, type Hasher } from "../protocol/hash.ts";
import { mayRelease, type PublisherRule } from "../protocol/policy.ts";
import { decodeEnvelope, decodeRecord, signedBytes } from "../protocol/record.ts";
import { keyId, verifySignature } from "./keys.ts";
import { FolderRepository } from "./origins/folder-origin.ts";
import { readRevisions } from "./origins/folder-records.ts";
import { walkVariants } from "./origins/folder-walk.ts";
import { publishingOrigin } from "./publishing.ts";
import { requireNetwork } from "./settings/load.ts";
import type { Settings } from "./settings/schema.ts";

/** What a publisher has signed, as far as it can be listed. */
interface SignedRecords {
  /** Digests of the records' bodies, in order. */
  readonly records: readonly string[];
  /** Origins whose records are not among them, and why. */
  readonly unlisted: readonly { readonly name: string; readonly reason: string }[];
}

/** Whose records are listed: of variants that the key may release. */
export type ListedPublisher = Pick<PublisherRule, "key" | "names">;

/**
 * What a publisher has signed so far, and was allowed to, at every configured origin whose records can be listed: folders that are there.
 * @throws {FormatError} where a record cannot be read: one that is missed would be void; {UnreachableError} where the
 * origin that releases go to cannot be listed.
 */
export async function recordsAtOrigins(
  settings: Settings,
  publisher: ListedPublisher,
  hasher: Hasher,
): Promise<SignedRecords> {
  const network = requireNetwork(settings);
  const own = publishingOrigin(settings).name;
  const records = new Set<string>();
  const unlisted: { name: string; reason: string }[] = [];
  for (const origin of settings.origins) {
    const { name } = origin;
    if (origin.kind !== "folder") {
      unlisted.push({ name, reason: "a web server tells the newest release of each variant only" });
      continue;
    }
    try {
      const { path } = origin;
      const repository = await FolderRepository.open({ name, path, network, publishes: false });
      await repository.check();
      for (const digest of await recordsSignedBy(path, publisher, hasher)) records.add(digest);
    } catch (error) {
      const isAway = error instanceof UnreachableError || error instanceof UsageError;
      if (!isAway || name === own) throw error;
      unlisted.push({ name, reason: error.message });
    }
  }
  return { records: [...records].sort(), unlisted };
}

/** Of one folder, every revision. */
async function recordsSignedBy(originPath: string, publisher: ListedPublisher, hasher: Hasher): Promise<string[]> {
  const keyid = keyId(publisher.key);
  const digests = new Set<string>();
  for await (const variant of walkVariants(originPath)) {
    for (const { bytes } of await readRevisions(originPath, variant)) {
      const { body, signatures } = decodeEnvelope(bytes);
      const isTheirs = signatures.some((each) => {
        return each.keyid === keyid && verifySignature(publisher.key, signedBytes(body), each.sig);
      });
      if (isTheirs && !isOfOthers(body, publisher, hasher)) digests.add(bytesToHex(hasher(body)));
    }
  }
  return [...digests];
}

/** Whether a body is of a variant that the key may not release; one that this program cannot read may be of any. */
function isOfOthers(body: Uint8Array, publisher: ListedPublisher, hasher: Hasher): boolean {
  try {
    const { variant } = decodeRecord(body, hasher);
    return !mayRelease(publisher, `${variant.repository}:${variant.name}`);
  } catch (error) {
    if (error instanceof P2pCacheError) return false;
    throw error;
  }
}
