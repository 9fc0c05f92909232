import type { PeerName } from "../../protocol/directory.ts";
import { FormatError } from "../../protocol/errors.ts";
import { peersMax, registerQuestionsMax } from "../../protocol/limits.ts";
import { decodeRegisterQuestion, encodeRegisterReply } from "../../protocol/register-wire.ts";
import type { Frame } from "../../protocol/wire.ts";
import type { SwarmHandlers } from "../ports.ts";
import { Allowance } from "./allowance.ts";
import type { Frames } from "./frames.ts";

/** The registrar's side: answers the questions of wanters, as they come and in their order. */
export class RegisterServer {
  readonly #handlers: Pick<SwarmHandlers, "registered">;
  /** What each peer may ask, over all its streams. */
  readonly #allowances = new Map<PeerName, Allowance>();

  constructor(handlers: Pick<SwarmHandlers, "registered">) {
    this.#handlers = handlers;
  }

  /** Answers on a stream that an admitted peer has opened; whoever misuses it loses it. */
  accept(peer: PeerName, frames: Frames): void {
    let unsent = 0;
    const sent = () => {
      unsent--;
    };
    const answer = ({ header }: Frame) => {
      if (unsent >= registerQuestionsMax) throw new FormatError("more questions than a stream has room for");
      if (!this.#mayAsk(peer)) throw new FormatError("questions that come too often");
      const asked = decodeRegisterQuestion(header);
      if (asked === undefined) throw new FormatError("a question that cannot be read");
      const { payload, question } = asked;
      const reply = { payload, answer: this.#handlers.registered(peer, payload, question) };
      unsent++;
      void frames.send(encodeRegisterReply(reply)).then(sent, sent);
    };
    frames.listen(answer, () => void frames.close());
  }

  #mayAsk(peer: PeerName): boolean {
    const allowance = this.#allowances.get(peer) ?? new Allowance(questionsBurst, questionsPerSecond);
    this.#allowances.set(peer, allowance);
    if (this.#allowances.size > peersMax) this.#allowances.delete(this.#allowances.keys().next().value!);
    return allowance.take(1, performance.now());
  }
}

/** A wanter asks about each payload once a second, and when a lease is through: at 10 Gbit/s 75 times a second. */
const questionsPerSecond = 100;
const questionsBurst = 200;
