import { Bitmap } from "../../protocol/bitmap.ts";
import { FormatError, UnreachableError } from "../../protocol/errors.ts";
import type { PayloadId } from "../../protocol/hash.ts";
import { requestItemsMax } from "../../protocol/limits.ts";
import { decodeSwarm, type SwarmMessage } from "../../protocol/messages.ts";
import type { Frame } from "../../protocol/wire.ts";
import type { Join, JoinListener } from "../ports.ts";
import type { FrameStream } from "./frame-stream.ts";

interface JoinState {
  readonly items: number;
  readonly listener: JoinListener;
  /** Asked for and not yet answered: nothing else is taken. */
  readonly asked: Set<number>;
  readonly answer: PromiseWithResolvers<Bitmap | "all" | undefined>;
}

/** Our side of one swarm stream: we ask, the peer serves. */
export class ExchangeClient {
  readonly #stream: FrameStream;
  readonly #joins = new Map<number, JoinState>();
  readonly #onIdle: () => void;
  #nextNumber = 0;
  #hasEnded = false;

  /** `onIdle` is called when no payload is joined any more, or the stream has ended. */
  constructor(stream: FrameStream, onIdle: () => void) {
    this.#stream = stream;
    this.#onIdle = onIdle;
    stream.listen(
      (frame) => this.#take(frame),
      () => this.#end(),
    );
  }

  /** Asks what the peer has of a payload of `items` items. @throws {UnreachableError} when no answer comes. */
  async join(payload: PayloadId, items: number, listener: JoinListener): Promise<Join | undefined> {
    const number = this.#nextNumber++;
    const answer = Promise.withResolvers<Bitmap | "all" | undefined>();
    const state: JoinState = { items, listener, asked: new Set(), answer };
    this.#joins.set(number, state);
    const timer = setTimeout(() => answer.reject(new UnreachableError("the peer does not answer")), joinMs);
    try {
      await this.#stream.send({ kind: "join", number, payload });
      const have = await answer.promise;
      if (have === undefined) this.#drop(number);
      return have === undefined ? undefined : this.#joined(number, state, have);
    } catch (error) {
      this.#drop(number);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the stream; every listener hears of it. */
  abort(reason: Error): void {
    this.#stream.abort(reason);
  }

  #joined(number: number, state: JoinState, have: Bitmap | "all"): Join {
    return {
      have,
      request: (items) => {
        for (let i = 0; i < items.length; i += requestItemsMax) {
          const some = items.slice(i, i + requestItemsMax);
          for (const item of some) state.asked.add(item);
          this.#say({ kind: "request", number, items: some });
        }
      },
      cancel: (items) => {
        for (const item of items) state.asked.delete(item);
        this.#say({ kind: "cancel", number, items: items.slice(0, requestItemsMax) });
      },
      leave: () => {
        if (!this.#joins.has(number)) return;
        this.#say({ kind: "leave", number });
        this.#drop(number);
      },
    };
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
    if (join === undefined) return;
    switch (message.kind) {
      case "joined":
        return join.answer.resolve(haveOf(message.all, body, join.items));
      case "have":
        return join.listener.have(message.items);
      case "piece":
        if (join.asked.delete(message.item)) join.listener.piece(message.item, body);
        return;
      case "busy":
        for (const item of message.items) join.asked.delete(item);
        return join.listener.busy(message.items, message.retryAfterMs);
      case "gone":
        for (const item of message.items) join.asked.delete(item);
        join.answer.resolve(undefined);
        return join.listener.gone(message.items);
      case "join":
      case "leave":
      case "request":
      case "cancel":
        throw new FormatError("a swarm message from the wrong side");
    }
  }

  #drop(number: number): void {
    this.#joins.delete(number);
    if (this.#joins.size === 0 && !this.#hasEnded) {
      this.#hasEnded = true;
      this.#onIdle();
      void this.#stream.close();
    }
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

function haveOf(all: boolean, body: Uint8Array, items: number): Bitmap | "all" {
  if (all) return "all";
  const bitmap = Bitmap.parse(body, items);
  if (bitmap === undefined) throw new FormatError("a have-map of another length than its payload");
  return bitmap;
}

/** A LAN peer that is up answers within milliseconds; its event loop may be busy for a second. */
const joinMs = 3_000;
