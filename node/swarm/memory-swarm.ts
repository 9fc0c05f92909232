import { type Announcement, decodeAnnouncement, encodeAnnouncement, type Signed } from "../../protocol/announcement.ts";
import type { PeerName } from "../../protocol/directory.ts";
import { UnreachableError } from "../../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../../protocol/hash.ts";
import type { ClassRates } from "../../protocol/politeness.ts";
import type { RegisterAnswer, RegisterQuestion } from "../../protocol/register-messages.ts";
import type { SeenMember } from "../../protocol/registrars.ts";
import { openHashEngine } from "../hasher.ts";
import type { DirectoryView, Join, PeerFacts, PolicyPeers, Swarm, SwarmHandlers, WaitOptions } from "../ports.ts";
import { Announcer } from "./announcer.ts";
import { answerCatalog, askRecord } from "./catalog.ts";
import { Conduct } from "./conduct.ts";
import { Exchange } from "./exchange.ts";
import { MemoryFrames } from "./memory-frames.ts";
import { PolicyAsker } from "./policy-peers.ts";
import { type ProtocolName, protocols } from "./protocols.ts";

/** Members in one process, each connected to all others unless told otherwise: for tests. */
export class MemoryNetwork {
  readonly #members = new Map<PeerName, MemorySwarm>();

  /** A member of this name; everyone who is there already knows it from now on. */
  open(name: PeerName, handlers: SwarmHandlers): MemorySwarm {
    return this.enter(new MemorySwarm(name, handlers, () => this.leave(name)));
  }

  leave(name: PeerName): void {
    this.#members.delete(name);
  }

  member(name: PeerName): MemorySwarm | undefined {
    return this.#members.get(name);
  }

  /** The same for a member that was made elsewhere. */
  enter<Kind extends MemorySwarm>(swarm: Kind): Kind {
    const others = [...this.#members.values()];
    this.#members.set(swarm.id, swarm);
    for (const other of others) this.connect(swarm, other);
    return swarm;
  }

  /** The first one calls on the other, which may not let it in. */
  connect(one: MemorySwarm, other: MemorySwarm): void {
    if (other.refuses(one.id)) return;
    one.meet(other);
    other.meet(one);
  }

  disconnect(one: MemorySwarm, other: MemorySwarm): void {
    one.lose(other);
    other.lose(one);
  }
}

/** The twin of the libp2p swarm: the same exchange over streams in memory, without sockets and without admission. */
export class MemorySwarm implements Swarm {
  readonly id: PeerName;
  readonly policy: PolicyPeers;
  readonly #handlers: SwarmHandlers;
  readonly #exchange: Exchange;
  readonly #announcer: Announcer;
  readonly #conduct: Conduct;
  readonly #onClose: () => void;
  readonly #peers = new Map<PeerName, MemorySwarm>();
  /** Streams to and from each peer, and which protocol those have that it opened. */
  readonly #streams = new Map<PeerName, Map<MemoryFrames, ProtocolName | undefined>>();
  /** Peers that were asked for something, in order: what a test may look at. */
  readonly asked: { readonly peer: PeerName; readonly what: "record" | "join" | "take" | "register" }[] = [];

