import { NotAdoptedError, NotFoundError, UnreachableError } from "../protocol/errors.ts";
import type { VariantHash } from "../protocol/hash.ts";
import type { FetchResult } from "./fetcher.ts";
import type { FetchStore, Holding, StagedTree } from "./ports.ts";
import type { FoundRelease } from "./release-finder.ts";
import type { BytesBySource } from "./transfer-drive.ts";

export interface AdoptRequest {
  readonly store: Pick<FetchStore, "adoption" | "foreign">;
  readonly variant: VariantHash;
  readonly found: FoundRelease;
  /** Brings in what is missing of the copy: the segments of its manifest. */
  readonly transfer: (copy: StagedTree) => Promise<BytesBySource>;
  readonly onPlaced: (holding: Holding) => void;
  readonly signal: AbortSignal;
}

/**
 * Takes Rez's own copy of a variant for ours where it is what was released, and leaves it alone otherwise.
 * @throws the signal's reason; {BusyError} REZ_LOCK_HELD; {FormatError} for a manifest that breaks a rule.
 */
export async function adoptCopy(
  request: AdoptRequest,
): Promise<Pick<FetchResult, "path" | "outcome" | "reason" | "bytes">> {
  const { store, variant, found, signal } = request;
  const { record, envelope } = found;
  const path = store.foreign(record.variant)?.path;
  let copy: StagedTree | undefined;
  try {
    copy = await store.adoption.open(variant, record, envelope);
    const { peers, origin } = await request.transfer(copy);
    const holding = await store.adoption.adopt(variant, copy, signal);
    request.onPlaced(holding);
    return { path: holding.path, outcome: "local", bytes: { local: record.root.bytes, peers, origin } };
  } catch (error) {
    const reason = whyNot(error);
    if (reason === undefined) throw error;
    return { path, outcome: "skipped", reason, bytes: { local: 0, peers: 0, origin: 0 } };
  } finally {
    if (copy !== undefined) store.adoption.leave(copy);
  }
}

/** Undefined for what says nothing about the copy. */
function whyNot(error: unknown): string | undefined {
  if (error instanceof NotAdoptedError) return `Rez has its own copy there, which is left alone: ${error.message}`;
  // Its manifest is nowhere to be had: Rez has the variant all the same.
  if (error instanceof NotFoundError || error instanceof UnreachableError) {
    return `Rez has its own copy there, which cannot be compared: ${error.message}`;
  }
  return undefined;
}
