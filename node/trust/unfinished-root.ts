import type { Metadata, Root } from "@tufjs/models";
import { NotTrustedError, UsageError } from "../../protocol/errors.ts";
import { checkFloor, floorOf, trustedRootOf } from "./policy-floor.ts";
import type { PolicyFolder } from "./policy-folder.ts";
import { metadataName, timestampName } from "./policy-names.ts";
import type { PolicyState, StoredPolicy } from "./policy-state.ts";
import { sha256 } from "./sha256.ts";
import { rootOf } from "./tuf.ts";
import { checkSigned, type VerifiedPolicy, verifyPolicy } from "./verify-policy.ts";

/** What a change builds upon. */
interface PolicyBase {
  readonly base: VerifiedPolicy;
  /** A root that was written, and the timestamp that belongs to it was not: it is to be put into force with the next change. */
  readonly unfinished: Metadata<Root> | undefined;
}

/**
 * Verifies the policy in a folder against what its author has seen. Where a crash came between a root that has other keys
 * and its timestamp, the author's own copy of what was in force is the base, and no other: whoever has the keys that were
 * rotated out could have signed one. @throws {NotTrustedError} POLICY_…
 */
export async function openBase(folder: PolicyFolder, state: PolicyState): Promise<PolicyBase> {
  const { stored } = state;
  const trusted = trustedRootOf(stored);
  try {
    const base = await verifyPolicy(trusted, (name) => folder.read(name));
    checkFloor(floorOf(stored), base);
    return { base, unfinished: undefined };
  } catch (error) {
    if (!(error instanceof NotTrustedError) || error.code !== "POLICY_UNSIGNED") throw error;
    const next = await folder.read(metadataName("root", rootOf(trusted).signed.version + 1));
    if (stored === undefined || next === undefined || !(await isInForce(folder, stored))) throw error;
    const base = await verifyPolicy(trusted, async (name) => stored.files.get(name));
    return { base, unfinished: rootOf(next) };
  }
}

/** A new root must not end what is in force where nothing can be put into its place. @throws {UsageError} KEY_MISSING */
export function checkStaysInForce({ timestamp, snapshot, targets }: VerifiedPolicy, root: Metadata<Root>): void {
  try {
    for (const [role, metadata] of Object.entries({ timestamp, snapshot, targets })) checkSigned(root, role, metadata);
  } catch (cause) {
    throw new UsageError("the new root ends what is in force, and the online key that would go on is not here", {
      code: "KEY_MISSING",
      cause,
      hint: "run it where that key is, or name its file with --with FILE: nothing was signed",
    });
  }
}

/** Whether the timestamp in the folder is the very one that was seen last. */
async function isInForce(folder: PolicyFolder, { files }: StoredPolicy): Promise<boolean> {
  const [there, seen] = [await folder.read(timestampName), files.get(timestampName)];
  return there !== undefined && seen !== undefined && sha256(there) === sha256(seen);
}
