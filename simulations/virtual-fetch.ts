import { Bitmap } from "../protocol/bitmap.ts";
import type { PeerName } from "../protocol/directory.ts";
import { defaultLinkLimits, type LinkAction, type LinkEvent, Links } from "../protocol/links.ts";
import {
  defaultOriginPlanLimits,
  OriginPlan,
  type OriginPlanAction,
  type OriginPlanEvent,
} from "../protocol/origin-plan.ts";
import type { Transfer, TransferAction, TransferEvent } from "../protocol/transfer.ts";
import type { Happening } from "./event-queue.ts";
import type { VirtualMember } from "./virtual-member.ts";
import type { VirtualPayload } from "./virtual-payload.ts";

/** What a fetch came to. */
export interface FetchOutcome {
  readonly startedMs: number;
  endedMs: number | undefined;
  fault: string | undefined;
  missingItem: number | undefined;
  peerBytes: number;
  originBytes: number;
  surplusBytes: number;
}

/** One payload at one member: the machines of protocol/, and what they say done in the virtual network. */
export class VirtualFetch implements Happening {
  readonly member: VirtualMember;
  readonly payload: VirtualPayload;
  readonly transfer: Transfer;
  readonly plan: OriginPlan;
  readonly links: Links;
  readonly have: Bitmap;
  readonly outcome: FetchOutcome;
  /** Peers that have joined us: they are told what comes in. */
  readonly subscribers: Set<number> = new Set();
  /** Peers that we have joined, or asked to. */
  readonly #joined = new Set<number>();
  /** Asked for and not answered, by peer and item. */
  readonly #asked = new Set<number>();
  readonly #originFlows = new Map<number, () => void>();
  #fresh: number[] = [];
  #toldMs = Number.NEGATIVE_INFINITY;
  #isTelling = false;
  #transferWakes = 0;
  #planWakes = 0;
  #linkWakes = 0;
  #isOver = false;
  readonly #given: readonly number[] | undefined;

