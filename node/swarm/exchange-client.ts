import { Bitmap } from "../../protocol/bitmap.ts";
import { FormatError, UnreachableError } from "../../protocol/errors.ts";
import type { PayloadId } from "../../protocol/hash.ts";
import { requestItemsMax } from "../../protocol/limits.ts";
import { decodeSwarm, type SwarmMessage } from "../../protocol/messages.ts";
import type { TrafficClass } from "../../protocol/politeness.ts";
import type { Frame } from "../../protocol/wire.ts";
import type { Join, JoinListener } from "../ports.ts";
import { Allowance } from "./allowance.ts";
import type { Frames } from "./frames.ts";

interface JoinState {
  readonly items: number;
  hasJoined: boolean;
  /** What the peer has: what it says before its answer was taken in belongs to the answer. */
  have: Bitmap | "all" | undefined;
  readonly listener: JoinListener;
  /** Items that it has said it got since. */
  toldItems: number;
  /** Asked for and not yet answered: nothing else is taken. */
  readonly asked: Set<number>;
  readonly answer: PromiseWithResolvers<Bitmap | "all" | undefined>;
}

export interface ExchangeClientOptions {
  /** Called when no payload is joined any more, or the stream has ended. */
  readonly onIdle: () => void;
  /** Called when a join is not answered in time. */
  readonly onSilent: () => void;
  readonly joinMs?: number | undefined;
}

/** Our side of one swarm stream: we ask, the peer serves. */
export class ExchangeClient {
  readonly #stream: Frames;
  readonly #joins = new Map<number, JoinState>();
  readonly #onIdle: () => void;
  readonly #joinMs: number;
  readonly #onSilent: () => void;
  /** Frames that nobody asked for: some are late, and honest. */
  readonly #useless = new Allowance(uselessBurst, uselessPerSecond);
  #nextNumber = 0;
  #hasEnded = false;

  constructor(stream: Frames, { onIdle, onSilent, joinMs = defaultJoinMs }: ExchangeClientOptions) {
    this.#stream = stream;
    this.#onIdle = onIdle;
    this.#onSilent = onSilent;
    this.#joinMs = joinMs;
    stream.listen(
      (frame) => this.#take(frame),
      () => this.#end(),
    );
  }

