import type { PeerName } from "../../protocol/directory.ts";
import { FormatError } from "../../protocol/errors.ts";
import type { PayloadId } from "../../protocol/hash.ts";
import { chunkBytesTarget, joinsPerStreamMax, requestItemsMax, smallPayloadBytesMax } from "../../protocol/limits.ts";
import { decodeSwarm, type SwarmMessage } from "../../protocol/messages.ts";
import { type ClassRates, Politeness, type TrafficClass } from "../../protocol/politeness.ts";
import {
  defaultServiceLimits,
  Service,
  type ServiceAction,
  type ServiceEvent,
  type ServiceRequest,
} from "../../protocol/service.ts";
import type { Frame } from "../../protocol/wire.ts";
import type { ServedPayload, SwarmHandlers } from "../ports.ts";
import { Allowance } from "./allowance.ts";
import type { Frames } from "./frames.ts";
import { News } from "./news.ts";

type JoinMessage = Extract<SwarmMessage, { readonly kind: "join" | "take" }>;

/** A peer's stream, on which it asks us. */
interface ServedStream {
  readonly id: number;
  readonly peer: PeerName;
  readonly frames: Frames;
  readonly joins: Map<number, ServedJoin>;
  /** Joins that it ever asked for. */
  joined: number;
  /** Joins one after the other, so that a flood of them costs one look-up at a time. */
  joining: Promise<void>;
  readonly messages: Allowance;
  readonly joinMessages: Allowance;
  /** Joins that wait for their look-up, with what a `take` asks for. */
  readonly waiting: Map<number, number[] | undefined>;
}

interface ServedJoin {
  readonly stream: ServedStream;
  readonly number: number;
  readonly payload: PayloadId;
  readonly served: ServedPayload;
  readonly traffic: TrafficClass | undefined;
  /** Whether it was let in as a link; a small payload that is only taken needs none. */
  readonly isLink: boolean;
  /** Items stored since the peer was last told. */
  readonly fresh: number[];
  /** Whether the peer is being told of fresh items now. */
  isTelling: boolean;
}

/** The serving side of the swarm protocol: all peers' streams, and one `Service` that says who gets what next. */
export class ExchangeServer {
  readonly #handlers: SwarmHandlers;
  readonly #politeness: Politeness;
  readonly #service: Service;
  readonly #news = new News<PayloadId>((payload) => this.#tellAll(payload));
  readonly #streams = new Map<number, ServedStream>();
  readonly #joins = new Map<PayloadId, Set<ServedJoin>>();
  #nextStream = 0;
  #waking: NodeJS.Timeout | undefined;

  /** `up`: what peers may be sent, class by class; without it all goes at once. */
  constructor(handlers: SwarmHandlers, up: ClassRates = {}) {
    this.#handlers = handlers;
    this.#politeness = new Politeness(up);
    this.#service = new Service(defaultServiceLimits, this.#politeness);
  }

  /** Serves a stream that an admitted peer has opened. */
  accept(peer: PeerName, frames: Frames): void {
    const id = this.#nextStream++;
    const stream: ServedStream = {
      id,
      peer,
      frames,
      joins: new Map(),
      joined: 0,
      joining: Promise.resolve(),
      messages: new Allowance(messagesBurst, messagesPerSecond),
      joinMessages: new Allowance(joinsBurst, joinsPerSecond),
      waiting: new Map(),
    };
    this.#streams.set(id, stream);
    const idle = setTimeout(() => {
      if (stream.joined === 0) frames.abort(new FormatError("it opens a stream and asks for nothing"));
    }, questionMs).unref();
    frames.listen(
      (frame) => this.#take(stream, frame),
      () => {
        clearTimeout(idle);
        this.#streams.delete(id);
        this.#step({ kind: "left", stream: id });
        for (const join of [...stream.joins.values()]) this.#leave(join);
        void frames.close();
      },
    );
  }

  /** Items of a payload on its way in have been stored: whoever joined it is told soon. */
  stored(payload: PayloadId, items: readonly number[]): void {
    const joins = this.#joins.get(payload);
    if (joins === undefined) return;
    for (const { fresh } of joins) for (const item of items) fresh.push(item);
    this.#news.add(payload);
  }

