import { noise } from "@chainsafe/libp2p-noise";
import type { GossipSub, GossipSubComponents } from "@libp2p/gossipsub";
import { identify } from "@libp2p/identify";
import type { Libp2p, PrivateKey } from "@libp2p/interface";
import { ping } from "@libp2p/ping";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { type Multiaddr, multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { UsageError } from "../../protocol/errors.ts";
import type { Admission } from "../ports.ts";
import { withWholeWrites } from "./whole-writes.ts";

export interface HostOptions {
  readonly key: PrivateKey;
  /** Goes into the noise handshake. */
  readonly prologue: Uint8Array;
  /** Multiaddrs. */
  readonly listen: readonly string[];
  /** Whether whoever has proved to be this peer is let in; asked before anybody says a word. */
  readonly admits: (peer: string) => Admission;
  readonly gossip: (components: GossipSubComponents) => GossipSub;
}

/** A libp2p host as members have it; it has not started yet. */
export function createHost(options: HostOptions): Promise<Libp2p> {
  return createLibp2p({
    ...hostLimits,
    privateKey: options.key,
    // On a LAN whoever is up answers in a millisecond; others are not worth waiting for (DESIGN section 7, rule 9).
    // The transport hands its options to `net.connect`, which takes this one; its type does not say so.
    transports: [tcp({ dialOpts: { timeout: connectMs } as object })],
    connectionEncrypters: [withWholeWrites(noise({ prologueBytes: options.prologue }))],
    // The window is not negotiated: 256 KiB is what every yamux starts with (hashicorp/yamux, spec.md).
    streamMuxers: [yamux({ streamOptions: { initialStreamWindowSize: 256 * 1024 } })],
    services: { identify: identify(), ping: ping(), gossip: options.gossip },
    connectionGater: {
      denyInboundEncryptedConnection: (peer) => options.admits(peer.toString()) !== "member",
      denyOutboundEncryptedConnection: (peer) => options.admits(peer.toString()) === "stranger",
    },
    addresses: { listen: [...options.listen] },
    start: false,
  });
}

/** @throws {UsageError} for a text that is none. */
export function parseAddress(text: string): Multiaddr {
  let cause: unknown;
  try {
    const address = multiaddr(text);
    if (address.getComponents().length > 0) return address;
  } catch (error) {
    cause = error;
  }
  throw new UsageError(`not a multiaddr: ${text}`, { cause, hint: "like /ip4/192.0.2.7/tcp/4001" });
}

/** libp2p's defaults refuse the sixth connection a second from one host, and the eleventh that is not yet upgraded. */
const hostLimits = {
  connectionManager: {
    // A thousand wanters may have the same first registrar; idle ones are let go of long before (decision 0056).
    maxConnections: 1_100,
    inboundConnectionThreshold: 100,
    maxIncomingPendingConnections: 100,
    maxParallelDials: 50,
    dialTimeout: 5_000,
    addressDialTimeout: 2_000,
    reconnectRetries: 0,
    // Addresses are multiaddrs with an IP: nothing is ever looked up outside.
    resolvers: {},
  },
  /**
   * A connection whose link was cut is noticed within 15 s. libp2p's own deadline grows to a minute for all peers once
   * one was slow; and a second ping beside one that waits finds no stream and counts as failed, so it ends before.
   */
  connectionMonitor: { pingInterval: 8_000, pingTimeout: { minTimeout: 7_000, maxTimeout: 7_000 } },
};

const connectMs = 500;
