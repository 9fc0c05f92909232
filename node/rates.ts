import type { ClassRates } from "../protocol/politeness.ts";
import type { ClassRates as WrittenRates } from "./settings/schema.ts";

/** Rates as the configuration has them, in bytes a second, as `Politeness` takes them: in bytes a millisecond. */
export function classRates(written: WrittenRates): ClassRates {
  const limited = Object.entries(written).filter(([, bytesPerSecond]) => bytesPerSecond !== undefined);
  return Object.fromEntries(limited.map(([traffic, bytesPerSecond]) => [traffic, bytesPerSecond / 1000]));
}
