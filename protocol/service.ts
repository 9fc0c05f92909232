import type { PeerName } from "./directory.ts";
import type { Politeness, TrafficClass } from "./politeness.ts";

/** One item that a peer asked for. `stream` tells apart the streams of one peer. */
export interface ServiceRequest {
  readonly peer: PeerName;
  readonly stream: number;
  readonly number: number;
  readonly item: number;
  readonly sizeBytes: number;
  /** Names the payload: slots are counted for each. Absent: all count together. */
  readonly payload?: string;
  /** Whether few others are known to have it. */
  readonly isRare?: boolean;
  /** How many items of the payload the peer is known to have; absent counts as none. */
  readonly peerItems?: number;
  /** Absent: as if somebody waited for it. */
  readonly traffic?: TrafficClass;
}

export type ServiceEvent =
  | { readonly kind: "requested"; readonly requests: readonly ServiceRequest[] }
  | { readonly kind: "cancelled"; readonly stream: number; readonly number: number; readonly items: readonly number[] }
  /** It was sent, or could not be: its slot is free. */
  | { readonly kind: "done"; readonly request: ServiceRequest }
  /** A stream has ended, or only what it asked for under one number: what waits for it is forgotten. */
  | { readonly kind: "left"; readonly stream: number; readonly number?: number }
  /** The last `wakeAt` has come. */
  | { readonly kind: "woke" };

export type ServiceAction =
  | { readonly kind: "send"; readonly request: ServiceRequest }
  | { readonly kind: "refuse"; readonly requests: readonly ServiceRequest[]; readonly retryAfterMs: number }
  /** Something waits for its rate, and will soon have its turn. In place of the one before. */
  | { readonly kind: "wakeAt"; readonly atMs: number };

export interface ServiceLimits {
  /** Items of one payload that are read and sent at a time, to everyone. */
  readonly slots: number;
  /** The same while one of them is rare: it is with the first of them sooner, and they pass it on. */
  readonly slotsWhileRare?: number;
  /** Bytes that are read and sent at a time, to everyone. */
  readonly sendingBytesMax: number;
  /** Of the slots, how many one stream may hold: a peer that does not read must not keep the others from theirs. */
  readonly slotsPerStreamMax: number;
  /** Items that wait for a slot, per stream. */
  readonly queuedPerStreamMax: number;
}

/** DESIGN section 7, rules 6 and 7. */
export const defaultServiceLimits: ServiceLimits = {
  slots: 8,
  slotsWhileRare: 4,
  slotsPerStreamMax: 4,
  // 32 MiB.
  sendingBytesMax: 32 * 1024 * 1024,
  queuedPerStreamMax: 64,
};

/** What peers got of one payload since anybody had to wait. */
interface Given {
  readonly bytes: Map<PeerName, number>;
  /** What the peer that was served last had got before: whoever comes now begins there, not at nothing. */
  levelBytes: number;
}

/** What is being sent of one payload. */
interface Sending {
  items: number;
  rare: number;
}

/**
 * What we give to whom, and when: few at a time, whoever has least of the payload first and among equals who got least,
 * and a short queue instead of a stall.
 */
export class Service {
  readonly #limits: ServiceLimits;
  readonly #politeness: Politeness | undefined;
  readonly #queues = new Map<number, ServiceRequest[]>();
  /** By payload: what each peer got of it. What it got of others says nothing of how long it may wait for this one. */
  readonly #given = new Map<string, Given>();
  /** Slots in use, by stream. */
  readonly #held = new Map<number, number>();
  readonly #sending = new Map<string, Sending>();
  #sendingBytes = 0;

  constructor(limits: ServiceLimits, politeness?: Politeness) {
    this.#limits = limits;
    this.#politeness = politeness;
  }

