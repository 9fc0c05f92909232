import { Metadata, Root, Snapshot, Targets, Timestamp } from "@tufjs/models";
import { keyId } from "../keys.ts";
import { pathPatterns } from "./policy-names.ts";
import { sha256 } from "./sha256.ts";
import { fileBytes, isoSeconds, signedAtField, tufKey } from "./tuf.ts";

// How new metadata of each role is made; nothing is signed here.

/** How long what a role signs is in force, in days. The timestamp's is DESIGN's (section 3). */
const lifeDays = { root: 730, targets: 365, delegated: 365, snapshot: 30, timestamp: 30 } as const;
const dayMs = 24 * 3_600_000;
const specVersion = "1.0.31";

type Signed = { readonly expires: string; readonly version: number };

/** Who may sign a delegated role. */
export interface Delegation {
  readonly name: string;
  readonly keyids: readonly string[];
  readonly threshold: number;
}

/** The keys that a new policy begins with, raw. */
export interface FirstKeys {
  readonly root: readonly Uint8Array[];
  /** How many of the root's keys must sign. */
  readonly threshold: number;
  readonly targets: Uint8Array;
  readonly online: Uint8Array;
}

/** Whether what a role has signed has lived more than half of its life. */
export function isPastHalf({ expires }: Signed, role: string, nowMs: number): boolean {
  return Date.parse(expires) - nowMs < lifeMs(role) / 2;
}

export function firstRoot({ root, threshold, targets, online }: FirstKeys, nowMs: number): Metadata<Root> {
  const role = (keys: readonly Uint8Array[], count: number) => ({ keyids: keys.map(keyId), threshold: count });
  const keys = [...root, targets, online].map((raw) => [keyId(raw), tufKey(raw).toJSON()] as const);
  return new Metadata(
    Root.fromJSON({
      ...head("root", 1, nowMs),
      consistent_snapshot: true,
      keys: Object.fromEntries(keys),
      roles: {
        root: role(root, threshold),
        targets: role([targets], 1),
        snapshot: role([online], 1),
        timestamp: role([online], 1),
      },
    }),
  );
}

/** The next root, with the same keys. */
export function renewedRoot({ signed }: Metadata<Root>, nowMs: number): Metadata<Root> {
  return new Metadata(Root.fromJSON({ ...signed.toJSON(), ...head("root", signed.version + 1, nowMs) }));
}

/** The next root, with another key in one's place wherever it signs. */
export function rotatedRoot(root: Metadata<Root>, nowMs: number, oldKeyid: string, newKey: Uint8Array): Metadata<Root> {
  const { keys, roles } = root.signed;
  const swap = (keyid: string) => (keyid === oldKeyid ? keyId(newKey) : keyid);
  const kept = Object.entries(keys).filter(([keyid]) => keyid !== oldKeyid);
  const allKeys = [
    ...kept.map(([keyid, key]) => [keyid, key.toJSON()] as const),
    [keyId(newKey), tufKey(newKey).toJSON()] as const,
  ];
  const allRoles = Object.entries(roles).map(([name, { keyIDs, threshold }]) => {
    return [name, { keyids: keyIDs.map(swap), threshold }] as const;
  });
  return new Metadata(
    Root.fromJSON({
      ...root.signed.toJSON(),
      ...head("root", root.signed.version + 1, nowMs),
      keys: Object.fromEntries(allKeys),
      roles: Object.fromEntries(allRoles),
    }),
  );
}

/** Targets with this content; delegations as in `like`. In force as long as its kind is, unless `expiresMs` is given. */
export function newTargets(
  version: number,
  nowMs: number,
  contents: ReadonlyMap<string, Uint8Array>,
  { like, expiresMs }: { readonly like?: Metadata<Targets>; readonly expiresMs?: number } = {},
): Metadata<Targets> {
  const targets = [...contents].map(([path, bytes]) => {
    return [path, { length: bytes.length, hashes: { sha256: sha256(bytes) } }] as const;
  });
  const { delegations } = like?.signed ?? {};
  return new Metadata(
    Targets.fromJSON({
      ...head(like === undefined ? "delegated" : "targets", version, nowMs, "targets"),
      ...(expiresMs === undefined ? {} : { expires: isoSeconds(expiresMs) }),
      targets: Object.fromEntries(targets),
      ...(delegations === undefined ? {} : { delegations: delegations.toJSON() }),
    }),
  );
}

