import { MIB } from "./limits.ts";
import { TokenBucket } from "./token-bucket.ts";

/** Why bytes move, the most urgent first (DESIGN section 7, rule 10). */
export type TrafficClass = "interactive" | "jobStart" | "prefetch" | "repair";

/** Bytes a millisecond that each class may have; a class that is not named has no limit. */
export type ClassRates = { readonly [Class in TrafficClass]?: number };

/** What the classes may take of one direction of the link: a bucket for each. */
export class Politeness {
  readonly #buckets = new Map<TrafficClass, TokenBucket>();

  constructor(rates: ClassRates) {
    for (const traffic of trafficClasses) {
      this.#buckets.set(traffic, new TokenBucket(rates[traffic] ?? Number.POSITIVE_INFINITY, burstBytes));
    }
  }

  /** From now on with other rates: a machine that renders or is used serves less. */
  setRates(rates: ClassRates, nowMs: number): void {
    for (const [traffic, bucket] of this.#buckets) bucket.setRate(rates[traffic] ?? Number.POSITIVE_INFINITY, nowMs);
  }

  /** Whether so many bytes may go now; then they have gone. */
  take(traffic: TrafficClass, bytes: number, nowMs: number): boolean {
    return this.#buckets.get(traffic)!.take(bytes, nowMs);
  }

  /** When something of a class may go again. */
  readyAtMs(traffic: TrafficClass, nowMs: number): number {
    return this.#buckets.get(traffic)!.readyAtMs(nowMs);
  }
}

/** In this order they go over the wire. */
export const trafficClasses: readonly TrafficClass[] = ["interactive", "jobStart", "prefetch", "repair"];
/** Two chunks of the largest size. */
const burstBytes: number = 4 * MIB;