  /** Takes in one event and gives back everything to do about it. The time matters only where there are rates. */
  step(event: ServiceEvent, nowMs = 0): ServiceAction[] {
    switch (event.kind) {
      case "requested":
        return [...this.#enqueue(event.requests), ...this.#fillSlots(nowMs)];
      case "cancelled":
        this.#cancel(event.stream, event.number, event.items);
        return [];
      case "done":
        this.#count(event.request, -1);
        return this.#fillSlots(nowMs);
      case "left":
        this.#leave(event.stream, event.number);
        return [];
      case "woke":
        return this.#fillSlots(nowMs);
    }
  }

  #enqueue(requests: readonly ServiceRequest[]): ServiceAction[] {
    const refused: ServiceRequest[] = [];
    for (const request of requests) {
      const queue = this.#queues.get(request.stream) ?? [];
      const isKnown = queue.some((other) => other.number === request.number && other.item === request.item);
      if (isKnown) continue;
      if (queue.length >= this.#limits.queuedPerStreamMax) {
        refused.push(request);
        continue;
      }
      if (queue.every(({ payload }) => payload !== request.payload)) this.#begin(request);
      queue.push(request);
      this.#queues.set(request.stream, queue);
    }
    return refused.length === 0 ? [] : [{ kind: "refuse", requests: refused, retryAfterMs }];
  }