  /** Whether its stream has ended or is ending: nothing more can be joined here. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Asks what the peer has of a payload of `items` items. @throws {UnreachableError} when no answer comes. */
  async join(
    payload: PayloadId,
    items: number,
    listener: JoinListener,
    traffic?: TrafficClass,
  ): Promise<Join | undefined> {
    if (this.#hasEnded) throw new UnreachableError("the peer ended the stream");
    const number = this.#nextNumber++;
    const answer = Promise.withResolvers<Bitmap | "all" | undefined>();
    const state: JoinState = {
      items,
      hasJoined: false,
      have: undefined,
      toldItems: 0,
      listener,
      asked: new Set(),
      answer,
    };
    this.#joins.set(number, state);
    const timer = setTimeout(() => {
      this.#onSilent();
      // It may answer yet, and would then keep a join that nobody uses.
      this.#say({ kind: "leave", number });
      answer.reject(new UnreachableError("the peer does not answer"));
    }, this.#joinMs);
    try {
      this.#stream.send({ kind: "join", number, payload, ...asClass(traffic) }).catch(answer.reject);
      const have = await answer.promise;
      if (have !== undefined) return this.#joined(number, have);
      this.#drop(number);
      return undefined;
    } catch (error) {
      this.#drop(number);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * A payload that is asked for without a word about what is there: its first request is the one message that it takes.
   * @throws {UnreachableError} when the stream has ended.
   */
  take(payload: PayloadId, items: number, listener: JoinListener, traffic?: TrafficClass): Join {
    if (this.#hasEnded) throw new UnreachableError("the peer ended the stream");
    const number = this.#nextNumber++;
    const asked = new Set<number>();
    this.#joins.set(number, {
      items,
      hasJoined: true,
      have: "all",
      toldItems: 0,
      listener,
      asked,
      answer: Promise.withResolvers(),
    });
    const join = this.#joined(number, "all");
    let hasAsked = false;
    const request = (wanted: readonly number[]) => {
      if (hasAsked || wanted.length === 0 || !this.#joins.has(number)) return join.request(wanted);
      hasAsked = true;
      const first = wanted.slice(0, requestItemsMax);
      for (const item of first) asked.add(item);
      this.#say({ kind: "take", number, payload, items: first, ...asClass(traffic) });
      join.request(wanted.slice(requestItemsMax));
    };
    return { ...join, request };
  }

  /** Ends the stream; every listener hears of it. */
  abort(reason: Error): void {
    this.#stream.abort(reason);
  }

  #joined(number: number, have: Bitmap | "all"): Join {
    return {
      have,
      request: (items) => {
        const asked = this.#joins.get(number)?.asked;
        for (const item of items) asked?.add(item);
        if (asked !== undefined) this.#sayItems("request", number, items);
      },
      cancel: (items) => {
        const asked = this.#joins.get(number)?.asked;
        for (const item of items) asked?.delete(item);
        if (asked !== undefined) this.#sayItems("cancel", number, items);
      },
      leave: () => {
        if (!this.#joins.has(number)) return;
        this.#say({ kind: "leave", number });
        this.#drop(number);
      },
    };
  }

  #sayItems(kind: "request" | "cancel", number: number, items: readonly number[]): void {
    for (let i = 0; i < items.length; i += requestItemsMax) {
      this.#say({ kind, number, items: items.slice(i, i + requestItemsMax) });
    }
  }

  #say(message: SwarmMessage): void {
    // Where it cannot be said the stream has ended, and the listeners have heard of that.
    void this.#stream.send(message).catch(() => undefined);
  }

  #take({ header, body }: Frame): void {
    const message = decodeSwarm(header);
    if (message === undefined) throw new FormatError("a swarm message that cannot be read");
    const join = this.#joins.get(message.number);
    // Left meanwhile: what still comes for it is of no use.
    if (join === undefined) return this.#bear("frames of a payload that nobody joined");
    const { listener, asked, answer } = join;
    switch (message.kind) {
      case "joined":
        if (join.hasJoined) throw new FormatError("an answer that nobody asked for");
        join.have = haveOf(message.all, body, join.items);
        join.hasJoined = true;
        return answer.resolve(join.have);
      case "have":
        join.toldItems += message.items.length;
        if (join.toldItems > 2 * join.items) this.#bear("what it has, over and over");
        if (join.have instanceof Bitmap) for (const item of message.items) if (item < join.items) join.have.add(item);
        return listener.have(message.items);
      case "piece":
        if (!asked.delete(message.item)) return this.#bear("pieces that nobody asked for");
        return listener.piece(message.item, body);
      case "busy":
        for (const item of message.items) asked.delete(item);
        return listener.busy(message.items, message.retryAfterMs);
      case "gone":
        for (const item of message.items) asked.delete(item);
        if (join.hasJoined) return listener.gone(message.items);
        return answer.resolve(undefined);
      case "join":
      case "take":
      case "leave":
      case "request":
      case "cancel":
        throw new FormatError("a swarm message from the wrong side");
    }
  }

  /** @throws {FormatError} when there is no end to it. */
  #bear(what: string): void {
    if (!this.#useless.take(1, performance.now())) throw new FormatError(`it floods us with ${what}`);
  }

  #drop(number: number): void {
    this.#joins.delete(number);
    if (this.#joins.size > 0 || this.#hasEnded) return;
    this.#hasEnded = true;
    this.#onIdle();
    void this.#stream.close();
  }

  #end(): void {
    const wasEnded = this.#hasEnded;
    this.#hasEnded = true;
    for (const { answer, listener } of this.#joins.values()) {
      answer.promise.catch(() => undefined);
      answer.reject(new UnreachableError("the peer ended the stream"));
      listener.ended();
    }
    this.#joins.clear();
    if (!wasEnded) this.#onIdle();
  }
}

function asClass(traffic: TrafficClass | undefined): { readonly traffic?: TrafficClass } {
  return traffic === undefined ? {} : { traffic };
}

function haveOf(all: boolean, body: Uint8Array, items: number): Bitmap | "all" {
  if (all) return "all";
  const bitmap = Bitmap.parse(body, items);
  if (bitmap === undefined) throw new FormatError("a have-map of another length than its payload");
  return bitmap;
}

/** A LAN peer that is up answers within milliseconds; its event loop may be busy for a second. */
const defaultJoinMs = 3_000;
/** What was cancelled may have been on its way: a window of the smallest items, and what comes of it in a minute. */
const uselessBurst = 4_096;
const uselessPerSecond = 64;
