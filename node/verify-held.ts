import { NotFoundError } from "../protocol/errors.ts";
import type { VariantHash } from "../protocol/hash.ts";
import type { Damage } from "./node-status.ts";
import type { PayloadStore } from "./store/payload-store.ts";

/** Compares held trees with their manifests, one after the other; all of them when none is named. @throws {NotFoundError} */
export async function verifyHeld(
  store: Pick<PayloadStore, "holdings" | "holding" | "verify">,
  named: readonly VariantHash[] | undefined,
  signal: AbortSignal | undefined,
): Promise<{ checked: number; damaged: Damage[] }> {
  const variants = named ?? store.holdings().map(({ variant }) => variant);
  const damaged: Damage[] = [];
  let checked = 0;
  for (const variant of variants) {
    signal?.throwIfAborted();
    const holding = store.holding(variant);
    // Removed since it was listed.
    if (holding === undefined && named === undefined && !store.holdings().some((each) => each.variant === variant)) {
      continue;
    }
    if (holding === undefined) throw new NotFoundError(`${variant} is not held here`);
    const faults = await store.verify(variant, signal);
    damaged.push(...faults.map(({ path: file, item, fault }) => ({ path: holding.path, item, file, fault })));
    checked++;
  }
  return { checked, damaged };
}
