import { setTimeout as sleep } from "node:timers/promises";
import type { Connection, Libp2p, PrivateKey, Stream } from "@libp2p/interface";
import type { PeerName } from "../../protocol/directory.ts";
import { UnreachableError } from "../../protocol/errors.ts";
import type { Hasher, PayloadId, VariantHash } from "../../protocol/hash.ts";
import type { Fault } from "../../protocol/standing.ts";
import type { NeighbourLimits } from "../../protocol/neighbourhood.ts";
import { defaultServiceLimits, Service } from "../../protocol/service.ts";
import type {
  DirectoryView,
  DiscoveryState,
  Join,
  JoinListener,
  PeerFacts,
  Swarm,
  SwarmHandlers,
  WaitOptions,
} from "../ports.ts";
import { announcedAddresses } from "./addresses.ts";
import { Announcer } from "./announcer.ts";
import { Bootstrap } from "./bootstrap.ts";
import { answerRecord, askRecord } from "./catalog.ts";
import { openAnnouncement, sealAnnouncement } from "./envelope.ts";
import { Conduct } from "./conduct.ts";
import { ExchangeClient } from "./exchange-client.ts";
import { ExchangeServer } from "./exchange-server.ts";
import { FrameStream, type FrameStreamOptions } from "./frame-stream.ts";
import type { Frames } from "./frames.ts";
import { GossipMesh } from "./gossip-mesh.ts";
import { createHost, parseAddress } from "./host.ts";
import { usableSegments } from "./interfaces.ts";
import { Mdns } from "./mdns.ts";
import { Neighbours } from "./neighbours.ts";
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
  readonly hash: Hasher;
  /** Later than any epoch that this node ever announced. */
  readonly epoch: number;
  /** Whether neighbours are looked for on the local network. */
  readonly mdns?: boolean;
  /** Whether loopback addresses are announced and dialled: for several nodes on one machine. */
  readonly announceLoopback?: boolean;
  /** Told of a peer that was refused, and why. */
  readonly onRefused?: (peer: PeerName, reason: string) => void;
  /** Told once when a bootstrap peer cannot be reached, and why. */
  readonly onUnreachable?: (address: string, reason: string) => void;
  /** Told once of each kind of trouble with discovery on the local network. */
  readonly onDiscoveryFault?: (fault: string) => void;
  /** Shorter ones for tests. */
  readonly timings?: SwarmTimings;
  /** Fewer for tests. */
  readonly neighbours?: NeighbourLimits;
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

/** The swarm over libp2p: tcp, noise, yamux, gossipsub. */
export class Libp2pSwarm implements Swarm {
  readonly #host: Libp2p;
  readonly #options: SwarmOptions;
  readonly #handlers: SwarmHandlers;
  readonly #gate: PeerGate;
  readonly #conduct: Conduct;
  readonly #mesh: GossipMesh;
  readonly #server: ExchangeServer;
  readonly #bootstrap: Bootstrap;
  readonly #announcer: Announcer;
  readonly #neighbours: Neighbours;
  readonly #mdns: Mdns | undefined;
  readonly #timings: SwarmTimings;
  readonly #clients = new Map<PeerName, Promise<ExchangeClient>>();
  #looking: NodeJS.Timeout | undefined;
  #labels = "";
  readonly #met = Promise.withResolvers<void>();
  #settled: Promise<void> = Promise.resolve();

