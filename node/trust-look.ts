import { appendFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { NotFoundError, UsageError } from "../protocol/errors.ts";
import type { Denial } from "../protocol/policy.ts";
import { systemClock } from "./clock.ts";
import { publicKeyText } from "./keys.ts";
import { noLog } from "./log.ts";
import { OriginSet } from "./origins-of.ts";
import { newestPolicy } from "./record-trust.ts";
import { requireNetwork } from "./settings/load.ts";
import type { Settings } from "./settings/schema.ts";
import { openAuthorState, readRoot, trustRoot } from "./trust/first-contact.ts";
import { KeyRing } from "./trust/key-ring.ts";
import { policyContent } from "./trust/policy-content.ts";
import { effectiveMs, type PolicyFacts, storedContents, termOf } from "./trust/policy-facts.ts";
import { checkFloor, factsOf, floorOf, trustedRootOf } from "./trust/policy-floor.ts";
import { PolicyState } from "./trust/policy-state.ts";
import { sha256 } from "./trust/sha256.ts";
import { TrustFloor } from "./trust/trust-floor.ts";
import { policyRefused, rootOf } from "./trust/tuf.ts";
import { verifyPolicy } from "./trust/verify-policy.ts";
import { policyKeysPath } from "./trust-admin.ts";

// What `p2pcache trust` says of a policy without changing it, and how a machine begins anew.

/** A role of a policy, as it is printed. */
interface ShownRole {
  readonly role: string;
  readonly version: number;
  /** ISO 8601, UTC. */
  readonly expires: string;
  readonly keyids: readonly string[];
  readonly threshold: number;
}

/** A policy as people read it. */
export interface PolicyReport {
  readonly state: "in-force" | "ending" | "expired" | "not-followed";
  /** When the first role ends; undefined while nothing has been followed. */
  readonly expires: string | undefined;
  readonly since: string;
  readonly roles: readonly ShownRole[];
  readonly publishers: readonly { readonly keyid: string; readonly label: string; readonly names: readonly string[] }[];
  readonly retired: readonly { readonly keyid: string; readonly at: string; readonly records: number }[];
  readonly revoked: readonly { readonly keyid: string; readonly at: string; readonly reason: string }[];
  readonly members: readonly {
    readonly site: string;
    readonly peer: string;
    readonly labels: readonly string[];
    readonly until: string | undefined;
  }[];
  readonly denied: readonly Denial[];
}

/** What one origin has, found right. */
export interface VerifiedOrigin {
  readonly origin: string;
  readonly roles: readonly ShownRole[];
  readonly expires: string;
}

/** What this machine has verified: its node, or whoever changes policies here. @throws {NotFoundError} where nothing was. */
export async function showPolicy(settings: Settings, nowMs: number = Date.now()): Promise<PolicyReport> {
  const stored = await newestPolicy(settings.node.state);
  if (stored === undefined) throw noPolicy();
  const { publishers, retired, revoked, members, denied } = policyContent({ contents: storedContents(stored) });
  const term = termOf(stored.facts);
  const now = effectiveMs(stored, nowMs);
  const state_ =
    term === undefined
      ? "not-followed"
      : now >= term.expiresMs
        ? "expired"
        : now >= term.warnMs
          ? "ending"
          : "in-force";
  return {
    state: state_,
    expires: term === undefined ? undefined : isoOf(term.expiresMs),
    since: stored.since,
    roles: shownRoles(stored.facts),
    publishers: publishers.map(({ keyid, label, names }) => ({ keyid, label, names })),
    retired: retired.map(({ keyid, at, records }) => ({ keyid, at, records: records.size })),
    revoked,
    members: [...members].flatMap(([site, rules]) => {
      return rules.map(({ peer, labels, untilMs }) => ({
        site,
        peer,
        labels,
        until: untilMs === undefined ? undefined : isoOf(untilMs),
      }));
    }),
    denied,
  };
}

/**
 * Verifies what each origin that may be asked has, against what this machine has seen.
 * @throws {NotTrustedError} POLICY_… for the first one that is not as it should be; {NotFoundError}; {UnreachableError}.
 */
export async function verifyOrigins(settings: Settings, nowMs: number = Date.now()): Promise<VerifiedOrigin[]> {
  const state = await openAuthorState({ statePath: settings.node.state, rootFile: settings.trust.rootFile, nowMs });
  const root = trustedRootOf(state.stored);
  const parts = { network: requireNetwork(settings), clock: systemClock, log: noLog, random: Math.random };
  await using set = await OriginSet.open(settings, parts);
  const found: VerifiedOrigin[] = [];
  for (const origin of set.origins) {
    if ((await origin.policyFile?.("timestamp.json")) === undefined) {
      throw new NotFoundError(`the origin ${origin.name} has no policy`);
    }
    const policy = await verifyPolicy(root, async (name) => await origin.policyFile?.(name));
    checkFloor(floorOf(state.stored), policy);
    const facts = factsOf(policy);
    const { expiresMs, role } = termOf(facts)!;
    if (effectiveMs(state.stored, nowMs) >= expiresMs) {
      throw policyRefused("POLICY_EXPIRED", `its ${role} was in force until ${isoOf(expiresMs)}`, {
        hint: "sign it anew with `p2pcache trust refresh`",
      });
    }
    found.push({ origin: origin.name, roles: shownRoles(facts), expires: isoOf(expiresMs) });
  }
  return found;
}

/** How this machine is to begin anew. */
export interface TrustReset {
  /** The root to trust; `trust.root` unless given. */
  readonly rootFile?: string;
  /** Takes whatever root the first origin has: for who has compared its digest with an admin's. */
  readonly firstContact?: boolean;
}

/**
 * Forgets every policy that was seen here, and trusts a root from now on. It is written down in `trust-resets.log`.
 * @throws {UsageError} where no root is named. The node must not be running: the caller sees to that.
 */
export async function resetTrust(
  settings: Settings,
  { rootFile = settings.trust.rootFile, firstContact = false }: TrustReset,
): Promise<{ readonly version: number; readonly sha256: string; readonly log: string }> {
  const nowMs = Date.now();
  const bytes = firstContact
    ? await originRoot(settings)
    : rootFile === undefined
      ? undefined
      : await readRoot(rootFile);
  if (bytes === undefined) {
    throw new UsageError("a reset needs a root to trust", {
      hint: "name it with --root FILE or trust.root, or take the origin's with --first-contact",
    });
  }
  const { version } = rootOf(bytes).signed;
  const { state } = settings.node;
  const forgotten = await TrustFloor.clear(settings.cache.path);
  for (const name of ["policy", "policy-author"]) await trustRoot(await PolicyState.open(state, name), bytes, nowMs);
  const log = join(state, "trust-resets.log");
  const line = {
    at: isoOf(nowMs),
    by: userInfo().username,
    root: version,
    sha256: sha256(bytes),
    firstContact,
    ...(forgotten === undefined ? {} : { forgotten: { root: forgotten.root.version, timestamp: forgotten.timestamp } }),
  };
  await appendFile(log, `${JSON.stringify(line)}\n`, { mode: 0o600 });
  return { version, sha256: line.sha256, log };
}

/** A private key of this machine, and what it signs in the policy that was seen last. */
export interface ListedKey {
  readonly name: string;
  readonly path: string;
  readonly keyid: string;
  readonly publicKey: string;
  readonly roles: readonly string[];
}

export async function listPolicyKeys(settings: Settings): Promise<ListedKey[]> {
  const ring = await KeyRing.open(policyKeysPath(settings));
  const stored = await PolicyState.look(settings.node.state, "policy-author");
  const roles = stored?.facts.roles ?? [];
  return ring.keys.map(({ name, path, keyid, key }) => {
    const signs = roles.filter(({ keyids }) => keyids.includes(keyid)).map(({ role }) => role);
    return { name, path, keyid, publicKey: publicKeyText(key), roles: signs };
  });
}

async function originRoot(settings: Settings): Promise<Uint8Array> {
  const parts = { network: requireNetwork(settings), clock: systemClock, log: noLog, random: Math.random };
  await using set = await OriginSet.open(settings, parts);
  for (const origin of set.origins) {
    const first = await origin.policyFile?.("1.root.json");
    if (first !== undefined) return first;
  }
  throw noPolicy();
}

function noPolicy(): NotFoundError {
  return new NotFoundError("there is no policy", { hint: "make one with `p2pcache trust init`, or set trust.root" });
}

function shownRoles({ roles }: PolicyFacts): ShownRole[] {
  return roles.map(({ role, version, expiresMs, keyids, threshold }) => {
    return { role, version, expires: isoOf(expiresMs), keyids, threshold };
  });
}

function isoOf(ms: number): string {
  return new Date(ms).toISOString();
}
