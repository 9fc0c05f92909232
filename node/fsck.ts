import { P2pCacheError } from "../protocol/errors.ts";
import type { Fetcher } from "./fetcher.ts";
import type { PayloadStore } from "./store/payload-store.ts";

/** What may be done about what is found. */
export interface FsckOptions {
  readonly repair?: boolean;
  /** Makes the database anew first, from `objects/` and the cache. */
  readonly rebuild?: boolean;
  readonly signal?: AbortSignal;
}

/** What was found, and where something was to be done about it, what is still wrong then. */
export interface FsckResult {
  readonly checked: number;
  readonly faults: readonly string[];
  readonly left?: readonly string[];
}

export interface FsckParts {
  readonly store: Pick<PayloadStore, "bookkeeping" | "verify">;
  readonly fetcher: Pick<Fetcher, "fetch">;
  /** Says to the peers what is held now. */
  readonly announce: () => void;
}

/**
 * Checks the bookkeeping of cache and state, and mends it where it is told to: what the disk shows is taken up again,
 * and what is wrong of held variants is fetched.
 */
export async function fsck(
  { store, fetcher, announce }: FsckParts,
  { repair = false, rebuild = false, signal }: FsckOptions,
): Promise<FsckResult> {
  const { bookkeeping } = store;
  const found = await bookkeeping.check();
  const { checked, faults } = found;
  if (!repair && !rebuild) return { checked, faults };
  if (rebuild) await bookkeeping.rebuild();
  const failures: string[] = [];
  if (repair) {
    await bookkeeping.mend();
    for (const variant of (await bookkeeping.check()).damaged) {
      signal?.throwIfAborted();
      // What is not known to be damaged yet is from now on.
      if ((await store.verify(variant, signal)).length === 0) continue;
      const how = { traffic: "repair", ...(signal === undefined ? {} : { signal }) } as const;
      const failure = await fetcher.fetch(variant, how).then(({ reason }) => reason, reasonOf);
      if (failure !== undefined) failures.push(`${variant} was not repaired: ${failure}`);
    }
  }
  announce();
  const after = await bookkeeping.check();
  const left = after.faults.length === 0 ? [] : [...after.faults, ...failures];
  return { checked: after.checked, faults, left };
}

function reasonOf(error: unknown): string {
  if (error instanceof P2pCacheError) return error.message;
  throw error;
}
