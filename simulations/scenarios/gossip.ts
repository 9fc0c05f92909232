import {
  type Announcement,
  digestHoldings,
  type Holding,
  type PackedHoldings,
  packHoldings,
} from "../../protocol/announcement.ts";
import { heartbeatMs, lifetimeMs } from "../../protocol/gossip-limits.ts";
import { hashFromBytes } from "../../protocol/hash.ts";
import { type Random, randomBelow, seededRandom } from "../../protocol/random.ts";
import { findLies } from "../checkers.ts";
import { type FirstWord, labelsOf, nameOf, network as networkName, seal } from "../gossip-member.ts";
import { GossipNetwork } from "../gossip-network.ts";
import { percentile, type Report } from "../report.ts";
import { toyHash } from "../toy-hash.ts";
import { VirtualClock } from "../virtual-clock.ts";

export interface GossipOptions {
  readonly nodes: number;
  readonly seed: number;
}

/**
 * A network in its steady state: all know of all, heartbeats are spread over time, and now and then a node places or
 * removes a variant. Then one change is watched on its way, the network is cut in half and healed, and a node joins.
 */
export function simulateGossip({ nodes, seed }: GossipOptions): Report {
  const scene = new Scene(nodes, seed);
  const steady = scene.measureSteadyState();
  const change = scene.watchChange();
  const cut = scene.cutAndHeal();
  const joiner = scene.join();
  scene.quieten();
  const lies = findLies(scene.network);
  return {
    scenario: "gossip",
    nodes,
    seed,
    ...steady,
    ...change,
    ...cut,
    ...joiner,
    wrongDirectoryEntries: lies.length,
  };
}

class Scene {
  readonly network: GossipNetwork;
  readonly #clock = new VirtualClock();
  readonly #random: Random;
  readonly #nodes: number;
  #changesUntilMs = Number.POSITIVE_INFINITY;

