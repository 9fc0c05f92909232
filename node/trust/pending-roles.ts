import type { Metadata, Targets } from "@tufjs/models";
import type { PolicyFolder } from "./policy-folder.ts";
import { metadataName, targetName } from "./policy-names.ts";
import { sha256 } from "./sha256.ts";
import { targetsOf } from "./tuf.ts";
import { checkSigned, type VerifiedPolicy } from "./verify-policy.ts";

/** What the owner of a role has signed since the last snapshot. */
interface PendingRole {
  readonly role: string;
  readonly metadata: Metadata<Targets>;
  readonly contents: ReadonlyMap<string, Uint8Array>;
}

/**
 * What lies in the folder and is in no snapshot yet: a toolset's owner has the key of its list only, so that whoever has
 * the online key puts it into force. What is not right is left out, with a warning.
 */
export async function findPending(
  folder: PolicyFolder,
  base: VerifiedPolicy,
  warnings: string[],
): Promise<PendingRole[]> {
  const found: PendingRole[] = [];
  for (const role of Object.keys(base.targets.signed.delegations?.roles ?? {})) {
    try {
      const newest = await newestOf(folder, base, role);
      if (newest !== undefined) found.push(newest);
    } catch (error) {
      warnings.push(`what was signed for ${role} is left out: ${(error as Error).message}`);
    }
  }
  return found;
}

async function newestOf(folder: PolicyFolder, base: VerifiedPolicy, role: string): Promise<PendingRole | undefined> {
  let newest: PendingRole | undefined;
  const seen = base.snapshot.signed.meta[`${role}.json`]?.version ?? 0;
  for (let version = seen + 1; version <= seen + pendingMax; version++) {
    const bytes = await folder.read(metadataName(role, version));
    if (bytes === undefined) break;
    const metadata = targetsOf(bytes, role);
    checkSigned(base.targets, role, metadata);
    if (metadata.signed.version !== version) throw new Error(`it says that it is version ${metadata.signed.version}`);
    newest = { role, metadata, contents: await contentsOf(folder, base, role, metadata) };
  }
  return newest;
}

async function contentsOf(
  folder: PolicyFolder,
  base: VerifiedPolicy,
  role: string,
  { signed }: Metadata<Targets>,
): Promise<Map<string, Uint8Array>> {
  const contents = new Map<string, Uint8Array>();
  const delegation = base.targets.signed.delegations?.roles?.[role];
  for (const [path, { hashes, length }] of Object.entries(signed.targets)) {
    if (delegation?.isDelegatedPath(path) !== true) throw new Error(`it has ${path}, which is not its own`);
    const bytes = await folder.read(targetName(path, hashes.sha256 ?? ""));
    if (bytes === undefined || bytes.length !== length || sha256(bytes) !== hashes.sha256) {
      throw new Error(`its ${path} is not there, or is not what was signed`);
    }
    contents.set(path, bytes);
  }
  return contents;
}

/** Changes between two runs of `trust refresh`. */
const pendingMax = 1_000;