  /**
   * A stream has something to wait for again. Its peer goes before those that were served meanwhile, but need not be
   * given all that they got before the others have their turn again.
   */
  #begin({ peer, payload = "" }: ServiceRequest): void {
    const given = this.#given.get(payload) ?? { bytes: new Map(), levelBytes: 0 };
    this.#given.set(payload, given);
    given.bytes.set(peer, Math.max(given.bytes.get(peer) ?? 0, given.levelBytes));
  }

  #cancel(stream: number, number: number, items: readonly number[]): void {
    const gone = new Set(items);
    this.#keep(stream, (request) => request.number !== number || !gone.has(request.item));
  }

  #leave(stream: number, number: number | undefined): void {
    this.#keep(stream, (request) => number !== undefined && request.number !== number);
  }

  #keep(stream: number, test: (request: ServiceRequest) => boolean): void {
    const rest = this.#queues.get(stream)?.filter(test) ?? [];
    if (rest.length === 0) this.#queues.delete(stream);
    else this.#queues.set(stream, rest);
  }

  #fillSlots(nowMs: number): ServiceAction[] {
    const actions: ServiceAction[] = [];
    // Classes that have used up their rate, and until when: the others go on.
    const spent = new Map<TrafficClass, number>();
    while (this.#sendingBytes === 0 || this.#sendingBytes < this.#limits.sendingBytesMax) {
      const request = this.#next(spent);
      if (request === undefined) break;
      const { traffic = "interactive", sizeBytes } = request;
      if (this.#politeness?.take(traffic, sizeBytes, nowMs) === false) {
        spent.set(traffic, this.#politeness.readyAtMs(traffic, nowMs));
        continue;
      }
      const queue = this.#queues.get(request.stream)!;
      queue.splice(queue.indexOf(request), 1);
      if (queue.length === 0) this.#queues.delete(request.stream);
      this.#count(request, 1);
      const given = this.#given.get(request.payload ?? "")!;
      given.levelBytes = given.bytes.get(request.peer)!;
      given.bytes.set(request.peer, given.levelBytes + sizeBytes);
      actions.push({ kind: "send", request });
    }
    for (const traffic of spent.keys()) actions.push(...this.#refuseLate(traffic, nowMs));
    const wakeAtMs = Math.min(...spent.values());
    // A rate of nothing has no end but another rate; and nobody may wait for it any more.
    if (Number.isFinite(wakeAtMs) && this.#queues.size > 0) actions.push({ kind: "wakeAt", atMs: wakeAtMs });
    // Nobody waits: nobody is behind.
    if (this.#queues.size === 0) this.#given.clear();
    if (this.#given.size > givenMax) this.#forgetGiven();
    return actions;
  }

  /** Of how many payloads it is remembered who got what. */
  get payloads(): number {
    return this.#given.size;
  }

  /** Of a payload that nobody waits for nobody is behind; whoever serves many may never find all its queues empty. */
  #forgetGiven(): void {
    const wanted = new Set([...this.#queues.values()].flatMap((queue) => queue.map(({ payload = "" }) => payload)));
    for (const payload of this.#given.keys()) if (!wanted.has(payload)) this.#given.delete(payload);
  }

  /**
   * Of a class that has used up its rate only what it can give soon goes on waiting. The others are told when it would be
   * their turn: they ask others meanwhile, and know that it is no stall.
   */
  #refuseLate(traffic: TrafficClass, nowMs: number): ServiceAction[] {
    const waiting: { readonly request: ServiceRequest; readonly place: number }[] = [];
    for (const queue of this.#queues.values()) {
      let place = 0;
      for (const request of queue)
        if ((request.traffic ?? "interactive") === traffic) waiting.push({ request, place: place++ });
    }
    // One of each stream, then the second ones.
    waiting.sort((a, b) => a.place - b.place);
    const late = new Map<string, { readonly requests: ServiceRequest[]; readonly turnMs: number }>();
    let aheadBytes = 0;
    for (const { request } of waiting) {
      const turnMs = this.#politeness!.readyAtMs(traffic, nowMs, aheadBytes) - nowMs;
      aheadBytes += request.sizeBytes;
      if (turnMs <= queuedMsMax) continue;
      const key = `${request.stream} ${request.number}`;
      const refusal = late.get(key) ?? { requests: [], turnMs };
      refusal.requests.push(request);
      late.set(key, refusal);
    }
    return [...late.values()].map(({ requests, turnMs }) => {
      const gone = new Set(requests);
      this.#keep(requests[0]!.stream, (request) => !gone.has(request));
      return { kind: "refuse", requests, retryAfterMs: Math.ceil(Math.min(turnMs, retryAfterMsMax)) };
    });
  }

  /** A request takes its slot, or leaves it. */
  #count({ stream, payload = "", isRare, sizeBytes }: ServiceRequest, change: 1 | -1): void {
    const held = (this.#held.get(stream) ?? 0) + change;
    if (held === 0) this.#held.delete(stream);
    else this.#held.set(stream, held);
    const sending = this.#sending.get(payload) ?? { items: 0, rare: 0 };
    sending.items += change;
    if (isRare === true) sending.rare += change;
    if (sending.items === 0) this.#sending.delete(payload);
    else this.#sending.set(payload, sending);
    this.#sendingBytes += change * sizeBytes;
  }

  /** Of what may go now: of the peer that has least, and among equals that got least since anyone had to wait. */
  #next(spent: ReadonlyMap<TrafficClass, number>): ServiceRequest | undefined {
    let best: { request: ServiceRequest; has: number; given: number } | undefined;
    for (const [stream, queue] of this.#queues) {
      if ((this.#held.get(stream) ?? 0) >= this.#limits.slotsPerStreamMax) continue;
      for (const request of firstOfEach(queue, spent)) {
        if (!this.#hasSlot(request)) continue;
        const given = this.#given.get(request.payload ?? "")?.bytes.get(request.peer) ?? 0;
        const has = request.peerItems ?? 0;
        if (best === undefined || has < best.has || (has === best.has && given < best.given))
          best = { request, has, given };
      }
    }
    return best?.request;
  }

  #hasSlot({ payload = "", isRare }: ServiceRequest): boolean {
    const sending = this.#sending.get(payload);
    if (sending === undefined) return true;
    const { slots, slotsWhileRare = slots } = this.#limits;
    return sending.items < (isRare === true || sending.rare > 0 ? slotsWhileRare : slots);
  }
}

/** The first of each payload: what a peer wants of a small one does not wait behind what it wants of a large one. */
function* firstOfEach(
  queue: readonly ServiceRequest[],
  spent: ReadonlyMap<TrafficClass, number>,
): IterableIterator<ServiceRequest> {
  const seen: (string | undefined)[] = [];
  for (const request of queue) {
    if (seen.includes(request.payload) || spent.has(request.traffic ?? "interactive")) continue;
    seen.push(request.payload);
    yield request;
  }
}

const givenMax = 64;
/** About the time in which a slot sends an item at 1 Gbit/s, eight in a row. */
const retryAfterMs = 50;
/** A peer of a LAN that says nothing for longer is taken for one that gives nothing (`transfer-source`, `doubtMsMin`). */
const queuedMsMax = 300;
/** What the protocol has place for; the rate may be another one by then. */
const retryAfterMsMax = 60_000;
