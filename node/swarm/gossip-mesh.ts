import {
  type GossipSub,
  type GossipSubComponents,
  gossipsub,
  StrictNoSign,
  type TopicValidatorFn,
  TopicValidatorResult,
} from "@libp2p/gossipsub";
import type { Connection, PeerId, Stream, Topology } from "@libp2p/interface";
import type { PeerName } from "../../protocol/directory.ts";
import { gossipMesh } from "../../protocol/gossip-limits.ts";
import type { Hasher } from "../../protocol/hash.ts";
import { MIB } from "../../protocol/limits.ts";
import { Allowance } from "./allowance.ts";

/** What becomes of a message that a neighbour sent on. */
export type Verdict =
  /** It is true and new: it goes on to others. */
  | "accept"
  /** It may be true, and is of no use: it goes no further. */
  | "ignore"
  /** No honest member sends it on. */
  | "reject";

export interface GossipMeshOptions {
  readonly network: string;
  readonly hash: Hasher;
  /** Whether a peer has said a good hello; waits a moment for one that is under way. */
  readonly isReady: (peer: PeerName) => Promise<boolean>;
  /** The peer's newest open connection, if it was let in. */
  readonly connectionOf: (peer: PeerName) => Connection | undefined;
  readonly judge: (from: PeerName, data: Uint8Array) => Promise<Verdict>;
  /** A neighbour has sent too much. */
  readonly onNuisance: (peer: PeerName, reason: string) => void;
}

/**
 * Announcements by gossipsub, among members that were let in. Gossipsub itself would take part with whoever connects,
 * before any hello, and counts a message as seen before it is validated: a stranger could keep true ones from us. So it
 * gets a registrar of ours, which lets streams wait for the hello and tells of peers once they are in (decision 0016).
 */
export class GossipMesh {
  readonly #options: GossipMeshOptions;
  readonly #topic: string;
  readonly #neighbours = new Map<PeerName, Neighbour>();
  #service: (GossipSub & { readonly streamsOutbound: ReadonlyMap<string, unknown> }) | undefined;
  #topology: Topology | undefined;
  #tending: NodeJS.Timeout | undefined;

  constructor(options: GossipMeshOptions) {
    this.#options = options;
    this.#topic = topicOf(options.network);
  }

