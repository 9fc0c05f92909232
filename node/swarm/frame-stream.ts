import type { Stream } from "@libp2p/interface";
import { FormatError, UnreachableError } from "../../protocol/errors.ts";
import type { Message } from "../../protocol/messages.ts";
import { encodeFrameHead, type Frame, FrameDecoder, type FrameLimits } from "../../protocol/wire.ts";
import { type Frames, headerOf } from "./frames.ts";

export interface FrameStreamOptions {
  /** How long the peer may take no byte of what it asked for. */
  readonly stallMs?: number | undefined;
  /** How long a frame may take that has begun. */
  readonly frameMs?: number;
  readonly onBroken?: (reason: string) => void;
  /** The peer takes nothing of what it asked for: it may be suspended. */
  readonly onUnread?: (reason: string) => void;
}

/**
 * Frames over one libp2p stream. It reads as soon as it is made and never pauses: js-libp2p aborts a paused stream past
 * 4 MiB, so whoever reads asks for no more than it can take (DESIGN section 6). What it writes is bounded: a peer that
 * does not read what it asked for loses the stream.
 */
export class FrameStream implements Frames {
  readonly #stream: Stream;
  readonly #decoder: FrameDecoder;
  readonly #stallMs: number;
  readonly #frameMs: number;
  readonly #onBroken: (reason: string) => void;
  readonly #onUnread: (reason: string) => void;
  /** Looks whether a frame that has begun is still the same one. */
  #watching: NodeJS.Timeout | undefined;
  #frames = 0;
  #sending: Promise<void> = Promise.resolve();
  #queuedFrames = 0;
  #hasEnded: boolean;
  #hasAborted = false;
  #isBroken = false;
  #onFrame: (frame: Frame) => void = () => undefined;
  #onEnd: () => void = () => undefined;
  /** Frames that came before anybody listened. */
  #early: Frame[] | undefined = [];

