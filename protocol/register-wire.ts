import { type CborMap, decodeCanonical, encodeCanonical, isCount, isMap } from "./cbor.ts";
import { isBytes, isDigest, isListOf, isPeerName, isText } from "./fields.ts";
import { hashFromBytes, hexToBytes, type PayloadId } from "./hash.ts";
import { groupsMax } from "./item-groups.ts";
import { frameHeaderBytesMax } from "./limits.ts";
import {
  type GrantedLease,
  type LeaseReport,
  lackingMax,
  leasesPerWanterMax,
  type RegisterAnswer,
  type RegisterQuestion,
} from "./register-messages.ts";

/** `/p2pcache/register/1`: a wanter's question, in canonical CBOR. */
export function encodeRegisterQuestion(payload: PayloadId, question: RegisterQuestion): Uint8Array {
  const leases = question.leases.map(({ group, arrived }) => [group, arrived]);
  return encodeCanonical({ kind: "want", version: 1, payload: hexToBytes(payload), ...question, leases });
}

/** A wanter's question, or undefined for any other bytes. */
export function decodeRegisterQuestion(
  bytes: Uint8Array,
): { readonly payload: PayloadId; readonly question: RegisterQuestion } | undefined {
  const value = decodeMap(bytes);
  if (value?.kind !== "want" || value.version !== 1) return undefined;
  const { payload, groups, site, held, leases, wants, isReady, lacking, seeks } = value;
  if (!isDigest(payload) || !isGroups(groups) || !isText(site)) return undefined;
  if (!isBytes(held, Math.ceil(groups / 8)) || held.length < Math.ceil(groups / 8)) return undefined;
  if (!isListOf(leases, isPairOfCounts, leasesPerWanterMax) || !isCount(wants, leasesPerWanterMax)) return undefined;
  if (typeof isReady !== "boolean" || typeof seeks !== "boolean") return undefined;
  if (!isListOf(lacking, isGroup, lackingMax)) return undefined;
  const reports: LeaseReport[] = leases.map(([group, arrived]) => ({ group, arrived }));
  const question = { groups, site, held, leases: reports, wants, isReady, lacking, seeks };
  return { payload: hashFromBytes<"payload">(payload), question };
}

/** A registrar's answer, in canonical CBOR. */
export function encodeRegisterAnswer(answer: RegisterAnswer): Uint8Array {
  const leases = answer.leases.map(({ group, from }) => [group, from]);
  const { peers, leaseMs, retryAfterMs } = answer;
  const times = { leaseMs: Math.round(leaseMs), retryAfterMs: Math.round(retryAfterMs) };
  return encodeCanonical({ kind: "leases", version: 1, peers: [...peers], leases, ...times });
}

/** A registrar's answer, or undefined for any other bytes. */
export function decodeRegisterAnswer(bytes: Uint8Array): RegisterAnswer | undefined {
  const value = decodeMap(bytes);
  if (value?.kind !== "leases" || value.version !== 1) return undefined;
  const { peers, leases, leaseMs, retryAfterMs } = value;
  if (!isListOf(peers, isPeerName, peersMax) || !isListOf(leases, isGrant, leasesPerWanterMax)) return undefined;
  if (!isCount(leaseMs, waitMsMax) || !isCount(retryAfterMs, waitMsMax)) return undefined;
  const granted: GrantedLease[] = leases.map(([group, from]) => ({ group, from }));
  return { peers, leases: granted, leaseMs, retryAfterMs };
}

/** More than any registrar gives: its own site's, some of each other site, and holders. */
const peersMax = 512;
/** Whoever is told to wait longer asks all the same. */
const waitMsMax = 60_000;
const itemsOfGroupMax = 1_000_000;

function decodeMap(bytes: Uint8Array): CborMap | undefined {
  try {
    const value = decodeCanonical(bytes, frameHeaderBytesMax, "a registrar's message");
    return isMap(value) ? value : undefined;
  } catch {
    return undefined; // A stranger's bytes get an answer, never a crash.
  }
}

function isGroups(value: unknown): value is number {
  return isCount(value, groupsMax) && value > 0;
}

function isGroup(value: unknown): value is number {
  return isCount(value, groupsMax - 1);
}

function isPairOfCounts(value: unknown): value is [number, number] {
  return Array.isArray(value) && value.length === 2 && isGroup(value[0]) && isCount(value[1], itemsOfGroupMax);
}

function isGrant(value: unknown): value is [number, GrantedLease["from"]] {
  return (
    Array.isArray(value) && value.length === 2 && isGroup(value[0]) && (value[1] === "origin" || value[1] === "far")
  );
}
