import { gossipMesh } from "../protocol/gossip-limits.ts";
import { type DirectoryAsk, type DirectoryFrame, encodeMessage } from "../protocol/messages.ts";

/** What a signed envelope adds to an announcement: key, type, signature and their lengths (libp2p's RecordEnvelope). */
export const envelopeOverheadBytes = 112;

/** Bytes on the wire of an announcement by gossipsub: its envelope, its topic and protobuf's tags. */
export function gossipBytes(envelopeBytes: number): number {
  return onWire(envelopeBytes + topicBytes + 12);
}

/** Bytes on the wire of telling which announcements there were. */
export function ihaveBytes(messages: number): number {
  return messages === 0 ? 0 : onWire(messages * (gossipMesh.messageIdBytes + 2) + topicBytes + 8);
}

/** Bytes on the wire of a frame. */
export function frameBytes(message: DirectoryAsk | DirectoryFrame["message"], body: Uint8Array): number {
  return onWire(8 + encodeMessage(message).length + body.length);
}

/** `p2pcache/<network>/holdings`. */
const topicBytes = 32;

/**
 * What a write of some bytes takes on an Ethernet: yamux's header of 12 bytes, noise's length and tag of 18 for each
 * 64 KiB, and for each segment of 1,448 bytes 52 of IP and TCP and 38 of Ethernet. Acknowledgements are not counted.
 */
function onWire(bytes: number): number {
  const muxed = bytes + 12 * Math.ceil(bytes / 65_536);
  const sealed = muxed + 18 * Math.ceil(muxed / 65_519);
  return sealed + 90 * Math.ceil(sealed / 1_448);
}
