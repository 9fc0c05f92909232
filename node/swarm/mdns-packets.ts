import { peerIdFromString } from "@libp2p/peer-id";
import type mdns from "multicast-dns";
import type { PeerName } from "../../protocol/directory.ts";
import { addressOf } from "./addresses.ts";

/** What a packet of our service says. */
export type ServicePacket =
  /** Who is there? Those who are known need not answer. */
  | { readonly kind: "question"; readonly known: readonly PeerName[] }
  /** A member is here, at these multiaddrs: IP and tcp each, and nothing else. */
  | { readonly kind: "answer"; readonly peer: PeerName; readonly addresses: readonly string[] };

type OutgoingQuestion = mdns.QueryOutgoingPacket;
type OutgoingAnswer = mdns.ResponseOutgoingPacket;

/** Asks who is there. The known ones are named as RFC 6762, section 7.1, has it: as answers within the question. */
export function questionPacket(service: string, known: readonly PeerName[]): OutgoingQuestion {
  const answers = known.slice(0, knownMax).map((peer) => pointer(service, peer));
  return { questions: [{ name: service, type: "PTR" }], answers };
}

/** Says that a member is here. */
export function answerPacket(service: string, peer: PeerName, addresses: readonly string[]): OutgoingAnswer {
  const data = addresses.slice(0, addressesMax).map((address) => `${addressKey}${address}`);
  return {
    answers: [pointer(service, peer), { name: `${peer}.${service}`, type: "TXT", class: "IN", ttl: ttlSeconds, data }],
  };
}

/** What a decoded packet says about a service; undefined for anything else: whatever a stranger sends is checked here. */
export function readPacket(packet: unknown, service: string): ServicePacket | undefined {
  const { type, questions, answers } = (packet ?? {}) as Record<string, unknown>;
  const records = listOf(answers).slice(0, recordsMax);
  if (type === "query") {
    const isAsked = listOf(questions)
      .slice(0, recordsMax)
      .some(({ name, type: wanted }) => isName(name, service) && (wanted === "PTR" || wanted === "ANY"));
    if (!isAsked) return undefined;
    return { kind: "question", known: pointersOf(records, service).slice(0, knownMax) };
  }
  if (type !== "response") return undefined;
  const [peer] = pointersOf(records, service);
  if (peer === undefined) return undefined;
  const addresses = records
    .filter((record) => record.type === "TXT" && isName(record.name, `${peer}.${service}`))
    .flatMap(({ data }) => (Array.isArray(data) ? data : [data]))
    .slice(0, addressesMax)
    .flatMap((text) => addressIn(text, peer) ?? []);
  return addresses.length === 0 ? undefined : { kind: "answer", peer, addresses: [...new Set(addresses)] };
}

function pointer(service: string, peer: PeerName) {
  return { name: service, type: "PTR", class: "IN", ttl: ttlSeconds, data: `${peer}.${service}` } as const;
}

function pointersOf(records: readonly Record<string, unknown>[], service: string): PeerName[] {
  return records.flatMap(({ name, type, data }) => {
    if (type !== "PTR" || !isName(name, service) || typeof data !== "string") return [];
    const end = `.${service}`;
    const peer = data.endsWith(end) ? data.slice(0, -end.length) : "";
    return isPeerName(peer) ? [peer] : [];
  });
}

/** The multiaddr in a line of a TXT record, without a peer id; undefined for any other text. */
function addressIn(line: unknown, peer: PeerName): string | undefined {
  const text = typeof line === "string" ? line : line instanceof Uint8Array ? Buffer.from(line).toString() : "";
  if (!text.startsWith(addressKey) || text.length > addressTextMax) return undefined;
  return addressOf(text.slice(addressKey.length), peer)?.text;
}

function isPeerName(text: string): boolean {
  if (text.length === 0 || text.length > labelMax) return false;
  try {
    // One form only, so that a peer has one name.
    return peerIdFromString(text).toString() === text;
  } catch {
    return false;
  }
}

/** DNS names do not tell upper from lower case. */
function isName(value: unknown, name: string): boolean {
  return typeof value === "string" && value.toLowerCase() === name.toLowerCase();
}

function listOf(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === "object" && each !== null) : [];
}

/** The key that libp2p's own mDNS uses (libp2p specs, discovery/mdns.md). */
const addressKey = "dnsaddr=";
const ttlSeconds = 120;
/** A label of a DNS name; a peer id of an Ed25519 key has 52 characters. */
const labelMax = 63;
/** Eight known neighbours, or four addresses, make a packet of one frame on the wire. */
const knownMax = 8;
const addressesMax = 4;
const addressTextMax = 200;
const recordsMax = 32;
