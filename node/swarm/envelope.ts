import type { PrivateKey } from "@libp2p/interface";
import { peerIdFromPublicKey } from "@libp2p/peer-id";
import { RecordEnvelope } from "@libp2p/peer-record";
import { type Announcement, decodeAnnouncement, encodeAnnouncement, type Signed } from "../../protocol/announcement.ts";
import { envelopeBytesMax } from "../../protocol/limits.ts";

/** Signs what this node announces, so that anyone may send it on. */
export async function sealAnnouncement(announcement: Announcement, key: PrivateKey): Promise<Signed> {
  const payload = encodeAnnouncement(announcement);
  const record = { domain, codec, marshal: () => payload, equals: () => false };
  return { announcement, envelope: (await RecordEnvelope.seal(record, key)).marshal() };
}

/** What a peer announced, once its signature and its key are checked; undefined for any other bytes. */
export async function openAnnouncement(envelope: Uint8Array): Promise<Signed | undefined> {
  if (envelope.length > envelopeBytesMax) return undefined;
  try {
    const opened = RecordEnvelope.createFromProtobuf(envelope);
    const { publicKey, payloadType, payload } = opened;
    // Node keys are of this kind; others would cost more to check.
    if (publicKey.type !== "Ed25519" || !equal(payloadType, codec)) return undefined;
    const announcement = decodeAnnouncement(payload.subarray());
    if (announcement === undefined || announcement.peer !== peerIdFromPublicKey(publicKey).toString()) return undefined;
    // One form only: what is added to an envelope is not signed.
    if (!equal(opened.marshal(), envelope)) return undefined;
    return (await opened.validate(domain)) ? { announcement, envelope } : undefined;
  } catch {
    return undefined; // A stranger's bytes get an answer, never a crash.
  }
}

function equal(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

/** What is signed for one purpose counts for no other (libp2p specs, RFC 0002). */
const domain = "p2pcache-announcement";
const codec: Uint8Array = new TextEncoder().encode("/p2pcache/announcement/1");