  constructor(nodes: number, seed: number) {
    this.#nodes = nodes;
    this.#random = seededRandom(seed);
    // One more, who joins later.
    this.network = new GossipNetwork({ members: nodes + 1, seed }, this.#clock, this.#random);
    this.#clock.run(heartbeatMs(nodes));
    this.#settle();
    for (let index = 0; index < nodes; index++) this.#changeLater(index);
  }

  /** What members send and receive while nothing but small changes happens. */
  measureSteadyState(): Report {
    const { network } = this;
    this.#clock.run(this.#clock.nowMs + warmUpMs);
    network.resetTraffic();
    this.#clock.run(this.#clock.nowMs + steadyMs);
    const { announcements, ids, directory, received } = network.traffic;
    const perSecond = (bytes: ArrayLike<number>) =>
      Array.from({ length: this.#nodes }, (_, index) => (bytes[index]! * 1_000) / steadyMs);
    const sent = perSecond(announcements.map((bytes, index) => bytes + ids[index]! + directory[index]!));
    return {
      steadySeconds: steadyMs / 1_000,
      sentBytesPerSecondMean: mean(sent),
      sentBytesPerSecondP99: Math.round(percentile(sent, 0.99)),
      sentBytesPerSecondMax: Math.round(percentile(sent, 1)),
      ofThisAnnouncements: mean(perSecond(announcements)),
      ofThisIds: mean(perSecond(ids)),
      ofThisDirectory: mean(perSecond(directory)),
      receivedBytesPerSecondMean: mean(perSecond(received)),
      receivedBytesPerSecondMax: Math.round(percentile(perSecond(received), 1)),
    };
  }

  /** How long until all know that one placed a variant. */
  watchChange(): Report {
    const { network } = this;
    const source = network.members[0]!;
    const startedMs = this.#clock.nowMs;
    const heardMs: number[] = [];
    network.onNotice = (_, notice) => {
      if (notice.kind === "learnt" && notice.peer === source.name) heardMs.push(this.#clock.nowMs - startedMs);
    };
    source.hold([...source.held, variantOf(variants)]);
    this.#clock.run(startedMs + watchMs);
    network.onNotice = () => undefined;
    return {
      changeKnownBy: heardMs.length,
      changeKnownMsP50: percentile(heardMs, 0.5),
      changeKnownMsMax: percentile(heardMs, 1),
    };
  }

  /** Two halves that do not hear of each other for a while, and how long until both know what each missed. */
  cutAndHeal(): Report {
    const { network } = this;
    network.cut((a, b) => a % 2 !== b % 2);
    this.#clock.run(this.#clock.nowMs + cutMs);
    const newest = this.#heads();
    network.heal();
    network.resetTraffic();
    const healedMs = this.#clock.nowMs;
    const behind = new Set(Array.from({ length: this.#nodes }, (_, index) => index));
    while (behind.size > 0 && this.#clock.nowMs < healedMs + healMsMax) {
      this.#clock.run(this.#clock.nowMs + healStepMs);
      for (const index of behind) if (this.#knows(index, newest)) behind.delete(index);
    }
    const { directory } = network.traffic;
    return {
      cutSeconds: cutMs / 1_000,
      healedSeconds: (this.#clock.nowMs - healedMs) / 1_000,
      stillBehind: behind.size,
      healingDirectoryBytesMean: mean([...directory].slice(0, this.#nodes)),
    };
  }

  /** What it takes a new node to know all. */
  join(): Report {
    const { network } = this;
    const index = this.#nodes;
    const newest = this.#heads();
    network.resetTraffic();
    const startedMs = this.#clock.nowMs;
    network.members[index]!.start(startedMs, [variantOf(1)]);
    network.meet(index);
    while (!this.#knows(index, newest) && this.#clock.nowMs < startedMs + healMsMax) {
      this.#clock.run(this.#clock.nowMs + joinStepMs);
    }
    const received = network.traffic.received[index]!;
    return { joinerSeconds: (this.#clock.nowMs - startedMs) / 1_000, joinerReceivedBytes: Math.round(received) };
  }

  /** Nothing changes any more, and what was said has time to arrive. */
  quieten(): void {
    this.#changesUntilMs = this.#clock.nowMs;
    this.#clock.run(this.#clock.nowMs + quietMs);
  }

  /** All have announced themselves, each at some time in the last heartbeat, and all have heard it. */
  #settle(): void {
    const nowMs = this.#clock.nowMs;
    const said = Array.from({ length: this.#nodes }, (_, index) => this.#firstWord(index, nowMs));
    for (const member of this.network.members.slice(0, this.#nodes)) {
      for (const [index, { signed, whole, atMs }] of said.entries()) {
        if (index === member.index) continue;
        member.directory.learn(signed, signed.announcement.lifetimeMs, atMs);
        member.directory.learnList(signed.announcement.peer, whole);
      }
      const neighbours = this.network.neighboursOf(member.index).filter((peer) => peer !== nameOf(this.#nodes));
      member.startedBefore(said[member.index]!, neighbours);
    }
  }

  #firstWord(index: number, nowMs: number): FirstWord & { readonly whole: PackedHoldings } {
    const held = Array.from({ length: heldAtFirst }, () => variantOf(randomBelow(variants, this.#random)));
    const whole = packHoldings(held);
    const announcement: Announcement = {
      ...{ version: 1, network: networkName, peer: nameOf(index), ...labelsOf(index), epoch: 1, sequence: 0 },
      ...{ lifetimeMs: lifetimeMs(this.#nodes), count: whole.length / 64, digest: digestHoldings(whole, toyHash) },
    };
    const atMs = nowMs - Math.floor(this.#random() * heartbeatMs(this.#nodes) * 0.9);
    return { held, whole, signed: seal(announcement), atMs };
  }

  /** A member places a variant, or removes one, after a time that nobody knows. */
  #changeLater(index: number): void {
    const waitMs = -Math.log(1 - this.#random()) * changeEveryMs;
    this.#clock.at(this.#clock.nowMs + waitMs, () => {
      if (this.#clock.nowMs >= this.#changesUntilMs) return;
      const member = this.network.members[index]!;
      const removes = member.held.length > heldAtFirst;
      const added = variantOf(randomBelow(variants, this.#random));
      member.hold(removes ? member.held.slice(1) : [...member.held, added]);
      this.#changeLater(index);
    });
  }

  /** The newest announcement of each member that any of its neighbours could know. */
  #heads(): Map<string, Announcement> {
    const heads = new Map<string, Announcement>();
    for (const { directory } of this.network.members.slice(0, 2)) {
      for (const peer of directory.peers()) {
        const announcement = directory.head(peer, this.#clock.nowMs)!.signed.announcement;
        const known = heads.get(peer);
        const isNewer = known === undefined || known.epoch < announcement.epoch;
        if (isNewer || known.sequence < announcement.sequence) heads.set(peer, announcement);
      }
    }
    return heads;
  }

  /** Whether a member knows all these announcements or later ones, and the lists that they are of. */
  #knows(index: number, heads: Map<string, Announcement>): boolean {
    const { directory, name } = this.network.members[index]!;
    for (const [peer, { epoch, sequence }] of heads) {
      if (peer === name) continue;
      const known = directory.head(peer, this.#clock.nowMs)?.signed.announcement;
      const isLater =
        known !== undefined && (known.epoch > epoch || (known.epoch === epoch && known.sequence >= sequence));
      if (!isLater || !directory.isCurrent(peer)) return false;
    }
    return true;
  }
}

/** Lists are short here, so that thousands of directories fit in memory: heads and changes have the same size as ever. */
const heldAtFirst = 4;
const variants = 500;
/** A machine places or removes 20 variants in a working day of eight hours. */
const changeEveryMs = (8 * 3_600_000) / 20;
const warmUpMs = 5_000;
const steadyMs = 60_000;
const watchMs = 10_000;
const cutMs = 60_000;
const healMsMax = 600_000;
const healStepMs = 500;
const joinStepMs = 10;
/** Up to 230 nodes all compare heads with some neighbour in this time. */
const quietMs = 15_000;

function variantOf(number: number): Holding {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, Math.imul(number + 1, 0x9e3779b9));
  return [hashFromBytes<"variant">(bytes), hashFromBytes<"payload">(bytes)];
}

function mean(values: readonly number[]): number {
  return Math.round(values.reduce((sum, value) => sum + value, 0) / values.length);
}
