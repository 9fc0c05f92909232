import type { Connection, Libp2p } from "@libp2p/interface";
import type { PeerName } from "../../protocol/directory.ts";
import { FormatError } from "../../protocol/errors.ts";
import { decodeHello, type HelloMessage } from "../../protocol/messages.ts";
import { systemClock } from "../clock.ts";
import type { Admission, PeerFacts } from "../ports.ts";
import { FrameStream } from "./frame-stream.ts";
import { type Frames, nextFrame } from "./frames.ts";
import { protocols } from "./protocols.ts";

/** What this node says of itself. */
export interface HelloFacts {
  readonly network: string;
  readonly name: string;
  readonly site: string;
  readonly rack: string;
}

interface GateListener {
  readonly onReady: (peer: PeerName) => void;
  readonly onLeft: (peer: PeerName) => void;
  readonly onRefused: (peer: PeerName, reason: string) => void;
  /** A peer may be asked for the policy, and for nothing else yet. */
  readonly onPolicyOnly: (peer: PeerName) => void;
  readonly admits: (peer: PeerName) => Admission;
  /** Why a peer that comes must not be let in, if it must not. */
  readonly refusal: (peer: PeerName) => string | undefined;
}

interface AdmittedPeer {
  readonly hello: Extract<HelloMessage, { kind: "hello" }>;
  readonly connections: Set<Connection>;
  /** By how much its clock was ahead of ours when it said hello. */
  readonly clockAheadMs: number | undefined;
}

/** Who has been let in: the noise handshake admits, and the hello says who it is and whether we can talk. */
export class PeerGate {
  readonly #host: Libp2p;
  readonly #own: Extract<HelloMessage, { kind: "hello" }>;
  readonly #listener: GateListener;
  readonly #peers = new Map<PeerName, AdmittedPeer>();
  /** Those of whom nobody can tell yet whether they belong here. */
  readonly #undecided = new Map<PeerName, { readonly connection: Connection; readonly hello: AdmittedPeer["hello"] }>();
  readonly #waiting = new Map<PeerName, PromiseWithResolvers<boolean>>();
  readonly #helloMs: number;
  readonly #onOpen = ({ detail }: CustomEvent<Connection>) => this.#opened(detail);
  readonly #onClose = ({ detail }: CustomEvent<Connection>) => this.#closed(detail);

  constructor(host: Libp2p, facts: HelloFacts, listener: GateListener, helloMs: number = defaultHelloMs) {
    this.#host = host;
    this.#helloMs = helloMs;
    this.#own = { kind: "hello", versions: [protocolVersion], ...facts };
    this.#listener = listener;
  }

  start(): void {
    this.#host.addEventListener("connection:open", this.#onOpen);
    this.#host.addEventListener("connection:close", this.#onClose);
  }

  stop(): void {
    this.#host.removeEventListener("connection:open", this.#onOpen);
    this.#host.removeEventListener("connection:close", this.#onClose);
    for (const waiting of this.#waiting.values()) waiting.resolve(false);
    this.#peers.clear();
  }

  peers(): PeerFacts[] {
    return [...this.#peers].map(([peer, { hello, connections, clockAheadMs }]) => {
      const addresses = [...connections].map((connection) => connection.remoteAddr.toString());
      return { peer, name: hello.name, site: hello.site, rack: hello.rack, addresses, clockAheadMs };
    });
  }

