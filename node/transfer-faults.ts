import {
  ChunkCorruptError,
  ChunkMissingError,
  NotFoundError,
  P2pCacheError,
  UnreachableError,
} from "../protocol/errors.ts";
import type { TransferFault } from "../protocol/transfer-events.ts";
import type { SourceName } from "../protocol/transfer-source.ts";
import type { OriginReads } from "./origin-reads.ts";

/** What a transfer that gave up knows about why. */
export interface GivenUp {
  readonly fault: TransferFault;
  readonly item: number;
  readonly missingItems: number;
  /** Of the payload. */
  readonly items: number;
  /** Named in errors. */
  readonly what: string;
  /** Who gave wrong bytes. */
  readonly corruptFrom: ReadonlySet<SourceName>;
  readonly reads: Pick<OriginReads, "refusals" | "changes">;
}

/** The error with which a transfer ends that gave up. */
export function errorOf(given: GivenUp): P2pCacheError {
  const { fault, item, items, missingItems, what, reads } = given;
  const details = { item, missingItems, items };
  switch (fault) {
    case "corrupt": {
      const change = reads.changes.get(item);
      if (change !== undefined) return change;
      return new ChunkCorruptError(
        `no source has the right bytes of ${what}: item ${item} is wrong at ${liars(given)}`,
        {
          details: { ...details, sources: [...given.corruptFrom] },
        },
      );
    }
    case "missing":
      return new NotFoundError(`${missingItems} of ${items} items of ${what} are nowhere to be had`, { details });
    case "unreachable":
      return unreachable(given, details);
  }
}

/** Nobody answers: what the origins said of it, if they said anything. */
function unreachable(given: GivenUp, details: Readonly<Record<string, unknown>>): UnreachableError {
  const { missingItems, what, reads } = given;
  const said = [...reads.refusals.values()].filter((refusal) => !(refusal instanceof ChunkMissingError));
  const why = said.map((refusal) => refusal.message).join("; ") || "no source answers";
  const hint = said.map((refusal) => (refusal instanceof P2pCacheError ? refusal.hint : undefined)).find(Boolean);
  const message = `${missingItems} items of ${what} are missing: ${why}`;
  return new UnreachableError(message, { details, ...(hint === undefined ? {} : { hint }) });
}

function liars({ corruptFrom, reads }: GivenUp): string {
  const names = [...corruptFrom].map((source) => {
    const refusal = reads.refusals.get(source);
    const why = refusal instanceof ChunkCorruptError ? ` (${refusal.message})` : "";
    return `${source.replace(/^origin:/, "the origin ")}${why}`;
  });
  return names.join(", ") || "its source";
}
