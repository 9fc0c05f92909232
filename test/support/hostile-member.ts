import type { Frames } from "../../node/swarm/frames.ts";
import type { MemoryFrames } from "../../node/swarm/memory-frames.ts";
import { type MemoryNetwork, MemorySwarm } from "../../node/swarm/memory-swarm.ts";
import type { ProtocolName } from "../../node/swarm/protocols.ts";
import { type Announcement, digestHoldings, encodeAnnouncement } from "../../protocol/announcement.ts";
import { Bitmap } from "../../protocol/bitmap.ts";
import { ItemGroups } from "../../protocol/item-groups.ts";
import { holdingsPerPeerMax, pairsPerFrameMax } from "../../protocol/limits.ts";
import { decodeDirectoryAsk, decodeSwarm, encodeMessage, type SwarmMessage } from "../../protocol/messages.ts";
import { type Random, randomBelow } from "../../protocol/random.ts";
import type { RegisterAnswer } from "../../protocol/register-messages.ts";
import { decodeRegisterQuestion, encodeRegisterReply } from "../../protocol/register-wire.ts";
import { encodeFrameHead, type Frame } from "../../protocol/wire.ts";
import { type Lie, type Released, servedWith } from "./lies.ts";
import { noise } from "./noise.ts";
import { engine } from "./payloads.ts";
import { Member } from "./swarm-member.ts";

/** What a hostile or broken member does (issue 4, point 5). */
export const behaviours = [
  "wrong bytes",
  "short and long pieces",
  "swapped items",
  "claims without content",
  "slow-loris",
  "oversize frames",
  "stream floods",
  "connect and say nothing",
  "announcements of a million variants",
  "join and leave",
  "leases taken and not used",
  "false registrar answers",
] as const;

export type Behaviour = (typeof behaviours)[number];

/** One of some. */
export function oneOf<Kind>(kinds: readonly Kind[], random: Random): Kind {
  return kinds[randomBelow(kinds.length, random)]!;
}

type Opened = Exclude<ProtocolName, "hello">;

/** Serves a stream that was opened to it. Answers whether it did; else it is served as it should be. */
type Serve = (protocol: Opened, frames: MemoryFrames) => boolean;

/** A member in memory whose frames are its own; what a behaviour leaves open is drawn at random. */
export class HostileMember extends MemorySwarm {
  readonly #network: MemoryNetwork;
  readonly #released: Released;
  readonly #random: Random;
  readonly #serve: Serve;
  readonly #timers = new Set<NodeJS.Timeout>();
  #victims: readonly string[] = [];
  #hasGone = false;

  private constructor(id: string, behaviour: Behaviour, scene: HostileScene) {
    const { network, released, random } = scene;
    const member = new Member();
    const holdsNothing = behaviour === "leases taken and not used" || behaviour === "false registrar answers";
    member.holdings = holdsNothing ? [] : [[released.variant, released.record.payload]];
    member.records.set(released.variant, released.envelope);
    member.payloads.set(released.record.payload, servedWith(lieOf(behaviour, random), released));
    super(id, member.handlers, () => network.leave(id));
    this.#network = network;
    this.#released = released;
    this.#random = random;
    this.#serve = this.#serverOf(behaviour);
  }

  /** It is there, and begins. */
  static enter(id: string, behaviour: Behaviour, scene: HostileScene): HostileMember {
    const member = scene.network.enter(new HostileMember(id, behaviour, scene));
    member.#begin(behaviour);
    return member;
  }

