import type { Announcement, Signed } from "../../protocol/announcement.ts";
import type { PeerName } from "../../protocol/directory.ts";
import { UnreachableError } from "../../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../../protocol/hash.ts";
import type { Message } from "../../protocol/messages.ts";
import type { ClassRates } from "../../protocol/politeness.ts";
import type { RegisterAnswer, RegisterQuestion } from "../../protocol/register-messages.ts";
import type { SeenMember } from "../../protocol/registrars.ts";
import type { Frame } from "../../protocol/wire.ts";
import { openHashEngine } from "../hasher.ts";
import type { DirectoryView, Join, PeerFacts, Swarm, SwarmHandlers, WaitOptions } from "../ports.ts";
import { Announcer } from "./announcer.ts";
import { answerRecord, askRecord } from "./catalog.ts";
import { Exchange } from "./exchange.ts";
import { type Frames, headerOf } from "./frames.ts";

/** Members in one process, each connected to all others unless told otherwise: for tests. */
export class MemoryNetwork {
  readonly #members = new Map<PeerName, MemorySwarm>();

  /** A member of this name; everyone who is there already knows it from now on. */
  open(name: PeerName, handlers: SwarmHandlers): MemorySwarm {
    const swarm = new MemorySwarm(name, handlers, () => this.#members.delete(name));
    const others = [...this.#members.values()];
    this.#members.set(name, swarm);
    for (const other of others) this.connect(swarm, other);
    return swarm;
  }

  connect(one: MemorySwarm, other: MemorySwarm): void {
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
  readonly #handlers: SwarmHandlers;
  readonly #exchange: Exchange;
  readonly #announcer: Announcer;
  readonly #onClose: () => void;
  readonly #peers = new Map<PeerName, MemorySwarm>();
  readonly #streams = new Map<PeerName, Set<MemoryFrames>>();
  /** Peers that were asked for something, in order: what a test may look at. */
  readonly asked: { readonly peer: PeerName; readonly what: "record" | "join" | "take" | "register" }[] = [];

  constructor(id: PeerName, handlers: SwarmHandlers, onClose: () => void) {
    this.id = id;
    this.#handlers = handlers;
    this.#onClose = onClose;
    this.#exchange = new Exchange({ handlers, open: async (peer, protocol) => this.#openStream(peer, protocol) });
    this.#announcer = new Announcer({
      network: "memory",
      self: id,
      hash: openHashEngine().hash,
      epoch: 1,
      raiseEpoch: (epoch) => handlers.raiseEpoch(epoch),
      seal: async (announcement) => sealed(announcement),
      open: async (envelope) => sealed(JSON.parse(new TextDecoder().decode(envelope)) as Announcement),
      publish: async (envelope) => this.#publish(envelope),
      stream: async (peer) => this.#open(peer, (other, frames) => void other.#announcer.answer(frames)),
      labels: () => ({ addresses: this.addresses(), name: id, site: "", rack: "" }),
      whole: () => handlers.whole(),
      onLearnt: (peer, added) => handlers.learnt(peer, added),
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
    const frames = this.#open(peer, (other, theirs) => void answerRecord(theirs, other.#handlers));
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
    for (const frames of this.#streams.get(other.id) ?? []) frames.abort(new Error("the peer has gone"));
    this.#streams.delete(other.id);
    this.#announcer.left(other.id);
    if (how === "loudly") this.#handlers.peerLeft(other.id);
  }

  /** To all that are here; they send on what is new to them. */
  #publish(envelope: Uint8Array): void {
    for (const other of this.#peers.values()) queueMicrotask(() => void other.#hear(this.id, envelope));
  }

  async #hear(from: PeerName, envelope: Uint8Array): Promise<void> {
    if (!this.#peers.has(from)) return;
    if ((await this.#announcer.judge(from, envelope)) === "accept") this.#publish(envelope);
  }

  #openStream(peer: PeerName, protocol: "swarm" | "register"): Frames {
    return this.#open(peer, (other, theirs) => {
      const { server, registrar } = other.#exchange;
      if (protocol === "swarm") server.accept(this.id, theirs);
      else registrar.accept(this.id, theirs);
    });
  }

  /** @throws {UnreachableError} when the peer is not here. */
  #open(peer: PeerName, accept: (other: MemorySwarm, frames: Frames) => void): MemoryFrames {
    const other = this.#peers.get(peer);
    if (other === undefined) throw new UnreachableError(`the peer ${peer} has gone`);
    const [ours, theirs] = MemoryFrames.pair();
    this.#keep(peer, ours);
    other.#keep(this.id, theirs);
    queueMicrotask(() => accept(other, theirs));
    return ours;
  }

  #keep(peer: PeerName, frames: MemoryFrames): void {
    const streams = this.#streams.get(peer) ?? new Set();
    this.#streams.set(peer, streams.add(frames));
    frames.onGone = () => streams.delete(frames);
  }
}

/** In memory nobody signs: an envelope is the announcement itself. */
function sealed(announcement: Announcement): Signed {
  return { announcement, envelope: new TextEncoder().encode(JSON.stringify(announcement)) };
}

/** One end of a stream in memory: frames arrive in order, each in a turn of its own. */
class MemoryFrames implements Frames {
  #other: MemoryFrames | undefined;
  #early: Frame[] | undefined = [];
  #onFrame: (frame: Frame) => void = () => undefined;
  #onEnd: () => void = () => undefined;
  #hasEnded = false;
  #hasClosed = false;
  onGone: () => void = () => undefined;

  static pair(): [MemoryFrames, MemoryFrames] {
    const [one, other] = [new MemoryFrames(), new MemoryFrames()];
    one.#other = other;
    other.#other = one;
    return [one, other];
  }

  listen(onFrame: (frame: Frame) => void, onEnd: () => void): void {
    this.#onFrame = onFrame;
    this.#onEnd = onEnd;
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const frame of early) this.#hand(frame);
    if (this.#hasEnded) onEnd();
  }

  async send(message: Message | Uint8Array, body: Uint8Array = new Uint8Array(0)): Promise<void> {
    if (this.#hasClosed) throw new UnreachableError("the peer's stream has ended");
    const frame = { header: headerOf(message), body: new Uint8Array(body) };
    // As over a network: the one that is written is on its way, and no longer in our hands.
    await Promise.resolve();
    if (this.#other !== undefined) this.#other.#take(frame);
  }

  async close(): Promise<void> {
    if (this.#hasClosed) return;
    this.#hasClosed = true;
    // After what was sent before it.
    await Promise.resolve();
    if (this.#other !== undefined) this.#other.#end();
    if (this.#hasEnded) this.onGone();
  }

  abort(_reason: Error): void {
    for (const side of [this, this.#other]) {
      if (side === undefined) continue;
      side.#hasClosed = true;
      side.#end();
      side.onGone();
    }
  }

  #take(frame: Frame): void {
    if (this.#hasEnded) return;
    if (this.#early === undefined) this.#hand(frame);
    else this.#early.push(frame);
  }

  #hand(frame: Frame): void {
    try {
      this.#onFrame(frame);
    } catch (error) {
      this.abort(error as Error);
    }
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#onEnd();
  }
}
