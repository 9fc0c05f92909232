import type { PeerName } from "./directory.ts";
import type { PayloadId } from "./hash.ts";
import { groupsMax } from "./item-groups.ts";
import { defaultRegistryLimits, PayloadRegistry, type RegistryLimits } from "./payload-registry.ts";
import type { Random } from "./random.ts";
import type { RegisterAnswer, RegisterQuestion } from "./register-messages.ts";

/**
 * Who wants which payload, and who may fetch what of it from the origin: soft state that a member keeps for payloads for
 * which its rendezvous hash is among the highest. What it says is a help, never an authority: a wanter that gets nowhere
 * with it goes on without.
 */
export class Registrar {
  readonly #random: Random;
  readonly #limits: RegistryLimits;
  readonly #onIdle: (peer: PeerName) => void;
  /** The one that was asked about last is the last. */
  readonly #payloads = new Map<PayloadId, PayloadRegistry>();

  /** `onIdle` is told of whoever let a lease lapse without an item. */
  constructor(
    random: Random,
    limits: RegistryLimits = defaultRegistryLimits,
    onIdle: (peer: PeerName) => void = () => undefined,
  ) {
    this.#onIdle = onIdle;
    this.#random = random;
    this.#limits = limits;
  }

  /** Answers a wanter; undefined where the question makes no sense. */
  ask(from: PeerName, payload: PayloadId, question: RegisterQuestion, nowMs: number): RegisterAnswer | undefined {
    const { groups, held } = question;
    if (groups < 1 || groups > groupsMax || held.length !== Math.ceil(groups / 8)) return undefined;
    const known = this.#payloads.get(payload) ?? new PayloadRegistry(groups, this.#limits, this.#random, this.#onIdle);
    // The first to ask says how many groups there are; who says otherwise is wrong, or the first was, and is forgotten.
    if (known.groups !== groups) return undefined;
    this.#payloads.delete(payload);
    this.#payloads.set(payload, known);
    const answer = known.ask(from, question, nowMs);
    this.#forget(nowMs);
    return answer;
  }

  /** A member has gone: what was leased to it is free at once. */
  left(peer: PeerName, nowMs: number): void {
    for (const registry of this.#payloads.values()) registry.remove(peer, nowMs);
  }

  /** How many payloads it keeps state about. */
  get payloads(): number {
    return this.#payloads.size;
  }

  /** Drops what nobody has asked about for a while, and the oldest where it is too much. */
  #forget(nowMs: number): void {
    for (const [payload, registry] of this.#payloads) {
      const isOld = nowMs - registry.askedMs > this.#limits.stateMs;
      if (!isOld && this.#payloads.size <= this.#limits.payloadsMax && this.#bytes() <= this.#limits.bytesMax) return;
      this.#payloads.delete(payload);
    }
  }

  #bytes(): number {
    let bytes = 0;
    for (const registry of this.#payloads.values()) bytes += registry.bytes;
    return bytes;
  }
}
