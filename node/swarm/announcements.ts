import type { PeerName } from "../../protocol/directory.ts";
import { FormatError } from "../../protocol/errors.ts";
import { type DirectoryMessage, decodeDirectory } from "../../protocol/messages.ts";
import type { Frames } from "./frames.ts";

export interface AnnouncerParts {
  /** A stream to a peer. */
  readonly open: (peer: PeerName) => Promise<Frames>;
  readonly isHere: (peer: PeerName) => boolean;
  /** All that this node holds now. */
  readonly announcement: () => readonly DirectoryMessage[];
}

/** Tells peers what this node holds: each one announcement at a time, and the next when something changed meanwhile. */
export class Announcer {
  readonly #parts: AnnouncerParts;
  readonly #telling = new Map<PeerName, "once" | "again">();
  readonly #timers = new Set<NodeJS.Timeout>();
  #hasStopped = false;

  constructor(parts: AnnouncerParts) {
    this.#parts = parts;
  }

  tell(peer: PeerName): void {
    if (this.#hasStopped) return;
    if (this.#telling.has(peer)) this.#telling.set(peer, "again");
    else void this.#tell(peer);
  }

  stop(): void {
    this.#hasStopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
  }

  /** Never rejects: a peer that cannot be told now is told a little later, while it is here. */
  async #tell(peer: PeerName): Promise<void> {
    do {
      this.#telling.set(peer, "once");
      if (!(await this.#send(peer))) this.#later(peer);
    } while (this.#telling.get(peer) === "again");
    this.#telling.delete(peer);
  }

  async #send(peer: PeerName): Promise<boolean> {
    let frames: Frames | undefined;
    try {
      frames = await this.#parts.open(peer);
      for (const message of this.#parts.announcement()) await frames.send(message);
      await frames.close();
      return true;
    } catch (error) {
      frames?.abort(error as Error);
      return false;
    }
  }

  #later(peer: PeerName): void {
    if (this.#hasStopped || !this.#parts.isHere(peer)) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.tell(peer);
    }, retryMs).unref();
    this.#timers.add(timer);
  }
}

/** Hands over what a peer says that it holds, until it ends the stream. */
export function readAnnouncement(frames: Frames, onMessage: (message: DirectoryMessage) => void): void {
  frames.listen(
    ({ header }) => {
      const message = decodeDirectory(header);
      if (message === undefined) throw new FormatError("an announcement that cannot be read");
      onMessage(message);
    },
    () => void frames.close(),
  );
}

const retryMs = 1_000;
