import { ChunkCorruptError, ChunkMissingError, NotOurTurnError } from "../protocol/errors.ts";
import type { OriginPolicy } from "../protocol/origin-plan.ts";
import type { TransferEvent } from "../protocol/transfer.ts";
import type { SourceName } from "../protocol/transfer-source.ts";
import { LimitedOrigin } from "./origins/with-budget.ts";
import type { Origin } from "./ports.ts";

/** What a plan for several origins must know of them. */
export interface OriginAccess {
  /** The freest of theirs: one that needs no slot is there for all; `never` where there is none. */
  readonly policy: OriginPolicy;
  /** Whether this node may read from one of them now; asked anew each time. */
  readonly holdsSlot: () => boolean;
  /** Whether nothing but its turn keeps this node from reading: a transfer waits for that, and does not give up. */
  readonly isHeldBack: () => boolean;
}

/** How a set of origins, those that may be asked at all, is to be planned for. */
export function originAccess(origins: readonly Origin[]): OriginAccess {
  const limited = origins.filter((origin) => origin instanceof LimitedOrigin);
  if (origins.length === 0) return { policy: "never", holdsSlot: () => false, isHeldBack: () => false };
  if (limited.length < origins.length) return { policy: "auto", holdsSlot: () => true, isHeldBack: () => false };
  const holdsSlot = () => limited.some((origin) => origin.holdsSlot());
  return { policy: "limited", holdsSlot, isHeldBack: () => !holdsSlot() };
}

type OriginRefusal = Extract<TransferEvent, { readonly kind: "missing" | "corrupt" | "busy" | "failed" }>;

/** What a transfer hears of an item that an origin did not give. */
export function originRefused(error: unknown, source: SourceName, item: number): OriginRefusal {
  if (error instanceof ChunkMissingError) return { kind: "missing", source, items: [item] };
  if (error instanceof ChunkCorruptError) return { kind: "corrupt", source, item };
  if (!(error instanceof NotOurTurnError)) return { kind: "failed", source, items: [item] };
  return { kind: "busy", source, items: [item], retryAfterMs: error.retryAfterMs ?? 0 };
}

/** The origins that one fetch may ask, given as they are by the configuration and all within their budgets. */
export function originsUnder(
  policy: OriginPolicy | undefined,
  configured: readonly Origin[],
  limited: readonly Origin[],
): readonly Origin[] {
  switch (policy) {
    case "never":
      return [];
    case "limited":
      return limited;
    // Nobody frees himself of his site's budget.
    case "auto":
    case undefined:
      return configured;
  }
}
