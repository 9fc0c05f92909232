import { FormatError, UnreachableError } from "../../protocol/errors.ts";
import { encodeMessage, type Message } from "../../protocol/messages.ts";
import type { Frame } from "../../protocol/wire.ts";

/** One stream of frames between two members: over libp2p, or in memory. */
export interface Frames {
  /**
   * Hands over frames as they come, and once that there will be no more. `onFrame` throws to end the stream: the other
   * side broke the protocol.
   */
  listen(onFrame: (frame: Frame) => void, onEnd: () => void): void;
  /**
   * Sends one frame, whose header is this message or these bytes, after those before it, once there is room for it.
   * @throws {UnreachableError} when it cannot.
   */
  send(message: Message | Uint8Array, body?: Uint8Array): Promise<void>;
  /** Sends what is queued and ends this side; never rejects. */
  close(): Promise<void>;
  /** Ends both sides at once. */
  abort(reason: Error): void;
}

/** The header of a message's frame. */
export function headerOf(message: Message | Uint8Array): Uint8Array {
  return message instanceof Uint8Array ? message : encodeMessage(message);
}

/**
 * The next frame, for protocols that ask once and answer once.
 * @throws {UnreachableError} when the stream ends first; the signal's reason when it is aborted.
 */
export async function nextFrame(
  frames: Frames,
  signal: AbortSignal,
  late: Error = new Error("no answer in time"),
): Promise<Frame> {
  const { promise, resolve, reject } = Promise.withResolvers<Frame>();
  const onAbort = () => {
    reject(signal.reason);
    frames.abort(late);
  };
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  frames.listen(resolve, () => reject(new UnreachableError("the peer ended the stream")));
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** What a peer asks on a stream that it has opened. @throws {UnreachableError} {FormatError} when it asks nothing. */
export function nextQuestion(frames: Frames, waitMs: number): Promise<Frame> {
  return nextFrame(frames, AbortSignal.timeout(waitMs), new FormatError("it opens a stream and asks nothing"));
}
