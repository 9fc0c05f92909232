import { FormatError } from "../../protocol/errors.ts";
import { type DirectoryMessage, decodeDirectory } from "../../protocol/messages.ts";
import type { FrameStream } from "./frame-stream.ts";

/** Says all that this node holds, and ends the stream; never rejects. */
export async function sendAnnouncement(frames: FrameStream, messages: readonly DirectoryMessage[]): Promise<void> {
  try {
    for (const message of messages) await frames.send(message);
    await frames.close();
  } catch (error) {
    // The peer has gone, or will hear it at its next connection.
    frames.abort(error as Error);
  }
}

/** Hands over what a peer says that it holds, until it ends the stream. */
export function readAnnouncement(frames: FrameStream, onMessage: (message: DirectoryMessage) => void): void {
  frames.listen(
    ({ header }) => {
      const message = decodeDirectory(header);
      if (message === undefined) throw new FormatError("an announcement that cannot be read");
      onMessage(message);
    },
    () => void frames.close(),
  );
}
