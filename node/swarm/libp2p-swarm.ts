import { noise } from "@chainsafe/libp2p-noise";
import { identify } from "@libp2p/identify";
import type { Connection, Libp2p, PrivateKey, Stream } from "@libp2p/interface";
import { ping } from "@libp2p/ping";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { type Multiaddr, multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import type { PeerName } from "../../protocol/directory.ts";
import { UnreachableError, UsageError } from "../../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../../protocol/hash.ts";
import { defaultServiceLimits, Service } from "../../protocol/service.ts";
import type { Join, JoinListener, PeerFacts, Swarm, SwarmHandlers, WaitOptions } from "../ports.ts";
import { Announcer, readAnnouncement } from "./announcements.ts";
import { Bootstrap } from "./bootstrap.ts";
import { answerRecord, askRecord } from "./catalog.ts";
import { ExchangeClient } from "./exchange-client.ts";
import { ExchangeServer } from "./exchange-server.ts";
import { FrameStream } from "./frame-stream.ts";
import type { Frames } from "./frames.ts";
import { type HelloFacts, PeerGate } from "./peer-gate.ts";
import { type ProtocolName, protocols } from "./protocols.ts";

export interface SwarmOptions {
  readonly key: PrivateKey;
  /** Goes into the noise handshake: whoever has another one is refused there (DESIGN section 6). */
  readonly prologue: Uint8Array;
  readonly hello: HelloFacts;
  /** Multiaddrs. */
  readonly listen: readonly string[];
  readonly bootstrap: readonly string[];
  /** Told of a peer that was refused, and why. */
  readonly onRefused?: (peer: PeerName, reason: string) => void;
  /** Told once when a bootstrap peer cannot be reached, and why. */
  readonly onUnreachable?: (address: string, reason: string) => void;
  /** Shorter ones for tests. */
  readonly timings?: SwarmTimings;
}

export interface SwarmTimings {
  /** How long a hello is awaited. */
  readonly helloMs?: number;
  /** How long an answer to a join is awaited. */
  readonly joinMs?: number;
  /** How long a peer may take no byte of what it asked for. */
  readonly stallMs?: number;
  /** When a bootstrap peer that is away is dialled again, at first. */
  readonly retryMs?: number;
}

/** The swarm over libp2p: tcp, noise, yamux. */
export class Libp2pSwarm implements Swarm {
  readonly #host: Libp2p;
  readonly #gate: PeerGate;
  readonly #server: ExchangeServer;
  readonly #bootstrap: Bootstrap;
  readonly #announcer: Announcer;
  readonly #timings: SwarmTimings;
  readonly #clients = new Map<PeerName, Promise<ExchangeClient>>();
  #announcing: NodeJS.Timeout | undefined;
  #settled: Promise<void> = Promise.resolve();

  private constructor(host: Libp2p, options: SwarmOptions, handlers: SwarmHandlers, bootstrap: Bootstrap) {
    this.#host = host;
    this.#bootstrap = bootstrap;
    this.#timings = options.timings ?? {};
    this.#server = new ExchangeServer(handlers, new Service(defaultServiceLimits));
    const listener = {
      onReady: (peer: PeerName) => {
        handlers.peerReady(peer);
        this.#announcer.tell(peer);
      },
      onLeft: (peer: PeerName) => handlers.peerLeft(peer),
      onRefused: options.onRefused ?? (() => undefined),
    };
    this.#gate = new PeerGate(host, options.hello, listener, this.#timings.helloMs);
    this.#announcer = new Announcer({
      open: (peer) => this.#openStream(peer, "directory"),
      isHere: (peer) => this.#gate.connectionOf(peer) !== undefined,
      announcement: () => handlers.announcement(),
    });
  }

  /**
   * Listens and starts to look for the bootstrap peers.
   * @throws {UsageError} for an address that is not one; {UnreachableError} when it cannot listen.
   */
  static async open(options: SwarmOptions, handlers: SwarmHandlers): Promise<Libp2pSwarm> {
    const listen = options.listen.map((text) => parseAddress(text).toString());
    const known = options.bootstrap.map(parseAddress);
    const host = await createLibp2p({ ...hostLimits, ...hostParts(options), addresses: { listen }, start: false });
    const { timings: { retryMs } = {}, onUnreachable } = options;
    const bootstrap = new Bootstrap(host, known, {
      ...(retryMs === undefined ? {} : { retryMs }),
      ...(onUnreachable === undefined ? {} : { onUnreachable }),
    });
    const swarm = new Libp2pSwarm(host, options, handlers, bootstrap);
    await swarm.#handleAll(handlers);
    try {
      await host.start();
    } catch (cause) {
      throw new UnreachableError(`cannot listen on ${listen.join(", ")}`, { cause, code: "CANNOT_LISTEN" });
    }
    swarm.#gate.start();
    swarm.#settled = swarm.#settle(bootstrap.start());
    return swarm;
  }

  get id(): PeerName {
    return this.#host.peerId.toString();
  }

  addresses(): readonly string[] {
    return this.#host.getMultiaddrs().map(String);
  }

  peers(): readonly PeerFacts[] {
    return this.#gate.peers();
  }

  settled(): Promise<void> {
    return this.#settled;
  }

  announce(): void {
    // A node that places many variants in a row says so once.
    this.#announcing ??= setTimeout(() => {
      this.#announcing = undefined;
      for (const { peer } of this.#gate.peers()) this.#announcer.tell(peer);
    }, announceMs).unref();
  }

  async record(peer: PeerName, variant: VariantHash, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    const wait = AbortSignal.timeout(recordMs);
    const signal = options.signal === undefined ? wait : AbortSignal.any([wait, options.signal]);
    const frames = await this.#openStream(peer, "catalog");
    try {
      return await askRecord(frames, variant, signal);
    } catch (cause) {
      options.signal?.throwIfAborted();
      throw new UnreachableError(`the peer ${peer} gives no record`, { cause });
    } finally {
      void frames.close();
    }
  }

  async join(peer: PeerName, payload: PayloadId, items: number, listener: JoinListener): Promise<Join | undefined> {
    const client = await this.#clientOf(peer);
    // The last one to leave has just ended its stream: a new one is opened.
    const open = client.hasEnded ? await this.#clientOf(peer) : client;
    return await open.join(payload, items, listener);
  }

  stored(payload: PayloadId, items: readonly number[]): void {
    this.#server.stored(payload, items);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#announcing);
    this.#announcer.stop();
    this.#bootstrap.stop();
    this.#gate.stop();
    this.#server.close();
    const end = (client: ExchangeClient) => client.abort(new Error("the node stops"));
    for (const opening of this.#clients.values()) void opening.then(end).catch(() => undefined);
    await this.#host.stop();
  }

  async #handleAll(handlers: SwarmHandlers): Promise<void> {
    await this.#handle("hello", (frames, connection) => this.#gate.answer(frames, connection));
    await this.#handle("catalog", (frames) => answerRecord(frames, handlers));
    await this.#handle("directory", (frames, connection) => {
      const peer = connection.remotePeer.toString();
      readAnnouncement(frames, (message) => handlers.announced(peer, message));
    });
    await this.#handle("swarm", (frames, connection) => this.#server.accept(connection.remotePeer.toString(), frames));
  }

  /** Registers a protocol; all but hello wait until the peer has been let in. */
  async #handle(name: ProtocolName, accept: (frames: Frames, connection: Connection) => unknown): Promise<void> {
    const { id, asks, streamsMax } = protocols[name];
    const handler = async (stream: Stream, connection: Connection) => {
      if (name !== "hello") {
        // Nothing of a stranger is read: its window keeps it from sending more than 256 KiB.
        stream.pause();
        const isReady = await this.#gate.isReady(connection.remotePeer.toString());
        if (!isReady) return stream.abort(new Error("no hello was said"));
        if (stream.status !== "open") return;
      }
      const frames = new FrameStream(stream, asks, this.#timings.stallMs);
      accept(frames, connection);
      if (name !== "hello") stream.resume();
    };
    await this.#host.handle(id, handler, { maxInboundStreams: streamsMax, maxOutboundStreams: streamsMax });
  }

  async #settle(dialled: Promise<string[]>): Promise<void> {
    await Promise.all((await dialled).map((peer) => this.#gate.isReady(peer)));
  }

  /** One stream to a peer carries all payloads that are joined there. */
  #clientOf(peer: PeerName): Promise<ExchangeClient> {
    const known = this.#clients.get(peer);
    if (known !== undefined) return known;
    const forget = () => {
      if (this.#clients.get(peer) === opening) this.#clients.delete(peer);
    };
    const opening: Promise<ExchangeClient> = this.#openStream(peer, "swarm").then(
      (frames) => new ExchangeClient(frames, forget, this.#timings.joinMs),
    );
    this.#clients.set(peer, opening);
    opening.catch(forget);
    return opening;
  }

  async #openStream(peer: PeerName, name: ProtocolName): Promise<FrameStream> {
    const connection = this.#gate.connectionOf(peer);
    if (connection === undefined) throw new UnreachableError(`the peer ${peer} has gone`);
    const { id, answers, streamsMax } = protocols[name];
    try {
      const signal = AbortSignal.timeout(openStreamMs);
      const stream = await connection.newStream(id, { signal, maxOutboundStreams: streamsMax });
      return new FrameStream(stream, answers, this.#timings.stallMs);
    } catch (cause) {
      throw new UnreachableError(`the peer ${peer} takes no stream`, { cause });
    }
  }
}

function parseAddress(text: string): Multiaddr {
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
    maxConnections: 300,
    inboundConnectionThreshold: 100,
    maxIncomingPendingConnections: 100,
    maxParallelDials: 50,
    dialTimeout: 5_000,
    addressDialTimeout: 2_000,
    reconnectRetries: 0,
    // Addresses are multiaddrs with an IP: nothing is ever looked up outside.
    resolvers: {},
  },
  connectionMonitor: { pingInterval: 10_000 },
};
const announceMs = 50;
const recordMs = 5_000;
const openStreamMs = 5_000;

function hostParts(options: SwarmOptions) {
  return {
    privateKey: options.key,
    transports: [tcp()],
    connectionEncrypters: [noise({ prologueBytes: options.prologue })],
    // The window is not negotiated: 256 KiB is what every yamux starts with (hashicorp/yamux, spec.md).
    streamMuxers: [yamux({ streamOptions: { initialStreamWindowSize: 256 * 1024 } })],
    services: { identify: identify(), ping: ping() },
  };
}
