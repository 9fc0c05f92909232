import type { PeerName } from "../protocol/directory.ts";
import type { PayloadId } from "../protocol/hash.ts";
import { defaultLinkLimits, Links } from "../protocol/links.ts";
import type { Random } from "../protocol/random.ts";

/** Who has joined a payload that is not on its way in. */
interface Seed {
  readonly links: Links;
  readonly joiners: Set<PeerName>;
}

/** The peers that have joined payloads which this node has whole: no more of each than a node can serve well. */
export class Seeds {
  readonly #random: Random;
  readonly #nowMs: () => number;
  /** Of a payload that nobody has joined nothing is kept. */
  readonly #seeds = new Map<PayloadId, Seed>();

  constructor(random: Random, nowMs: () => number) {
    this.#random = random;
    this.#nowMs = nowMs;
  }

  /** A peer joins a payload. Answers whether there is a place for it. */
  mayJoin(peer: PeerName, payload: PayloadId): boolean {
    const seed = this.#seeds.get(payload) ?? this.#begin(payload);
    const actions = seed.links.step({ kind: "asked", by: { peer, distance: "site" } }, this.#nowMs());
    const isIn = actions.some(({ kind }) => kind === "accept");
    if (isIn) seed.joiners.add(peer);
    return isIn;
  }

  unjoined(peer: PeerName, payload: PayloadId): void {
    const seed = this.#seeds.get(payload);
    if (seed === undefined) return;
    seed.links.step({ kind: "lost", peer }, this.#nowMs());
    seed.joiners.delete(peer);
    if (seed.joiners.size === 0) this.#seeds.delete(payload);
  }

  /** A payload is on its way in again: answers who has joined it, and forgets them. */
  release(payload: PayloadId): Iterable<PeerName> {
    const seed = this.#seeds.get(payload);
    this.#seeds.delete(payload);
    return seed?.joiners ?? [];
  }

  #begin(payload: PayloadId): Seed {
    const links = new Links(defaultLinkLimits, { rating: () => undefined, holds: () => false }, this.#random);
    links.step({ kind: "complete", peer: "self" }, this.#nowMs());
    const seed = { links, joiners: new Set<PeerName>() };
    this.#seeds.set(payload, seed);
    return seed;
  }
}
