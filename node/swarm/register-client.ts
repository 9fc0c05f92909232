import { FormatError, UnreachableError } from "../../protocol/errors.ts";
import type { PayloadId } from "../../protocol/hash.ts";
import { registerQuestionsMax } from "../../protocol/limits.ts";
import type { RegisterAnswer, RegisterQuestion } from "../../protocol/register-messages.ts";
import { decodeRegisterReply, encodeRegisterQuestion } from "../../protocol/register-wire.ts";
import type { Frame } from "../../protocol/wire.ts";
import type { Frames } from "./frames.ts";

interface OpenQuestion {
  readonly payload: PayloadId;
  readonly answer: PromiseWithResolvers<RegisterAnswer>;
}

export interface RegisterTimings {
  /** How long an answer is awaited. */
  readonly answerMs?: number;
  /** How long a stream is kept without a question. */
  readonly idleMs?: number;
}

interface RegisterListener {
  readonly onEnd: () => void;
  readonly onSilent: () => void;
}

/** Our side of one stream to a registrar: questions about any payloads, answered in order. */
export class RegisterClient {
  readonly #stream: Frames;
  readonly #on: RegisterListener;
  #isSilent = false;
  readonly #answerMs: number;
  readonly #idle: NodeJS.Timeout;
  /** The oldest first. One that nobody waits for any more keeps its place: its answer may still come. */
  readonly #open: OpenQuestion[] = [];
  #hasEnded = false;

  /** `onEnd` is called once, when nothing more can be asked; `onSilent` once, when an answer does not come in time. */
  constructor(stream: Frames, on: RegisterListener, timings: RegisterTimings = {}) {
    this.#stream = stream;
    this.#on = on;
    this.#answerMs = timings.answerMs ?? defaultAnswerMs;
    this.#idle = setTimeout(() => this.#close(), timings.idleMs ?? defaultIdleMs).unref();
    stream.listen(
      (frame) => this.#take(frame),
      () => this.#end(),
    );
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** @throws {UnreachableError} when no answer comes in time, or the registrar has none. */
  async ask(payload: PayloadId, question: RegisterQuestion): Promise<RegisterAnswer> {
    if (this.#hasEnded) throw new UnreachableError("the registrar ended the stream");
    if (this.#open.length >= registerQuestionsMax) {
      this.abort(new Error("too many questions are open"));
      throw new UnreachableError("the registrar does not answer");
    }
    this.#idle.refresh();
    const answer = Promise.withResolvers<RegisterAnswer>();
    this.#open.push({ payload, answer });
    const late = new UnreachableError("the registrar does not answer");
    const timer = setTimeout(() => {
      if (!this.#isSilent) this.#on.onSilent();
      this.#isSilent = true;
      answer.reject(late);
    }, this.#answerMs);
    try {
      this.#stream.send(encodeRegisterQuestion(payload, question)).catch(answer.reject);
      return await answer.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  abort(reason: Error): void {
    this.#stream.abort(reason);
    this.#end();
  }

  #take({ header }: Frame): void {
    const reply = decodeRegisterReply(header);
    if (reply === undefined) throw new FormatError("an answer that cannot be read");
    const oldest = this.#open.shift();
    if (oldest?.payload !== reply.payload) throw new FormatError("an answer that nobody asked for");
    if (reply.answer === undefined) oldest.answer.reject(new UnreachableError("the registrar has no answer"));
    else oldest.answer.resolve(reply.answer);
  }

  /** Nobody has asked for a while. */
  #close(): void {
    const isClean = this.#open.length === 0;
    this.#end();
    if (isClean) void this.#stream.close();
    else this.#stream.abort(new Error("the registrar does not answer"));
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#idle);
    for (const { answer } of this.#open.splice(0))
      answer.reject(new UnreachableError("the registrar ended the stream"));
    this.#on.onEnd();
  }
}

/** A registrar answers from memory; its event loop may be busy. An answer that is late for the plan may still count. */
const defaultAnswerMs = 5_000;
/** Wanters ask every second or two. */
const defaultIdleMs = 10_000;
