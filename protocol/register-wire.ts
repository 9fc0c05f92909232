import { type CborMap, decodeCanonical, encodeCanonical, isCount, isMap } from "./cbor.ts";
import { isBytes, isDigest, isListOf, isPeerName, isText } from "./fields.ts";
import { hashFromBytes, hexToBytes, type PayloadId } from "./hash.ts";
import { groupsMax } from "./item-groups.ts";
import { registerAnswerBytesMax, registerQuestionBytesMax } from "./limits.ts";
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
  const value = decodeMap(bytes, registerQuestionBytesMax);
  if (value?.kind !== "want" || value.version !== 1) return undefined;
  const { payload, groups, site, held, leases, wants, isFarOnly, isReady, lacking, seeks } = value;
  if (!isDigest(payload) || !isGroups(groups) || !isText(site)) return undefined;
  if (!isBytes(held, Math.ceil(groups / 8)) || held.length < Math.ceil(groups / 8)) return undefined;
  if (!isListOf(leases, isPairOfCounts, leasesPerWanterMax) || !isCount(wants, leasesPerWanterMax)) return undefined;
  if (typeof isFarOnly !== "boolean" || typeof isReady !== "boolean" || typeof seeks !== "boolean") return undefined;
  if (!isListOf(lacking, isGroup, lackingMax)) return undefined;
  const reports: LeaseReport[] = leases.map(([group, arrived]) => ({ group, arrived }));
  const question = { groups, site, held, leases: reports, wants, isFarOnly, isReady, lacking, seeks };
  return { payload: hashFromBytes<"payload">(payload), question };
}

/** What a registrar says to a question about a payload; it may have no answer to it. */
export interface RegisterReply {
  readonly payload: PayloadId;
  readonly answer: RegisterAnswer | undefined;
}

/** A registrar's reply, in canonical CBOR. */
export function encodeRegisterReply({ payload: about, answer }: RegisterReply): Uint8Array {
  const payload = hexToBytes(about);
  if (answer === undefined) return encodeCanonical({ kind: "none", version: 1, payload });
  const leases = answer.leases.map(({ group, from }) => [group, from]);
  const { peers, leaseMs, retryAfterMs } = answer;
  const times = { leaseMs: Math.round(leaseMs), retryAfterMs: Math.round(retryAfterMs) };
  return encodeCanonical({ kind: "leases", version: 1, payload, peers: [...peers], leases, ...times });
}

/** A registrar's reply, or undefined for any other bytes. */
export function decodeRegisterReply(bytes: Uint8Array): RegisterReply | undefined {
  const value = decodeMap(bytes, registerAnswerBytesMax);
  if (value?.version !== 1 || !isDigest(value.payload)) return undefined;
  const payload = hashFromBytes<"payload">(value.payload);
  if (value.kind === "none") return { payload, answer: undefined };
  if (value.kind !== "leases") return undefined;
  const { peers, leases, leaseMs, retryAfterMs } = value;
  if (!isListOf(peers, isPeerName, peersMax) || !isListOf(leases, isGrant, leasesPerWanterMax)) return undefined;
  if (!isCount(leaseMs, waitMsMax) || !isCount(retryAfterMs, waitMsMax)) return undefined;
  const granted: GrantedLease[] = leases.map(([group, from]) => ({ group, from }));
  return { payload, answer: { peers, leases: granted, leaseMs, retryAfterMs } };
}

/** More than any registrar gives: its own site's, some of each other site, and holders. */
const peersMax = 512;
/** Whoever is told to wait longer asks all the same. */
const waitMsMax = 60_000;
const itemsOfGroupMax = 1_000_000;

function decodeMap(bytes: Uint8Array, bytesMax: number): CborMap | undefined {
  try {
    const value = decodeCanonical(bytes, bytesMax, "a registrar's message");
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
