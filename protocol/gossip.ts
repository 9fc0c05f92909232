import {
  type Announcement,
  type Head,
  type Holding,
  haveDigest,
  type PackedHoldings,
  type PeerLabels,
  type Signed,
  unpackHoldings,
} from "./announcement.ts";
import type { Directory, PeerName } from "./directory.ts";
import { writeHeads, writeParts } from "./directory-writer.ts";
import { asksMax, compareEveryMs, comparesMax, gapDelayMsMax, graceMs, oldNewsMs } from "./gossip-limits.ts";
import type { Hasher } from "./hash.ts";
import type { DirectoryFrame } from "./messages.ts";
import { MissingLists } from "./missing-lists.ts";
import { Neighbours } from "./neighbours.ts";
import { OwnAnnouncements } from "./own-announcements.ts";
import { type Random, randomBelow } from "./random.ts";

export type GossipEvent =
  /** The first event. `epoch` is later than any that this node ever announced: `max(stored + 1, now)`. */
  | {
      readonly kind: "started";
      readonly labels: PeerLabels;
      readonly epoch: number;
      readonly whole: readonly Holding[];
    }
  /** All that this node holds now; of more than `holdingsPerPeerMax` the first count. */
  | { readonly kind: "holdings"; readonly whole: readonly Holding[] }
  /** Own addresses or labels changed. */
  | { readonly kind: "labels"; readonly labels: PeerLabels }
  /** An own announcement, signed as `announce` asked. */
  | { readonly kind: "signed"; readonly signed: Signed }
  /** An announcement came by gossip; `from` is the neighbour that sent it on. */
  | { readonly kind: "received"; readonly from: PeerName; readonly signed: Signed }
  /** A part of the answer to `askHeads`. */
  | { readonly kind: "heads"; readonly from: PeerName; readonly heads: readonly Head[] }
  /** A part of the answer to `askParts`: the head of a peer and its list, as `PartsReader` gives it. */
  | { readonly kind: "part"; readonly from: PeerName; readonly head: Head; readonly whole: PackedHoldings }
  /** The ask that was in flight at this peer is over: fully answered (its `end` came), or not. */
  | { readonly kind: "answered"; readonly from: PeerName }
  | { readonly kind: "failed"; readonly from: PeerName }
  /** A neighbour: connected and let in; it can be asked. */
  | { readonly kind: "joined"; readonly peer: PeerName }
  | { readonly kind: "left"; readonly peer: PeerName }
  /** The last `wakeAt` has come, or nearly. */
  | { readonly kind: "woke" }
  /** The last event: says goodbye. */
  | { readonly kind: "stopping" };

export type GossipAction =
  /** Store its epoch if that is later than the stored one, sign it, publish it, and give it back as `signed`. */
  | { readonly kind: "announce"; readonly announcement: Announcement }
  /** Send `want-heads` with `known` as its body; one ask is in flight at a peer at a time. */
  | { readonly kind: "askHeads"; readonly peer: PeerName; readonly known: Uint8Array }
  /** Send `want-parts` of these peers. */
  | { readonly kind: "askParts"; readonly peer: PeerName; readonly parts: readonly PeerName[] }
  /** The peer holds more than was known: these, or so many that `Directory.holds` is to be asked for what matters. */
  | { readonly kind: "learnt"; readonly peer: PeerName; readonly added: readonly Holding[] | "many" }
  /** The peer gave a list that is nobody's: it is not asked for any more of them. */
  | { readonly kind: "lied"; readonly peer: PeerName }
  /** The directory knows nothing of the peer any more. */
  | { readonly kind: "forgot"; readonly peer: PeerName }
  /** In place of the one before. */
  | { readonly kind: "wakeAt"; readonly atMs: number };

export interface GossipParts {
  readonly network: string;
  /** This node. */
  readonly self: PeerName;
  /** Learns what is heard; nobody else may change it. */
  readonly directory: Directory;
  readonly hash: Hasher;
  readonly random: Random;
}

