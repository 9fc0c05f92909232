import { createHash } from "node:crypto";
import multicastDns from "multicast-dns";
import type { PeerName } from "../../protocol/directory.ts";
import { Discovery, type DiscoveryEvent } from "../../protocol/discovery.ts";
import type { DiscoveryState } from "../ports.ts";
import { addressOf } from "./addresses.ts";
import { type Segment, usableSegments } from "./interfaces.ts";
import { answerPacket, questionPacket, readPacket } from "./mdns-packets.ts";

export interface MdnsOptions {
  readonly own: PeerName;
  /** Members of one network have the same bytes, others have not: the noise prologue. */
  readonly network: Uint8Array;
  /** Multiaddrs at which this node listens. */
  readonly listening: () => readonly string[];
  /** Whom a question need not be answered by. */
  readonly known: () => readonly PeerName[];
  readonly withLoopback: boolean;
  /** A member is on a segment of ours, at these multiaddrs. */
  readonly onFound: (peer: PeerName, addresses: readonly string[]) => void;
  /** Told of each kind of trouble once: discovery goes on where it can. */
  readonly onFault: (fault: string) => void;
  /** An interface came, went or changed. */
  readonly onNetworkChanged?: () => void;
  readonly random?: () => number;
  /** Others for tests. */
  readonly port?: number;
  readonly segments?: () => readonly Segment[];
  readonly lookMs?: number;
}

/** Looks for members of the same network on the segments of this machine, by multicast DNS (decision 0015). */
export class Mdns {
  readonly #options: MdnsOptions;
  readonly #service: string;
  readonly #discovery: Discovery;
  readonly #links = new Map<string, Link>();
  readonly #heard = new Set<PeerName>();
  readonly #faults = new Set<string>();
  #waking: NodeJS.Timeout | undefined;
  #looking: NodeJS.Timeout | undefined;

  constructor(options: MdnsOptions) {
    this.#options = options;
    this.#service = serviceName(options.network);
    this.#discovery = new Discovery(options.own, options.random ?? Math.random);
  }

  start(): void {
    this.#look();
    this.#step({ kind: "started" });
    this.#looking = setInterval(() => this.#look(), this.#options.lookMs ?? lookMs).unref();
  }

