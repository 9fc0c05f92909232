import type { PackedHoldings } from "../../protocol/announcement.ts";
import type { PeerName } from "../../protocol/directory.ts";
import { DirectoryReader } from "../../protocol/directory-reader.ts";
import { FormatError, UnreachableError } from "../../protocol/errors.ts";
import { MIB } from "../../protocol/limits.ts";
import {
  type DirectoryAsk,
  type DirectoryFrame,
  decodeDirectoryAnswer,
  decodeDirectoryAsk,
  type EnvelopedHead,
} from "../../protocol/messages.ts";
import type { Frame } from "../../protocol/wire.ts";
import { type Frames, nextQuestion } from "./frames.ts";

/** What a neighbour answers, as it comes; nothing of it is verified. */
export interface DirectoryListener {
  heads(heads: readonly EnvelopedHead[]): Promise<void>;
  part(head: EnvelopedHead, whole: PackedHoldings): Promise<void>;
}

/**
 * Asks a neighbour for what it knows of the network, and hands over its answer.
 * @throws {UnreachableError} when it does not answer fully in time; {FormatError} for what breaks a rule.
 */
export async function askDirectory(
  frames: Frames,
  ask: DirectoryAsk,
  body: Uint8Array,
  listener: DirectoryListener,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const fail = (error: Error) => {
    reject(error);
    frames.abort(error);
  };
  const late = setTimeout(() => fail(silence("it takes too long with its directory")), answerMs);
  let waiting = setTimeout(() => fail(silence("it does not answer what it is asked of its directory")), silenceMs);
  const reader = new DirectoryReader(ask.kind === "want-parts" ? ask.peers.length : 0);
  let bytes = 0;
  // In order, one after the other: signatures are checked on the way.
  let reading: Promise<void> = Promise.resolve();
  const take = (frame: Frame) => {
    waiting = waiting.refresh();
    bytes += frame.header.length + frame.body.length;
    if (bytes > answerBytesMax) throw new FormatError("a directory that is too large");
    reading = reading.then(() => read(reader, frame, listener)).then((isEnd) => (isEnd ? resolve() : undefined));
    reading.catch(fail);
  };
  try {
    frames.listen(take, () => {
      const cut = () => reject(new UnreachableError("the peer ended its answer early"));
      void reading.then(cut, cut);
    });
    await frames.send(ask, body);
    await promise;
  } finally {
    clearTimeout(late);
    clearTimeout(waiting);
    promise.catch(() => undefined);
    void frames.close();
  }
}

/** Whether a peer that was asked said nothing, or not enough, in all the time that it had. */
export function isSilence(error: unknown): error is UnreachableError {
  return error instanceof UnreachableError && error.code === silent;
}

function silence(message: string): UnreachableError {
  return new UnreachableError(message, { code: silent });
}

const silent = "PEER_SILENT";

/** Answers whether it was the last frame. */
async function read(reader: DirectoryReader, { header, body }: Frame, listener: DirectoryListener): Promise<boolean> {
  const message = decodeDirectoryAnswer(header);
  if (message === undefined) throw new FormatError("an answer that cannot be read");
  const found = reader.read(message, body);
  switch (found.kind) {
    case "heads":
      await listener.heads(found.heads);
      return false;
    case "part":
      await listener.part(found.head, found.whole);
      return false;
    case "pairs":
      return false;
    case "end":
      return true;
  }
}

/** What is known here, for a neighbour that asks. */
export interface DirectorySource {
  heads(known: Uint8Array): Iterable<DirectoryFrame>;
  parts(peers: readonly PeerName[]): Iterable<DirectoryFrame>;
}

/** Answers one question about the directory and ends the stream; never rejects. */
export async function answerDirectory(frames: Frames, source: DirectorySource, signal: AbortSignal): Promise<void> {
  const late = AbortSignal.any([signal, AbortSignal.timeout(answerMs)]);
  const onAbort = () => frames.abort(new Error("the answer takes too long"));
  try {
    const { header, body } = await nextQuestion(frames, questionMs);
    const ask = decodeDirectoryAsk(header);
    if (ask === undefined) throw new FormatError("a question that cannot be read");
    late.addEventListener("abort", onAbort, { once: true });
    const answer = ask.kind === "want-heads" ? source.heads(body) : source.parts(ask.peers);
    // Each is made when the one before has left: a slow neighbour holds nothing but its turn.
    for (const frame of answer) {
      late.throwIfAborted();
      await frames.send(frame.message, frame.body);
    }
    await frames.close();
  } catch (error) {
    frames.abort(error as Error);
  } finally {
    late.removeEventListener("abort", onAbort);
  }
}

/** Who opens a stream has its question ready. */
const questionMs = 5_000;
/** How long the next frame is awaited, and the whole answer: 5,000 members with a thousand holdings each are 20 MB. */
const silenceMs = 10_000;
const answerMs = 60_000;
const answerBytesMax: number = 64 * MIB;
