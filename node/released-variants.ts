import { P2pCacheError } from "../protocol/errors.ts";
import { parseIndex } from "../protocol/origin-index.ts";
import { type Variant, variantText } from "../protocol/variant.ts";
import type { Origin } from "./ports.ts";

/**
 * What the origins say was released and not withdrawn: by their indexes, which are hints. An origin that has none, or
 * cannot be asked, adds nothing. Rejects for the signal only.
 */
export async function releasedVariants(origins: readonly Origin[], signal: AbortSignal): Promise<Variant[]> {
  const variants = new Map<string, Variant>();
  for (const origin of origins) {
    try {
      const bytes = await origin.index?.({ signal });
      const entries = bytes === undefined ? [] : parseIndex(bytes);
      for (const { variant, isWithdrawn } of entries) if (!isWithdrawn) variants.set(variantText(variant), variant);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof P2pCacheError)) throw error;
    }
  }
  return [...variants.values()];
}
