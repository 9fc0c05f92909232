import { UsageError } from "../../protocol/errors.ts";
import type { PolicyFacts, RoleFacts } from "./policy-facts.ts";
import { metadataName, timestampName } from "./policy-names.ts";
import type { PolicyState, StoredPolicy } from "./policy-state.ts";
import { sha256 } from "./sha256.ts";
import type { PolicyFloor } from "./trust-floor.ts";
import { policyRefused, rootOf, signedAtMs, snapshotOf, timestampOf } from "./tuf.ts";
import { isOptional, type VerifiedPolicy } from "./verify-policy.ts";

/** The newest root that was found right. @throws {UsageError} where there is none. */
export function trustedRootOf(stored: StoredPolicy | undefined): Uint8Array {
  let newest = 0;
  for (const name of stored?.files.keys() ?? []) newest = Math.max(newest, rootVersion(name) ?? 0);
  const root = stored?.files.get(`${newest}.root.json`);
  if (root !== undefined) return root;
  throw new UsageError("this machine trusts no policy's root yet", {
    code: "NO_ROOT",
    hint: "set trust.root to the root's file, or make a policy with `p2pcache trust init`",
  });
}

/** `7` of `7.root.json`. */
function rootVersion(name: string): number | undefined {
  const digits = /^(\d{1,9})\.root\.json$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** What nothing may be older than; undefined while nothing has been followed. */
export function floorOf(stored: StoredPolicy | undefined): PolicyFloor | undefined {
  const bytes = stored?.files.get(timestampName);
  if (stored === undefined || bytes === undefined) return undefined;
  const root = trustedRootOf(stored);
  const { signed, signatures } = timestampOf(bytes);
  const snapshot = signed.snapshotMeta.version;
  const snapshotBytes = stored.files.get(metadataName("snapshot", snapshot));
  const named = snapshotBytes === undefined ? {} : snapshotOf(snapshotBytes).signed.meta;
  return {
    root: { version: rootOf(root).signed.version, sha256: sha256(root) },
    signers: Object.keys(signatures),
    timestamp: signed.version,
    snapshot,
    meta: Object.fromEntries(Object.entries(named).map(([name, { version }]) => [name, version])),
    newestSignedMs: stored.newestSignedMs,
  };
}

/** @throws {NotTrustedError} POLICY_ROLLBACK where something newer was seen before (P6). */
export function checkFloor(floor: PolicyFloor | undefined, policy: VerifiedPolicy): void {
  if (floor === undefined) return;
  const { version, sha256: digest } = floor.root;
  const root = policy.root.signed.version;
  if (root < version) throw policyRefused("POLICY_ROLLBACK", `its root is version ${root}, and ${version} was seen`);
  const same = policy.files.get(metadataName("root", version));
  if (same !== undefined && sha256(same) !== digest) {
    throw policyRefused("POLICY_ROLLBACK", `its root ${version} is not the one that was seen`);
  }
  // A root that has taken the key away has taken its word away too (TUF, section 5.3.11).
  if (!policy.root.signed.roles.timestamp?.keyIDs.some((keyid) => floor.signers.includes(keyid))) return;
  const versions = [
    ["timestamp", floor.timestamp, policy.timestamp.signed.version],
    ["snapshot", floor.snapshot, policy.snapshot.signed.version],
    ...Object.entries(floor.meta).map(([name, before]) => {
      return [name, before, policy.snapshot.signed.meta[name]?.version ?? 0] as const;
    }),
  ] as const;
  for (const [role, before, now] of versions) {
    if (now < before) throw policyRefused("POLICY_ROLLBACK", `its ${role} is version ${now}, and ${before} was seen`);
  }
}

/** Keeps a policy that was found right, with the roots that led to it. */
export async function rememberPolicy(state: PolicyState, policy: VerifiedPolicy, nowMs: number): Promise<void> {
  const { stored } = state;
  const files = new Map([...(stored?.files ?? [])].filter(([name]) => rootVersion(name) !== undefined));
  for (const [name, bytes] of policy.files) files.set(name, bytes);
  const newestSignedMs = Math.max(stored?.newestSignedMs ?? 0, signedAtMs(policy.timestamp) ?? 0);
  const since = stored?.since ?? new Date(nowMs).toISOString();
  await state.save({ files, newestSignedMs, since, facts: factsOf(policy) });
}

/** What a policy's metadata says, in short. */
export function factsOf({ root, timestamp, snapshot, targets, delegated }: VerifiedPolicy): PolicyFacts {
  const { roles } = root.signed;
  const top = { root, timestamp, snapshot, targets };
  const ofTop = Object.entries(top).map(([role, { signed }]) => roleFacts(role, signed, roles[role]));
  const delegations = targets.signed.delegations?.roles ?? {};
  const ofDelegated = [...delegated].map(([role, { signed }]) => roleFacts(role, signed, delegations[role]));
  return { roles: [...ofTop, ...ofDelegated] };
}

function roleFacts(
  role: string,
  { version, expires }: { readonly version: number; readonly expires: string },
  signers: { readonly keyIDs: readonly string[]; readonly threshold: number } | undefined,
): RoleFacts {
  const { keyIDs: keyids = [], threshold = 0 } = signers ?? {};
  return { role, version, expiresMs: Date.parse(expires), keyids, threshold, isOptional: isOptional(role) };
}
