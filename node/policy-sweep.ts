import { NotTrustedError } from "../protocol/errors.ts";
import type { Hasher, VariantHash } from "../protocol/hash.ts";
import { decodeEnvelope, type Publishers, trustedRecord } from "../protocol/record.ts";
import { verifySignature } from "./keys.ts";
import type { Log } from "./log.ts";
import type { Holding } from "./ports.ts";
import type { PayloadStore } from "./store/payload-store.ts";

export interface PolicySweepParts {
  readonly store: Pick<PayloadStore, "holdings" | "record" | "remove">;
  readonly publishers: Publishers;
  readonly hasher: Hasher;
  readonly log: Log;
  /** Says to the peers what is held now. */
  readonly announce: () => void;
}

/**
 * Takes off this disk what counts no more by the policy: what was denied, and what is held under a record that is void.
 * Never rejects: what cannot be taken off now is logged, and comes up again the next time.
 * @param only one variant; all unless given.
 */
export async function sweepVoided(parts: PolicySweepParts, signal: AbortSignal, only?: VariantHash): Promise<void> {
  const { store, log, announce } = parts;
  for (const holding of store.holdings()) {
    if (signal.aborted) return;
    if (only !== undefined && holding.variant !== only) continue;
    const fault = await faultOf(parts, holding);
    if (fault === undefined) continue;
    const facts = { variant: holding.text, payload: holding.payload, code: fault.code, reason: fault.message };
    try {
      await store.remove(holding.variant, { onHidden: announce, signal });
      log("warn", "variant-voided", facts);
    } catch (error) {
      if (!signal.aborted) log("error", "voided-variant-stays", { ...facts, problem: (error as Error).message });
    }
    announce();
  }
}

/** Why a holding counts no more; undefined where it does, or where nobody can tell: its record has gone from the disk. */
async function faultOf(
  { store, publishers, hasher }: PolicySweepParts,
  holding: Holding,
): Promise<NotTrustedError | undefined> {
  let fault: NotTrustedError | undefined;
  for (const which of ["newest", "held"] as const) {
    const bytes = await store.record(holding.variant, which);
    if (bytes === undefined) continue;
    try {
      const record = trustedRecord(decodeEnvelope(bytes), publishers, verifySignature, hasher);
      if (!record.withdrawn && record.payload === holding.payload) return undefined;
    } catch (error) {
      if (error instanceof NotTrustedError) fault ??= error;
    }
  }
  return fault;
}
