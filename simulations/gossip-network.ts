import { decodeAnnouncement, type Holding, type Signed } from "../protocol/announcement.ts";
import type { PeerName } from "../protocol/directory.ts";
import type { GossipAction } from "../protocol/gossip.ts";
import { gossipMesh } from "../protocol/gossip-limits.ts";
import { type Random, randomBelow } from "../protocol/random.ts";
import { GossipMember, type GossipSurroundings, indexDigits, nameOf } from "./gossip-member.ts";
import type { VirtualClock } from "./virtual-clock.ts";
import { envelopeOverheadBytes, frameBytes, gossipBytes, ihaveBytes } from "./wire-sizes.ts";

export interface NetworkOptions {
  readonly members: number;
  readonly seed: number;
  /** Of messages by gossip, the share that is lost; and that comes twice. TCP loses none, so only tests have them. */
  readonly lossShare?: number;
  readonly duplicateShare?: number;
}

/** Bytes that members sent, by what for; and received. */
export interface Traffic {
  readonly announcements: Float64Array;
  readonly ids: Float64Array;
  readonly directory: Float64Array;
  readonly received: Float64Array;
}

type Ask = Extract<GossipAction, { kind: "askHeads" | "askParts" }>;
type Notice = Extract<GossipAction, { kind: "learnt" | "forgot" }>;

/**
 * Members that gossip as gossipsub does: an announcement goes on at once to the neighbours of a mesh, of degree D, but not
 * back; ids of what came lately are told to Dlazy others each heartbeat, and meshes that lost neighbours take in others.
 */
export class GossipNetwork implements GossipSurroundings {
  readonly clock: VirtualClock;
  readonly members: GossipMember[];
  traffic: Traffic;
  onNotice: (member: GossipMember, notice: Notice) => void = () => undefined;
  readonly #options: NetworkOptions;
  readonly #random: Random;
  /** By member: all neighbours, and those of the mesh. */
  readonly #links: number[][];
  readonly #mesh: number[][];
  #isCut: Cut = () => false;
  /** New announcements by member, in the current heartbeat and those before it. */
  readonly #heard: Uint32Array[];
  readonly #signed = new WeakMap<Uint8Array, Signed>();

