import { setTimeout as sleep } from "node:timers/promises";
import type { Connection, Libp2p, Stream } from "@libp2p/interface";
import type { PeerName } from "../../protocol/directory.ts";
import { UnreachableError } from "../../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../../protocol/hash.ts";
import type { ClassRates } from "../../protocol/politeness.ts";
import type { RegisterAnswer, RegisterQuestion } from "../../protocol/register-messages.ts";
import type { SeenMember } from "../../protocol/registrars.ts";
import type {
  DirectoryView,
  DiscoveryState,
  Join,
  PeerFacts,
  PolicyPeers,
  Swarm,
  SwarmHandlers,
  WaitOptions,
} from "../ports.ts";
import { announcedAddresses } from "./addresses.ts";
import { Announcer } from "./announcer.ts";
import { Bootstrap } from "./bootstrap.ts";
import { answerCatalog, askPeer, askRecord } from "./catalog.ts";
import { Conduct } from "./conduct.ts";
import { DeniedPeers } from "./denied-peers.ts";
import { openAnnouncement, sealAnnouncement } from "./envelope.ts";
import { Exchange } from "./exchange.ts";
import { FrameStream, type FrameStreamOptions } from "./frame-stream.ts";
import type { Frames } from "./frames.ts";
import { GossipMesh } from "./gossip-mesh.ts";
import { createHost, parseAddress } from "./host.ts";
import { usableSegments } from "./interfaces.ts";
import { Mdns } from "./mdns.ts";
import { Neighbours } from "./neighbours.ts";
import { PeerGate } from "./peer-gate.ts";
import { PolicyAsker } from "./policy-peers.ts";
import { type ProtocolName, protocols } from "./protocols.ts";
import { othersOpen, surplusStreams } from "./surplus-streams.ts";
import type { SwarmOptions, SwarmTimings } from "./swarm-options.ts";

/** The swarm over libp2p: tcp, noise, yamux, gossipsub. */
export class Libp2pSwarm implements Swarm {
  readonly #host: Libp2p;
  readonly #options: SwarmOptions;
  readonly #handlers: SwarmHandlers;
  readonly #gate: PeerGate;
  readonly #conduct: Conduct;
  readonly #mesh: GossipMesh;
  readonly #exchange: Exchange;
  readonly #bootstrap: Bootstrap;
  readonly #announcer: Announcer;
  readonly #neighbours: Neighbours;
  readonly #mdns: Mdns | undefined;
  readonly #timings: SwarmTimings;
  #looking: NodeJS.Timeout | undefined;
  #labels = "";
  readonly policy: PolicyPeers;
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
    this.#conduct = new Conduct({
      onFault: (peer, fault, reason) => handlers.misbehaved(peer, fault, reason),
      onOutlaw: (peer, reason) => this.#letGo(peer, reason),
    });
    const { timings = {}, up = {} } = options;
    this.#exchange = new Exchange({
      handlers,
      open: (peer, name) => this.#openStream(peer, name),
      onSilent: (peer, fault, reason) => this.#conduct.blame(peer, fault, reason),
      timings,
      up,
    });
    const listener = {
      refusal: (peer: PeerName) => this.#conduct.refusal(peer),
      onReady: (peer: PeerName) => this.#joined(peer),
      onLeft: (peer: PeerName) => this.#left(peer),
      onPolicyOnly: (peer: PeerName) => handlers.policy?.reached(peer),
      admits: (peer: PeerName) => handlers.policy?.admits(peer) ?? "member",
      onRefused: (peer: PeerName, reason: string) => {
        this.#neighbours.step({ kind: "refused", peer });
        options.onRefused?.(peer, reason);
      },
    };
    this.#gate = new PeerGate(host, options.hello, listener, this.#timings.helloMs);
    this.#announcer = this.#newAnnouncer();
    this.policy = new PolicyAsker({
      handlers,
      open: async (peer) => {
        const undecided = this.#gate.policyConnectionOf(peer);
        return await (undecided ? this.#newStream(undecided, "catalog") : this.#openStream(peer, "catalog"));
      },
      recheck: () => {
        if (this.#gate.recheck()) this.#bootstrap.hurry();
      },
    });
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
    const denied = new DeniedPeers((peer, reason) => options.onRefused?.(peer, reason));
    const admits = (peer: PeerName) => denied.note(peer, handlers.policy?.admits(peer) ?? "member");
    const host = await createHost({ key, prologue, listen, admits, gossip: mesh.service() });
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

  record(peer: PeerName, variant: VariantHash, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    const open = () => this.#openStream(peer, "catalog");
    return askPeer({ peer, open, what: "record", options }, (frames, signal) => askRecord(frames, variant, signal));
  }

  join(...what: Parameters<Swarm["join"]>): Promise<Join | undefined> {
    return this.#exchange.join(...what);
  }

  take(...what: Parameters<Swarm["take"]>): Join {
    return this.#exchange.take(...what);
  }

  part(peer: PeerName, payload: PayloadId): void {
    this.#exchange.server.part(peer, payload);
  }

  register(peer: PeerName, payload: PayloadId, question: RegisterQuestion): Promise<RegisterAnswer> {
    return this.#exchange.register(peer, payload, question);
  }

  members(): Iterable<SeenMember> {
    return this.#announcer.members();
  }

  setRates(up: ClassRates): void {
    this.#exchange.server.setRates(up);
  }

  stored(payload: PayloadId, items: readonly number[]): void {
    this.#exchange.server.stored(payload, items);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#looking);
    this.#mdns?.stop();
    this.#bootstrap.stop();
    this.#neighbours.stop();
    await this.#announcer.stop();
    this.#mesh.stop();
    this.#gate.stop();
    this.#exchange.close();
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
      onFault: (peer, fault, reason) => this.#conduct.blame(peer, fault, reason),
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
    await this.#handle("catalog", (frames, { remotePeer }) => answerCatalog(frames, handlers, remotePeer.toString()));
    await this.#handle("directory", (frames) => this.#announcer.answer(frames));
    const { server, registrar } = this.#exchange;
    await this.#handle("swarm", (frames, { remotePeer }) => server.accept(remotePeer.toString(), frames));
    await this.#handle("register", (frames, { remotePeer }) => registrar.accept(remotePeer.toString(), frames));
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
    const onUnread = (reason: string) => this.#conduct.unread(peer, reason);
    return { stallMs, onBroken: (reason) => this.#conduct.broke(peer, reason), onUnread };
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

/** How soon it is noticed that an interface came or went. */
const lookMs = 5_000;
/** How long the first fetch of a node waits for answers from the local network, and then for those that answered. */
const answersMs = 250;
const neighbourMs = 1_000;
const openStreamMs = 5_000;