  override accept(protocol: Opened, peer: string, frames: MemoryFrames): void {
    if (!this.#serve(protocol, frames)) super.accept(protocol, peer, frames);
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    this.#hasGone = true;
    for (const timer of this.#timers) clearInterval(timer);
    await super[Symbol.asyncDispose]();
  }

  #begin(behaviour: Behaviour): void {
    switch (behaviour) {
      case "slow-loris":
        return this.#askInSips();
      case "oversize frames":
        return this.#askTooMuch();
      case "stream floods":
        return this.#flood(oneOf(["many streams", "joins", "questions", "gossip"], this.#random));
      case "announcements of a million variants":
        return this.publish(
          encodeAnnouncement(this.#announcement(oneOf([1_000_000, holdingsPerPeerMax], this.#random))),
        );
      case "join and leave":
        this.#victims = this.peers().map(({ peer }) => peer);
        return this.#every(10, () => this.#comeOrGo());
      case "leases taken and not used":
        return this.#takeLeases();
      default:
        return;
    }
  }

  #serverOf(behaviour: Behaviour): Serve {
    switch (behaviour) {
      case "slow-loris":
        return (protocol, frames) => this.#sip(protocol, frames);
      case "oversize frames":
        return this.#answerTooMuch(oneOf(["swarm", "catalog", "directory"], this.#random));
      case "connect and say nothing":
        return (_, frames) => {
          frames.listen(ignore, ignore);
          return true;
        };
      case "announcements of a million variants":
        return (protocol, frames) => this.#tellOfAMillion(protocol, frames);
      case "leases taken and not used":
        // Nor does it give what it has.
        return (protocol, frames) => {
          if (protocol === "swarm") frames.listen(({ header }) => refuse(frames, header), ignore);
          return protocol === "swarm";
        };
      case "false registrar answers":
        return this.#misleading();
      default:
        return () => false;
    }
  }

  /** Answers as a registrar what is of no use to anybody. */
  #misleading(): Serve {
    const falsehood = oneOf(falseAnswers, this.#random);
    return (protocol, frames) => {
      if (protocol === "swarm") frames.listen(({ header }) => refuse(frames, header), ignore);
      if (protocol !== "register") return protocol === "swarm";
      frames.listen(({ header }) => {
        const asked = decodeRegisterQuestion(header);
        if (asked === undefined) return;
        const answer = { ...noAnswer, ...falsehood(this.#wanter) };
        void frames.send(encodeRegisterReply({ payload: asked.payload, answer })).catch(ignore);
      }, ignore);
      return true;
    };
  }

  get #wanter(): string {
    return this.peers().find(({ peer }) => peer.startsWith("wanter"))!.peer;
  }

  /** Asks every registrar for leases, says that it has them, and does nothing else. */
  #takeLeases(): void {
    const { record, items } = this.#released;
    const { count: groups } = new ItemGroups({
      segments: record.root.segments.length,
      items,
      bytes: record.root.bytes,
    });
    const taken = new Map<string, RegisterAnswer["leases"]>();
    const ask = async (peer: string) => {
      const leases = (taken.get(peer) ?? []).map(({ group }) => ({ group, arrived: 0 }));
      const held = new Uint8Array(Math.ceil(groups / 8));
      const question = {
        groups,
        site: "",
        held,
        leases,
        wants: 2 - leases.length,
        isFarOnly: false,
        isReady: true,
        lacking: [],
        seeks: true,
      };
      taken.set(peer, (await this.register(peer, record.payload, question)).leases);
    };
    const askAll = () => {
      for (const { peer } of this.peers()) void ask(peer).catch(ignore);
    };
    askAll();
    this.#every(300, askAll);
  }

  /** What it was asked comes byte by byte, from the record on or once it is joined. */
  #sip(protocol: Opened, frames: MemoryFrames): boolean {
    if (protocol === "directory" || protocol === "register") return false;
    const drip = (bytes: Uint8Array) => this.#drip(frames, bytes, 5);
    frames.listen(({ header }) => {
      if (protocol === "catalog") return drip(encodeFrameHead(encodeMessage({ kind: "record" }), 1_000));
      const asked = decodeSwarm(header);
      if (asked?.kind === "join") say(frames, { kind: "joined", number: asked.number, all: true });
      if (asked?.kind !== "request" && asked?.kind !== "take") return;
      drip(encodeFrameHead(encodeMessage({ kind: "piece", number: asked.number, item: asked.items[0]! }), 500_000));
    }, ignore);
    return true;
  }

  /** Begins a question to everybody, and does not come to its end. */
  #askInSips(): void {
    const protocol = oneOf(["catalog", "directory"] as const, this.#random);
    for (const { peer } of this.peers()) {
      const frames = this.openStream(peer, protocol);
      frames.listen(ignore, ignore);
      this.#drip(frames, new Uint8Array([0, 0, 1, 0, 0, 0, 0, 0]), 200);
    }
  }

