import type { Stream } from "@libp2p/interface";
import { FormatError, UnreachableError } from "../../protocol/errors.ts";
import { encodeMessage, type Message } from "../../protocol/messages.ts";
import { encodeFrameHead, type Frame, FrameDecoder, type FrameLimits } from "../../protocol/wire.ts";

/**
 * Frames over one libp2p stream. It reads as soon as it is made and never pauses: js-libp2p aborts a paused stream past
 * 4 MiB, so whoever reads asks for no more than it can take (DESIGN section 6).
 */
export class FrameStream {
  readonly #stream: Stream;
  readonly #decoder: FrameDecoder;
  #sending: Promise<void> = Promise.resolve();
  #hasEnded = false;
  #onFrame: (frame: Frame) => void = () => undefined;
  #onEnd: () => void = () => undefined;
  /** Frames that came before anybody listened. */
  #early: Frame[] | undefined = [];

  constructor(stream: Stream, limits: FrameLimits) {
    this.#stream = stream;
    this.#decoder = new FrameDecoder(limits);
    stream.addEventListener("message", ({ data }) => {
      if (data instanceof Uint8Array) this.#read(data);
      else for (const bytes of data) this.#read(bytes);
    });
    stream.addEventListener("remoteCloseWrite", () => this.#end());
    stream.addEventListener("close", () => this.#end());
  }

  /** Hands over frames as they come. `onFrame` throws to end the stream: the other side broke the protocol. */
  listen(onFrame: (frame: Frame) => void, onEnd: () => void): void {
    this.#onFrame = onFrame;
    this.#onEnd = onEnd;
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const frame of early) this.#take(frame);
    if (this.#hasEnded) onEnd();
  }

  /**
   * The next frame, for protocols that ask once and answer once.
   * @throws {UnreachableError} when the stream ends first; the signal's reason when it is aborted.
   */
  next(signal: AbortSignal): Promise<Frame> {
    const { promise, resolve, reject } = Promise.withResolvers<Frame>();
    const onAbort = () => {
      this.abort(new Error("no answer in time"));
      reject(signal.reason);
    };
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    this.listen(resolve, () => reject(new UnreachableError("the peer ended the stream")));
    return promise.finally(() => signal.removeEventListener("abort", onAbort));
  }

  /** Sends one frame after those before it, once there is room for it. @throws {UnreachableError} when it cannot. */
  send(message: Message, body?: Uint8Array): Promise<void> {
    const sent = this.#sending.then(() => this.#write(message, body));
    this.#sending = sent.catch(() => undefined);
    return sent;
  }

  /** Sends what is queued and ends this side; never rejects. */
  async close(): Promise<void> {
    await this.#sending;
    await this.#stream
      .close({ signal: AbortSignal.timeout(closeMs) })
      .catch((error: Error) => this.#stream.abort(error));
  }

  /** Ends both sides at once. */
  abort(reason: Error): void {
    this.#stream.abort(reason);
    this.#end();
  }

  #read(bytes: Uint8Array): void {
    if (this.#hasEnded) return;
    try {
      for (const frame of this.#decoder.push(bytes)) this.#take(frame);
    } catch (error) {
      this.abort(error as Error);
    }
  }

  #take(frame: Frame): void {
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

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#onEnd();
  }

  async #write(message: Message, body?: Uint8Array): Promise<void> {
    try {
      const head = encodeFrameHead(encodeMessage(message), body?.length ?? 0);
      let hasRoom = this.#stream.send(head);
      if (body !== undefined && body.length > 0) hasRoom = this.#stream.send(body);
      if (!hasRoom) await this.#drained();
    } catch (cause) {
      throw new UnreachableError("the peer's stream has ended", { cause });
    }
  }

  /** Waits for room. Not by `onDrain()`: in libp2p 3.3 its promise is never renewed. */
  #drained(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onDrain = () => settle(resolve);
    const onClose = () => settle(() => reject(new Error("closed")));
    const settle = (then: () => void) => {
      this.#stream.removeEventListener("drain", onDrain);
      this.#stream.removeEventListener("close", onClose);
      then();
    };
    this.#stream.addEventListener("drain", onDrain);
    this.#stream.addEventListener("close", onClose);
    if (!this.#stream.writableNeedsDrain) onDrain();
    else if (this.#stream.status !== "open") onClose();
    return promise;
  }
}

const closeMs = 2_000;
/** Frames that may come between a stream's opening and its listener. */
const earlyFramesMax = 16;