  /** Lets go of a peer's link: it is told, and may join again. */
  part(peer: PeerName, payload: PayloadId): void {
    for (const join of [...(this.#joins.get(payload) ?? [])]) {
      if (join.stream.peer !== peer || !join.isLink) continue;
      this.#drop(join);
      say(join.stream.frames, { kind: "gone", number: join.number, items: [] });
    }
  }

  /** From now on with other rates. */
  setRates(up: ClassRates): void {
    this.#politeness.setRates(up, performance.now());
    this.#step({ kind: "woke" });
  }

  /** Ends every stream. */
  close(): void {
    clearTimeout(this.#waking);
    this.#news.stop();
    for (const { frames } of this.#streams.values()) frames.abort(new Error("the node stops"));
  }

  #tellAll(payload: PayloadId): void {
    for (const join of this.#joins.get(payload) ?? []) if (!join.isTelling) void this.#tell(join);
  }

  /** Says what is fresh, one frame after the other: a peer that reads slowly is told later, and costs nothing. */
  async #tell(join: ServedJoin): Promise<void> {
    const { stream, number, fresh } = join;
    join.isTelling = true;
    try {
      while (fresh.length > 0 && stream.joins.get(number) === join) {
        await stream.frames.send({ kind: "have", number, items: fresh.splice(0, requestItemsMax) });
      }
    } catch {
      // The stream has ended, and whoever listens has heard of that.
    }
    join.isTelling = false;
  }

  #take(stream: ServedStream, { header }: Frame): void {
    const message = decodeSwarm(header);
    if (message === undefined) throw new FormatError("a swarm message that cannot be read");
    if (!stream.messages.take(1, performance.now())) throw new FormatError("it floods us with messages");
    const { number } = message;
    switch (message.kind) {
      case "join":
      case "take":
        return this.#join(stream, message);
      case "leave": {
        stream.waiting.delete(number);
        const join = stream.joins.get(number);
        return join === undefined ? undefined : this.#leave(join);
      }
      case "request":
        return this.#request(stream, number, message.items);
      case "cancel":
        return this.#cancel(stream, number, message.items);
      case "joined":
      case "have":
      case "piece":
      case "busy":
      case "gone":
        throw new FormatError("a swarm message from the wrong side");
    }
  }

  #join(stream: ServedStream, message: JoinMessage): void {
    const { number, payload } = message;
    if (stream.joins.has(number) || stream.waiting.has(number)) throw new FormatError("a number is used once");
    if (stream.joins.size + stream.waiting.size >= joinsPerStreamMax) {
      throw new FormatError("too many joins on a stream");
    }
    if (!stream.joinMessages.take(1, performance.now())) throw new FormatError("it joins over and over");
    stream.joined++;
    this.#handlers.wanted(stream.peer, payload);
    stream.waiting.set(number, message.kind === "take" ? [...message.items] : undefined);
    stream.joining = stream.joining.then(async () => {
      if (!stream.waiting.has(number)) return;
      const served = await this.#handlers.serve(payload).catch(() => undefined);
      const items = stream.waiting.get(number);
      // It may have left meanwhile, or gone.
      if (!stream.waiting.delete(number) || !this.#streams.has(stream.id)) return;
      if (served === undefined || !this.#mayHave(stream.peer, message, served)) {
        return say(stream.frames, { kind: "gone", number, items: [] });
      }
      this.#keep(stream, message, served);
      if (items !== undefined) return this.#request(stream, number, items);
      const have = served.have();
      const all = have === "all";
      say(stream.frames, { kind: "joined", number, all }, all ? undefined : have.bytes.slice());
    });
  }

  /** Whether a peer may have of a payload what it asks for. */
  #mayHave(peer: PeerName, { kind, payload }: JoinMessage, { root }: ServedPayload): boolean {
    return kind === "join" ? this.#handlers.mayJoin(peer, payload) : root.bytes <= smallPayloadBytesMax;
  }

  #keep(stream: ServedStream, { kind, number, payload, traffic }: JoinMessage, served: ServedPayload): void {
    const isLink = kind === "join";
    const join: ServedJoin = { stream, number, payload, served, traffic, isLink, fresh: [], isTelling: false };
    stream.joins.set(number, join);
    this.#joins.set(payload, (this.#joins.get(payload) ?? new Set()).add(join));
  }

