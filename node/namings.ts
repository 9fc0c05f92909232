import type { VariantHash } from "../protocol/hash.ts";
import type { KeepIndex, Naming } from "../protocol/keep-index.ts";
import type { Variant } from "../protocol/variant.ts";

interface Held {
  readonly hash: VariantHash;
  readonly variant: Variant;
}

type Known = Map<VariantHash, Naming | "none">;

/** What the lists name of what is held, remembered until the lists change, or one of them expires. */
export class Namings {
  readonly #keeps: () => KeepIndex;
  #index: KeepIndex | undefined;
  #known: Known = new Map();
  /** By the lists before, as long as not as much is known of those now. */
  #before: Known = new Map();

  /** `keeps`: the lists in force, at this moment. */
  constructor(keeps: () => KeepIndex) {
    this.#keeps = keeps;
  }

  /** Of one, by the lists in force. */
  of({ hash, variant }: Held): Naming | undefined {
    const known = this.#now();
    let naming = known.get(hash);
    if (naming === undefined) {
      naming = this.#keeps().best(variant) ?? "none";
      known.set(hash, naming);
    }
    return naming === "none" ? undefined : naming;
  }

  /** By the lists before, where nobody has looked it up since: good enough for what else is held. */
  late(held: Held): Naming | undefined {
    const naming = this.#now().get(held.hash) ?? this.#before.get(held.hash);
    if (naming === undefined) return this.of(held);
    return naming === "none" ? undefined : naming;
  }

  /** Looks all of it up, a little at a time, so that nobody has to wait for it later. */
  async warm(all: readonly Held[]): Promise<void> {
    for (const [at, held] of all.entries()) {
      if (at % atOnce === atOnce - 1) await new Promise((resolve) => setImmediate(resolve));
      this.of(held);
    }
  }

  /** The same, where next to nothing is known: right after a start. */
  async warmIfCold(all: readonly Held[]): Promise<void> {
    if (this.#now().size + this.#before.size < all.length / 2) await this.warm(all);
  }

  #now(): Known {
    const index = this.#keeps();
    if (this.#index !== index) {
      // Lists may change once more before all was looked up.
      if (this.#known.size >= this.#before.size) this.#before = this.#known;
      this.#known = new Map();
      this.#index = index;
    }
    return this.#known;
  }
}

/** Some 10 ms of work. */
const atOnce = 500;
