import { FormatError, UnreachableError } from "../../protocol/errors.ts";
import type { Message } from "../../protocol/messages.ts";
import { encodeFrameHead, type Frame, FrameDecoder, type FrameLimits } from "../../protocol/wire.ts";
import { type Frames, headerOf } from "./frames.ts";

/** One end of a stream in memory: what is written is read over there in order, each piece in a turn of its own. */
export class MemoryFrames implements Frames {
  readonly #decoder: FrameDecoder;
  #other: MemoryFrames | undefined;
  #early: Frame[] | undefined = [];
  #onFrame: (frame: Frame) => void = () => undefined;
  #onEnd: () => void = () => undefined;
  #hasEnded = false;
  #hasClosed = false;
  #isBroken = false;
  onGone: () => void = () => undefined;
  /** Told once why, when the other side broke the protocol. */
  onBroken: (reason: string) => void = () => undefined;

  private constructor(limits: FrameLimits) {
    this.#decoder = new FrameDecoder(limits);
  }

  /** Both ends of a stream: who opens it asks, the other answers. */
  static pair(asks: FrameLimits, answers: FrameLimits): [MemoryFrames, MemoryFrames] {
    const [one, other] = [new MemoryFrames(answers), new MemoryFrames(asks)];
    one.#other = other;
    other.#other = one;
    return [one, other];
  }

  get isOpen(): boolean {
    return !this.#hasClosed && !this.#hasEnded;
  }

  listen(onFrame: (frame: Frame) => void, onEnd: () => void): void {
    this.#onFrame = onFrame;
    this.#onEnd = onEnd;
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const frame of early) this.#hand(frame);
    if (this.#hasEnded) onEnd();
  }

  async send(message: Message | Uint8Array, body: Uint8Array = new Uint8Array(0)): Promise<void> {
    const head = encodeFrameHead(headerOf(message), body.length);
    await this.write(head, body);
  }

  /** Bytes, whatever they are. @throws {UnreachableError} when the stream has ended. */
  async write(...pieces: readonly Uint8Array[]): Promise<void> {
    if (this.#hasClosed || this.#other === undefined) throw new UnreachableError("the peer's stream has ended");
    // Read at once: the one who writes may use its buffer for something else.
    const frames = this.#other.#decode(pieces);
    // As over a network: what is written is on its way, and no longer in our hands.
    await Promise.resolve();
    if (frames instanceof Error) this.#other.abort(frames);
    else for (const frame of frames) this.#other.#take(frame);
  }

  async close(): Promise<void> {
    if (this.#hasClosed) return;
    this.#hasClosed = true;
    // After what was sent before it.
    await Promise.resolve();
    if (this.#other !== undefined) this.#other.#end();
    if (this.#hasEnded) this.onGone();
  }

  abort(reason: Error): void {
    if (reason instanceof FormatError && !this.#isBroken) {
      this.#isBroken = true;
      this.onBroken(reason.message);
    }
    for (const side of [this, this.#other]) {
      if (side === undefined) continue;
      side.#hasClosed = true;
      side.#end();
      side.onGone();
    }
  }

  #decode(pieces: readonly Uint8Array[]): Frame[] | Error {
    try {
      return pieces.flatMap((bytes) => this.#decoder.push(bytes));
    } catch (error) {
      return error as Error;
    }
  }

  #take(frame: Frame): void {
    if (this.#hasEnded) return;
    if (this.#early === undefined) this.#hand(frame);
    else this.#early.push(frame);
  }

  #hand(frame: Frame): void {
    try {
      this.#onFrame(frame);
    } catch (error) {
      this.abort(error as Error);
    }
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#onEnd();
  }
}
