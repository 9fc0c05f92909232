import type { PeerName } from "../../protocol/directory.ts";
import { UnreachableError } from "../../protocol/errors.ts";
import type { PolicyHead } from "../../protocol/messages.ts";
import type { PolicyPeers, SwarmHandlers, WaitOptions } from "../ports.ts";
import { askPolicyFile, exchangeHeads } from "./catalog.ts";
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

  async exchange(peer: PeerName, options: WaitOptions = {}): Promise<readonly PolicyHead[]> {
    const heads = this.#handlers.policy?.heads() ?? [];
    return await this.#ask(peer, options, (frames, signal) => exchangeHeads(frames, heads, signal));
  }

  async file(peer: PeerName, hash: string, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    return await this.#ask(peer, options, (frames, signal) => askPolicyFile(frames, hash, signal));
  }

  recheck(): void {
    this.#recheck();
  }

  async #ask<Answer>(
    peer: PeerName,
    options: WaitOptions,
    ask: (frames: Frames, signal: AbortSignal) => Promise<Answer>,
  ): Promise<Answer> {
    const wait = AbortSignal.timeout(answerMs);
    const signal = options.signal === undefined ? wait : AbortSignal.any([wait, options.signal]);
    const frames = await this.#open(peer);
    try {
      return await ask(frames, signal);
    } catch (cause) {
      options.signal?.throwIfAborted();
      throw new UnreachableError(`the peer ${peer} gives no policy`, { cause });
    } finally {
      void frames.close();
    }
  }
}

const answerMs = 5_000;
