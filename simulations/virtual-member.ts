import { type Random, seededRandom } from "../protocol/random.ts";
import { Registrar } from "../protocol/registrar.ts";
import type { Service, ServiceEvent, ServiceRequest } from "../protocol/service.ts";
import { Standing } from "../protocol/standing.ts";
import type { Distance } from "../protocol/transfer.ts";
import type { Happening } from "./event-queue.ts";
import type { Letter, VirtualMessage } from "./messages.ts";
import type { SwarmWorld } from "./swarm-world.ts";
import { VirtualFetch } from "./virtual-fetch.ts";
import type { Host } from "./virtual-network.ts";
import type { VirtualPayload } from "./virtual-payload.ts";

/** How a member is different from the others. */
export interface MemberTraits {
  readonly site: number;
  readonly rack: number;
  /** What it serves is not what it should be. */
  readonly isCorrupt: boolean;
  /** It takes requests, and leases, and does nothing about them. */
  readonly isIdle: boolean;
}

/** A node: what it fetches, what it serves, and what it keeps as a registrar. */
export class VirtualMember implements Happening {
  readonly world: SwarmWorld;
  readonly number: number;
  readonly name: string;
  readonly host: Host;
  readonly traits: MemberTraits;
  readonly random: Random;
  readonly standing: Standing = new Standing();
  readonly fetches: (VirtualFetch | undefined)[] = [];
  /** What it still has to fetch. */
  readonly queue: VirtualPayload[] = [];
  readonly #service: Service;
  readonly #registrar: Registrar;
  isUp = true;
  downAtMs: number = Number.POSITIVE_INFINITY;
  active = 0;

  constructor(world: SwarmWorld, number: number, host: Host, traits: MemberTraits) {
    this.world = world;
    this.number = number;
    this.name = world.nameOf(number);
    this.host = host;
    this.traits = traits;
    this.random = seededRandom(world.seed * 1_000_003 + number);
    this.#service = world.policies.service();
    const payloadOf = (id: string) => world.payloads.find((payload) => payload.id === id)!;
    this.#registrar = new Registrar(this.random, {
      isFirstFor: (id) => world.registrarsFor(this, payloadOf(id))[0] === this.name,
    });
  }

  distanceTo(other: number): Distance {
    const { site, rack } = this.world.member(other).traits;
    if (site !== this.traits.site) return "far";
    return rack === this.traits.rack ? "rack" : "site";
  }

  /** Begins as many fetches as may go on at a time. */
  startNext(): void {
    while (this.active < fetchesAtOnce && this.queue.length > 0) {
      const payload = this.queue.shift()!;
      const fetch = new VirtualFetch(this, payload);
      this.fetches[payload.number] = fetch;
      this.active++;
      fetch.start();
    }
  }

  happen(_what: number, about: unknown): void {
    if (!this.isUp) return;
    const { from, message } = about as Letter;
    this.receive(from, message);
  }

  receive(from: number, message: VirtualMessage): void {
    const fetch = this.fetches[message.payload];
    switch (message.kind) {
      case "register":
        return this.#register(from, message);
      case "join":
        if (fetch === undefined)
          return this.world.tell(this.number, from, { kind: "refused", payload: message.payload });
        return fetch.post({ kind: "asked", peer: this.world.nameOf(from) });
      case "request":
        return this.#requested(from, message.payload, message.items);
      case "cancel":
        return this.#serve({ kind: "cancelled", stream: from, number: message.payload, items: message.items });
      default:
        return fetch === undefined ? undefined : this.#pass(fetch, from, message);
    }
  }

  /** A member has gone, and this one has noticed. */
  peerGone(peer: number): void {
    this.#serve({ kind: "left", stream: peer });
    this.#registrar.left(this.world.nameOf(peer), this.world.nowMs);
    for (const fetch of this.fetches) fetch?.peerGone(peer);
  }

  #pass(fetch: VirtualFetch, from: number, message: VirtualMessage): void {
    const source = this.world.nameOf(from);
    switch (message.kind) {
      case "joined":
        if (this.standing.level(source, this.world.nowMs) !== "good") return;
        return fetch.post({ kind: "joined", source, have: message.have });
      case "refused":
      case "part":
        return fetch.peerGone(from);
      case "have":
        return fetch.post({ kind: "has", source, items: message.items, isAll: message.isAll });
      case "busy":
        return fetch.post({ kind: "busy", source, items: message.items, retryAfterMs: message.retryAfterMs });
      case "gone":
        return fetch.post({ kind: "missing", source, items: message.items });
      case "answer":
        return fetch.post({ kind: "answer", from: source, answer: message.answer });
      default:
        return;
    }
  }

  #register(from: number, { payload, question }: Extract<VirtualMessage, { kind: "register" }>): void {
    if (this.traits.isIdle || this.world.plan.hasRegistrars === false) return;
    const { id } = this.world.payloads[payload]!;
    const answer = this.#registrar.ask(this.world.nameOf(from), id, question, this.world.nowMs);
    if (answer !== undefined) this.world.tell(this.number, from, { kind: "answer", payload, answer });
  }

  #requested(from: number, payload: number, items: readonly number[]): void {
    if (this.traits.isIdle) return;
    const fetch = this.fetches[payload];
    const here = items.filter((item) => fetch?.have.has(item) === true);
    if (here.length < items.length) {
      const gone = items.filter((item) => !here.includes(item));
      this.world.tell(this.number, from, { kind: "gone", payload, items: gone });
    }
    if (here.length === 0) return;
    const { id } = this.world.payloads[payload]!;
    const requests = here.map((item) => ({
      payload: id,
      peer: this.world.nameOf(from),
      stream: from,
      number: payload,
      item,
      sizeBytes: this.world.payloads[payload]!.sizesBytes[item]!,
      peerItems: fetch!.machine.transfer.heldBy(this.world.nameOf(from)) ?? 0,
      isRare: !fetch!.isOver && fetch!.machine.transfer.copies(item) < rareCopies,
    }));
    this.#serve({ kind: "requested", requests });
  }

  #serve(event: ServiceEvent): void {
    for (const action of this.#service.step(event)) {
      if (action.kind === "send") this.#send(action.request);
      if (action.kind === "refuse") {
        const { stream, number: payload } = action.requests[0]!;
        const items = action.requests.map(({ item }) => item);
        this.world.tell(this.number, stream, { kind: "busy", payload, items, retryAfterMs: action.retryAfterMs });
      }
    }
  }

  #send(request: ServiceRequest): void {
    const { stream: to, number, item, sizeBytes } = request;
    const receiver = this.world.member(to);
    const isRight = this.world.checkServed(this, number, item);
    this.world.network.send(
      this.host,
      receiver.host,
      sizeBytes,
      () => {
        this.standing.gave(receiver.name, sizeBytes);
        this.#serve({ kind: "done", request });
      },
      () => receiver.fetches[number]?.piece(this.number, item, isRight),
    );
  }
}

/** As many as a node's fetcher lets go on at a time. */
const fetchesAtOnce = 4;
/** An item with fewer known copies is rare (DESIGN section 7, rule 4). */
const rareCopies = 3;
