import type { Metadata, MetaFile, Root, Snapshot, Targets, Timestamp } from "@tufjs/models";
import { delegationsMax } from "../../protocol/limits.ts";
import { isPolicyName, metadataName, targetName, timestampName } from "./policy-names.ts";
import { sha256 } from "./sha256.ts";
import { type AnyMetadata, policyRefused, rootOf, snapshotOf, targetsOf, timestampOf } from "./tuf.ts";

/** Reads a file of a policy by its name; undefined where there is none. */
export type ReadPolicyFile = (name: string) => Promise<Uint8Array | undefined>;

/** A policy of which every signature, version and hash was found right. Whether it has expired is asked of it. */
export interface VerifiedPolicy {
  readonly root: Metadata<Root>;
  readonly timestamp: Metadata<Timestamp>;
  readonly snapshot: Metadata<Snapshot>;
  readonly targets: Metadata<Targets>;
  /** Those of the delegated roles that have signed something. */
  readonly delegated: ReadonlyMap<string, Metadata<Targets>>;
  /** Every file that it is made of, by name; of roots the whole chain from the one that was trusted. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** The content of all targets, by path. */
  readonly contents: ReadonlyMap<string, Uint8Array>;
}

/**
 * Verifies a policy from a trusted root on, whatever the time: who signs anew what has expired, and who goes on with what
 * was in force, must be able to read it.
 * @throws {NotTrustedError} POLICY_…, for whatever does not fit; what `read` throws.
 */
export async function verifyPolicy(trustedRoot: Uint8Array, read: ReadPolicyFile): Promise<VerifiedPolicy> {
  const files = new Map<string, Uint8Array>();
  const take = async (name: string): Promise<Uint8Array> => {
    const bytes = isPolicyName(name) ? await read(name) : undefined;
    if (bytes === undefined) throw policyRefused("POLICY_MIXED", `its ${name} is missing`);
    files.set(name, bytes);
    return bytes;
  };
  const root = await followRoots(trustedRoot, read, files);
  const timestamp = timestampOf(await take(timestampName));
  checkSigned(root, "timestamp", timestamp);
  const { snapshotMeta } = timestamp.signed;
  const snapshotBytes = await take(metadataName("snapshot", snapshotMeta.version));
  const snapshot = snapshotOf(snapshotBytes);
  checkFile("snapshot", snapshotBytes, snapshot, snapshotMeta);
  checkSigned(root, "snapshot", snapshot);
  const targets = await takeTargets("targets", root, snapshot, take);
  if (targets === undefined) throw policyRefused("POLICY_MIXED", "its snapshot names no targets");
  const delegated = new Map<string, Metadata<Targets>>();
  const roles = Object.keys(targets.signed.delegations?.roles ?? {});
  if (roles.length > delegationsMax) throw policyRefused("POLICY_BROKEN", `it delegates ${roles.length} roles`);
  for (const role of roles) {
    const metadata = await takeTargets(role, targets, snapshot, take);
    if (metadata !== undefined) delegated.set(role, metadata);
  }
  const contents = await takeContents(targets, delegated, take);
  return { root, timestamp, snapshot, targets, delegated, files, contents };
}

/** @throws {NotTrustedError} POLICY_UNSIGNED unless as many keys as it takes have signed. */
export function checkSigned(delegator: Metadata<Root> | Metadata<Targets>, role: string, metadata: AnyMetadata): void {
  try {
    delegator.verifyDelegate(role, metadata);
  } catch (cause) {
    throw policyRefused("POLICY_UNSIGNED", `its ${role}: ${(cause as Error).message}`, { cause });
  }
}

/** The newest root that the trusted one leads to, each signed by the keys of the one before and by its own. */
async function followRoots(
  trusted: Uint8Array,
  read: ReadPolicyFile,
  files: Map<string, Uint8Array>,
): Promise<Metadata<Root>> {
  let root = rootOf(trusted);
  checkSigned(root, "root", root);
  files.set(metadataName("root", root.signed.version), trusted);
  for (let steps = 0; steps < rootsMax; steps++) {
    const version = root.signed.version + 1;
    const name = metadataName("root", version);
    const bytes = await read(name);
    if (bytes === undefined) return root;
    const next = rootOf(bytes);
    checkSigned(root, "root", next);
    checkSigned(next, "root", next);
    if (next.signed.version !== version) {
      throw policyRefused("POLICY_ROLLBACK", `its ${name} says that it is version ${next.signed.version}`);
    }
    files.set(name, bytes);
    root = next;
  }
  throw policyRefused("POLICY_BROKEN", `more than ${rootsMax} new roots`);
}

async function takeTargets(
  role: string,
  delegator: Metadata<Root> | Metadata<Targets>,
  snapshot: Metadata<Snapshot>,
  take: (name: string) => Promise<Uint8Array>,
): Promise<Metadata<Targets> | undefined> {
  const meta = snapshot.signed.meta[`${role}.json`];
  if (meta === undefined) return undefined;
  const bytes = await take(metadataName(role, meta.version));
  const metadata = targetsOf(bytes, role);
  checkFile(role, bytes, metadata, meta);
  try {
    checkSigned(delegator, role, metadata);
  } catch (error) {
    // Its toolset has a new owner, who has signed nothing yet.
    if (isOptional(role)) return undefined;
    throw error;
  }
  return metadata;
}

/** Whether a policy is one without what this role says: keep-alive lists only prefer. */
export function isOptional(role: string): boolean {
  return role.startsWith("keepalive/");
}

function checkFile(role: string, bytes: Uint8Array, { signed }: AnyMetadata, meta: MetaFile): void {
  try {
    meta.verify(Buffer.from(bytes));
  } catch (cause) {
    throw policyRefused("POLICY_MIXED", `its ${role} is not the one that was signed with it`, { cause });
  }
  if (signed.version === meta.version) return;
  throw policyRefused("POLICY_MIXED", `its ${role} has version ${signed.version} in place of ${meta.version}`);
}

/** A role may sign the targets that were delegated to it, and no others. */
async function takeContents(
  top: Metadata<Targets>,
  delegated: ReadonlyMap<string, Metadata<Targets>>,
  take: (name: string) => Promise<Uint8Array>,
): Promise<Map<string, Uint8Array>> {
  const contents = new Map<string, Uint8Array>();
  for (const [role, { signed }] of delegated) {
    const delegation = top.signed.delegations?.roles?.[role];
    for (const [path, target] of Object.entries(signed.targets)) {
      const hash = target.hashes.sha256;
      if (hash === undefined || delegation?.isDelegatedPath(path) !== true) continue;
      const bytes = await take(targetName(path, hash));
      if (bytes.length !== target.length || sha256(bytes) !== hash) {
        throw policyRefused("POLICY_MIXED", `its ${path} is not what ${role} signed`);
      }
      contents.set(path, bytes);
    }
  }
  return contents;
}

/** As tuf-js has it. */
const rootsMax = 256;
