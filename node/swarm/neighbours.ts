import type { Connection, Libp2p } from "@libp2p/interface";
import { multiaddr } from "@multiformats/multiaddr";
import type { Directory, PeerName } from "../../protocol/directory.ts";
import { UnreachableError } from "../../protocol/errors.ts";
import { type NeighbourEvent, Neighbourhood, type NeighbourLimits } from "../../protocol/neighbourhood.ts";
import { dialable } from "./addresses.ts";
import type { PeerGate } from "./peer-gate.ts";
import { protocols } from "./protocols.ts";

export interface NeighboursParts {
  readonly host: Libp2p;
  readonly gate: Pick<PeerGate, "connectionOf" | "isReady">;
  readonly directory: Pick<Directory, "labels" | "peers">;
  readonly withLoopback: boolean;
  readonly limits?: NeighbourLimits;
}

/** Drives a `Neighbourhood`: dials whom it names, and whomever somebody wants something of. */
export class Neighbours {
  readonly #parts: NeighboursParts;
  readonly #hood: Neighbourhood;
  /** Where peers said on the local network that they are. */
  readonly #found = new Map<PeerName, readonly string[]>();
  readonly #dials = new Map<PeerName, Promise<boolean>>();
  readonly #stopped = new AbortController();
  #waking: NodeJS.Timeout | undefined;

  constructor(parts: NeighboursParts) {
    this.#parts = parts;
    const { directory, host, limits } = parts;
    const own = host.peerId.toString();
    const known = function* () {
      for (const peer of directory.peers()) if (peer !== own) yield peer;
    };
    this.#hood = new Neighbourhood(own, known, Math.random, limits);
  }

  /** A peer is on the local network, at these addresses. */
  found(peer: PeerName, addresses: readonly string[]): void {
    this.#found.delete(peer);
    this.#found.set(peer, addresses);
    if (this.#found.size > foundMax) this.#found.delete(this.#found.keys().next().value!);
    this.step({ kind: "found", peer });
  }

  step(event: NeighbourEvent): void {
    if (this.#stopped.signal.aborted) return;
    for (const action of this.#hood.step(event, performance.now())) {
      switch (action.kind) {
        case "dial":
          void this.#dial(action.peer);
          break;
        case "close":
          this.#close(action.peer);
          break;
        case "wakeAt":
          clearTimeout(this.#waking);
          this.#waking = setTimeout(
            () => this.step({ kind: "woke" }),
            Math.max(0, Math.ceil(action.atMs - performance.now())),
          ).unref();
      }
    }
  }

  /**
   * The connection to a peer; one that is not here is dialled, once for all who want it.
   * @throws {UnreachableError} when it cannot be reached, or could not a moment ago.
   */
  async connect(peer: PeerName): Promise<Connection> {
    const { gate } = this.#parts;
    const open = gate.connectionOf(peer);
    if (open !== undefined) return open;
    if (!this.#dials.has(peer) && !this.#hood.mayDial(peer, performance.now())) {
      throw new UnreachableError(`the peer ${peer} has gone`);
    }
    await this.#dial(peer);
    const connection = gate.connectionOf(peer);
    if (connection === undefined) throw new UnreachableError(`the peer ${peer} cannot be reached`);
    return connection;
  }

  /** Something is asked of a peer, or by it. */
  used(peer: PeerName): void {
    this.#hood.used(peer, performance.now());
  }

  stop(): void {
    this.#stopped.abort(new Error("the node stops"));
    clearTimeout(this.#waking);
  }

  /** Never rejects: the neighbourhood hears what came of it. */
  #dial(peer: PeerName): Promise<boolean> {
    const known = this.#dials.get(peer);
    if (known !== undefined) return known;
    const dial = this.#reach(peer).then((isReached) => {
      this.#dials.delete(peer);
      // One that was let in has said `joined` already.
      if (!isReached) this.step({ kind: "failed", peer });
      return isReached;
    });
    this.#dials.set(peer, dial);
    return dial;
  }

  /** Never rejects. */
  async #reach(peer: PeerName): Promise<boolean> {
    const { host, gate, directory, withLoopback } = this.#parts;
    const announced = directory.labels(peer)?.addresses ?? [];
    const addresses = dialable([...new Set([...(this.#found.get(peer) ?? []), ...announced])], peer, withLoopback);
    if (addresses.length === 0) return false;
    try {
      const targets = addresses.slice(0, addressesMax).map((text) => multiaddr(`${text}/p2p/${peer}`));
      const signal = AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(dialMs)]);
      await host.dial(targets, { signal });
      return await gate.isReady(peer);
    } catch {
      return false;
    }
  }

  /** Lets go of a peer, unless something goes over its connection after all. */
  #close(peer: PeerName): void {
    const connections = this.#parts.host.getConnections().filter(({ remotePeer }) => remotePeer.toString() === peer);
    const isUsed = connections.some(({ streams }) => streams.some(({ protocol }) => workProtocols.has(protocol)));
    if (isUsed) return this.step({ kind: "kept", peer });
    for (const connection of connections) void connection.close().catch((error: Error) => connection.abort(error));
  }
}

const workProtocols: ReadonlySet<string> = new Set([
  protocols.swarm.id,
  protocols.register.id,
  protocols.catalog.id,
  protocols.directory.id,
]);
const foundMax = 256;
const addressesMax = 8;
/** The handshake and the hello included, which a busy machine takes its time for; a connect alone has half a second. */
const dialMs = 5_000;
