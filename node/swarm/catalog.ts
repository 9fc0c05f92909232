import { FormatError, UnreachableError } from "../../protocol/errors.ts";
import type { VariantHash } from "../../protocol/hash.ts";
import { type CatalogMessage, decodeCatalog, type PolicyHead } from "../../protocol/messages.ts";
import type { SwarmHandlers, WaitOptions } from "../ports.ts";
import { type Frames, nextFrame, nextQuestion } from "./frames.ts";

/** What the catalogue is answered from. */
type CatalogHandlers = Pick<SwarmHandlers, "record" | "policy">;

/** Asks for a variant's record; undefined when the peer has none. The envelope is not verified. */
export async function askRecord(
  frames: Frames,
  variant: VariantHash,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const { answer, body } = await ask(frames, { kind: "want-record", variant }, signal);
  if (answer.kind === "absent") return undefined;
  if (answer.kind === "record") return body;
  throw unreadable(frames);
}

/** Asks for a file of the policy by its SHA-256; undefined when the peer has none. The bytes are not verified. */
export async function askPolicyFile(
  frames: Frames,
  hash: string,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const { answer, body } = await ask(frames, { kind: "want-policy", hash }, signal);
  if (answer.kind === "absent") return undefined;
  if (answer.kind === "policy") return body;
  throw unreadable(frames);
}

/** Says what this node has of the policy, and hears what the peer has. */
export async function exchangeHeads(
  frames: Frames,
  heads: readonly PolicyHead[],
  signal: AbortSignal,
): Promise<readonly PolicyHead[]> {
  const { answer } = await ask(frames, { kind: "policy-heads", heads }, signal);
  if (answer.kind === "absent") return [];
  if (answer.kind === "policy-heads") return answer.heads;
  throw unreadable(frames);
}

/** Answers one question of a peer and ends the stream; never rejects. */
export async function answerCatalog(frames: Frames, handlers: CatalogHandlers, peer: string): Promise<void> {
  try {
    const { header } = await nextQuestion(frames, questionMs);
    const question = decodeCatalog(header);
    const { message, body } = await answerTo(question, handlers, peer);
    if (body === undefined) await frames.send(message);
    else await frames.send(message, body);
    await frames.close();
  } catch (error) {
    frames.abort(error as Error);
  }
}

async function answerTo(
  question: CatalogMessage | undefined,
  { record, policy }: CatalogHandlers,
  peer: string,
): Promise<{ readonly message: CatalogMessage; readonly body?: Uint8Array }> {
  switch (question?.kind) {
    case "want-record": {
      const body = await record(question.variant);
      return body === undefined ? { message: { kind: "absent" } } : { message: { kind: "record" }, body };
    }
    case "want-policy": {
      const body = policy?.file(question.hash);
      return body === undefined ? { message: { kind: "absent" } } : { message: { kind: "policy" }, body };
    }
    case "policy-heads":
      policy?.heard(peer, question.heads);
      return { message: { kind: "policy-heads", heads: policy?.heads() ?? [] } };
    case "record":
    case "policy":
    case "absent":
    case undefined:
      throw new FormatError("a question that cannot be read");
  }
}

/**
 * Asks a peer one thing over a stream of its own, for 5 s at most.
 * @throws {UnreachableError} when it gives nothing; the signal's reason when it is aborted.
 */
export async function askPeer<Answer>(
  { peer, open, what, options }: PeerQuestion,
  work: (frames: Frames, signal: AbortSignal) => Promise<Answer>,
): Promise<Answer> {
  const wait = AbortSignal.timeout(answerMs);
  const signal = options.signal === undefined ? wait : AbortSignal.any([wait, options.signal]);
  const frames = await open();
  try {
    return await work(frames, signal);
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw new UnreachableError(`the peer ${peer} gives no ${what}`, { cause });
  } finally {
    void frames.close();
  }
}

interface PeerQuestion {
  readonly peer: string;
  readonly open: () => Promise<Frames>;
  /** For people. */
  readonly what: string;
  readonly options: WaitOptions;
}

async function ask(
  frames: Frames,
  question: CatalogMessage,
  signal: AbortSignal,
): Promise<{ readonly answer: CatalogMessage; readonly body: Uint8Array }> {
  await frames.send(question);
  const { header, body } = await nextFrame(frames, signal);
  const answer = decodeCatalog(header);
  if (answer === undefined) throw unreadable(frames);
  return { answer, body };
}

/** It breaks the protocol, of which the end of the stream tells whoever keeps count. */
function unreadable(frames: Frames): FormatError {
  const error = new FormatError("an answer that cannot be read");
  frames.abort(error);
  return error;
}

/** Who opens a stream has its question ready. */
const questionMs = 5_000;
const answerMs = 5_000;
