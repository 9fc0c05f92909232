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
  const roles = Object.keys(base.targets.signed.delegations?.roles ?? {});
  const names = roles.length === 0 ? [] : await folder.names();
  for (const role of roles) {
    const seen = base.snapshot.signed.meta[`${role}.json`]?.version ?? 0;
    // An owner may leave versions out. What anybody has put there beside must not hide what the owner has signed.
    for (const version of versionsAfter(seen, role, names).slice(0, pendingMax)) {
      try {
        found.push(await pendingRole(folder, base, role, version));
        break;
      } catch (error) {
        warnings.push(`what was signed for ${role} is left out: ${(error as Error).message}`);
      }
    }
  }
  return found;
}

/** The newest first. */
function versionsAfter(seen: number, role: string, names: readonly string[]): number[] {
  const versions = names.flatMap((name) => {
    const version = Number(/^([1-9]\d{0,9})\./.exec(name)?.[1] ?? 0);
    return version > seen && name === metadataName(role, version) ? [version] : [];
  });
  return versions.sort((a, b) => b - a);
}

async function pendingRole(
  folder: PolicyFolder,
  base: VerifiedPolicy,
  role: string,
  version: number,
): Promise<PendingRole> {
  const metadata = targetsOf((await folder.read(metadataName(role, version)))!, role);
  checkSigned(base.targets, role, metadata);
  if (metadata.signed.version !== version) throw new Error(`it says that it is version ${metadata.signed.version}`);
  return { role, metadata, contents: await contentsOf(folder, base, role, metadata) };
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

/** How many files of a role are read that lie there and are in no snapshot. */
const pendingMax = 100;
