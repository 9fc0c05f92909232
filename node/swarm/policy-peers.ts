import type { PeerName } from "../../protocol/directory.ts";
import type { PolicyHead } from "../../protocol/messages.ts";
import type { PolicyPeers, SwarmHandlers, WaitOptions } from "../ports.ts";
import { askPeer, askPolicyFile, exchangeHeads } from "./catalog.ts";
import type { Frames } from "./frames.ts";

/** Asks peers for the policy, over streams of the catalogue. */
export class PolicyAsker implements PolicyPeers {
  readonly #handlers: Pick<SwarmHandlers, "policy">;
  readonly #open: (peer: PeerName) => Promise<Frames>;
  readonly #recheck: () => void;

  constructor(parts: {
    readonly handlers: Pick<SwarmHandlers, "policy">;
    /** A new stream of the catalogue. @throws {UnreachableError} */
    readonly open: (peer: PeerName) => Promise<Frames>;
    readonly recheck: () => void;
  }) {
    this.#handlers = parts.handlers;
    this.#open = parts.open;
    this.#recheck = parts.recheck;
  }

  exchange(peer: PeerName, options: WaitOptions = {}): Promise<readonly PolicyHead[]> {
    const heads = this.#handlers.policy?.heads() ?? [];
    return this.#ask(peer, options, (frames, signal) => exchangeHeads(frames, heads, signal));
  }

  file(peer: PeerName, hash: string, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    return this.#ask(peer, options, (frames, signal) => askPolicyFile(frames, hash, signal));
  }

  recheck(): void {
    this.#recheck();
  }

  #ask<Answer>(
    peer: PeerName,
    options: WaitOptions,
    work: (frames: Frames, signal: AbortSignal) => Promise<Answer>,
  ): Promise<Answer> {
    return askPeer({ peer, open: () => this.#open(peer), what: "policy", options }, work);
  }
}
