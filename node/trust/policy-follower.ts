import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Updater } from "tuf-js";
import { NotFoundError, NotTrustedError, P2pCacheError } from "../../protocol/errors.ts";
import { policyContent } from "./policy-content.ts";
import { effectiveMs, termOf } from "./policy-facts.ts";
import { PolicyFetcher, policyUrl } from "./policy-fetcher.ts";
import { checkFloor, factsOf, floorOf, rememberPolicy, trustedRootOf } from "./policy-floor.ts";
import { contentPath, metadataName, timestampName } from "./policy-names.ts";
import type { PolicyState, StoredPolicy } from "./policy-state.ts";
import { sha256 } from "./sha256.ts";
import type { TrustFloor } from "./trust-floor.ts";
import { type PolicyFault, policyRefused } from "./tuf.ts";
import { isOptional, type ReadPolicyFile, type VerifiedPolicy, verifyPolicy } from "./verify-policy.ts";

export interface FollowParts {
  readonly state: PolicyState;
  /** What was seen with this cache, and is to be kept there. */
  readonly floor?: TrustFloor;
  /** A directory in which tuf-js has one for itself for a moment; one call at a time. */
  readonly workPath: string;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
}

/**
 * Looks whether a source has a newer policy, and keeps it once all of it was found right by tuf-js, and by what tuf-js does
 * not look at: the newest signed time that was seen, and the content of targets (decision 0080). Answers whether anything
 * is new. @throws {NotTrustedError} POLICY_…, with nothing changed; {FormatError} {VersionError} for
 * content that cannot be read, likewise; {NotFoundError} where there is none; what the source
 * throws.
 */
export async function followPolicy(parts: FollowParts, source: ReadPolicyFile): Promise<boolean> {
  const { state, floor, nowMs } = parts;
  const { stored } = state;
  const root = trustedRootOf(stored);
  const taken = new Map<string, Uint8Array>();
  const read: ReadPolicyFile = async (name) => {
    // What is named by its version or content and was verified before need not be asked for; roots only lead onwards.
    const known = taken.get(name) ?? (name === timestampName ? undefined : stored?.files.get(name));
    if (known !== undefined) return known;
    const bytes = await source(name);
    if (bytes !== undefined) taken.set(name, bytes);
    return bytes;
  };
  if ((await read(timestampName)) === undefined) throw new NotFoundError("it has no policy");
  await runUpdater(parts, root, read);
  const policy = await verifyPolicy(root, read);
  checkFloor(floorOf(stored), policy);
  checkFloor(floor?.floor, policy);
  const term = termOf(factsOf(policy))!;
  if (effectiveMs(stored, nowMs) >= term.expiresMs) {
    throw policyRefused(
      "POLICY_EXPIRED",
      `its ${term.role} was in force until ${new Date(term.expiresMs).toISOString()}`,
      {
        hint: expiredHint,
      },
    );
  }
  const isNew = !isSame(stored, policy);
  if (isNew) {
    policyContent(policy); // What nobody here could read must not be kept: nothing would lead back.
    await rememberPolicy(state, policy, nowMs);
  }
  await floor?.keep(floorOf(state.stored)!);
  return isNew;
}

/** Lets tuf-js follow the roots, and verify every role's metadata, in a directory of its own. */
async function runUpdater({ state, workPath }: FollowParts, root: Uint8Array, read: ReadPolicyFile): Promise<void> {
  const metadataDir = join(workPath, ".policy-work");
  const fetcher = new PolicyFetcher(read);
  try {
    await rm(metadataDir, { recursive: true, force: true }); // What a crash has left.
    await mkdir(metadataDir, { recursive: true, mode: 0o700 });
    for (const [name, bytes] of knownMetadata(state.stored)) await writeFile(join(metadataDir, name), bytes);
    await writeFile(join(metadataDir, "root.json"), root);
    const updater = new Updater({ metadataDir, metadataBaseUrl: policyUrl, fetcher });
    await updater.refresh();
    const targets = (await verifyPolicy(root, read)).delegated;
    for (const role of targets.keys()) {
      try {
        await updater.getTargetInfo(contentPath(role));
      } catch (error) {
        // A list that has expired has no force; whether all of the policy has is seen afterwards.
        if (!isOptional(role) && faultOf(error) !== "POLICY_EXPIRED") throw error;
      }
    }
  } catch (error) {
    if (error instanceof NotTrustedError) throw error;
    const failure = fetcher.failure ?? error;
    if (failure instanceof P2pCacheError && failure.code !== "POLICY_BROKEN") throw failure;
    const fault = faultOf(error);
    throw policyRefused(fault, (error as Error).message, {
      cause: error,
      ...(fault === "POLICY_EXPIRED" ? { hint: expiredHint } : {}),
    });
  } finally {
    await rm(metadataDir, { recursive: true, force: true });
  }
}

/** What was verified before, under the names that tuf-js looks for: it compares versions with them. */
function* knownMetadata(stored: StoredPolicy | undefined): Generator<readonly [name: string, bytes: Uint8Array]> {
  const timestamp = stored?.files.get(timestampName);
  if (stored === undefined || timestamp === undefined) return;
  yield [timestampName, timestamp];
  for (const role of ["snapshot", "targets"]) {
    const version = stored.facts.roles.find((each) => each.role === role)?.version;
    const bytes = version === undefined ? undefined : stored.files.get(metadataName(role, version));
    if (bytes !== undefined) yield [`${role}.json`, bytes];
  }
}

/** tuf-js has classes for some of these, and texts for what it has wrapped. */
function faultOf(error: unknown): PolicyFault {
  const text = error instanceof Error ? error.message : String(error);
  const kinds: readonly [RegExp, PolicyFault][] = [
    [/expired/, "POLICY_EXPIRED"],
    [/was signed by \d+\/\d+ keys/, "POLICY_UNSIGNED"],
    [/less than current version|Expected version|Missing file/, "POLICY_ROLLBACK"],
    [/Expected (length|hash)|does not match|doesn't match|there is no /, "POLICY_MIXED"],
  ];
  return kinds.find(([pattern]) => pattern.test(text))?.[1] ?? "POLICY_BROKEN";
}

function isSame(stored: StoredPolicy | undefined, policy: VerifiedPolicy): boolean {
  if (stored === undefined) return false;
  return [...policy.files].every(([name, bytes]) => {
    const known = stored.files.get(name);
    return known !== undefined && (known === bytes || sha256(known) === sha256(bytes));
  });
}

const expiredHint =
  "an admin signs it anew with `p2pcache trust refresh`; what is here and was verified goes on being used";