  /** The newest open connection of an admitted peer: an older one may be dead, and nobody has noticed yet. */
  connectionOf(peer: PeerName): Connection | undefined {
    return [...(this.#peers.get(peer)?.connections ?? [])].at(-1);
  }

  /** A connection over which the policy may be asked for. */
  policyConnectionOf(peer: PeerName): Connection | undefined {
    return this.connectionOf(peer) ?? this.#undecided.get(peer)?.connection;
  }

  /**
   * The policy may have changed: lets in who belongs here, and ends all connections of who does not any more. Answers
   * whether there was anybody.
   */
  recheck(): boolean {
    const { admits } = this.#listener;
    let hasChanged = false;
    for (const connection of this.#host.getConnections()) {
      const peer = connection.remotePeer.toString();
      if (admits(peer) !== "stranger") continue;
      endSoon(connection, new Error("it is no member of this network"));
      hasChanged = true;
    }
    for (const [peer, { connection, hello }] of this.#undecided) {
      if (admits(peer) !== "member") continue;
      this.#undecided.delete(peer);
      this.#admit(connection, hello);
      hasChanged = true;
    }
    return hasChanged;
  }

  /** Ends all connections of an admitted peer. */
  abort(peer: PeerName, reason: Error): void {
    for (const connection of [...(this.#peers.get(peer)?.connections ?? [])]) endSoon(connection, reason);
  }

  /** Whether a peer has been let in; waits a moment for a hello that is under way. */
  async isReady(peer: PeerName): Promise<boolean> {
    if (this.#peers.has(peer)) return true;
    const waiting = this.#waiting.get(peer) ?? Promise.withResolvers<boolean>();
    this.#waiting.set(peer, waiting);
    const timer = setTimeout(() => waiting.resolve(false), this.#helloMs);
    try {
      return await waiting.promise;
    } finally {
      clearTimeout(timer);
      if (this.#waiting.get(peer) === waiting) this.#waiting.delete(peer);
    }
  }

  /** Answers a peer's hello; never rejects. */
  async answer(frames: Frames, connection: Connection): Promise<void> {
    try {
      const { header } = await nextFrame(frames, AbortSignal.timeout(this.#helloMs));
      const hello = this.#judge(connection, decodeHello(header));
      // Let in first: the peer may open streams as soon as it has the answer.
      if (typeof hello !== "string") this.#admit(connection, hello);
      await frames.send(typeof hello === "string" ? { kind: "refused", reason: hello } : this.#hello());
      await frames.close();
      if (typeof hello === "string") await connection.close();
    } catch (error) {
      const isOpen = connection.status === "open";
      if (isOpen) this.#listener.onRefused(connection.remotePeer.toString(), "it says no hello that can be read");
      connection.abort(error as Error);
    }
  }

  #hello(): AdmittedPeer["hello"] {
    return { ...this.#own, time: systemClock.wallMs() };
  }

  /** The dialling side says hello first; the other waits for it. */
  #opened(connection: Connection): void {
    if (connection.direction === "outbound") void this.#greet(connection);
    else setTimeout(() => this.#expectHello(connection), this.#helloMs).unref();
  }

  #closed(connection: Connection): void {
    const peer = connection.remotePeer.toString();
    if (this.#undecided.get(peer)?.connection === connection) this.#undecided.delete(peer);
    this.#waiting.get(peer)?.resolve(this.#peers.has(peer));
    const admitted = this.#peers.get(peer);
    if (!admitted?.connections.delete(connection) || admitted.connections.size > 0) return;
    this.#peers.delete(peer);
    this.#listener.onLeft(peer);
  }

  /** Never rejects: a peer that does not greet back is let go. */
  async #greet(connection: Connection): Promise<void> {
    try {
      const { id, answers } = protocols.hello;
      const signal = AbortSignal.timeout(this.#helloMs);
      const frames = new FrameStream(await connection.newStream(id, { signal }), answers);
      await frames.send(this.#hello());
      const { header } = await nextFrame(frames, signal);
      const hello = this.#judge(connection, decodeHello(header));
      void frames.close();
      if (typeof hello === "string") return await connection.close();
      this.#admit(connection, hello);
    } catch (error) {
      connection.abort(error as Error);
    }
  }

  #expectHello(connection: Connection): void {
    if (connection.status !== "open") return;
    if (this.#peers.get(connection.remotePeer.toString())?.connections.has(connection)) return;
    this.#listener.onRefused(connection.remotePeer.toString(), "it connects and says nothing");
    connection.abort(new Error("no hello was said"));
  }

  /** Their hello if we can talk, or why not. @throws {FormatError} for anything that is not a hello. */
  #judge(connection: Connection, message: HelloMessage | undefined): AdmittedPeer["hello"] | string {
    const peer = connection.remotePeer.toString();
    if (message === undefined) throw new FormatError("a hello that cannot be read");
    if (message.kind === "refused") {
      this.#listener.onRefused(peer, `it refused us: ${message.reason}`);
      return message.reason;
    }
    const isNew = connection.direction === "inbound" && !this.#peers.has(peer);
    const fault = helloFault(this.#own, message) ?? (isNew ? this.#listener.refusal(peer) : undefined);
    if (fault === undefined) return message;
    this.#listener.onRefused(peer, fault);
    return fault;
  }

  #admit(connection: Connection, hello: AdmittedPeer["hello"]): void {
    if (connection.status !== "open") return;
    const peer = connection.remotePeer.toString();
    if (this.#listener.admits(peer) === "policy") {
      this.#undecided.set(peer, { connection, hello });
      return this.#listener.onPolicyOnly(peer);
    }
    const known = this.#peers.get(peer);
    known?.connections.add(connection);
    if (known !== undefined) return;
    const clockAheadMs = hello.time === undefined ? undefined : hello.time - systemClock.wallMs();
    this.#peers.set(peer, { hello, connections: new Set([connection]), clockAheadMs });
    this.#waiting.get(peer)?.resolve(true);
    this.#listener.onReady(peer);
  }
}

const protocolVersion = 1;
/** Both sides are up and on one LAN; a busy event loop may still take a second or two. */
const defaultHelloMs = 5_000;

/**
 * Not at once: yamux opens a stream in a microtask of its own, which throws where nobody can catch it once the connection
 * has ended, and so ends the process.
 */
function endSoon(connection: Connection, reason: Error): void {
  setImmediate(() => connection.abort(reason));
}

function helloFault(own: AdmittedPeer["hello"], theirs: AdmittedPeer["hello"]): string | undefined {
  if (theirs.network !== own.network) return `it is in the network ${theirs.network}, this node in ${own.network}`;
  if (theirs.versions.includes(protocolVersion)) return undefined;
  return `it speaks versions ${theirs.versions.join(", ")} of the protocol, this node ${protocolVersion}: upgrade the older`;
}
