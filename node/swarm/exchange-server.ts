import type { PeerName } from "../../protocol/directory.ts";
import { FormatError } from "../../protocol/errors.ts";
import type { PayloadId } from "../../protocol/hash.ts";
import { chunkBytesTarget, joinsPerStreamMax, requestItemsMax } from "../../protocol/limits.ts";
import { decodeSwarm, type SwarmMessage } from "../../protocol/messages.ts";
import type { Service, ServiceAction, ServiceEvent, ServiceRequest } from "../../protocol/service.ts";
import type { Frame } from "../../protocol/wire.ts";
import type { ServedPayload, SwarmHandlers } from "../ports.ts";
import { Allowance } from "./allowance.ts";
import type { Frames } from "./frames.ts";

/** A peer's stream, on which it asks us. */
interface ServedStream {
  readonly peer: PeerName;
  readonly frames: Frames;
  readonly joins: Map<number, ServedJoin>;
  /** Joins that it ever asked for. */
  joined: number;
  /** Joins one after the other, so that a flood of them costs one look-up at a time. */
  joining: Promise<void>;
  readonly messages: Allowance;
  readonly joinMessages: Allowance;
  /** Joins that wait for their look-up. */
  readonly waiting: Set<number>;
  /** Whether the peer is being told of fresh items now. */
  isTelling: boolean;
}

interface ServedJoin {
  readonly payload: PayloadId;
  readonly served: ServedPayload;
  /** Items stored since the peer was last told. */
  readonly fresh: number[];
}

/** The serving side of the swarm protocol: all peers' streams, and one `Service` that says who gets what next. */
export class ExchangeServer {
  readonly #handlers: SwarmHandlers;
  readonly #service: Service;
  readonly #streams = new Map<number, ServedStream>();
  #nextStream = 0;
  #telling: NodeJS.Timeout | undefined;

  constructor(handlers: SwarmHandlers, service: Service) {
    this.#handlers = handlers;
    this.#service = service;
  }

  /** Serves a stream that an admitted peer has opened. */
  accept(peer: PeerName, frames: Frames): void {
    const id = this.#nextStream++;
    const stream: ServedStream = {
      peer,
      frames,
      joins: new Map(),
      joined: 0,
      joining: Promise.resolve(),
      messages: new Allowance(messagesBurst, messagesPerSecond),
      joinMessages: new Allowance(joinsBurst, joinsPerSecond),
      waiting: new Set(),
      isTelling: false,
    };
    this.#streams.set(id, stream);
    const idle = setTimeout(() => {
      if (stream.joined === 0) frames.abort(new FormatError("it opens a stream and asks for nothing"));
    }, questionMs).unref();
    frames.listen(
      (frame) => this.#take(id, stream, frame),
      () => {
        clearTimeout(idle);
        this.#streams.delete(id);
        this.#step({ kind: "left", stream: id });
        void frames.close();
      },
    );
  }

