import { setTimeout as sleep } from "node:timers/promises";
import type { EvictionPlan } from "../protocol/eviction.ts";
import type { VariantHash } from "../protocol/hash.ts";

export interface LastPlanParts {
  readonly make: () => Promise<EvictionPlan>;
  /** The same as long as the same is held, pinned and leased. */
  readonly stamp: () => string;
  readonly nowMs: () => number;
  /** Ends what goes on behind. */
  readonly signal: AbortSignal;
}

interface KnownPlan {
  readonly atMs: number;
  readonly stamp: string;
  /** Whether each variant goes. */
  readonly goes: ReadonlyMap<VariantHash, boolean>;
}

/**
 * What goes by the plan that was made last. A plan takes a second for a hundred thousand variants, so where there are many
 * the one before answers, and a new one is made behind the answer.
 */
export class LastPlan {
  readonly #parts: LastPlanParts;
  #known: KnownPlan | undefined;
  /** How often something has changed that a plan depends on. */
  #changes = 0;
  #renewing: Promise<void> | undefined;

  constructor(parts: LastPlanParts) {
    this.#parts = parts;
  }

  /** Whether a variant would go now. */
  async goes(variant: VariantHash): Promise<boolean> {
    const known = this.#known;
    const goes = known?.goes.get(variant);
    if (known !== undefined && goes !== undefined) {
      const { stamp, nowMs } = this.#parts;
      if (known.stamp === stamp() && nowMs() - known.atMs < freshMs) return goes;
      if (known.goes.size > plannedAtOnce) {
        this.#renewBehind();
        return goes;
      }
    }
    return (await this.#make()).get(variant) === true;
  }

  /** A plan was made for its own sake, and is being carried out. */
  note(plan: EvictionPlan): void {
    this.#known = { atMs: Number.NEGATIVE_INFINITY, stamp: "", goes: goesOf(plan) };
  }

  /** Something has changed: what is known is only the last that is known. */
  changed(): void {
    this.#changes++;
    if (this.#known !== undefined) this.#known = { ...this.#known, atMs: Number.NEGATIVE_INFINITY };
  }

  /** Once nothing goes on behind. */
  async settled(): Promise<void> {
    await this.#renewing;
  }

  #renewBehind(): void {
    const end = () => {
      this.#renewing = undefined;
    };
    this.#renewing ??= this.#renewSoon().then(end, end);
  }

  /** The answer goes out first: while a plan is made nothing else has its turn. */
  async #renewSoon(): Promise<void> {
    await sleep(answerMs, undefined, { signal: this.#parts.signal });
    await this.#make();
  }

  async #make(): Promise<KnownPlan["goes"]> {
    const { make, stamp, nowMs } = this.#parts;
    const [changes, before] = [this.#changes, { atMs: nowMs(), stamp: stamp() }];
    const goes = goesOf(await make());
    const atMs = changes === this.#changes ? before.atMs : Number.NEGATIVE_INFINITY;
    this.#known = { ...before, atMs, goes };
    return goes;
  }
}

function goesOf({ lines }: EvictionPlan): ReadonlyMap<VariantHash, boolean> {
  return new Map(lines.map(({ held, goes }) => [held.variant, goes]));
}

/** How long a plan is as good as a new one. */
const freshMs = 10_000;
/** A plan for so many takes some tens of milliseconds: whoever asks may wait. */
const plannedAtOnce = 5_000;
/** How long an answer takes to be on its way. */
const answerMs = 50;
