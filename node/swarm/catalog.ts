import { FormatError } from "../../protocol/errors.ts";
import type { VariantHash } from "../../protocol/hash.ts";
import { decodeCatalog } from "../../protocol/messages.ts";
import type { SwarmHandlers } from "../ports.ts";
import { type Frames, nextFrame, nextQuestion } from "./frames.ts";

/** Asks for a variant's record; undefined when the peer has none. The envelope is not verified. */
export async function askRecord(
  frames: Frames,
  variant: VariantHash,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  await frames.send({ kind: "want-record", variant });
  const { header, body } = await nextFrame(frames, signal);
  const answer = decodeCatalog(header);
  if (answer === undefined || answer.kind === "want-record") {
    const error = new FormatError("an answer that cannot be read");
    frames.abort(error);
    throw error;
  }
  return answer.kind === "absent" ? undefined : body;
}

/** Answers one question about a record and ends the stream; never rejects. */
export async function answerRecord(frames: Frames, handlers: Pick<SwarmHandlers, "record">): Promise<void> {
  try {
    const { header } = await nextQuestion(frames, questionMs);
    const question = decodeCatalog(header);
    if (question?.kind !== "want-record") throw new FormatError("a question that cannot be read");
    const envelope = await handlers.record(question.variant);
    if (envelope === undefined) await frames.send({ kind: "absent" });
    else await frames.send({ kind: "record" }, envelope);
    await frames.close();
  } catch (error) {
    frames.abort(error as Error);
  }
}

/** Who opens a stream has its question ready. */
const questionMs = 5_000;