  constructor(id: PeerName, handlers: SwarmHandlers, onClose: () => void) {
    this.id = id;
    this.#handlers = handlers;
    this.#onClose = onClose;
    this.policy = new PolicyAsker({
      handlers,
      open: async (peer) => this.openStream(peer, "catalog"),
      recheck: () => undefined,
    });
    this.#conduct = new Conduct({
      onFault: (peer, fault, reason) => handlers.misbehaved(peer, fault, reason),
      onOutlaw: (peer) => this.#expel(peer),
    });
    this.#exchange = new Exchange({
      handlers,
      open: async (peer, protocol) => this.openStream(peer, protocol),
      onSilent: (peer, fault, reason) => this.#conduct.blame(peer, fault, reason),
    });
    this.#announcer = new Announcer({
      network: "memory",
      self: id,
      hash: openHashEngine().hash,
      epoch: 1,
      raiseEpoch: (epoch) => handlers.raiseEpoch(epoch),
      seal: async (announcement) => sealed(announcement),
      open: async (envelope) => {
        const announcement = decodeAnnouncement(envelope);
        return announcement === undefined ? undefined : { announcement, envelope };
      },
      publish: async (envelope) => this.publish(envelope),
      stream: async (peer) => this.openStream(peer, "directory"),
      labels: () => ({ addresses: this.addresses(), name: id, site: "", rack: "" }),
      whole: () => handlers.whole(),
      onLearnt: (peer, added) => handlers.learnt(peer, added),
      onFault: (peer, fault, reason) => this.#conduct.blame(peer, fault, reason),
      onMembers: () => undefined,
    });
    this.#announcer.start();
  }

  get directory(): DirectoryView {
    return this.#announcer.directory;
  }

  addresses(): readonly string[] {
    return [`/memory/${this.id}`];
  }

  peers(): readonly PeerFacts[] {
    return [...this.#peers.values()].map((other) => {
      return { peer: other.id, name: other.id, site: "", rack: "", addresses: other.addresses() };
    });
  }

  settled(): Promise<void> {
    return Promise.resolve();
  }

  announce(): void {
    this.#announcer.changed();
  }

  discovery(): undefined {
    return undefined;
  }

  async record(peer: PeerName, variant: VariantHash, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    options.signal?.throwIfAborted();
    this.asked.push({ peer, what: "record" });
    const frames = this.openStream(peer, "catalog");
    try {
      return await askRecord(frames, variant, options.signal ?? new AbortController().signal);
    } catch (cause) {
      options.signal?.throwIfAborted();
      throw new UnreachableError(`the peer ${peer} gives no record`, { cause });
    } finally {
      void frames.close();
    }
  }

  join(...what: Parameters<Swarm["join"]>): Promise<Join | undefined> {
    this.asked.push({ peer: what[0], what: "join" });
    return this.#exchange.join(...what);
  }

  take(...what: Parameters<Swarm["take"]>): Join {
    this.asked.push({ peer: what[0], what: "take" });
    return this.#exchange.take(...what);
  }

  /** Lets go of a peer's join. */
  part(peer: PeerName, payload: PayloadId): void {
    this.#exchange.server.part(peer, payload);
  }

  register(peer: PeerName, payload: PayloadId, question: RegisterQuestion): Promise<RegisterAnswer> {
    this.asked.push({ peer, what: "register" });
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
    this.#onClose();
    await this.#announcer.stop();
    this.#exchange.close();
    for (const other of [...this.#peers.values()]) {
      other.lose(this);
      this.lose(other, "quietly");
    }
  }

  /** Another one is here; what is told of it comes a moment later, as over a network. */
  meet(other: MemorySwarm): void {
    this.#peers.set(other.id, other);
    queueMicrotask(() => {
      if (this.#peers.get(other.id) !== other) return;
      this.#announcer.joined(other.id);
      this.#handlers.peerReady(other.id);
    });
  }

  /** Another one has gone, with all streams. */
  lose(other: MemorySwarm, how: "loudly" | "quietly" = "loudly"): void {
    if (!this.#peers.delete(other.id)) return;
    for (const frames of [...(this.#streams.get(other.id)?.keys() ?? [])]) frames.abort(new Error("the peer has gone"));
    this.#streams.delete(other.id);
    this.#announcer.left(other.id);
    if (how === "loudly") this.#handlers.peerLeft(other.id);
  }

  /** To all that are here; they send on what is new to them. */
  publish(envelope: Uint8Array): void {
    for (const other of this.#peers.values()) queueMicrotask(() => void other.#hear(this.id, envelope));
  }

  async #hear(from: PeerName, envelope: Uint8Array): Promise<void> {
    if (!this.#peers.has(from)) return;
    if ((await this.#announcer.judge(from, envelope)) === "accept") this.publish(envelope);
  }

  /** Whether a peer that comes is not let in. */
  refuses(peer: PeerName): boolean {
    return this.#conduct.refusal(peer) !== undefined;
  }

  /** Serves a stream that a peer has opened. */
  accept(protocol: Exclude<ProtocolName, "hello">, peer: PeerName, frames: MemoryFrames): void {
    switch (protocol) {
      case "swarm":
        return this.#exchange.server.accept(peer, frames);
      case "register":
        return this.#exchange.registrar.accept(peer, frames);
      case "directory":
        return void this.#announcer.answer(frames);
      case "catalog":
        return void answerCatalog(frames, this.#handlers, peer);
    }
  }

  /** @throws {UnreachableError} when the peer is not here. */
  openStream(peer: PeerName, protocol: Exclude<ProtocolName, "hello">): MemoryFrames {
    const other = this.#peers.get(peer);
    if (other === undefined) throw new UnreachableError(`the peer ${peer} has gone`);
    const { asks, answers, streamsMax } = protocols[protocol];
    const [ours, theirs] = MemoryFrames.pair(asks, answers);
    this.#keep(peer, ours);
    const open = other.#keep(this.id, theirs, protocol);
    queueMicrotask(() => {
      if (other.#conduct.mayOpen(this.id, open, streamsMax)) other.accept(protocol, this.id, theirs);
      else theirs.abort(new Error("too many streams"));
    });
    return ours;
  }

  #expel(peer: PeerName): void {
    const other = this.#peers.get(peer);
    if (other === undefined) return;
    other.lose(this);
    this.lose(other);
  }

  /** Answers how many streams of the protocol that peer has open here besides. */
  #keep(peer: PeerName, frames: MemoryFrames, protocol?: ProtocolName): number {
    const streams = this.#streams.get(peer) ?? new Map<MemoryFrames, ProtocolName | undefined>();
    const open = [...streams].filter(([each, its]) => its === protocol && each.isOpen).length;
    this.#streams.set(peer, streams.set(frames, protocol));
    frames.onGone = () => streams.delete(frames);
    frames.onBroken = (reason) => this.#conduct.broke(peer, reason);
    return open;
  }
}

/** In memory nobody signs: an envelope is the announcement itself. */
function sealed(announcement: Announcement): Signed {
  return { announcement, envelope: encodeAnnouncement(announcement) };
}
