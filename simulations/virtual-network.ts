import { EventQueue, type Happening } from "./event-queue.ts";

/** Bytes of one item on their way from one host to another. */
export interface Flow {
  readonly from: Host;
  readonly to: Host;
  readonly bytes: number;
  /** Called when the last byte has left the sender, and when it has reached the receiver. */
  readonly onSent: () => void;
  readonly onArrived: () => void;
  /** Called by whoever takes its sender down. */
  readonly onLost: () => void;
  leftBytes: number;
  bytesPerMs: number;
  capBytesPerMs: number;
}

/** What a host's link can do. */
export interface LinkRates {
  readonly upBytesPerMs: number;
  readonly downBytesPerMs: number;
  readonly subnet: number;
}

/** A machine with a full-duplex link of its own to a switch that never blocks. */
export class Host {
  readonly subnet: number;
  readonly upBytesPerMs: number;
  readonly downBytesPerMs: number;
  readonly flows: Flow[] = [];
  isUp = true;
  sentBytes = 0;
  receivedBytes = 0;
  /** When everything that has arrived at its link so far is through. */
  downFreeAtMs = 0;
  changedAtMs = 0;
  /** Of the finish that was said last: earlier ones do not count any more. */
  version = 0;

  constructor(rates: LinkRates) {
    this.subnet = rates.subnet;
    this.upBytesPerMs = rates.upBytesPerMs;
    this.downBytesPerMs = rates.downBytesPerMs;
  }
}

/**
 * Hosts, their links and what is on its way between them. An uplink is shared fairly among its flows, none faster than
 * its receiver's link; a downlink, and the trunk between two subnets, pass on what comes in the order in which it comes.
 */
export class VirtualNetwork implements Happening {
  readonly events: EventQueue = new EventQueue();
  readonly latencyMs: number;
  readonly trunkBytesPerMs: number;
  /** Both directions of the trunk have the rate for themselves. */
  readonly #trunkFreeAtMs = [0, 0];
  trunkBytes = 0;

  constructor(latencyMs: number, trunkBytesPerMs: number = Number.POSITIVE_INFINITY) {
    this.latencyMs = latencyMs;
    this.trunkBytesPerMs = trunkBytesPerMs;
  }

  /** Sends the bytes of an item; a message takes the latency and nothing else. */
  send(
    from: Host,
    to: Host,
    bytes: number,
    onSent: () => void,
    onArrived: () => void,
    onLost: () => void = nothing,
  ): Flow {
    const capBytesPerMs = Math.min(
      to.downBytesPerMs,
      from.subnet === to.subnet ? to.downBytesPerMs : this.trunkBytesPerMs,
    );
    const flow: Flow = { from, to, bytes, onSent, onArrived, onLost, leftBytes: bytes, bytesPerMs: 0, capBytesPerMs };
    this.#advance(from);
    from.flows.push(flow);
    this.#share(from);
    return flow;
  }

  /** A host has gone: what it was sending never arrives. */
  takeDown(host: Host): void {
    host.isUp = false;
    host.flows.length = 0;
    host.version++;
  }

  /** Stops a flow, if it has not left yet. Answers how many of its bytes had left. */
  stop(flow: Flow): number {
    const place = flow.from.flows.indexOf(flow);
    if (place < 0) return flow.bytes;
    this.#advance(flow.from);
    flow.from.flows.splice(place, 1);
    this.#share(flow.from);
    return flow.bytes - flow.leftBytes;
  }

  happen(what: number, about: unknown): void {
    if (what === arrived) return this.#arrive(about as Flow);
    if (what === reached) return this.#reach(about as Flow);
    const host = about as Host;
    if (host.version === what) this.#finish(host);
  }

  #advance(host: Host): void {
    const elapsedMs = this.events.nowMs - host.changedAtMs;
    host.changedAtMs = this.events.nowMs;
    if (elapsedMs > 0) for (const flow of host.flows) flow.leftBytes -= flow.bytesPerMs * elapsedMs;
  }

  /** Gives every flow its fair part, and says when the first of them is through. */
  #share(host: Host): void {
    host.version = (host.version + 1) % versions;
    const { flows } = host;
    if (flows.length === 0) return;
    let leftRate = host.upBytesPerMs;
    let leftFlows = flows.length;
    const fair = leftRate / leftFlows;
    let isCapped = false;
    for (const flow of flows) {
      flow.bytesPerMs = Math.min(fair, flow.capBytesPerMs);
      if (flow.capBytesPerMs >= fair) continue;
      isCapped = true;
      leftRate -= flow.capBytesPerMs;
      leftFlows--;
    }
    // One round more is near enough: what slow receivers leave over goes to the others in equal parts.
    if (isCapped && leftFlows > 0) {
      for (const flow of flows) {
        if (flow.capBytesPerMs >= fair) flow.bytesPerMs = Math.min(flow.capBytesPerMs, leftRate / leftFlows);
      }
    }
    let firstMs = Number.POSITIVE_INFINITY;
    for (const flow of flows) firstMs = Math.min(firstMs, flow.leftBytes / flow.bytesPerMs);
    this.events.at(this.events.nowMs + Math.max(0, firstMs), this, host.version, host);
  }

  #finish(host: Host): void {
    this.#advance(host);
    const done = host.flows.filter(isThrough);
    if (done.length > 0) {
      let kept = 0;
      for (const flow of host.flows) if (!isThrough(flow)) host.flows[kept++] = flow;
      host.flows.length = kept;
    }
    this.#share(host);
    for (const flow of done) {
      host.sentBytes += flow.bytes;
      this.#leave(flow);
      flow.onSent();
    }
  }

  #leave(flow: Flow): void {
    let atMs = this.events.nowMs;
    if (flow.from.subnet === flow.to.subnet) {
      this.events.at(atMs + this.latencyMs, this, arrived, flow);
      return;
    }
    const direction = flow.from.subnet < flow.to.subnet ? 0 : 1;
    this.trunkBytes += flow.bytes;
    atMs = Math.max(atMs, this.#trunkFreeAtMs[direction]! + flow.bytes / this.trunkBytesPerMs);
    this.#trunkFreeAtMs[direction] = atMs;
    this.events.at(atMs + this.latencyMs, this, arrived, flow);
  }

  /** It came in while it was sent: only what came before it can hold it up. */
  #arrive(flow: Flow): void {
    const { to } = flow;
    const { nowMs } = this.events;
    to.downFreeAtMs = Math.max(nowMs, to.downFreeAtMs + flow.bytes / to.downBytesPerMs);
    if (to.downFreeAtMs > nowMs) this.events.at(to.downFreeAtMs, this, reached, flow);
    else this.#reach(flow);
  }

  #reach(flow: Flow): void {
    if (!flow.to.isUp || !flow.from.isUp) return;
    flow.to.receivedBytes += flow.bytes;
    flow.onArrived();
  }
}

/** What happens: an item arrives at the receiver's link, is through it, or (any other number) leaves the sender. */
const arrived = -1;
const reached = -2;
const versions = 2 ** 31;

const nothing = () => undefined;

/** Less than a byte is left of rounding. */
function isThrough(flow: Flow): boolean {
  return flow.leftBytes < 1;
}