  #drop(join: ServedJoin): void {
    const { stream, number, payload } = join;
    stream.joins.delete(number);
    // What it still waits for must not cost others their rate.
    this.#step({ kind: "left", stream: stream.id, number });
    const joins = this.#joins.get(payload);
    joins?.delete(join);
    if (joins?.size === 0) this.#joins.delete(payload);
  }

  /** The peer has left: the last of its links of a payload is the end of them. */
  #leave(join: ServedJoin): void {
    this.#drop(join);
    const { payload, isLink, stream } = join;
    if (!isLink) return;
    for (const other of this.#joins.get(payload) ?? []) if (other.isLink && other.stream.peer === stream.peer) return;
    this.#handlers.unjoined(stream.peer, payload);
  }

  #request(stream: ServedStream, number: number, items: readonly number[]): void {
    const waiting = stream.waiting.get(number);
    if (waiting !== undefined) {
      if (waiting.length + items.length <= requestItemsMax) waiting.push(...items);
      else say(stream.frames, { kind: "busy", number, items, retryAfterMs: lookUpMs });
      return;
    }
    const join = stream.joins.get(number);
    if (join === undefined) return say(stream.frames, { kind: "gone", number, items });
    const have = join.served.have();
    const { index } = join.served;
    const isHere = (item: number) => item < index.items && (have === "all" || have.has(item));
    const lacking = items.filter((item) => !isHere(item));
    if (lacking.length > 0) say(stream.frames, { kind: "gone", number, items: lacking });
    this.#step({ kind: "requested", requests: this.#requestsOf(join, items.filter(isHere)) });
  }

  #requestsOf(join: ServedJoin, items: readonly number[]): ServiceRequest[] {
    const { stream, number, payload, served, traffic } = join;
    const { id, peer } = stream;
    const demand = this.#handlers.demand(payload);
    const peerItems = demand?.heldBy(peer) ?? 0;
    return items.map((item) => ({
      ...{ peer, stream: id, number, item, payload, peerItems },
      sizeBytes: sizeOf(served, item),
      isRare: demand !== undefined && demand.copies(item) < rareCopies,
      ...(traffic === undefined ? {} : { traffic }),
    }));
  }

  #cancel(stream: ServedStream, number: number, items: readonly number[]): void {
    const waiting = stream.waiting.get(number);
    if (waiting !== undefined) {
      const gone = new Set(items);
      stream.waiting.set(
        number,
        waiting.filter((item) => !gone.has(item)),
      );
    }
    this.#step({ kind: "cancelled", stream: stream.id, number, items });
  }

  #step(event: ServiceEvent): void {
    for (const action of this.#service.step(event, performance.now())) this.#perform(action);
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
        return;
      }
      case "wakeAt": {
        const waitMs = Math.min(timerMsMax, Math.max(0, Math.ceil(action.atMs - performance.now())));
        clearTimeout(this.#waking);
        this.#waking = setTimeout(() => this.#step({ kind: "woke" }), waitMs).unref();
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

/** Who opens a stream has its question ready. */
const questionMs = 10_000;
/** An ask for each item that came, at a gigabyte a second of the smallest chunks. */
const messagesBurst = 20_000;
const messagesPerSecond = 5_000;
/** A join looks for a payload on the disk; who fetches thousands of small packages makes some tens a second. */
const joinsBurst = 512;
const joinsPerSecond = 100;
/** Fewer known copies than this, and an item goes out before others (DESIGN section 7, rule 4). */
const rareCopies = 3;
/** About how long it takes to find out what is here. */
const lookUpMs = 50;
const timerMsMax = 2 ** 31 - 1;

/** What an item measures, or where that is not known yet what chunks measure on the average. */
function sizeOf({ index, root, sizeOf: known }: ServedPayload, item: number): number {
  if (item < index.segments) return root.segments[item]!.sizeBytes;
  return known?.(item) ?? Math.min(chunkBytesTarget, root.bytes);
}

function say(frames: Frames, message: SwarmMessage, body?: Uint8Array): void {
  // Where it cannot be said the stream has ended, and whoever listens has heard of that.
  void frames.send(message, body).catch(() => undefined);
}