  constructor(member: VirtualMember, payload: VirtualPayload) {
    this.member = member;
    this.payload = payload;
    const { world, name, random } = member;
    const startedMs = world.nowMs;
    this.outcome = {
      ...{ startedMs, endedMs: undefined, fault: undefined, missingItem: undefined },
      ...{ peerBytes: 0, originBytes: 0, surplusBytes: 0 },
    };
    this.have = new Bitmap(payload.items);
    const { items, segmentSizesBytes, bytes } = payload;
    const policy = world.policyOf(member);
    this.#given = world.policies.graph?.(world, member.number);
    const origins = policy === "never" || (this.#given?.length ?? 0) > 0 ? [] : ["origin"];
    this.transfer = world.policies.transfer(
      { items, segmentSizesBytes, storedSegments: [], origins, bytes, access: world.policies.access },
      random,
    );
    this.links = new Links(defaultLinkLimits, (peer) => this.transfer.rateOf(peer), random);
    this.plan = new OriginPlan(
      {
        self: name,
        site: String(member.traits.site),
        key: payload.id,
        groups: payload.groups,
        policy,
        holdsSlot: () => true,
        hasStored: (item) => this.transfer.hasStored(item),
        lacks: (first, end) => this.transfer.lacks(first, end),
        seeks: () => this.links.count < defaultLinkLimits.wanted,
        wanters: () => this.links.known(),
      },
      defaultOriginPlanLimits,
      random,
    );
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get isComplete(): boolean {
    return this.have.count === this.payload.items;
  }

  start(): void {
    this.post({ kind: "started" });
    if (this.#given !== undefined) {
      const peers = this.#given.map((peer) => this.member.world.nameOf(peer));
      return this.postLinks({ kind: "offered", peers: this.#placed(peers) });
    }
    const registrars = this.member.world.registrarsFor(this.member, this.payload);
    this.postPlan({ kind: "registrars", members: registrars });
  }

  happen(what: number, about: unknown): void {
    if (!this.member.isUp) return;
    switch (what) {
      case wakeTransfer:
        if (about === this.#transferWakes) this.post({ kind: "woke" });
        return;
      case wakePlan:
        if (about === this.#planWakes) this.postPlan({ kind: "woke" });
        return;
      case wakeLinks:
        if (about === this.#linkWakes) this.postLinks({ kind: "woke" });
        return;
      case describe: {
        const { sizesBytes } = this.payload;
        this.post({ kind: "described", description: { sizesBytes, copiesOf: noCopies, stored: [] } });
        this.postPlan({ kind: "described" });
        return;
      }
      case tell:
        this.#isTelling = false;
        this.#tell();
    }
  }

  post(event: TransferEvent): void {
    if (this.#isOver) return;
    for (const action of this.transfer.step(event, this.member.world.nowMs)) this.#performTransfer(action);
  }

  postPlan(event: OriginPlanEvent): void {
    if (!this.member.world.policies.isPlanned) return;
    for (const action of this.plan.step(event, this.member.world.nowMs)) this.#performPlan(action);
  }

  postLinks(event: LinkEvent): void {
    for (const action of this.links.step(event, this.member.world.nowMs)) this.#performLinks(action);
  }

  /** A peer gives us an item, or something that is not it. */
  piece(from: number, item: number, isRight: boolean): void {
    const { world, standing } = this.member;
    const bytes = this.payload.sizesBytes[item]!;
    if (!this.#asked.delete(this.#key(from, item)) || this.have.has(item)) {
      this.outcome.surplusBytes += bytes;
      return;
    }
    const source = world.nameOf(from);
    if (!isRight) {
      this.outcome.surplusBytes += bytes;
      return this.post({ kind: "corrupt", source, item });
    }
    standing.served(source, bytes);
    this.outcome.peerBytes += bytes;
    this.#store(source, item);
  }

  /** A peer does not answer any more. */
  peerGone(peer: number): void {
    const source = this.member.world.nameOf(peer);
    this.subscribers.delete(peer);
    this.#joined.delete(peer);
    this.post({ kind: "left", source });
    this.postLinks({ kind: "lost", peer: source });
  }

  #key(peer: number, item: number): number {
    return peer * this.payload.items + item;
  }

  #store(source: string, item: number): void {
    this.have.add(item);
    this.#fresh.push(item);
    this.post({ kind: "stored", source, item });
    this.postPlan({ kind: "stored", item });
    this.#tellSoon();
  }

  /** The first news goes at once, what comes soon after waits for more. */
  #tellSoon(): void {
    if (this.#isTelling) return;
    const { world } = this.member;
    const atMs = this.#toldMs + world.policies.haveMs;
    this.#isTelling = true;
    world.events.at(Math.max(world.nowMs, atMs), this, tell);
  }

  #tell(): void {
    const { world, number } = this.member;
    this.#toldMs = world.nowMs;
    const items = this.#fresh;
    this.#fresh = [];
    if (items.length === 0) return;
    world.tellAll(number, this.subscribers, {
      kind: "have",
      payload: this.payload.number,
      items,
      isAll: this.isComplete,
    });
  }

  #performTransfer(action: TransferAction): void {
    const { world, number, standing } = this.member;
    const payload = this.payload.number;
    switch (action.kind) {
      case "ask": {
        if (action.source === "origin") return this.#askOrigin(action.items);
        const peer = world.numberOf(action.source);
        for (const item of action.items) this.#asked.add(this.#key(peer, item));
        return world.tell(number, peer, { kind: "request", payload, items: action.items });
      }
      case "cancel": {
        if (action.source === "origin") {
          for (const item of action.items) this.#originFlows.get(item)?.();
          return;
        }
        const peer = world.numberOf(action.source);
        for (const item of action.items) this.#asked.delete(this.#key(peer, item));
        return world.tell(number, peer, { kind: "cancel", payload, items: action.items });
      }
      case "drop":
        world.tell(number, world.numberOf(action.source), { kind: "part", payload });
        return this.peerGone(world.numberOf(action.source));
      case "strike":
        if (action.source !== "origin" && standing.strike(action.source, action.fault, world.nowMs) !== "good") {
          this.peerGone(world.numberOf(action.source));
        }
        return;
      case "segmentsComplete":
        world.events.at(world.nowMs + describeMs, this, describe);
        return;
      case "complete":
        return this.#end(undefined, undefined);
      case "gaveUp":
        return this.#end(action.fault, action.item);
      case "wakeAt":
        world.events.at(action.atMs, this, wakeTransfer, ++this.#transferWakes);
    }
  }

  #end(fault: string | undefined, item: number | undefined): void {
    this.#isOver = true;
    const { world } = this.member;
    this.outcome.endedMs = world.nowMs;
    this.outcome.fault = fault;
    this.outcome.missingItem = item;
    if (fault === undefined) this.postLinks({ kind: "complete", peer: "self" });
    world.ended(this);
  }

  #askOrigin(items: readonly number[]): void {
    const { world } = this.member;
    for (const item of items) {
      this.#originFlows.set(
        item,
        world.readOrigin(this, item, (isHere) => {
          this.#originFlows.delete(item);
          if (!isHere) return this.post({ kind: "failed", source: "origin", items: [item] });
          const bytes = this.payload.sizesBytes[item]!;
          if (this.have.has(item)) {
            this.outcome.surplusBytes += bytes;
            return;
          }
          this.outcome.originBytes += bytes;
          this.#store("origin", item);
        }),
      );
    }
  }

  #performPlan(action: OriginPlanAction): void {
    const { world, number } = this.member;
    switch (action.kind) {
      case "register":
        return world.tell(number, world.numberOf(action.to), {
          kind: "register",
          payload: this.payload.number,
          question: action.question,
        });
      case "leased":
      case "lapsed":
      case "opened":
        return this.post(action);
      case "peers":
        return this.postLinks({ kind: "offered", peers: this.#placed(action.peers) });
      case "searchNeighbours":
        return this.postLinks({ kind: "offered", peers: this.#placed(world.neighboursOf(this.member)) });
      case "wakeAt":
        world.events.at(action.atMs, this, wakePlan, ++this.#planWakes);
    }
  }

  #placed(peers: readonly PeerName[]) {
    return peers.map((peer) => ({ peer, distance: this.member.distanceTo(this.member.world.numberOf(peer)) }));
  }

  #performLinks(action: LinkAction): void {
    const { world, number } = this.member;
    const payload = this.payload.number;
    switch (action.kind) {
      case "connect":
        return this.#join(world.numberOf(action.peer));
      case "accept": {
        const peer = world.numberOf(action.peer);
        this.subscribers.add(peer);
        world.tell(number, peer, { kind: "joined", payload, have: this.#snapshot() });
        // A link is of use both ways.
        return this.#isOver || this.#joined.has(peer) ? undefined : this.#join(peer);
      }
      case "refuse":
        return world.tell(number, world.numberOf(action.peer), { kind: "refused", payload });
      case "part":
        this.subscribers.delete(world.numberOf(action.peer));
        this.#joined.delete(world.numberOf(action.peer));
        this.post({ kind: "left", source: action.peer });
        return world.tell(number, world.numberOf(action.peer), { kind: "part", payload });
      case "seek":
        return this.postPlan({ kind: "seek" });
      case "wakeAt":
        world.events.at(action.atMs, this, wakeLinks, ++this.#linkWakes);
    }
  }

  #join(peer: number): void {
    const { world, number } = this.member;
    this.#joined.add(peer);
    this.post({ kind: "joining", source: world.nameOf(peer) });
    world.tell(number, peer, { kind: "join", payload: this.payload.number });
  }

  #snapshot(): Bitmap | "all" {
    if (this.isComplete) return "all";
    const copy = new Bitmap(this.payload.items);
    for (let item = 0; item < this.payload.items; item++) if (this.have.has(item)) copy.add(item);
    return copy;
  }
}

const wakeTransfer = 0;
const wakePlan = 1;
const wakeLinks = 2;
const describe = 3;
const tell = 4;
/** Decoding and checking a manifest of a thousand chunks, off the main thread. */
const describeMs = 5;
const noCopies: ReadonlyMap<number, readonly number[]> = new Map();