  #drip(frames: MemoryFrames, bytes: Uint8Array, everyMs: number): void {
    let at = 0;
    this.#every(everyMs, () => void frames.write(bytes.subarray(at, ++at)).catch(ignore));
  }

  /** Asks everybody in ways that no decoder takes. */
  #askTooMuch(): void {
    const protocol = oneOf(["swarm", "catalog", "directory", "register"] as const, this.#random);
    const question = oneOf(
      [new Uint8Array([0, 1, 0, 0, 0, 0, 0, 0]), new Uint8Array([0, 0, 0, 1, 255, 255, 255, 255])],
      this.#random,
    );
    for (const { peer } of this.peers()) {
      const frames = this.openStream(peer, protocol);
      frames.listen(ignore, ignore);
      void frames.write(question).catch(ignore);
    }
  }

  /** Answers one protocol in ways that no decoder takes. */
  #answerTooMuch(of: Opened): Serve {
    const { items } = this.#released;
    const answers: ((frames: MemoryFrames, number: number) => Promise<void>)[] = [
      (frames) => frames.write(new Uint8Array([255, 255, 255, 255, 0, 0, 0, 0])),
      (frames) => frames.write(new Uint8Array([0, 0, 0, 1, 255, 255, 255, 255])),
      (frames) => frames.send(new Uint8Array([0xff, 0, 1])),
      (frames, number) => frames.send({ kind: "request", number, items: [0] }),
    ];
    if (of === "swarm") {
      const long = new Bitmap(items + 64).bytes;
      answers.push((frames, number) => frames.send({ kind: "joined", number, all: false }, long));
    }
    const answer = oneOf(answers, this.#random);
    return (protocol, frames) => {
      if (protocol !== of) return false;
      frames.listen(({ header }) => void answer(frames, decodeSwarm(header)?.number ?? 0).catch(ignore), ignore);
      return true;
    };
  }

  #flood(how: "many streams" | "joins" | "questions" | "gossip"): void {
    const { payload } = this.#released.record;
    let number = 0;
    const toAll = (protocol: Opened, flood: (frames: Frames) => void) => {
      for (const { peer } of this.peers()) {
        try {
          const frames = this.openStream(peer, protocol);
          frames.listen(ignore, ignore);
          flood(frames);
        } catch {
          // It has let us go.
        }
      }
    };
    this.#every(2, () => {
      if (how === "gossip") for (let i = 0; i < 20; i++) this.publish(noise(number++, 200));
      if (how === "many streams") for (let i = 0; i < 20; i++) toAll("swarm", ignore);
      if (how === "questions") {
        for (let i = 0; i < 20; i++) toAll("catalog", (frames) => void frames.send(noise(i, 40)).catch(ignore));
      }
      if (how === "joins") {
        toAll("swarm", (frames) => {
          for (let i = 0; i < 600; i++) {
            say(frames, { kind: "join", number: ++number, payload });
            say(frames, { kind: "leave", number });
          }
        });
      }
    });
  }

  #tellOfAMillion(protocol: Opened, frames: MemoryFrames): boolean {
    if (protocol !== "directory") return false;
    const pairs = noise(7, 64 * pairsPerFrameMax);
    const answer = async ({ header }: Frame) => {
      const ask = decodeDirectoryAsk(header);
      if (ask?.kind === "want-heads") {
        const envelope = encodeAnnouncement(this.#announcement(holdingsPerPeerMax));
        await frames.send({ kind: "heads", heads: [{ envelope, remainingMs: 60_000 }] });
        return await frames.send({ kind: "end" });
      }
      for (let at = 0; at < 1_000_000 && !this.#hasGone; at += pairsPerFrameMax) {
        await frames.send({ kind: "pairs" }, pairs);
      }
    };
    frames.listen((frame) => void answer(frame).catch(ignore), ignore);
    return true;
  }

  #announcement(count: number): Announcement {
    return {
      ...{ version: 1, network: "memory", peer: this.id, addresses: [], name: this.id, site: "", rack: "" },
      ...{ epoch: 2, sequence: 0, lifetimeMs: 100_000, count },
      digest: digestHoldings(noise(8, 64), engine.hash),
    };
  }

  #comeOrGo(): void {
    const { payload } = this.#released.record;
    for (const name of this.#victims) {
      const other = this.#network.member(name);
      if (other === undefined) continue;
      if (this.peers().some(({ peer }) => peer === name)) this.#network.disconnect(this, other);
      else {
        this.#network.connect(this, other);
        void this.join(name, payload, this.#released.items, silent).catch(ignore);
      }
    }
  }

  #every(ms: number, work: () => void): void {
    if (!this.#hasGone) this.#timers.add(setInterval(work, ms));
  }
}

/** Where a hostile member lives, and what it pretends to hold. */
export interface HostileScene {
  readonly network: MemoryNetwork;
  readonly released: Released;
  readonly random: Random;
}

function lieOf(behaviour: Behaviour, random: Random): Lie {
  switch (behaviour) {
    case "wrong bytes":
      return oneOf(["wrong chunks", "wrong segments"], random);
    case "short and long pieces":
      return "wrong sizes";
    case "swapped items":
      return "swapped items";
    case "claims without content":
      return oneOf(["gone", "silence"], random);
    default:
      return "none";
  }
}

const ignore = () => undefined;
const noAnswer: RegisterAnswer = { peers: [], leases: [], leaseMs: 2_500, retryAfterMs: 1_000 };
const falseAnswers: readonly ((asker: string) => Partial<RegisterAnswer>)[] = [
  () => ({ leases: [{ group: 9_999, from: "origin" }] }),
  (asker) => ({ peers: [asker] }),
  () => ({}),
  () => ({ retryAfterMs: 60_000 }),
  () => ({ leaseMs: 0 }),
  () => ({ peers: Array.from({ length: 512 }, (_, i) => `nobody${i}`) }),
  () => ({ peers: Array.from({ length: 100 }, (_, i) => `nobody${i}`) }),
];

/** It has nothing of what it is asked to join. */
function refuse(frames: Frames, header: Uint8Array): void {
  const asked = decodeSwarm(header);
  if (asked?.kind === "join" || asked?.kind === "take") say(frames, { kind: "gone", number: asked.number, items: [] });
}

const silent = { have: ignore, piece: ignore, busy: ignore, gone: ignore, ended: ignore };

function say(frames: Frames, message: SwarmMessage): void {
  void frames.send(message).catch(ignore);
}
