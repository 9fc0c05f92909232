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
  readonly #isFirstFor: (payload: PayloadId) => boolean;
  /** By payload and count of groups; the one that was asked about last is the last. */
  readonly #payloads = new Map<string, Known>();

  constructor(random: Random, parts: RegistrarParts = {}) {
    const { limits = defaultRegistryLimits, onIdle = () => undefined, isFirstFor = () => true } = parts;
    this.#onIdle = onIdle;
    this.#isFirstFor = isFirstFor;
    this.#random = random;
    this.#limits = limits;
  }

  /** Answers a wanter; undefined where the question makes no sense. */
  ask(from: PeerName, payload: PayloadId, question: RegisterQuestion, nowMs: number): RegisterAnswer | undefined {
    const { groups, held } = question;
    if (groups < 1 || groups > groupsMax || held.length !== Math.ceil(groups / 8)) return undefined;
    // Who counts the groups wrongly is by itself: it takes nothing from those who count them right.
    const key = `${payload} ${groups}`;
    const registry =
      this.#payloads.get(key)?.registry ?? new PayloadRegistry(groups, this.#limits, this.#random, this.#onIdle);
    this.#payloads.delete(key);
    this.#payloads.set(key, { registry, askedBy: from });
    const answer = registry.ask(from, question, nowMs, () => this.#isFirstFor(payload));
    this.#forget(nowMs);
    return answer;
  }

  /** A member has gone: what was leased to it is free at once. */
  left(peer: PeerName, nowMs: number): void {
    for (const { registry } of this.#payloads.values()) registry.remove(peer, nowMs);
  }

  /** How many payloads it keeps state about. */
  get payloads(): number {
    return this.#payloads.size;
  }

  /** Drops what nobody has asked about for a while, and some where it is too much. */
  #forget(nowMs: number): void {
    for (const [key, { registry }] of this.#payloads) {
      if (nowMs - registry.askedMs <= this.#limits.stateMs) break;
      this.#payloads.delete(key);
    }
    while (this.#payloads.size > 1 && this.#isTooMuch()) this.#payloads.delete(this.#leastMissed());
  }

  #isTooMuch(): boolean {
    let bytes = 0;
    for (const { registry } of this.#payloads.values()) bytes += registry.bytes;
    return this.#payloads.size > this.#limits.payloadsMax || bytes > this.#limits.bytesMax;
  }

  /** The oldest of whoever asked last about most of it: one member's questions push out its own, not everybody's. */
  #leastMissed(): string {
    const bytesOf = new Map<PeerName, number>();
    for (const { registry, askedBy } of this.#payloads.values()) {
      bytesOf.set(askedBy, (bytesOf.get(askedBy) ?? 0) + registry.bytes);
    }
    const mostBytes = Math.max(...bytesOf.values());
    const [key] = [...this.#payloads].find(([, { askedBy }]) => bytesOf.get(askedBy) === mostBytes)!;
    return key;
  }
}

export interface RegistrarParts {
  readonly limits?: RegistryLimits;
  /** Is told of whoever let a lease lapse without an item. */
  readonly onIdle?: (peer: PeerName) => void;
  /** Whether no other registrar of a payload comes before this one, as far as it knows. */
  readonly isFirstFor?: (payload: PayloadId) => boolean;
}

interface Known {
  readonly registry: PayloadRegistry;
  /** Whose question about it was the last. */
  readonly askedBy: PeerName;
}