  /** Items of a payload on its way in have been stored: whoever joined it is told soon. */
  stored(payload: PayloadId, items: readonly number[]): void {
    for (const { joins } of this.#streams.values()) {
      for (const join of joins.values()) {
        if (join.payload === payload) for (const item of items) join.fresh.push(item);
      }
    }
    this.#telling ??= setTimeout(() => {
      this.#telling = undefined;
      for (const stream of this.#streams.values()) if (!stream.isTelling) void this.#tell(stream);
    }, coalesceMs).unref();
  }

  /** Ends every stream. */
  close(): void {
    clearTimeout(this.#telling);
    for (const { frames } of this.#streams.values()) frames.abort(new Error("the node stops"));
  }

  /** Says what is fresh, one frame after the other: a peer that reads slowly is told later, and costs nothing. */
  async #tell(stream: ServedStream): Promise<void> {
    stream.isTelling = true;
    try {
      for (const [number, { fresh }] of stream.joins) {
        while (fresh.length > 0) {
          await stream.frames.send({ kind: "have", number, items: fresh.splice(0, requestItemsMax) });
        }
      }
    } catch {
      // The stream has ended, and whoever listens has heard of that.
    }
    stream.isTelling = false;
  }

  #take(id: number, stream: ServedStream, { header }: Frame): void {
    const message = decodeSwarm(header);
    if (message === undefined) throw new FormatError("a swarm message that cannot be read");
    if (!stream.messages.take(1, performance.now())) throw new FormatError("it floods us with messages");
    switch (message.kind) {
      case "join":
        return this.#join(id, stream, message.number, message.payload);
      case "leave":
        stream.waiting.delete(message.number);
        stream.joins.delete(message.number);
        return;
      case "request":
        return this.#request(id, stream, message.number, message.items);
      case "cancel":
        return this.#step({ kind: "cancelled", stream: id, number: message.number, items: message.items });
      case "joined":
      case "have":
      case "piece":
      case "busy":
      case "gone":
        throw new FormatError("a swarm message from the wrong side");
    }
  }

  #join(id: number, stream: ServedStream, number: number, payload: PayloadId): void {
    if (stream.joins.has(number) || stream.waiting.has(number)) throw new FormatError("a number is used once");
    if (stream.joins.size + stream.waiting.size >= joinsPerStreamMax) {
      throw new FormatError("too many joins on a stream");
    }
    if (!stream.joinMessages.take(1, performance.now())) throw new FormatError("it joins over and over");
    stream.joined++;
    this.#handlers.wanted(stream.peer, payload);
    stream.waiting.add(number);
    stream.joining = stream.joining.then(async () => {
      if (!stream.waiting.has(number)) return;
      const served = await this.#handlers.serve(payload).catch(() => undefined);
      // It may have left meanwhile, or gone.
      if (!stream.waiting.delete(number) || !this.#streams.has(id)) return;
      if (served === undefined) return say(stream.frames, { kind: "gone", number, items: [] });
      const have = served.have();
      stream.joins.set(number, { payload, served, fresh: [] });
      const all = have === "all";
      say(stream.frames, { kind: "joined", number, all }, all ? undefined : have.bytes.slice());
    });
  }

  #request(id: number, stream: ServedStream, number: number, items: readonly number[]): void {
    const join = stream.joins.get(number);
    if (join === undefined) return say(stream.frames, { kind: "gone", number, items });
    const have = join.served.have();
    const { index } = join.served;
    const isHere = (item: number) => item < index.items && (have === "all" || have.has(item));
    const lacking = items.filter((item) => !isHere(item));
    if (lacking.length > 0) say(stream.frames, { kind: "gone", number, items: lacking });
    const requests = items.filter(isHere).map((item) => ({
      peer: stream.peer,
      stream: id,
      number,
      item,
      // What a chunk measures is known when it has been read; its share of the slots is planned by the mean.
      sizeBytes: item < index.segments ? join.served.root.segments[item]!.sizeBytes : chunkBytesTarget,
    }));
    this.#step({ kind: "requested", requests });
  }

  #step(event: ServiceEvent): void {
    for (const action of this.#service.step(event)) this.#perform(action);
  }

  #perform(action: ServiceAction): void {
    switch (action.kind) {
      case "send":
        void this.#send(action.request).then(() => this.#step({ kind: "done", request: action.request }));
        return;
      case "refuse": {
        const { stream, number } = action.requests[0]!;
        const items = action.requests.map((request) => request.item);
        const frames = this.#streams.get(stream)?.frames;
        if (frames !== undefined) say(frames, { kind: "busy", number, items, retryAfterMs: action.retryAfterMs });
      }
    }
  }

  /** Reads one item back and sends it; never rejects. */
  async #send({ peer, stream: id, number, item }: ServiceRequest): Promise<void> {
    const stream = this.#streams.get(id);
    const join = stream?.joins.get(number);
    if (stream === undefined || join === undefined) return;
    try {
      const bytes = await join.served.load(item);
      if (stream.joins.get(number) !== join) return;
      await stream.frames.send({ kind: "piece", number, item }, bytes);
      this.#handlers.gave(peer, bytes.length);
    } catch {
      say(stream.frames, { kind: "gone", number, items: [item] });
    }
  }
}

/** What a peer is told of fresh items waits this long for others (DESIGN section 6). */
const coalesceMs = 75;
/** Who opens a stream has its question ready. */
const questionMs = 10_000;
/** An ask for each item that came, at a gigabyte a second of the smallest chunks. */
const messagesBurst = 20_000;
const messagesPerSecond = 5_000;
/** A join looks for a payload on the disk; who fetches thousands of small packages makes some tens a second. */
const joinsBurst = 512;
const joinsPerSecond = 100;

function say(frames: Frames, message: SwarmMessage, body?: Uint8Array): void {
  // Where it cannot be said the stream has ended, and whoever listens has heard of that.
  void frames.send(message, body).catch(() => undefined);
}
