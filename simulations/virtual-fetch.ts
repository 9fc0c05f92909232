import { Bitmap } from "../protocol/bitmap.ts";
import { PayloadFetch, type PayloadFetchAction, type PayloadFetchEvent } from "../protocol/payload-fetch.ts";
import type { Fault } from "../protocol/standing.ts";
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

/** One payload at one member: the machine of protocol/, and what it says done in the virtual network. */
export class VirtualFetch implements Happening {
  readonly member: VirtualMember;
  readonly payload: VirtualPayload;
  readonly machine: PayloadFetch;
  readonly have: Bitmap;
  readonly outcome: FetchOutcome;
  /** Peers that have joined us: they are told what comes in. */
  readonly subscribers: Set<number> = new Set();
  /** Asked for and not answered, by peer and item. */
  readonly #asked = new Set<number>();
  readonly #originFlows = new Map<number, () => void>();
  #fresh: number[] = [];
  #toldMs = Number.NEGATIVE_INFINITY;
  #isTelling = false;
  #wakes = 0;
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
    const { transfer, access } = world.policies;
    const hasGivenSince = (peer: string, sinceMs: number) => member.standing.hasServedSince(peer, sinceMs);
    this.machine = new PayloadFetch(
      {
        self: name,
        site: String(member.traits.site),
        key: payload.id,
        groups: payload.groups,
        policy,
        holdsSlot: () => true,
        distanceTo: (peer) => member.distanceTo(world.numberOf(peer)),
        transfer: transfer(
          { items, segmentSizesBytes, storedSegments: [], origins, bytes, access, hasGivenSince },
          random,
        ),
      },
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
    const { world } = this.member;
    this.post({ kind: "started" });
    if (this.#given !== undefined) {
      return this.post({ kind: "offered", peers: this.#given.map((peer) => world.nameOf(peer)) });
    }
    if (!world.policies.isPlanned) return;
    this.post({ kind: "registrars", members: world.registrarsFor(this.member, this.payload) });
  }

  happen(what: number, about: unknown): void {
    if (!this.member.isUp) return;
    switch (what) {
      case wake:
        if (about === this.#wakes) this.post({ kind: "woke" });
        return;
      case describe: {
        const { sizesBytes } = this.payload;
        return this.post({ kind: "described", description: { sizesBytes, copiesOf: noCopies, stored: [] } });
      }
      case tell:
        this.#isTelling = false;
        this.#tell();
    }
  }

  post(event: PayloadFetchEvent): void {
    for (const action of this.machine.step(event, this.member.world.nowMs)) this.#perform(action);
  }

  /** A peer gives us an item, or something that is not it. */
  piece(from: number, item: number, isRight: boolean): void {
    const { world, standing } = this.member;
    const bytes = this.payload.sizesBytes[item]!;
    const wasAsked = this.#asked.delete(this.#key(from, item));
    const source = world.nameOf(from);
    if (!wasAsked || this.have.has(item)) {
      this.outcome.surplusBytes += bytes;
      // It comes late, and shows that its giver gives.
      if (wasAsked && isRight) this.post({ kind: "stored", source, item });
      return;
    }
    if (!isRight) {
      this.outcome.surplusBytes += bytes;
      return this.post({ kind: "corrupt", source, item });
    }
    standing.served(source, bytes, world.nowMs);
    this.outcome.peerBytes += bytes;
    this.#store(source, item);
  }

  /** A peer does not answer any more. */
  peerGone(peer: number): void {
    this.subscribers.delete(peer);
    this.post({ kind: "left", source: this.member.world.nameOf(peer) });
  }

  #key(peer: number, item: number): number {
    return peer * this.payload.items + item;
  }

  #store(source: string, item: number): void {
    this.have.add(item);
    this.#fresh.push(item);
    this.post({ kind: "stored", source, item });
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

  #perform(action: PayloadFetchAction): void {
    const { world, number } = this.member;
    const payload = this.payload.number;
    switch (action.kind) {
      case "ask":
        return this.#ask(action.source, action.items);
      case "cancel":
        return this.#cancel(action.source, action.items);
      case "strike":
        return this.#strike(action.source, action.fault);
      case "segmentsComplete":
        world.events.at(world.nowMs + describeMs, this, describe);
        return;
      case "complete":
        return this.#end(undefined, undefined);
      case "gaveUp":
        return this.#end(action.fault, action.item);
      case "register":
        return world.tell(number, world.numberOf(action.to), { kind: "register", payload, question: action.question });
      case "join":
        return world.tell(number, world.numberOf(action.peer), { kind: "join", payload });
      case "accept":
        this.subscribers.add(world.numberOf(action.peer));
        return world.tell(number, world.numberOf(action.peer), { kind: "joined", payload, have: this.#snapshot() });
      case "refuse":
        return world.tell(number, world.numberOf(action.peer), { kind: "refused", payload });
      case "part":
        this.subscribers.delete(world.numberOf(action.peer));
        return world.tell(number, world.numberOf(action.peer), { kind: "part", payload });
      case "searchNeighbours":
        return this.post({ kind: "offered", peers: world.neighboursOf(this.member) });
      case "wakeAt":
        world.events.at(action.atMs, this, wake, ++this.#wakes);
    }
  }

  #strike(source: string, fault: Fault): void {
    if (source === "origin") return;
    const { member } = this;
    const peer = member.world.numberOf(source);
    member.world.checkers.struck(member, member.world.member(peer), fault);
    if (member.standing.strike(source, fault, member.world.nowMs) !== "good") this.peerGone(peer);
  }

  #ask(source: string, items: readonly number[]): void {
    if (source === "origin") return this.#askOrigin(items);
    const { world, number } = this.member;
    const peer = world.numberOf(source);
    for (const item of items) this.#asked.add(this.#key(peer, item));
    world.tell(number, peer, { kind: "request", payload: this.payload.number, items });
  }

  #cancel(source: string, items: readonly number[]): void {
    if (source === "origin") {
      for (const item of items) this.#originFlows.get(item)?.();
      return;
    }
    const { world, number } = this.member;
    const peer = world.numberOf(source);
    for (const item of items) this.#asked.delete(this.#key(peer, item));
    world.tell(number, peer, { kind: "cancel", payload: this.payload.number, items });
  }

  #end(fault: string | undefined, item: number | undefined): void {
    this.#isOver = true;
    const { world } = this.member;
    this.outcome.endedMs = world.nowMs;
    this.outcome.fault = fault;
    this.outcome.missingItem = item;
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

  #snapshot(): Bitmap | "all" {
    if (this.isComplete) return "all";
    const copy = new Bitmap(this.payload.items);
    for (let item = 0; item < this.payload.items; item++) if (this.have.has(item)) copy.add(item);
    return copy;
  }
}

const wake = 0;
const describe = 1;
const tell = 2;
/** Decoding and checking a manifest of a thousand chunks, off the main thread. */
const describeMs = 5;
const noCopies: ReadonlyMap<number, readonly number[]> = new Map();