  /** The libp2p service: it belongs into the host's options. */
  service(): (components: GossipSubComponents) => GossipSub {
    return (components) => {
      const { privateKey, peerId, peerStore, connectionManager, logger } = components;
      const registrar = this.#registrar(components.registrar);
      const parts = { privateKey, peerId, peerStore, connectionManager, logger, registrar };
      const service = gossipsub(meshOptions(this.#topic, this.#options.hash))(parts);
      this.#service = service as GossipSub & { readonly streamsOutbound: ReadonlyMap<string, unknown> };
      return service;
    };
  }

  /** Takes part, once the host has started. */
  start(): void {
    this.#service?.topicValidators.set(this.#topic, (peer, message) => this.#validate(peer, message));
    this.#service?.subscribe(this.#topic);
    this.#tending = setInterval(() => this.#tend(), tendMs).unref();
  }

  stop(): void {
    clearInterval(this.#tending);
  }

  /** Never rejects: who is not reached now hears it by the next heartbeat, or asks. */
  async publish(data: Uint8Array): Promise<void> {
    await this.#service?.publish(this.#topic, data).catch(() => undefined);
  }

  /** A peer was let in. */
  joined(peer: PeerName): void {
    const connection = this.#options.connectionOf(peer);
    if (connection === undefined) return;
    this.#neighbours.set(peer, newNeighbour(connection.remotePeer));
    this.#introduce(connection);
  }

  left(peer: PeerName): void {
    const neighbour = this.#neighbours.get(peer);
    this.#neighbours.delete(peer);
    if (neighbour !== undefined) void this.#topology?.onDisconnect?.(neighbour.id);
  }

  #introduce(connection: Connection): void {
    void this.#topology?.onConnect?.(connection.remotePeer, connection);
  }

  /**
   * Gossipsub opens its one stream to a peer when the peer connects, and never again: not when that connection ends and
   * another is there, nor when the stream was reset.
   */
  #tend(): void {
    for (const peer of this.#neighbours.keys()) {
      if (this.#service?.streamsOutbound.has(peer) !== false) continue;
      const connection = this.#options.connectionOf(peer);
      if (connection !== undefined) this.#introduce(connection);
    }
  }

  async #validate(from: PeerId, { data }: Parameters<TopicValidatorFn>[1]): Promise<TopicValidatorResult> {
    const peer = from.toString();
    const neighbour = this.#neighbours.get(peer);
    if (neighbour === undefined) return TopicValidatorResult.Ignore;
    // A signature costs a quarter of a millisecond: a flood is not even looked at.
    if (!neighbour.messages.take(1, performance.now())) return TopicValidatorResult.Ignore;
    const verdict = await this.#options.judge(peer, data);
    if (verdict === "accept") return TopicValidatorResult.Accept;
    if (verdict === "ignore") return TopicValidatorResult.Ignore;
    return TopicValidatorResult.Reject;
  }

  /** libp2p's registrar, but that nothing is known of peers that have not said hello. */
  #registrar(registrar: Registrar): Registrar {
    const handle: Registrar["handle"] = (protocol, handler, options) => {
      const waiting = async (stream: Stream, connection: Connection) => {
        const peer = connection.remotePeer.toString();
        stream.pause();
        if (!(await this.#options.isReady(peer))) return stream.abort(new Error("no hello was said"));
        if (stream.status !== "open") return;
        await handler(stream, connection);
        this.#bound(stream, peer);
        stream.resume();
      };
      return registrar.handle(protocol, waiting, { ...options, maxInboundStreams: 2, maxOutboundStreams: 2 });
    };
    return {
      handle,
      unhandle: (protocol, options) => registrar.unhandle(protocol, options),
      getProtocols: () => registrar.getProtocols(),
      getHandler: (protocol) => registrar.getHandler(protocol),
      use: (protocol, middleware) => registrar.use(protocol, middleware),
      unuse: (protocol) => registrar.unuse(protocol),
      getMiddleware: (protocol) => registrar.getMiddleware(protocol),
      register: async (protocol, topology) => {
        this.#topology = topology;
        return protocol;
      },
      unregister: () => {
        this.#topology = undefined;
      },
      getTopologies: () => [],
    };
  }

  /** Gossipsub reads a stream into a queue without an end: whoever sends more than all gossip of a network goes. */
  #bound(stream: Stream, peer: PeerName): void {
    const bytes = new Allowance(streamBytesBurst, streamBytesPerSecond);
    stream.addEventListener("message", ({ data }) => {
      if (bytes.take(data.byteLength, performance.now())) return;
      stream.abort(new Error("too much gossip"));
      this.#options.onNuisance(peer, "it floods us with gossip");
    });
  }
}

type Registrar = GossipSubComponents["registrar"];

interface Neighbour {
  readonly id: PeerId;
  /** What it may send on. */
  readonly messages: Allowance;
}

function newNeighbour(id: PeerId): Neighbour {
  return { id, messages: new Allowance(messagesBurst, messagesPerSecond) };
}

function topicOf(network: string): string {
  return `p2pcache/${network}/holdings`;
}

function meshOptions(topic: string, hash: Hasher): Parameters<typeof gossipsub>[0] {
  const { D, Dlo, Dhi, Dlazy, heartbeatIntervalMs, mcacheLength, mcacheGossip, messageIdBytes } = gossipMesh;
  return {
    D,
    Dlo,
    Dhi,
    Dlazy,
    Dscore: Dlo,
    Dout: 1,
    heartbeatInterval: heartbeatIntervalMs,
    mcacheLength,
    mcacheGossip,
    fallbackToFloodsub: false,
    floodPublish: false,
    // What is announced is signed by its peer, whoever sends it on.
    globalSignaturePolicy: StrictNoSign,
    msgIdFn: ({ data }) => hash(data).subarray(0, messageIdBytes),
    allowedTopics: [topic],
    // Nobody listens yet: the first neighbours ask for it.
    allowPublishToZeroTopicPeers: true,
    ignoreDuplicatePublishError: true,
    emitSelf: false,
    tagMeshPeers: false,
    doPX: false,
    gossipFactor: 0,
    maxInboundDataLength: rpcBytesMax,
    maxOutboundBufferSize: outboundBytesMax,
    decodeRpcLimits: {
      maxSubscriptions: 8,
      maxMessages: 5_000,
      maxIhaveMessageIDs: 5_000,
      maxIwantMessageIDs: 5_000,
      maxIdontwantMessageIDs: 512,
      maxControlMessages: 64,
      maxPeerInfos: 0,
    },
    scoreParams: {
      // Several nodes on one machine, or behind one address, are no attack.
      IPColocationFactorWeight: 0,
    },
  };
}

const tendMs = 3_000;
/** One answer to all that was missed in five seconds of a morning with 5,000 nodes. */
const rpcBytesMax: number = 2 * MIB;
const outboundBytesMax: number = 4 * MIB;
/** A network of 5,000 gossips under 50 kB/s a node in the steady state (issue 3); a morning is twenty times as busy. */
const streamBytesPerSecond: number = MIB;
const streamBytesBurst: number = 8 * MIB;
const messagesPerSecond = 500;
const messagesBurst = 5_000;
