import type { PeerName } from "./directory.ts";

/** One item that a peer asked for. `stream` tells apart the streams of one peer. */
export interface ServiceRequest {
  readonly peer: PeerName;
  readonly stream: number;
  readonly number: number;
  readonly item: number;
  readonly sizeBytes: number;
}

export type ServiceEvent =
  | { readonly kind: "requested"; readonly requests: readonly ServiceRequest[] }
  | { readonly kind: "cancelled"; readonly stream: number; readonly number: number; readonly items: readonly number[] }
  /** It was sent, or could not be: its slot is free. */
  | { readonly kind: "done"; readonly request: ServiceRequest }
  | { readonly kind: "left"; readonly stream: number };

export type ServiceAction =
  | { readonly kind: "send"; readonly request: ServiceRequest }
  | { readonly kind: "refuse"; readonly requests: readonly ServiceRequest[]; readonly retryAfterMs: number };

export interface ServiceLimits {
  /** Items that are read and sent at a time, to everyone. */
  readonly slots: number;
  /** Bytes that are read and sent at a time, to everyone. */
  readonly sendingBytesMax: number;
  /** Of the slots, how many one stream may hold: a peer that does not read must not keep the others from theirs. */
  readonly slotsPerStreamMax: number;
  /** Items that wait for a slot, per stream. */
  readonly queuedPerStreamMax: number;
}

export const defaultServiceLimits: ServiceLimits = {
  slots: 8,
  slotsPerStreamMax: 4,
  // 32 MiB: DESIGN section 7, rule 6.
  sendingBytesMax: 32 * 1024 * 1024,
  queuedPerStreamMax: 64,
};

/** What we give to whom, and when: few at a time, who got least goes first, and a short queue instead of a stall. */
export class Service {
  readonly #limits: ServiceLimits;
  readonly #queues = new Map<number, ServiceRequest[]>();
  readonly #givenBytes = new Map<PeerName, number>();
  /** What the peer that was served last had got before: whoever comes now begins there, not at nothing. */
  #levelBytes = 0;
  /** Slots in use, by stream. */
  readonly #held = new Map<number, number>();
  #sending = 0;
  #sendingBytes = 0;

  constructor(limits: ServiceLimits) {
    this.#limits = limits;
  }

  /** Takes in one event and gives back everything to do about it. */
  step(event: ServiceEvent): ServiceAction[] {
    switch (event.kind) {
      case "requested":
        return [...this.#enqueue(event.requests), ...this.#fillSlots()];
      case "cancelled":
        this.#cancel(event.stream, event.number, event.items);
        return [];
      case "done":
        this.#sending--;
        this.#sendingBytes -= event.request.sizeBytes;
        this.#hold(event.request.stream, -1);
        return this.#fillSlots();
      case "left":
        this.#queues.delete(event.stream);
        return [];
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
      queue.push(request);
      this.#queues.set(request.stream, queue);
      if (queue.length === 1) this.#begin(request);
    }
    return refused.length === 0 ? [] : [{ kind: "refuse", requests: refused, retryAfterMs }];
  }

  /**
   * A stream has something to wait for again. Its peer goes before those that were served meanwhile, but need not be
   * given all that they got before the others have their turn again.
   */
  #begin(request: ServiceRequest): void {
    const given = this.#givenBytes.get(request.peer) ?? 0;
    this.#givenBytes.set(request.peer, Math.max(given, this.#levelBytes));
  }

  #cancel(stream: number, number: number, items: readonly number[]): void {
    const queue = this.#queues.get(stream);
    if (queue === undefined) return;
    const gone = new Set(items);
    const rest = queue.filter((request) => request.number !== number || !gone.has(request.item));
    if (rest.length === 0) this.#queues.delete(stream);
    else this.#queues.set(stream, rest);
  }

  #fillSlots(): ServiceAction[] {
    const actions: ServiceAction[] = [];
    while (this.#sending < this.#limits.slots && this.#sendingBytes < this.#limits.sendingBytesMax) {
      const request = this.#next();
      if (request === undefined) break;
      this.#sending++;
      this.#sendingBytes += request.sizeBytes;
      this.#hold(request.stream, 1);
      this.#levelBytes = this.#givenBytes.get(request.peer)!;
      this.#givenBytes.set(request.peer, this.#levelBytes + request.sizeBytes);
      actions.push({ kind: "send", request });
    }
    // Nobody waits: nobody is behind.
    if (this.#queues.size === 0) {
      this.#givenBytes.clear();
      this.#levelBytes = 0;
    }
    return actions;
  }

  #hold(stream: number, change: 1 | -1): void {
    const held = (this.#held.get(stream) ?? 0) + change;
    if (held === 0) this.#held.delete(stream);
    else this.#held.set(stream, held);
  }

  /** The first item of the peer that got least since anyone had to wait. */
  #next(): ServiceRequest | undefined {
    let best: { stream: number; queue: ServiceRequest[]; given: number } | undefined;
    for (const [stream, queue] of this.#queues) {
      if ((this.#held.get(stream) ?? 0) >= this.#limits.slotsPerStreamMax) continue;
      const given = this.#givenBytes.get(queue[0]!.peer) ?? 0;
      if (best === undefined || given < best.given) best = { stream, queue, given };
    }
    if (best === undefined) return undefined;
    const request = best.queue.shift();
    if (best.queue.length === 0) this.#queues.delete(best.stream);
    return request;
  }
}

/** About the time in which a slot sends an item at 1 Gbit/s, eight in a row. */
const retryAfterMs = 50;