  /** `onBroken` or `onUnread` is told once why, when the other side broke the protocol, or did not read. */
  constructor(stream: Stream, limits: FrameLimits, options: FrameStreamOptions = {}) {
    this.#stream = stream;
    this.#decoder = new FrameDecoder(limits);
    this.#stallMs = options.stallMs ?? defaultStallMs;
    this.#frameMs = options.frameMs ?? frameMsMax;
    this.#onBroken = options.onBroken ?? (() => undefined);
    this.#onUnread = options.onUnread ?? (() => undefined);
    this.#hasEnded = stream.readableEnded;
    stream.addEventListener("message", ({ data }) => {
      if (data instanceof Uint8Array) this.#read(data);
      else for (const bytes of data) this.#read(bytes);
    });
    // Not `remoteCloseWrite`: that one may come before the last bytes are handed over.
    stream.addEventListener("end", () => this.#end());
    stream.addEventListener("close", () => this.#end());
  }

  listen(onFrame: (frame: Frame) => void, onEnd: () => void): void {
    this.#onFrame = onFrame;
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const frame of early) if (!this.#hasAborted) this.#take(frame);
    if (this.#hasEnded) onEnd();
    else this.#onEnd = onEnd;
  }

  send(message: Message | Uint8Array, body?: Uint8Array): Promise<void> {
    if (this.#queuedFrames >= queuedFramesMax) {
      const error = new UnreachableError(readsNothing);
      this.#tell(readsNothing, this.#onUnread);
      this.abort(error);
      return Promise.reject(error);
    }
    this.#queuedFrames++;
    const sent = this.#sending.then(() => this.#write(message, body));
    this.#sending = sent.then(
      () => this.#sent(),
      () => this.#sent(),
    );
    return sent;
  }

  async close(): Promise<void> {
    await this.#sending;
    await this.#stream
      .close({ signal: AbortSignal.timeout(closeMs) })
      .catch((error: Error) => this.#stream.abort(error));
  }

  abort(reason: Error): void {
    this.#hasAborted = true;
    if (reason instanceof FormatError) this.#tell(reason.message);
    this.#stream.abort(reason);
    this.#end();
  }

  #sent(): void {
    this.#queuedFrames--;
  }

  #read(bytes: Uint8Array): void {
    if (this.#hasEnded) return;
    try {
      for (const frame of this.#decoder.push(bytes)) if (!this.#hasAborted) this.#take(frame);
      if (!this.#decoder.isBetweenFrames) this.#watch();
    } catch (error) {
      this.abort(error as Error);
    }
  }

  #take(frame: Frame): void {
    this.#frames++;
    if (this.#early !== undefined) {
      this.#early.push(frame);
      if (this.#early.length > earlyFramesMax) throw new FormatError("more frames than anybody asked for");
      return;
    }
    try {
      this.#onFrame(frame);
    } catch (error) {
      this.abort(error as Error);
    }
  }

  /** A frame that has begun is to be whole some time: who sends in sips holds what others wait for. */
  #watch(): void {
    if (this.#watching !== undefined || this.#hasEnded) return;
    const begun = this.#frames;
    this.#watching = setTimeout(() => {
      this.#watching = undefined;
      if (this.#decoder.isBetweenFrames) return;
      if (this.#frames === begun) this.abort(new FormatError("it begins a frame and does not end it"));
      else this.#watch();
    }, this.#frameMs).unref();
  }

  /** Once: what comes of a broken stream after that says nothing more. */
  #tell(reason: string, tell: (reason: string) => void = this.#onBroken): void {
    if (!this.#isBroken) tell(reason);
    this.#isBroken = true;
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#watching);
    this.#onEnd();
  }

  async #write(message: Message | Uint8Array, body?: Uint8Array): Promise<void> {
    try {
      const head = encodeFrameHead(headerOf(message), body?.length ?? 0);
      let hasRoom = this.#stream.send(head);
      if (body !== undefined && body.length > 0) hasRoom = this.#stream.send(body);
      if (!hasRoom) await this.#flushed();
    } catch (cause) {
      throw new UnreachableError("the peer's stream has ended", { cause });
    }
  }

  /**
   * Waits until all that was written has left. Not only for the next `drain`: that one comes with every window update,
   * however small, and the buffer behind it has no limit of its own. Not by `onDrain()`: in libp2p 3.3 its promise is
   * never renewed.
   */
  async #flushed(): Promise<void> {
    const untilMs = performance.now() + this.#frameMs;
    while (this.#stream.writableNeedsDrain || this.#stream.writeBufferLength > 0) {
      await this.#moved(Math.min(this.#stallMs, untilMs - performance.now()));
    }
    if (this.#stream.status !== "open") throw new Error("closed");
  }

  /** Waits for a sign that bytes have left. @throws when none comes in time: the stream is ended then. */
  #moved(waitMs: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onMove = () => resolve();
    const onClose = () => reject(new Error("closed"));
    const timer = setTimeout(() => {
      const error = new UnreachableError(readsNothing);
      reject(error);
      this.#tell(readsNothing, this.#onUnread);
      this.abort(error);
    }, waitMs);
    const events = ["drain", "idle"] as const;
    // libp2p's own listener came first: when this one's promise goes on, it has begun to write again.
    for (const event of events) this.#stream.addEventListener(event, onMove);
    this.#stream.addEventListener("close", onClose);
    if (this.#stream.status !== "open") onClose();
    return promise.finally(() => {
      clearTimeout(timer);
      for (const event of events) this.#stream.removeEventListener(event, onMove);
      this.#stream.removeEventListener("close", onClose);
    });
  }
}

const readsNothing = "it does not read what it asked for";
const closeMs = 2_000;
/** Frames that may come between a stream's opening and its listener. */
const earlyFramesMax = 16;
/** Frames that wait to be written: one answer each to as many requests as anybody has open at a time. */
const queuedFramesMax = 512;
/** A peer that takes not one byte for this long has stopped, or is suspended; others wait for its slots. */
const defaultStallMs = 5_000;
/** Whoever asked for an item gives it up after this time (protocol, `deadlineMsMax`). */
const frameMsMax = 30_000;