  stop(): void {
    clearInterval(this.#looking);
    clearTimeout(this.#waking);
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
  }

  /** How many neighbours there are, and how many members are known at all. */
  neighbours(count: number, members: number): void {
    this.#step({ kind: "neighbours", count, members });
  }

  state(): DiscoveryState {
    const interfaces = [...new Set([...this.#links.values()].map(({ segment }) => segment.name))];
    return { interfaces, heard: this.#heard.size, faults: [...this.#faults] };
  }

  /** Opens a socket for each segment that came, and closes those of segments that went. */
  #look(): void {
    const usable = (this.#options.segments?.() ?? usableSegments(this.#options.withLoopback)).filter(isMulticast);
    if (usable.length === 0) this.#fault("no interface with an IPv4 address: no neighbour is found by multicast");
    const now = new Map(usable.map((segment) => [`${segment.name} ${segment.address}`, segment]));
    let hasChanged = false;
    for (const [key, link] of this.#links) {
      if (now.has(key) && !link.hasFailed) continue;
      link.close();
      this.#links.delete(key);
      hasChanged = true;
    }
    for (const [key, segment] of now) {
      if (this.#links.has(key)) continue;
      this.#links.set(key, this.#open(segment));
      hasChanged = true;
    }
    if (!hasChanged || this.#looking === undefined) return;
    this.#step({ kind: "networkChanged" });
    this.#options.onNetworkChanged?.();
  }

  #open(segment: Segment): Link {
    return new Link(segment, {
      port: this.#options.port ?? mdnsPort,
      onPacket: (packet, from) => this.#take(segment, packet, from),
      onFault: (error) => this.#fault(`multicast on ${segment.name} (${segment.address}): ${error.message}`),
    });
  }

  #take(segment: Segment, packet: unknown, from: string): void {
    // Every socket hears what came to any interface: the segment's own is enough. What comes from afar is a stranger's.
    if (!segment.contains(from)) return;
    const heard = readPacket(packet, this.#service);
    if (heard?.kind === "question") this.#step({ kind: "asked", known: heard.known });
    if (heard?.kind !== "answer" || heard.peer === this.#options.own) return;
    this.#step({ kind: "answered" });
    // Nobody makes us dial what is not on the segment where it was said.
    const addresses = heard.addresses.filter((text) => segment.contains(addressOf(text)?.ip ?? ""));
    if (addresses.length === 0) return;
    if (this.#heard.size < heardMax) this.#heard.add(heard.peer);
    this.#options.onFound(heard.peer, addresses);
  }

  #step(event: DiscoveryEvent): void {
    for (const action of this.#discovery.step(event, performance.now())) {
      switch (action.kind) {
        case "ask":
          // It comes back to us as well, and we need no answer from ourselves.
          this.#send(() => questionPacket(this.#service, [this.#options.own, ...this.#options.known()]), "query");
          break;
        case "answer":
          this.#send((segment) => this.#answer(segment), "respond");
          break;
        case "wakeAt":
          clearTimeout(this.#waking);
          this.#waking = setTimeout(
            () => this.#step({ kind: "woke" }),
            Math.min(timerMsMax, Math.max(0, Math.ceil(action.atMs - performance.now()))),
          ).unref();
      }
    }
  }

  #answer(segment: Segment) {
    const addresses = this.#options.listening().filter((text) => addressOf(text)?.ip === segment.address);
    return addresses.length === 0 ? undefined : answerPacket(this.#service, this.#options.own, addresses);
  }

  #send(packetFor: (segment: Segment) => object | undefined, kind: "query" | "respond"): void {
    for (const link of this.#links.values()) {
      const packet = packetFor(link.segment);
      if (packet !== undefined) link.send(kind, packet);
    }
  }

  #fault(text: string): void {
    if (this.#faults.has(text) || this.#faults.size >= faultsMax) return;
    this.#faults.add(text);
    this.#options.onFault(text);
  }
}

/**
 * The name by which members of one network ask for each other. It is made from what only they know, so that several
 * networks on a segment do not mix and nobody learns their names (RFC 6763, section 7: at most 15 characters).
 */
export function serviceName(network: Uint8Array): string {
  const tag = createHash("sha256").update("p2pcache mdns service\0").update(network).digest("hex").slice(0, 10);
  return `_p2pc-${tag}._udp.local`;
}

interface LinkOptions {
  readonly port: number;
  readonly onPacket: (packet: unknown, from: string) => void;
  readonly onFault: (error: Error) => void;
}

/** One segment's socket. It is bound to all addresses: one that is bound to its own hears no multicast. */
class Link {
  readonly segment: Segment;
  readonly #socket: multicastDns.MulticastDNS;
  readonly #onFault: (error: Error) => void;
  #hasFailed = false;
  #isClosed = false;

  constructor(segment: Segment, { port, onPacket, onFault }: LinkOptions) {
    this.segment = segment;
    this.#onFault = onFault;
    const { address } = segment;
    this.#socket = multicastDns({ port, interface: address, bind: "0.0.0.0", ttl: 255 });
    // RFC 6762, section 11: it is from port 5353, or it is no multicast DNS.
    this.#socket.on("packet", (packet: unknown, from: { address: string; port: number }) => {
      if (!this.#isClosed && from.port === port) onPacket(packet, from.address);
    });
    this.#socket.on("error", (error) => this.#fail(error));
    this.#socket.on("warning", (error: NodeJS.ErrnoException) => {
      // A packet of somebody's that cannot be decoded is no fault of ours; a call of the system that failed is.
      if (error.syscall !== undefined) this.#fail(error);
    });
  }

  /** Whether it is to be opened anew. */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  send(kind: "query" | "respond", packet: object): void {
    if (this.#isClosed) return;
    // A link that is down for a moment refuses; the next question finds it again.
    const done = (error: Error | null) => {
      if (error) this.#onFault(error);
    };
    (this.#socket[kind] as (packet: object, done: (error: Error | null) => void) => void)(packet, done);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      this.#socket.destroy();
    } catch {
      // It was never bound.
    }
  }

  #fail(error: Error): void {
    this.#hasFailed = true;
    if (!this.#isClosed) this.#onFault(error);
  }
}

/** IPv6 segments are found through IPv4: a host without any IPv4 address needs a bootstrap list. */
function isMulticast({ family }: Segment): boolean {
  return family === "IPv4";
}

const mdnsPort = 5353;
/** How soon a new interface is noticed; a look costs a tenth of a millisecond. */
const lookMs = 5_000;
const timerMsMax = 2 ** 31 - 1;
/** Members that are counted, and kinds of trouble that are told. */
const heardMax = 10_000;
const faultsMax = 20;
