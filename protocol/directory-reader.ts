import type { PackedHoldings } from "./announcement.ts";
import type { DirectoryAnswer, EnvelopedHead } from "./messages.ts";

/** What a frame of an answer gives; the shell opens the envelopes and hands the rest to `Gossip`. */
export type DirectoryRead =
  | { readonly kind: "heads"; readonly heads: readonly EnvelopedHead[] }
  | { readonly kind: "part"; readonly head: EnvelopedHead; readonly whole: PackedHoldings }
  | { readonly kind: "pairs" }
  | { readonly kind: "end" };

/** Reads one answer of the directory protocol, frame by frame. */
export class DirectoryReader {
  /** Takes in the next frame. @throws {FormatError} when it breaks a rule: nothing after it counts. */
  read(_message: DirectoryAnswer, _body: Uint8Array): DirectoryRead {
    throw new Error("not yet");
  }
}
