import type { VariantHash } from "../protocol/hash.ts";
import type { KeepIndex, Naming } from "../protocol/keep-index.ts";
import type { Variant } from "../protocol/variant.ts";

interface Held {
  readonly hash: VariantHash;
  readonly variant: Variant;
}

export interface NamingsParts {
  /** The lists in force, at this moment. */
  readonly keeps: () => KeepIndex;
  /** All that is held; the same array until that changes. */
  readonly held: () => readonly Held[];
  /** All of it is known anew. */
  readonly onWarm: () => void;
  readonly signal: AbortSignal;
}

/**
 * What the lists name of what is held, remembered until the lists change, or one of them expires. Then all of it is looked
 * up anew behind the scenes, a little at a time; who cannot wait for that is told what the lists before said.
 */
export class Namings {
  readonly #parts: NamingsParts;
  #index: KeepIndex | undefined;
  #known = new Map<VariantHash, Naming | "none">();
  /** By the lists before, until all is known of those now. */
  #before = new Map<VariantHash, Naming | "none">();
  #warming: Promise<void> | undefined;
  /** What was held when all of it was known. */
  #warmFor: readonly Held[] | undefined;

  constructor(parts: NamingsParts) {
    this.#parts = parts;
  }

  /** Of one, by the lists in force. */
  of({ hash, variant }: Held): Naming | undefined {
    const known = this.#now();
    let naming = known.get(hash);
    if (naming === undefined) {
      naming = this.#parts.keeps().best(variant) ?? "none";
      known.set(hash, naming);
    }
    return naming === "none" ? undefined : naming;
  }

  /** By the lists before, where it is not known anew yet: good enough for what else is held. */
  late(held: Held): Naming | undefined {
    const naming = this.#now().get(held.hash) ?? this.#before.get(held.hash);
    if (naming === undefined) return this.of(held);
    return naming === "none" ? undefined : naming;
  }

  /** Looks all of it up; at once where nothing has changed since. Never rejects. */
  async warm(): Promise<void> {
    for (let round = 0; round < roundsMax && !this.#isWarm() && !this.#parts.signal.aborted; round++) {
      this.#warming ??= this.#lookUpAll().finally(() => {
        this.#warming = undefined;
      });
      await this.#warming;
    }
  }

  /** The same, where the lists before say next to nothing: right after a start. */
  async warmIfCold(): Promise<void> {
    const held = this.#parts.held();
    this.#now();
    if (this.#before.size + this.#known.size < held.length / 2) await this.warm();
  }

  /** Waits for what goes on behind the scenes. */
  async settled(): Promise<void> {
    await this.#warming;
  }

  async #lookUpAll(): Promise<void> {
    const { held, onWarm, signal } = this.#parts;
    const all = held();
    for (const [at, each] of all.entries()) {
      if (at % atOnce === 0) await new Promise((resolve) => setImmediate(resolve));
      if (signal.aborted) return;
      this.of(each);
    }
    const known = this.#now();
    // The lists have changed meanwhile: that began it again.
    if (!all.every(({ hash }) => known.has(hash))) return;
    this.#before.clear();
    this.#warmFor = all;
    const here = new Set(all.map(({ hash }) => hash));
    for (const hash of known.keys()) if (!here.has(hash)) known.delete(hash);
    onWarm();
  }

  #isWarm(): boolean {
    this.#now();
    return this.#warmFor === this.#parts.held();
  }

  #now(): Map<VariantHash, Naming | "none"> {
    const index = this.#parts.keeps();
    if (this.#index !== index) {
      const isFirst = this.#index === undefined;
      // They may change once more before all was looked up.
      for (const [hash, naming] of this.#known) this.#before.set(hash, naming);
      this.#known = new Map();
      this.#index = index;
      this.#warmFor = undefined;
      if (!isFirst) void this.warm();
    }
    return this.#known;
  }
}

/** Lists and holdings that change all the time are not run after. */
const roundsMax = 4;
/** Some 10 ms of work. */
const atOnce = 500;
