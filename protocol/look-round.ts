import type { VariantHash } from "./hash.ts";
import type { Random } from "./random.ts";

/** What to do now about the records of held variants. */
export type LookStep =
  | { readonly kind: "look"; readonly variant: VariantHash; readonly waitMs: number }
  | { readonly kind: "wait"; readonly waitMs: number };

/**
 * When to see whether the origins have a newer record of what is held: each variant about once a period, spread over it,
 * so that neither an origin nor this machine ever gets all questions at once. Where many machines hold much the period
 * becomes longer, so that an origin gets no more than 20 looks a second from all of them together.
 */
export class LookRound {
  readonly #periodMs: number;
  readonly #random: Random;
  /** In the order in which they were looked at, the longest ago first. */
  readonly #looked = new Set<VariantHash>();
  /** What was held at the last step, and of that what was never looked at, the last first. */
  #held: readonly VariantHash[] = [];
  #fresh: VariantHash[] = [];

  constructor(periodMs: number, random: Random) {
    this.#periodMs = periodMs;
    this.#random = random;
  }

  /**
   * Names the variant whose turn it is among those that are held, and how long to wait after it.
   * @param held the same array as long as it says the same: one that is another is gone through.
   * @param machines how many there are, this one included: each is taken to hold as much.
   */
  step(held: readonly VariantHash[], machines: number): LookStep {
    if (held !== this.#held) this.#take(held);
    // Within half and one and a half of the mean: machines that were started together drift apart.
    const meanMs = Math.max(this.#periodMs / Math.max(1, held.length), machines * siteLookMs);
    const waitMs = Math.max(waitMsMin, meanMs * (0.5 + this.#random()));
    const variant = this.#fresh.pop() ?? this.#looked.values().next().value;
    if (variant === undefined) return { kind: "wait", waitMs };
    this.#looked.delete(variant);
    this.#looked.add(variant);
    return { kind: "look", variant, waitMs };
  }

  #take(held: readonly VariantHash[]): void {
    const here = new Set(held);
    for (const variant of this.#looked) if (!here.has(variant)) this.#looked.delete(variant);
    this.#held = held;
    this.#fresh = held.filter((variant) => !this.#looked.has(variant)).reverse();
  }
}

/** With very many variants a round takes longer, and an origin still gets no more than this from one node. */
const waitMsMin = 1_000;
/** Between two looks of all machines together: 20 a second, each a few small reads, are little work for any filer. */
const siteLookMs = 50;
