import { encodeAnnouncement, type Holding, type PeerLabels, type Signed } from "../protocol/announcement.ts";
import { Directory, type PeerName } from "../protocol/directory.ts";
import { type DirectoryRead, DirectoryReader } from "../protocol/directory-reader.ts";
import { Gossip, type GossipAction, type GossipEvent } from "../protocol/gossip.ts";
import type { DirectoryFrame } from "../protocol/messages.ts";
import { type Random, seededRandom } from "../protocol/random.ts";
import { toyHash } from "./toy-hash.ts";
import type { VirtualClock } from "./virtual-clock.ts";
import { envelopeOverheadBytes } from "./wire-sizes.ts";

export const network = "studio";

/** What a member needs of the network around it. */
export interface GossipSurroundings {
  readonly clock: VirtualClock;
  publish(from: GossipMember, signed: Signed): void;
  ask(from: GossipMember, action: Extract<GossipAction, { kind: "askHeads" | "askParts" }>): void;
  /** A member has learnt, or forgotten, of a peer. */
  noticed(member: GossipMember, action: Extract<GossipAction, { kind: "learnt" | "forgot" }>): void;
}

/** What a member said before the time that is simulated. */
export interface FirstWord {
  readonly held: readonly Holding[];
  readonly signed: Signed;
  readonly atMs: number;
}

/** A node of a simulated network, as far as announcements go: the very `Gossip` and `Directory` of nodes. */
export class GossipMember {
  readonly index: number;
  readonly name: PeerName;
  readonly directory: Directory;
  readonly #surroundings: GossipSurroundings;
  readonly #gossip: Gossip;
  #wakeAtMs = Number.POSITIVE_INFINITY;
  isRunning = false;
  /** What it truly holds. */
  held: readonly Holding[] = [];

  constructor(index: number, seed: number, surroundings: GossipSurroundings) {
    this.index = index;
    this.name = nameOf(index);
    this.#surroundings = surroundings;
    const random: Random = seededRandom(seed + 7919 * (index + 1));
    this.directory = new Directory({ hash: toyHash, random });
    this.#gossip = new Gossip({ network, self: this.name, directory: this.directory, hash: toyHash, random });
  }

  start(epoch: number, whole: readonly Holding[]): void {
    this.isRunning = true;
    this.held = whole;
    this.take({ kind: "started", labels: labelsOf(this.index), epoch, whole });
  }

  /** Has been running since an earlier time: it has neighbours, and all know its first announcement. */
  startedBefore({ held, signed, atMs }: FirstWord, neighbours: readonly PeerName[]): void {
    this.isRunning = true;
    this.held = held;
    for (const peer of neighbours) this.#gossip.step({ kind: "joined", peer }, atMs);
    const { epoch } = signed.announcement;
    const actions = this.#gossip.step({ kind: "started", labels: labelsOf(this.index), epoch, whole: held }, atMs);
    this.#gossip.step({ kind: "signed", signed }, atMs);
    for (const action of actions) {
      // What it asked then was answered, and brought nothing new.
      if (action.kind === "askHeads") actions.push(...this.#gossip.step({ kind: "answered", from: action.peer }, atMs));
      if (action.kind === "wakeAt") this.#perform(action);
    }
  }

  take(event: GossipEvent): void {
    if (!this.isRunning) return;
    for (const action of this.#gossip.step(event, this.#surroundings.clock.nowMs)) this.#perform(action);
  }

  hold(whole: readonly Holding[]): void {
    this.held = whole;
    this.take({ kind: "holdings", whole });
  }

  /** It says goodbye and ends. */
  stop(): void {
    this.take({ kind: "stopping" });
    this.kill();
  }

  /** It ends without a word. */
  kill(): void {
    this.isRunning = false;
    this.#wakeAtMs = Number.POSITIVE_INFINITY;
  }

  answerHeads(known: Uint8Array): Iterable<DirectoryFrame> {
    return this.#gossip.answerHeads(known, this.#surroundings.clock.nowMs);
  }

  answerParts(peers: readonly PeerName[]): Iterable<DirectoryFrame> {
    return this.#gossip.answerParts(peers, this.#surroundings.clock.nowMs);
  }

  /** Takes in what another member answered. */
  read(from: PeerName, frames: readonly DirectoryFrame[], open: (envelope: Uint8Array) => Signed): void {
    const reader = new DirectoryReader();
    for (const { message, body } of frames) this.#hear(from, reader.read(message, body), open);
  }

  #hear(from: PeerName, read: DirectoryRead, open: (envelope: Uint8Array) => Signed): void {
    switch (read.kind) {
      case "heads": {
        const heads = read.heads.map(({ envelope, remainingMs }) => ({ signed: open(envelope), remainingMs }));
        this.take({ kind: "heads", from, heads });
        break;
      }
      case "part": {
        const { envelope, remainingMs } = read.head;
        this.take({ kind: "part", from, head: { signed: open(envelope), remainingMs }, whole: read.whole });
        break;
      }
      case "end":
        this.take({ kind: "answered", from });
        break;
      case "pairs":
        break;
    }
  }

  #perform(action: GossipAction): void {
    switch (action.kind) {
      case "announce": {
        const signed = seal(action.announcement);
        this.#surroundings.publish(this, signed);
        this.take({ kind: "signed", signed });
        break;
      }
      case "askHeads":
      case "askParts":
        this.#surroundings.ask(this, action);
        break;
      case "wakeAt":
        this.#wakeAt(action.atMs);
        break;
      case "learnt":
      case "forgot":
        this.#surroundings.noticed(this, action);
        break;
    }
  }

  #wakeAt(atMs: number): void {
    this.#wakeAtMs = atMs;
    if (atMs === Number.POSITIVE_INFINITY) return;
    this.#surroundings.clock.at(atMs, () => {
      if (this.#wakeAtMs !== atMs) return;
      this.#wakeAtMs = Number.POSITIVE_INFINITY;
      this.take({ kind: "woke" });
    });
  }
}

export function nameOf(index: number): PeerName {
  return `${namePrefix}${String(index).padStart(indexDigits, "0")}`;
}

/** With its index a name is as long as a libp2p peer id. */
const namePrefix = `12D3KooW${"x".repeat(38)}`;
export const indexDigits = 6;

export function labelsOf(index: number): PeerLabels {
  const address = `/ip4/10.${index >> 16}.${(index >> 8) & 255}.${index & 255}/tcp/40123`;
  return { addresses: [address], name: `ws-${String(index).padStart(5, "0")}`, site: "hq", rack: `r${index % 64}` };
}

/** An announcement in an envelope of the right size; nobody simulates signatures. */
export function seal(announcement: Signed["announcement"]): Signed {
  const bytes = encodeAnnouncement(announcement);
  const envelope = new Uint8Array(bytes.length + envelopeOverheadBytes);
  envelope.set(bytes);
  return { announcement, envelope };
}