  constructor(options: NetworkOptions, clock: VirtualClock, random: Random) {
    this.clock = clock;
    this.#options = options;
    this.#random = random;
    const { members, seed } = options;
    this.members = Array.from({ length: members }, (_, index) => new GossipMember(index, seed, this));
    this.#links = Array.from({ length: members }, () => []);
    this.#mesh = [];
    this.#link();
    this.#heard = Array.from({ length: gossipMesh.mcacheGossip }, () => new Uint32Array(members));
    this.traffic = newTraffic(members);
    clock.at(gossipMesh.heartbeatIntervalMs, () => this.#beat());
  }

  /** Starts a new count. */
  resetTraffic(): void {
    this.traffic = newTraffic(this.members.length);
  }

  neighboursOf(index: number): PeerName[] {
    return this.#links[index]!.map(nameOf);
  }

  /** Neighbours meet: all those that can. */
  meet(index: number): void {
    for (const other of this.#links[index]!) {
      if (!this.#canTalk(index, other)) continue;
      this.members[index]!.take({ kind: "joined", peer: nameOf(other) });
      this.members[other]!.take({ kind: "joined", peer: nameOf(index) });
    }
  }

  /** A member that ended begins anew, with nothing but what it holds. */
  revive(index: number, epoch: number, whole: readonly Holding[]): void {
    this.members[index] = new GossipMember(index, this.#options.seed + epoch, this);
    this.members[index].start(epoch, whole);
    this.meet(index);
  }

  /** A member's neighbours notice that it has gone. */
  part(index: number): void {
    for (const other of this.#links[index]!) {
      this.members[index]!.take({ kind: "left", peer: nameOf(other) });
      this.members[other]!.take({ kind: "left", peer: nameOf(index) });
    }
  }

  /** From now on these cannot talk to each other, and all others can; both sides notice. */
  cut(isCut: Cut): void {
    const wasCut = this.#isCut;
    this.#isCut = isCut;
    for (const [index, links] of this.#links.entries()) {
      for (const other of links) {
        const [was, is] = [wasCut(index, other), isCut(index, other)];
        if (was !== is) this.members[index]!.take({ kind: is ? "left" : "joined", peer: nameOf(other) });
      }
    }
  }

  heal(): void {
    this.cut(() => false);
  }

  publish(from: GossipMember, signed: Signed): void {
    this.#signed.set(signed.envelope, signed);
    const hasSeen = new Uint8Array(this.members.length);
    hasSeen[from.index] = 1;
    this.#forward(from.index, -1, { signed, bytes: gossipBytes(signed.envelope.length), hasSeen });
  }

  ask(from: GossipMember, ask: Ask): void {
    const to = indexOf(ask.peer);
    const empty = new Uint8Array(0);
    const message = ask.kind === "askHeads" ? wantHeads : ({ kind: "want-parts", peers: ask.parts } as const);
    this.#count("directory", from.index, to, frameBytes(message, ask.kind === "askHeads" ? ask.known : empty));
    this.clock.at(this.clock.nowMs + this.#latencyMs(), () => {
      if (!this.#canTalk(from.index, to)) return this.#fail(from, ask.peer);
      const member = this.members[to]!;
      const frames = [...(ask.kind === "askHeads" ? member.answerHeads(ask.known) : member.answerParts(ask.parts))];
      for (const { message, body } of frames) this.#count("directory", to, from.index, frameBytes(message, body));
      this.clock.at(this.clock.nowMs + this.#latencyMs(), () => {
        if (!this.#canTalk(from.index, to)) return this.#fail(from, ask.peer);
        from.read(ask.peer, frames, (envelope) => this.open(envelope));
      });
    });
  }

  noticed(member: GossipMember, notice: Notice): void {
    this.onNotice(member, notice);
  }

  /** What is in an envelope: members share what was decoded, as they share the bytes. */
  open(envelope: Uint8Array): Signed {
    const known = this.#signed.get(envelope);
    if (known !== undefined) return known;
    const announcement = decodeAnnouncement(envelope.slice(0, -envelopeOverheadBytes));
    if (announcement === undefined) throw new Error("an envelope that nobody sealed");
    return { announcement, envelope };
  }

  #forward(index: number, cameFrom: number, message: InFlight): void {
    for (const other of this.#mesh[index]!) {
      if (other === cameFrom || !this.#canTalk(index, other)) continue;
      this.#count("announcements", index, other, message.bytes);
      const copies = this.#copies();
      for (let copy = 0; copy < copies; copy++) {
        this.clock.at(this.clock.nowMs + this.#latencyMs(), () => this.#deliver(other, index, message));
      }
    }
  }

  #deliver(index: number, from: number, message: InFlight): void {
    // What was sent arrives, also when its sender has ended meanwhile.
    if (!this.members[index]!.isRunning || this.#isCut(from, index)) return;
    const isNew = message.hasSeen[index] === 0;
    if (!isNew && this.#options.duplicateShare === undefined) return;
    message.hasSeen[index] = 1;
    this.members[index]!.take({ kind: "received", from: this.members[from]!.name, signed: message.signed });
    if (!isNew) return;
    this.#heard[0]![index]!++;
    this.#forward(index, from, message);
  }

  /** Gossipsub's heartbeat: repairs meshes, and tells some others which announcements came in the last few beats. */
  #beat(): void {
    for (const [index, links] of this.#links.entries()) {
      if (!this.members[index]!.isRunning) continue;
      this.#repair(index);
      const messages = this.#heard.reduce((sum, heard) => sum + heard[index]!, 0);
      const outside = links.filter((other) => !this.#mesh[index]!.includes(other) && this.#canTalk(index, other));
      for (const other of this.#some(outside, gossipMesh.Dlazy)) {
        this.#count("ids", index, other, ihaveBytes(messages));
      }
    }
    this.#heard.unshift(this.#heard.pop()!.fill(0));
    this.clock.at(this.clock.nowMs + gossipMesh.heartbeatIntervalMs, () => this.#beat());
  }

  /** Takes neighbours into the mesh, or out of it, when there are too few or too many. The bytes for that are not counted. */
  #repair(index: number): void {
    const gone = this.#mesh[index]!.filter((other) => !this.#canTalk(index, other));
    for (const other of gone) this.#prune(index, other);
    const mesh = this.#mesh[index]!;
    if (mesh.length < gossipMesh.Dlo) {
      const others = this.#links[index]!.filter((other) => !mesh.includes(other) && this.#canTalk(index, other));
      const willing = others.filter((other) => this.#mesh[other]!.length < gossipMesh.Dhi);
      for (const other of this.#some(willing, gossipMesh.D - mesh.length)) {
        mesh.push(other);
        this.#mesh[other]!.push(index);
      }
    }
    if (mesh.length > gossipMesh.Dhi) {
      for (const other of this.#some(mesh, mesh.length - gossipMesh.D)) this.#prune(index, other);
    }
  }

  #prune(a: number, b: number): void {
    this.#mesh[a] = this.#mesh[a]!.filter((other) => other !== b);
    this.#mesh[b] = this.#mesh[b]!.filter((other) => other !== a);
  }

  #some(of: readonly number[], count: number): number[] {
    const first = randomBelow(Math.max(1, of.length), this.#random);
    return Array.from({ length: Math.min(count, of.length) }, (_, each) => of[(first + each) % of.length]!);
  }

  /** Rings through all members, in random orders: each is one more neighbour on both sides, and none is cut off. */
  #link(): void {
    const { members } = this.#options;
    const order = Array.from({ length: members }, (_, index) => index);
    for (let ring = 0; ring < rings; ring++) {
      if (ring === gossipMesh.D / 2) for (const links of this.#links) this.#mesh.push([...links]);
      for (let at = members - 1; at > 0; at--) {
        const other = randomBelow(at + 1, this.#random);
        [order[at], order[other]] = [order[other]!, order[at]!];
      }
      for (const [at, index] of order.entries()) {
        const next = order[(at + 1) % members]!;
        this.#connect(index, next);
      }
    }
    // In a small network all know each other: none is cut off because some others end.
    if (members > 2 * rings + 1) return;
    for (const index of order) for (const other of order) this.#connect(index, other);
  }

  #connect(a: number, b: number): void {
    if (a === b || this.#links[a]!.includes(b)) return;
    this.#links[a]!.push(b);
    this.#links[b]!.push(a);
  }

  #canTalk(a: number, b: number): boolean {
    return this.members[a]!.isRunning && this.members[b]!.isRunning && !this.#isCut(a, b);
  }

  #fail(member: GossipMember, peer: PeerName): void {
    member.take({ kind: "failed", from: peer });
  }

  #copies(): number {
    const { lossShare = 0, duplicateShare = 0 } = this.#options;
    if (lossShare === 0 && duplicateShare === 0) return 1;
    if (this.#random() < lossShare) return 0;
    return this.#random() < duplicateShare ? 2 : 1;
  }

  /** A local network and a busy receiver: 1 to 5 ms. */
  #latencyMs(): number {
    return 1 + randomBelow(5, this.#random);
  }

  #count(what: Exclude<keyof Traffic, "received">, from: number, to: number, bytes: number): void {
    this.traffic[what][from]! += bytes;
    this.traffic.received[to]! += bytes;
  }
}

/** Whether two members cannot talk to each other. */
type Cut = (a: number, b: number) => boolean;

interface InFlight {
  readonly signed: Signed;
  readonly bytes: number;
  readonly hasSeen: Uint8Array;
}

/** Ten neighbours: those of the mesh, and others that it could graft. */
const rings = 5;
const wantHeads = { kind: "want-heads" } as const;

function indexOf(peer: PeerName): number {
  return Number(peer.slice(-indexDigits));
}

function newTraffic(members: number): Traffic {
  const zeros = () => new Float64Array(members);
  return { announcements: zeros(), ids: zeros(), directory: zeros(), received: zeros() };
}