  private constructor(
    options: SwarmOptions,
    handlers: SwarmHandlers,
    parts: { readonly host: Libp2p; readonly mesh: GossipMesh; readonly bootstrap: Bootstrap },
  ) {
    const { host } = parts;
    this.#host = host;
    this.#options = options;
    this.#handlers = handlers;
    this.#mesh = parts.mesh;
    this.#bootstrap = parts.bootstrap;
    this.#timings = options.timings ?? {};
    this.#server = new ExchangeServer(handlers, new Service(defaultServiceLimits));
    this.#conduct = new Conduct({
      onFault: (peer, fault, reason) => handlers.misbehaved(peer, fault, reason),
      onOutlaw: (peer, reason) => this.#letGo(peer, reason),
    });
    const listener = {
      refusal: (peer: PeerName) => this.#conduct.refusal(peer),
      onReady: (peer: PeerName) => this.#joined(peer),
      onLeft: (peer: PeerName) => this.#left(peer),
      onRefused: (peer: PeerName, reason: string) => {
        this.#neighbours.step({ kind: "refused", peer });
        options.onRefused?.(peer, reason);
      },
    };
    this.#gate = new PeerGate(host, options.hello, listener, this.#timings.helloMs);
    this.#announcer = this.#newAnnouncer();
    const { announceLoopback: withLoopback = false, neighbours: limits } = options;
    this.#neighbours = new Neighbours({
      host,
      gate: this.#gate,
      directory: this.#announcer.directory,
      withLoopback,
      ...(limits === undefined ? {} : { limits }),
    });
    this.#mdns = options.mdns === true ? this.#newMdns(withLoopback) : undefined;
  }

  /**
   * Listens and starts to look for peers.
   * @throws {UsageError} for an address that is not one; {UnreachableError} when it cannot listen.
   */
  static async open(options: SwarmOptions, handlers: SwarmHandlers): Promise<Libp2pSwarm> {
    const listen = options.listen.map((text) => parseAddress(text).toString());
    const known = options.bootstrap.map(parseAddress);
    const mesh: GossipMesh = new GossipMesh({
      network: options.hello.network,
      hash: options.hash,
      isReady: (peer) => swarm.#gate.isReady(peer),
      connectionOf: (peer) => swarm.#gate.connectionOf(peer),
      judge: (from, data) => swarm.#announcer.judge(from, data),
      onNuisance: (peer, reason) => swarm.#letGo(peer, reason),
    });
    const { key, prologue } = options;
    const host = await createHost({ key, prologue, listen, gossip: mesh.service() });
    const { timings: { retryMs } = {}, onUnreachable } = options;
    const bootstrap = new Bootstrap(host, known, {
      isAlone: () => swarm.peers().length === 0,
      ...(retryMs === undefined ? {} : { retryMs }),
      ...(onUnreachable === undefined ? {} : { onUnreachable }),
    });
    const swarm: Libp2pSwarm = new Libp2pSwarm(options, handlers, { host, mesh, bootstrap });
    await swarm.#handleAll(handlers);
    try {
      await host.start();
    } catch (cause) {
      throw new UnreachableError(`cannot listen on ${listen.join(", ")}`, { cause, code: "CANNOT_LISTEN" });
    }
    swarm.#start();
    return swarm;
  }

  get id(): PeerName {
    return this.#host.peerId.toString();
  }

  get directory(): DirectoryView {
    return this.#announcer.directory;
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
    this.#announcer.changed();
  }

  discovery(): DiscoveryState | undefined {
    return this.#mdns?.state();
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
    clearInterval(this.#looking);
    this.#mdns?.stop();
    this.#bootstrap.stop();
    this.#neighbours.stop();
    await this.#announcer.stop();
    this.#mesh.stop();
    this.#gate.stop();
    this.#server.close();
    const end = (client: ExchangeClient) => client.abort(new Error("the node stops"));
    for (const opening of this.#clients.values()) void opening.then(end).catch(() => undefined);
    await this.#host.stop();
  }

  #start(): void {
    this.#gate.start();
    this.#mesh.start();
    this.#announcer.start();
    this.#labels = JSON.stringify(this.#ownAddresses());
    this.#looking = setInterval(() => this.#look(), lookMs).unref();
    this.#settled = this.#settle(this.#bootstrap.start());
    this.#mdns?.start();
  }

  #newAnnouncer(): Announcer {
    const { hello, hash, epoch, key } = this.#options;
    const { network, name, site, rack } = hello;
    return new Announcer({
      network,
      self: this.id,
      hash,
      epoch,
      raiseEpoch: (later) => this.#handlers.raiseEpoch(later),
      seal: (announcement) => sealAnnouncement(announcement, key),
      open: openAnnouncement,
      publish: (envelope) => this.#mesh.publish(envelope),
      stream: async (peer) => {
        const connection = this.#gate.connectionOf(peer);
        if (connection === undefined) throw new UnreachableError(`the peer ${peer} has gone`);
        return await this.#newStream(connection, "directory");
      },
      labels: () => ({ addresses: this.#ownAddresses(), name, site, rack }),
      whole: () => this.#handlers.whole(),
      onLearnt: (peer, added) => this.#handlers.learnt(peer, added),
      onFault: (peer, fault, reason) => this.#blame(peer, fault, reason),
      onMembers: () => {
        this.#neighbours.step({ kind: "learnt" });
        this.#mdns?.neighbours(this.#gate.peers().length, this.directory.size);
      },
    });
  }

  #newMdns(withLoopback: boolean): Mdns {
    return new Mdns({
      own: this.id,
      network: this.#options.prologue,
      listening: () => this.#ownAddresses(),
      known: () => this.#gate.peers().map(({ peer }) => peer),
      withLoopback,
      onFound: (peer, addresses) => this.#neighbours.found(peer, addresses),
      onFault: (fault) => this.#options.onDiscoveryFault?.(fault),
    });
  }

  #joined(peer: PeerName): void {
    this.#met.resolve();
    this.#neighbours.step({ kind: "joined", peer });
    this.#mesh.joined(peer);
    this.#announcer.joined(peer);
    this.#handlers.peerReady(peer);
    this.#mdns?.neighbours(this.#gate.peers().length, this.directory.size);
  }

  #left(peer: PeerName): void {
    this.#mesh.left(peer);
    this.#announcer.left(peer);
    this.#neighbours.step({ kind: "left", peer });
    this.#handlers.peerLeft(peer);
    const { length } = this.#gate.peers();
    this.#mdns?.neighbours(length, this.directory.size);
    if (length === 0) this.#bootstrap.hurry();
  }

  #blame(peer: PeerName, fault: Fault, reason: string): void {
    if (fault === "broken") this.#conduct.broke(peer, reason);
    else this.#handlers.misbehaved(peer, fault, reason);
  }

  /** A neighbour that misbehaves goes, and is not dialled again soon. */
  #letGo(peer: PeerName, reason: string): void {
    this.#neighbours.step({ kind: "refused", peer });
    this.#options.onRefused?.(peer, reason);
    this.#gate.abort(peer, new Error(reason));
  }

  /** Where this node tells others that it listens. */
  #ownAddresses(): string[] {
    const withLoopback = this.#options.announceLoopback ?? false;
    return announcedAddresses(this.addresses(), usableSegments(withLoopback), withLoopback);
  }

  /** Interfaces come and go, also after the start. */
  #look(): void {
    const labels = JSON.stringify(this.#ownAddresses());
    if (labels === this.#labels) return;
    this.#labels = labels;
    this.#announcer.moved();
    this.#neighbours.step({ kind: "networkChanged" });
    this.#bootstrap.hurry();
  }

  async #handleAll(handlers: SwarmHandlers): Promise<void> {
    await this.#handle("hello", (frames, connection) => this.#gate.answer(frames, connection));
    await this.#handle("catalog", (frames) => answerRecord(frames, handlers));
    await this.#handle("directory", (frames) => this.#announcer.answer(frames));
    await this.#handle("swarm", (frames, connection) => this.#server.accept(connection.remotePeer.toString(), frames));
  }

  /** Registers a protocol; all but hello wait until the peer has been let in. */
  async #handle(name: ProtocolName, accept: (frames: Frames, connection: Connection) => unknown): Promise<void> {
    const { id, asks, streamsMax } = protocols[name];
    const handler = async (stream: Stream, connection: Connection) => {
      const peer = connection.remotePeer.toString();
      if (!this.#conduct.mayOpen(peer, othersOpen(connection, stream), streamsMax)) {
        return stream.abort(new Error("too many streams"));
      }
      if (name !== "hello") {
        // Nothing of a stranger is read: its window keeps it from sending more than 256 KiB.
        stream.pause();
        const isReady = await this.#gate.isReady(peer);
        if (!isReady) return stream.abort(new Error("no hello was said"));
        if (stream.status !== "open") return;
        this.#neighbours.used(peer);
      }
      const frames = new FrameStream(stream, asks, this.#frameOptions(peer));
      accept(frames, connection);
      if (name !== "hello") stream.resume();
    };
    // libp2p would reset what is too much without a word: who does it is to be known.
    const maxInboundStreams = streamsMax + surplusStreams;
    await this.#host.handle(id, handler, { maxInboundStreams, maxOutboundStreams: streamsMax });
  }

  #frameOptions(peer: PeerName): FrameStreamOptions {
    const { stallMs } = this.#timings;
    return { stallMs, onBroken: (reason) => this.#conduct.broke(peer, reason) };
  }

  /** Never rejects. */
  async #settle(dialled: Promise<string[]>): Promise<void> {
    const onSegment = this.#mdns === undefined ? undefined : this.#settleSegment();
    await Promise.all((await dialled).map((peer) => this.#gate.isReady(peer)));
    await onSegment;
  }

  /** Whoever is on the local network answers within a tenth of a second, and is a neighbour soon after. */
  async #settleSegment(): Promise<void> {
    for (const waitMs of [answersMs, neighbourMs]) {
      const timeout = sleep(waitMs, undefined, { ref: false });
      await Promise.race([this.#met.promise, timeout]);
      if (this.#gate.peers().length > 0 || this.discovery()?.heard === 0) return;
    }
  }

  /** One stream to a peer carries all payloads that are joined there. */
  #clientOf(peer: PeerName): Promise<ExchangeClient> {
    const known = this.#clients.get(peer);
    if (known !== undefined) return known;
    const forget = () => {
      if (this.#clients.get(peer) === opening) this.#clients.delete(peer);
    };
    const opening: Promise<ExchangeClient> = this.#openStream(peer, "swarm").then(
      (frames) => {
        const onSilent = () => this.#blame(peer, "claim", "it does not answer whether it has a payload");
        return new ExchangeClient(frames, { onIdle: forget, onSilent, joinMs: this.#timings.joinMs });
      },
    );
    this.#clients.set(peer, opening);
    opening.catch(forget);
    return opening;
  }

  /** A stream to a peer, which is dialled if it is not here. @throws {UnreachableError} */
  async #openStream(peer: PeerName, name: ProtocolName): Promise<FrameStream> {
    const connection = await this.#neighbours.connect(peer);
    this.#neighbours.used(peer);
    return await this.#newStream(connection, name);
  }

  async #newStream(connection: Connection, name: ProtocolName): Promise<FrameStream> {
    const { id, answers, streamsMax } = protocols[name];
    try {
      const signal = AbortSignal.timeout(openStreamMs);
      const stream = await connection.newStream(id, { signal, maxOutboundStreams: streamsMax });
      return new FrameStream(stream, answers, this.#frameOptions(connection.remotePeer.toString()));
    } catch (cause) {
      throw new UnreachableError(`the peer ${connection.remotePeer.toString()} takes no stream`, { cause });
    }
  }
}

/** Streams of the same protocol that the same side has opened on a connection, besides this one. */
function othersOpen(connection: Connection, { protocol, direction, id }: Stream): number {
  return connection.streams.filter((each) => {
    return each.protocol === protocol && each.direction === direction && each.id !== id;
  }).length;
}

/** Streams beyond what a protocol has that are looked at before they are reset. */
const surplusStreams = 16;
/** How soon it is noticed that an interface came or went. */
const lookMs = 5_000;
/** How long the first fetch of a node waits for answers from the local network, and then for those that answered. */
const answersMs = 250;
const neighbourMs = 1_000;
const recordMs = 5_000;
const openStreamMs = 5_000;
