import type { PeerName } from "../protocol/directory.ts";
import { NotFoundError, UsageError } from "../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../protocol/hash.ts";
import { type Random, randomBelow } from "../protocol/random.ts";
import type { Standing } from "../protocol/standing.ts";
import type { Distance } from "../protocol/transfer.ts";
import type { PeerStatus } from "./node-status.ts";
import type { PeerFacts, Swarm } from "./ports.ts";

/** Where this node is: peers with the same labels are nearer. */
export interface Place {
  readonly site: string;
  readonly rack: string;
}

export interface HoldersParts {
  readonly swarm: () => Swarm | undefined;
  readonly standing: Standing;
  readonly own: Place;
  readonly random: Random;
  readonly nowMs: () => number;
}

/** Whom to ask for what, by what members announced. */
export class Holders {
  readonly #parts: HoldersParts;

  constructor(parts: HoldersParts) {
    this.#parts = parts;
  }

  /**
   * Peers that may know a variant's record, the best first: holders have it for certain, and those that are connected
   * answer at once; others, who are connected, may be fetching it too.
   */
  forRecord(variant: VariantHash): PeerName[] {
    const swarm = this.#parts.swarm();
    if (swarm === undefined) return [];
    const here = new Set(swarm.peers().map(({ peer }) => peer));
    const holders = this.#good([...swarm.directory.holders(variant).keys()]);
    const near = this.#shuffled(holders.filter((peer) => here.has(peer)));
    const far = this.#nearFirst(holders.filter((peer) => !here.has(peer)));
    return [...near, ...far.slice(0, holdersMax), ...[...here].filter((peer) => !holders.includes(peer))];
  }

  /** Some of those who say that they hold a payload whole, up to half of them near by. */
  forPayload(payload: PayloadId): PeerName[] {
    const swarm = this.#parts.swarm();
    if (swarm === undefined) return [];
    return this.#nearFirst(this.#good(swarm.directory.holdersOf(payload))).slice(0, holdersMax);
  }

  /** Where a peer is from here. A site without a name is no other site than any. */
  distanceTo(peer: PeerName): Distance {
    const { own, swarm } = this.#parts;
    const labels =
      swarm()?.directory.labels(peer) ??
      swarm()
        ?.peers()
        .find((facts) => facts.peer === peer);
    if (labels === undefined || own.site === "" || labels.site === "") return "site";
    if (labels.site !== own.site) return "far";
    return own.rack !== "" && labels.rack === own.rack ? "rack" : "site";
  }

  /** The variant that a payload is held as. @throws {NotFoundError} when by nobody; {UsageError} when as several. */
  variantOf(payload: PayloadId): VariantHash {
    const variants = this.#parts.swarm()?.directory.variantsOf(payload) ?? [];
    if (variants.length === 0) throw new NotFoundError(`nobody here is known to hold the payload ${payload}`);
    if (variants.length === 1) return variants[0]!;
    throw new UsageError(`the payload ${payload} is held as several variants: ${variants.join(", ")}`, {
      hint: "name one",
    });
  }

  /** Peers that are here, those that announced themselves, and those that were here and of whom something is known. */
  status(): PeerStatus[] {
    const { swarm, standing, nowMs } = this.#parts;
    const directory = swarm()?.directory;
    const here = new Map((swarm()?.peers() ?? []).map((facts) => [facts.peer, facts]));
    const own = swarm()?.id;
    const names = new Set([...here.keys(), ...(directory?.peers() ?? []), ...standing.peers()]);
    return [...names].flatMap((peer) => {
      if (peer === own) return [];
      const { name, site, rack, addresses, clockAheadMs } = here.get(peer) ?? this.#announced(peer);
      const path = here.has(peer) ? "stream" : "none";
      const holdings = directory?.holdingsOf(peer) ?? 0;
      const level = standing.level(peer, nowMs());
      const numbers = { ...standing.summary(peer), ...(clockAheadMs === undefined ? {} : { clockAheadMs }) };
      return [{ peer, name, site, rack, addresses, path, holdings, standing: level, ...numbers }];
    });
  }

  #announced(peer: PeerName): Omit<PeerFacts, "peer"> {
    return this.#parts.swarm()?.directory.labels(peer) ?? { name: "", site: "", rack: "", addresses: [] };
  }

  #good(peers: readonly PeerName[]): PeerName[] {
    const { standing, swarm, nowMs } = this.#parts;
    const own = swarm()?.id;
    return peers.filter((peer) => peer !== own && standing.level(peer, nowMs()) === "good");
  }

  /** In random order, but half of the first ones have our labels, if there are so many. */
  #nearFirst(peers: readonly PeerName[]): PeerName[] {
    const all = this.#shuffled(peers);
    if (all.length <= holdersMax) return all;
    const near = all
      .map((peer) => ({ peer, closeness: this.#closeness(peer) }))
      .filter(({ closeness }) => closeness > 0)
      .sort((a, b) => b.closeness - a.closeness)
      .slice(0, holdersMax / 2)
      .map(({ peer }) => peer);
    return [...near, ...all.filter((peer) => !near.includes(peer))];
  }

  #closeness(peer: PeerName): number {
    const { own, swarm } = this.#parts;
    const labels = swarm()?.directory.labels(peer);
    if (labels === undefined || own.site === "" || labels.site !== own.site) return 0;
    return own.rack !== "" && labels.rack === own.rack ? 2 : 1;
  }

  #shuffled<T>(values: readonly T[]): T[] {
    const shuffled = [...values];
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = randomBelow(i + 1, this.#parts.random);
      [shuffled[i], shuffled[j]] = [shuffled[j]!, shuffled[i]!];
    }
    return shuffled;
  }
}

/** Holders that a transfer asks: more than one machine's link can use. */
const holdersMax = 16;