export function delegationsOf({ signed }: Metadata<Targets>): Delegation[] {
  return Object.values(signed.delegations?.roles ?? {}).map(({ name, keyIDs, threshold }) => {
    return { name, keyids: keyIDs, threshold };
  });
}

/** The first targets: they delegate, and have nothing of their own. */
export function firstTargets(nowMs: number): Metadata<Targets> {
  const value = { ...head("targets", 1, nowMs), targets: {}, delegations: { keys: {}, roles: [] } };
  return new Metadata(Targets.fromJSON(value));
}

/** The same targets with a role that these keys may sign. */
export function withDelegations(
  targets: Metadata<Targets>,
  nowMs: number,
  role: string,
  rawKeys: readonly Uint8Array[],
  threshold: number,
): Metadata<Targets> {
  const others = delegationsOf(targets).filter(({ name }) => name !== role);
  const all = [...others, { name: role, keyids: rawKeys.map(keyId), threshold }];
  const used = new Set(all.flatMap(({ keyids }) => keyids));
  const known = Object.entries(targets.signed.delegations?.keys ?? {}).filter(([keyid]) => used.has(keyid));
  const keys = [
    ...known.map(([keyid, key]) => [keyid, key.toJSON()] as const),
    ...rawKeys.map((raw) => [keyId(raw), tufKey(raw).toJSON()] as const),
  ];
  const roles = all.map(({ name, keyids, threshold: count }) => {
    return { name, keyids: [...keyids], threshold: count, terminating: true, paths: pathPatterns(name) };
  });
  const { version } = targets.signed;
  const value = {
    ...targets.signed.toJSON(),
    ...head("targets", version, nowMs),
    delegations: { keys: Object.fromEntries(keys), roles },
  };
  return new Metadata(Targets.fromJSON(value));
}

/** What was named before stays named, or clients would refuse it: also a role that nobody is delegated to any more. */
export function newSnapshot(
  before: Metadata<Snapshot> | undefined,
  nowMs: number,
  roles: Iterable<readonly [role: string, metadata: Metadata<Targets>]>,
  version: number = (before?.signed.version ?? 0) + 1,
): Metadata<Snapshot> {
  const named = [...roles].map(([role, metadata]) => [`${role}.json`, describe(metadata)] as const);
  const kept = Object.entries(before?.signed.meta ?? {}).map(([name, meta]) => [name, meta.toJSON()] as const);
  const meta = Object.fromEntries([...kept, ...named]);
  return new Metadata(Snapshot.fromJSON({ ...head("snapshot", version, nowMs), meta }));
}

/** It says when it was signed, so that a clock that was set back brings nothing old into force again. */
export function newTimestamp(version: number, nowMs: number, snapshot: Metadata<Snapshot>): Metadata<Timestamp> {
  const meta = { "snapshot.json": describe(snapshot) };
  const value = { ...head("timestamp", version, nowMs), meta, [signedAtField]: isoSeconds(nowMs) };
  return new Metadata(Timestamp.fromJSON(value));
}

function describe(metadata: Metadata<Targets> | Metadata<Snapshot>): {
  version: number;
  length: number;
  hashes: { sha256: string };
} {
  const bytes = fileBytes(metadata);
  return { version: metadata.signed.version, length: bytes.length, hashes: { sha256: sha256(bytes) } };
}

function head(role: string, version: number, nowMs: number, kind: string = role): Record<string, string | number> {
  const expires = isoSeconds(nowMs + lifeMs(role));
  return { _type: kind, spec_version: specVersion, version, expires };
}

function lifeMs(role: string): number {
  const days = role in lifeDays ? lifeDays[role as keyof typeof lifeDays] : lifeDays.delegated;
  return days * dayMs;
}
