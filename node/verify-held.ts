import { NotFoundError } from "../protocol/errors.ts";
import type { VariantHash } from "../protocol/hash.ts";
import type { Damage } from "./node-status.ts";
import type { PayloadStore } from "./store/payload-store.ts";

/**
 * Compares held trees with their manifests, one after the other; all of them when none is named. One that has gone from
 * the disk is damaged too. @throws {NotFoundError} for one that is named and not held.
 */
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
    const held = store.holdings().find((each) => each.variant === variant);
    if (held === undefined && named === undefined) continue; // Removed since it was listed.
    if (held === undefined) throw new NotFoundError(`${variant} is not held here`);
    checked++;
    const { path } = held;
    if (store.holding(variant) === undefined) {
      damaged.push({ path, item: null, file: "", fault: "has gone from this disk" });
      continue;
    }
    const faults = await store.verify(variant, signal);
    damaged.push(...faults.map(({ path: file, item, fault }) => ({ path, item, file, fault })));
  }
  return { checked, damaged };
}
