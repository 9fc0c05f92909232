import type { ClassRates } from "../protocol/politeness.ts";
import type { ClassRates as RateSettings } from "./settings/schema.ts";

/** What the settings say of a direction of the link, in bytes a millisecond. */
export function classRates(settings: RateSettings): ClassRates {
  const rates = Object.entries(settings).flatMap(([traffic, bytesPerSecond]) => {
    return bytesPerSecond === undefined ? [] : [[traffic, bytesPerSecond / 1000]];
  });
  return Object.fromEntries(rates) as ClassRates;
}
