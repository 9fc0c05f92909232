import { noise } from "@chainsafe/libp2p-noise";
import type { GossipSubComponents } from "@libp2p/gossipsub";
import { identify } from "@libp2p/identify";
import type { Connection, Libp2p, PrivateKey, Stream } from "@libp2p/interface";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { networkPrologue } from "../../node/keys.ts";
import type { Swarm } from "../../node/ports.ts";
import { FrameStream } from "../../node/swarm/frame-stream.ts";
import { nextFrame } from "../../node/swarm/frames.ts";
import { type ProtocolName, protocols } from "../../node/swarm/protocols.ts";
import {
  decodeCatalog,
  decodeHello,
  decodeSwarm,
  type HelloMessage,
  type Message,
  type SwarmMessage,
} from "../../protocol/messages.ts";
import { encodeFrameHead } from "../../protocol/wire.ts";
import { networkKey } from "./libp2p-world.ts";
import { Events } from "./swarm-member.ts";

export const rightHello: Extract<HelloMessage, { kind: "hello" }> = {
  kind: "hello",
  versions: [1],
  network: "studio",
  name: "raw",
  site: "",
  rack: "",
};

interface RawPeerOptions {
  /** Told of all bytes that come after the handshake, decrypted. */
  readonly onBytes?: (bytes: number) => void;
  readonly privateKey?: PrivateKey;
  readonly services?: Readonly<Record<string, (components: GossipSubComponents) => unknown>>;
}

/** A bare libp2p host that keeps to no rule: it says what a test tells it to say. */
export class RawPeer implements AsyncDisposable {
  readonly host: Libp2p;
  /** What reached it: names of events and of protocols. */
  readonly saw: Events<string> = new Events();

  private constructor(host: Libp2p) {
    this.host = host;
    host.addEventListener("connection:open", () => this.saw.add("connection"));
    host.addEventListener("connection:close", () => this.saw.add("closed"));
    host.addEventListener("peer:identify", () => this.saw.add("identify"));
    host.addEventListener("peer:update", ({ detail }) => {
      if (detail.peer.protocols.length > 0) this.saw.add(`protocols ${detail.peer.protocols.join()}`);
    });
  }

  /** `services` are added to its identify. */
  static async open(
    prologue: Uint8Array = networkPrologue(networkKey, "studio"),
    { privateKey, services = {}, onBytes }: RawPeerOptions = {},
  ): Promise<RawPeer> {
    const host = await createLibp2p({
      ...(privateKey === undefined ? {} : { privateKey }),
      transports: [tcp()],
      connectionEncrypters: [noise({ prologueBytes: prologue })],
      streamMuxers: [tapped(yamux(), onBytes)],
      services: { identify: identify(), ...services },
      addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
      connectionManager: { reconnectRetries: 0 },
    });
    return new RawPeer(host);
  }

  get address(): string {
    return this.host.getMultiaddrs()[0]!.toString();
  }

  dial(swarm: Pick<Swarm, "addresses">): Promise<Connection> {
    return this.host.dial(multiaddr(swarm.addresses()[0]!));
  }

  /** A stream and, where the test reads frames, the frames on it. */
  async stream(connection: Connection, name: ProtocolName): Promise<Stream> {
    return await connection.newStream(protocols[name].id, { maxOutboundStreams: 1_000 });
  }

  /** Says a hello. Answers what it was answered. */
  async hello(connection: Connection, hello: HelloMessage = rightHello): Promise<HelloMessage | undefined> {
    const frames = new FrameStream(await this.stream(connection, "hello"), protocols.hello.answers);
    await frames.send(hello);
    const { header } = await nextFrame(frames, AbortSignal.timeout(5_000));
    void frames.close();
    return decodeHello(header);
  }

  /** Dials and is let in. */
  async enter(swarm: Swarm): Promise<Connection> {
    const connection = await this.dial(swarm);
    await this.hello(connection);
    return connection;
  }

  /** Asks for a record. */
  async record(connection: Connection): Promise<string | undefined> {
    const frames = new FrameStream(await this.stream(connection, "catalog"), protocols.catalog.answers);
    await frames.send({ kind: "want-record", variant: "aa".repeat(32) } as Message);
    const { header } = await nextFrame(frames, AbortSignal.timeout(5_000));
    void frames.close();
    return decodeCatalog(header)?.kind;
  }

  /** Opens a swarm stream and remembers what comes. */
  async swarm(connection: Connection): Promise<RawStream> {
    return new RawStream(await this.stream(connection, "swarm"));
  }

  /** Answers a hello in a way of the test's own. */
  async serveHello(answer: (frames: FrameStream) => void): Promise<void> {
    await this.host.handle(protocols.hello.id, (stream) => answer(new FrameStream(stream, protocols.hello.asks)));
  }

  /** Serves in a way of the test's own, once a payload was joined. */
  async serveSwarm(serve: (stream: RawStream) => void): Promise<void> {
    await this.host.handle(protocols.swarm.id, (opened) => {
      const stream = new RawStream(opened);
      void stream.came
        .until("a join", ({ kind }) => kind === "join")
        .then(
          () => serve(stream),
          () => undefined,
        );
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host.stop();
  }
}

/** One swarm stream of a raw peer. */
export class RawStream {
  readonly stream: Stream;
  readonly frames: FrameStream;
  readonly came: Events<SwarmMessage | { readonly kind: "ended" }> = new Events();

  constructor(stream: Stream) {
    this.stream = stream;
    this.frames = new FrameStream(stream, protocols.swarm.answers);
    this.frames.listen(
      ({ header }) => {
        const message = decodeSwarm(header);
        if (message !== undefined) this.came.add(message);
      },
      () => this.came.add({ kind: "ended" }),
    );
  }

  /** Bytes that no well-behaved peer sends. */
  raw(header: Uint8Array, bodyBytes = 0): void {
    this.stream.send(encodeFrameHead(header, bodyBytes));
  }

  say(message: SwarmMessage): Promise<void> {
    return this.frames.send(message);
  }

  ended(withinMs?: number): Promise<unknown> {
    return this.came.until("the end of the stream", ({ kind }) => kind === "ended", withinMs);
  }
}

type Muxer = ReturnType<typeof yamux>;

/** The same multiplexer, with an ear on what it is given: all that was decrypted. It listens first, or it would miss bytes. */
function tapped(muxer: Muxer, onBytes: ((bytes: number) => void) | undefined): Muxer {
  if (onBytes === undefined) return muxer;
  return (...words) => {
    const factory = muxer(...words);
    const create = factory.createStreamMuxer.bind(factory);
    factory.createStreamMuxer = (connection) => {
      const made = create(connection);
      connection.addEventListener("message", ({ data }) => onBytes(data.byteLength));
      return made;
    };
    return factory;
  };
}
