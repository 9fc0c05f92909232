import { MIB } from "./limits.ts";
import { TokenBucket } from "./token-bucket.ts";

/** Why bytes move, the most urgent first (DESIGN section 7, rule 10). */
export type TrafficClass = "interactive" | "jobStart" | "prefetch" | "repair";

/** Bytes a millisecond that each class may have; a class that is not named has no limit. */
export type ClassRates = { readonly [Class in TrafficClass]?: number };

/** The more urgent of two classes. */
export function moreUrgent(one: TrafficClass, other: TrafficClass): TrafficClass {
  return trafficClasses.indexOf(one) < trafficClasses.indexOf(other) ? one : other;
}

/** What something may take of a rate that it shares with others. */
export interface Pace {
  /** Whether so many bytes may be asked for now; then they have been. */
  take(bytes: number, nowMs: number): boolean;
  /** Bytes that were asked for do not come. */
  giveBack(bytes: number, nowMs: number): void;
  /** When something may be asked for again; infinity: not before the rate is another one. */
  readyAtMs(nowMs: number): number;
}

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

  /** What a transfer of a class may ask for; whose class it is may change while it goes on. */
  paceOf(traffic: () => TrafficClass): Pace {
    return {
      take: (bytes, nowMs) => this.#buckets.get(traffic())!.take(bytes, nowMs),
      giveBack: (bytes, nowMs) => this.#buckets.get(traffic())!.giveBack(bytes, nowMs),
      readyAtMs: (nowMs) => this.#buckets.get(traffic())!.readyAtMs(nowMs),
    };
  }

  /** Whether so many bytes may go now; then they have gone. */
  take(traffic: TrafficClass, bytes: number, nowMs: number): boolean {
    return this.#buckets.get(traffic)!.take(bytes, nowMs);
  }

  /** When something of a class may go again, once `aheadBytes` have gone before it. */
  readyAtMs(traffic: TrafficClass, nowMs: number, aheadBytes = 0): number {
    return this.#buckets.get(traffic)!.freeAtMs(nowMs, aheadBytes);
  }
}

/** In this order they go over the wire. */
export const trafficClasses: readonly TrafficClass[] = ["interactive", "jobStart", "prefetch", "repair"];
/** Two chunks of the largest size. */
const burstBytes: number = 4 * MIB;