/**
 * When to announce what, what to believe of others, and whom to ask for what is missing. A head that comes is kept if it
 * is later than what is known; its list follows from its changes, or is asked for. Heads are compared with new
 * neighbours and, now and then, with any: what gossip lost, or a partition kept away, is found so.
 */
export class Gossip {
  readonly #parts: GossipParts;
  readonly #directory: Directory;
  readonly #own: OwnAnnouncements;
  readonly #missing: MissingLists;
  readonly #neighbours = new Neighbours();
  /** Neighbours with whom heads are to be compared: in any case, or only while they themselves are not known. */
  readonly #toCompare = new Map<PeerName, "always" | "if unknown">();
  #compareAtMs = Number.POSITIVE_INFINITY;
  /** No head expires before this. */
  #expiryAtMs = Number.POSITIVE_INFINITY;
  /** Neighbours that are asked because they would have expired. */
  readonly #inGrace = new Set<PeerName>();
  #phase: "new" | "running" | "over" = "new";
  #wakeAtMs = Number.POSITIVE_INFINITY;

  constructor(parts: GossipParts) {
    this.#parts = parts;
    this.#directory = parts.directory;
    this.#own = new OwnAnnouncements(parts);
    this.#missing = new MissingLists(parts.random);
  }

  /** Takes in one event and gives back everything to do about it; nothing before it has started. */
  step(event: GossipEvent, nowMs: number): GossipAction[] {
    if (this.#phase === "over") return [];
    const actions = this.#take(event, nowMs);
    if (this.#phase !== "running") return actions;
    this.#expire(nowMs, actions);
    const due = this.#own.due(this.#peers(), nowMs);
    if (due !== undefined) actions.push({ kind: "announce", announcement: due });
    // Asks that are not over in time have failed.
    for (const peer of this.#neighbours.overdue(nowMs)) this.#askOver(peer, false, nowMs);
    this.#compare(nowMs, actions);
    this.#askParts(nowMs, actions);
    this.#watch(event, actions);
    return actions;
  }

  /** The answer to `want-heads`: our own head and all others that the asker has not. Frames are made as they are taken. */
  answerHeads(known: Uint8Array, nowMs: number): Iterable<DirectoryFrame> {
    return writeHeads(this.#headsBeyond(known, nowMs));
  }

  /** The answer to `want-parts`: of those peers whose list is known. Frames are made as they are taken. */
  answerParts(peers: readonly PeerName[], nowMs: number): Iterable<DirectoryFrame> {
    return writeParts(this.#partsOf(peers, nowMs), this.#parts.random);
  }

  #take(event: GossipEvent, nowMs: number): GossipAction[] {
    const actions: GossipAction[] = [];
    switch (event.kind) {
      case "started": {
        this.#phase = "running";
        const { labels, epoch, whole } = event;
        actions.push({ kind: "announce", announcement: this.#own.start(labels, epoch, whole, this.#peers(), nowMs) });
        this.#compareLater(nowMs);
        break;
      }
      case "holdings":
        this.#own.holdings(event.whole, nowMs);
        break;
      case "labels":
        this.#own.labels(event.labels, nowMs);
        break;
      case "signed":
        this.#own.signed(event.signed);
        break;
      case "received": {
        const { signed, from } = event;
        const delayMs = this.#parts.random() * gapDelayMsMax(this.#peers());
        this.#hear({ signed, remainingMs: signed.announcement.lifetimeMs }, from, nowMs + delayMs, nowMs, actions);
        break;
      }
      case "heads":
        for (const head of event.heads) this.#hearHead(head, event.from, nowMs, actions);
        break;
      case "part":
        this.#hear(event.head, event.from, nowMs, nowMs, actions);
        this.#takeList(event, actions);
        break;
      case "answered":
        this.#askOver(event.from, true, nowMs);
        break;
      case "failed":
        this.#askOver(event.from, false, nowMs);
        break;
      case "joined":
        this.#meet(event.peer, nowMs);
        break;
      case "left":
        this.#askOver(event.peer, false, nowMs);
        this.#neighbours.leave(event.peer);
        this.#toCompare.delete(event.peer);
        break;
      case "stopping":
        if (this.#phase === "running") actions.push({ kind: "announce", announcement: this.#own.goodbye() });
        this.#phase = "over";
        break;
      case "woke":
        break;
    }
    return actions;
  }

  /** A new neighbour: the first ones know what happened elsewhere, each knows at least itself. */
  #meet(peer: PeerName, nowMs: number): void {
    if (this.#neighbours.size === 0 && this.#phase === "running") this.#own.metSomebody(this.#peers(), nowMs);
    this.#neighbours.join(peer);
    const isEnough = this.#toCompare.size + this.#neighbours.inFlight("heads") >= comparesMax;
    this.#toCompare.set(peer, isEnough ? "if unknown" : "always");
    this.#missing.retry(nowMs);
  }

  /** A head that a comparison brought. What gossip should have brought long ago says that more is missing. */
  #hearHead(head: Head, from: PeerName, nowMs: number, actions: GossipAction[]): void {
    const { announcement } = head.signed;
    const isNew = this.#hear(head, from, nowMs, nowMs, actions);
    const ask = this.#neighbours.askOf(from);
    const isOld = announcement.lifetimeMs - head.remainingMs > oldNewsMs;
    if (isNew && isOld && ask !== undefined) ask.broughtOldNews = true;
  }

  /** Takes in a head; its list, if it is missing, is asked for from `askAtMs` on. Answers whether it was later. */
  #hear(head: Head, from: PeerName, askAtMs: number, nowMs: number, actions: GossipAction[]): boolean {
    const { announcement } = head.signed;
    const { peer, network, count } = announcement;
    if (network !== this.#parts.network || this.#phase !== "running") return false;
    if (peer === this.#parts.self) {
      this.#own.heard(announcement, nowMs);
      return false;
    }
    const wasKnown = this.#directory.has(peer);
    const learnt = this.#directory.learn(head.signed, head.remainingMs, nowMs);
    switch (learnt.kind) {
      case "stale":
        // Whoever tells of a head whose list we miss may have the list.
        if (this.#missing.has(peer)) this.#missing.add(peer, from, askAtMs);
        return false;
      case "gone":
        this.#missing.settle(peer);
        this.#inGrace.delete(peer);
        if (wasKnown) actions.push({ kind: "forgot", peer });
        return true;
      case "gap":
        if (this.#directory.hasRoomFor(count)) this.#missing.add(peer, from, askAtMs);
        break;
      case "current":
        this.#missing.settle(peer);
        if (learnt.added.length > 0) actions.push({ kind: "learnt", peer, added: [...unpackHoldings(learnt.added)] });
        break;
    }
    this.#inGrace.delete(peer);
    this.#expiryAtMs = Math.min(this.#expiryAtMs, nowMs + Math.min(head.remainingMs, announcement.lifetimeMs));
    return true;
  }

  #takeList({ from, head, whole }: PartEvent, actions: GossipAction[]): void {
    const { peer, digest, network } = head.signed.announcement;
    if (network !== this.#parts.network || this.#phase !== "running" || this.#directory.isCurrent(peer)) return;
    switch (this.#directory.learnList(peer, whole)) {
      case "learnt":
        this.#missing.settle(peer);
        actions.push({ kind: "learnt", peer, added: "many" });
        break;
      case "crowded":
        this.#missing.settle(peer);
        break;
      case "false":
        // It may be the right one for an older head; if not even that, its source lies.
        if (haveDigest(whole, digest, this.#parts.hash)) break;
        this.#neighbours.hasLied(from);
        actions.push({ kind: "lied", peer: from });
        break;
      case "unknown":
        break;
    }
  }

  #askOver(peer: PeerName, wasAnswered: boolean, nowMs: number): void {
    const ask = this.#neighbours.over(peer);
    if (ask === undefined) return;
    this.#missing.retry(nowMs);
    if (ask.kind === "parts") this.#missing.over(peer, nowMs);
    else if (!wasAnswered || ask.broughtOldNews) this.#compareSoon(nowMs);
  }

  /** Heads that count no longer are forgotten; of a neighbour only if it does not say otherwise. */
  #expire(nowMs: number, actions: GossipAction[]): void {
    if (nowMs < this.#expiryAtMs) return;
    for (const peer of this.#directory.expired(nowMs)) {
      if (this.#neighbours.has(peer) && !this.#inGrace.has(peer)) {
        this.#inGrace.add(peer);
        this.#toCompare.set(peer, "always");
        this.#directory.extend(peer, nowMs + graceMs);
        continue;
      }
      this.#inGrace.delete(peer);
      this.#missing.settle(peer);
      this.#directory.forget(peer, nowMs);
      actions.push({ kind: "forgot", peer });
    }
    this.#expiryAtMs = this.#directory.nextExpiryMs();
  }

  #compare(nowMs: number, actions: GossipAction[]): void {
    if (nowMs >= this.#compareAtMs) {
      this.#compareLater(nowMs);
      const free = this.#neighbours.free();
      if (free.length > 0) this.#toCompare.set(free[randomBelow(free.length, this.#parts.random)]!, "always");
    }
    for (const [peer, when] of this.#toCompare) {
      if (this.#neighbours.askOf(peer) !== undefined) continue;
      if (this.#neighbours.inFlight("heads") >= comparesMax) return;
      this.#toCompare.delete(peer);
      if (!this.#neighbours.has(peer) || (when === "if unknown" && this.#directory.has(peer))) continue;
      this.#neighbours.ask(peer, "heads", nowMs);
      actions.push({ kind: "askHeads", peer, known: this.#directory.known() });
    }
  }

  #askParts(nowMs: number, actions: GossipAction[]): void {
    if (nowMs < this.#partsAtMs()) return;
    const isBusy = (peer: PeerName) => this.#neighbours.askOf(peer) !== undefined;
    const room = asksMax - this.#neighbours.inFlight("parts");
    for (const { source, peers } of this.#missing.assign(this.#neighbours.trusted(), isBusy, room, nowMs)) {
      this.#neighbours.ask(source, "parts", nowMs);
      actions.push({ kind: "askParts", peer: source, parts: peers });
    }
  }

  /** When lists may be asked for: while heads are compared only after a while. */
  #partsAtMs(): number {
    return Math.max(this.#missing.nextAtMs, this.#neighbours.comparingUntilMs());
  }

  #watch(event: GossipEvent, actions: GossipAction[]): void {
    const asksAtMs = Math.min(this.#partsAtMs(), this.#neighbours.nextOverdueMs());
    const atMs = Math.min(this.#own.nextAtMs, this.#expiryAtMs, asksAtMs, this.#compareAtMs);
    if (event.kind !== "woke" && atMs === this.#wakeAtMs) return;
    this.#wakeAtMs = atMs;
    actions.push({ kind: "wakeAt", atMs });
  }

  #compareLater(nowMs: number): void {
    this.#compareAtMs = nowMs + compareEveryMs(this.#peers()) * (0.75 + 0.5 * this.#parts.random());
  }

  #compareSoon(nowMs: number): void {
    this.#compareAtMs = Math.min(this.#compareAtMs, nowMs + 1_000 + 2_000 * this.#parts.random());
  }

  *#headsBeyond(known: Uint8Array, nowMs: number): Generator<Head> {
    const own = this.#own.part(nowMs);
    if (own !== undefined) yield own.head;
    yield* this.#directory.headsBeyond(known, nowMs);
  }

  *#partsOf(peers: readonly PeerName[], nowMs: number): Generator<{ head: Head; whole: PackedHoldings }> {
    for (const peer of peers) {
      const head = this.#directory.head(peer, nowMs);
      const whole = this.#directory.holdings(peer);
      const own = peer === this.#parts.self ? this.#own.part(nowMs) : undefined;
      if (own !== undefined) yield own;
      else if (head !== undefined && head.remainingMs > 0 && whole !== undefined) yield { head, whole };
    }
  }

  /** This node included. */
  #peers(): number {
    return this.#directory.size + 1;
  }
}

type PartEvent = Extract<GossipEvent, { kind: "part" }>;
