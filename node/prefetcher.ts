import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { NamedThing } from "../protocol/handle-text.ts";
import type { VariantHash } from "../protocol/hash.ts";
import { type KeepIndex, type Naming, namingText, type Prefetch } from "../protocol/keep-index.ts";
import { variantsMeant } from "../protocol/keep-package.ts";
import type { ReleaseRecord } from "../protocol/record.ts";
import { type Variant, variantText } from "../protocol/variant.ts";
import type { Log } from "./log.ts";
import type { PayloadStore } from "./store/payload-store.ts";

export interface PrefetcherParts {
  readonly store: Pick<PayloadStore, "holding" | "knowsRepository">;
  readonly keeps: () => KeepIndex;
  /** What the origins have. Rejects for its signal only. */
  readonly released: () => Promise<readonly Variant[]>;
  readonly hashOf: (thing: NamedThing) => VariantHash;
  /** Whether somebody waits for a fetch just now. */
  readonly isBusy: () => boolean;
  /** What a fetch would bring in now. */
  readonly find: (variant: VariantHash, signal: AbortSignal) => Promise<ReleaseRecord>;
  /** Whether lists may keep it once it is here, beside what comes first. */
  readonly mayBeKept: (coming: { readonly bytes: number; readonly naming: Naming }) => boolean;
  readonly fetch: (variant: VariantHash, signal: AbortSignal) => Promise<unknown>;
  readonly id: () => string;
  readonly log: Log;
  /** Over how long the machines of a network spread what a new list makes them fetch; a quarter of an hour unless given. */
  readonly spreadMs?: number;
}

/**
 * Brings in, one after the other and while nobody waits for a fetch, what lists want here beforehand. What was begun is
 * taken up where it was left; what does not fit is left out: lists may keep `pinned_bytes_max` only, a fetch reserves its room, and takes the place of less
 * important things only.
 */
export class Prefetcher {
  readonly #parts: PrefetcherParts;
  /** The lists whose turn this machine has waited for. */
  readonly #waited = new Set<string>();

  constructor(parts: PrefetcherParts) {
    this.#parts = parts;
  }

  /** Until all is here that may be, or the signal is aborted; rejects for that only. */
  async run(signal: AbortSignal): Promise<void> {
    const { store, keeps, find, mayBeKept, fetch, log } = this.#parts;
    const wanted = await this.#wanted();
    for (const { variant, hash, prefetch } of wanted) {
      if (store.holding(hash) !== undefined) continue;
      await this.#waitForTurn(prefetch, signal);
      while (this.#parts.isBusy()) await sleep(busyMs, undefined, { signal, ref: false });
      // The list may have been replaced meanwhile.
      const { toolset, package: text } = prefetch.naming;
      const isSame = ({ naming }: Prefetch) => naming.toolset === toolset && naming.package === text;
      if (!keeps().prefetches.some(isSame)) continue;
      const facts = { variant: variantText(variant), list: namingText(prefetch.naming) };
      try {
        const { root } = await find(hash, signal);
        if (!mayBeKept({ bytes: root.bytes, naming: prefetch.naming })) {
          // Nor may what is less important: it would be evicted by and by, and fetched again.
          const reason = "with what is pinned, and more important, it takes more than cache.pinned_bytes_max";
          return log("warn", "prefetch-failed", { ...facts, reason });
        }
        await fetch(hash, signal);
      } catch (error) {
        signal.throwIfAborted();
        log("warn", "prefetch-failed", { ...facts, reason: (error as Error).message });
      }
    }
  }

  /** The most important first; of a range the latest version that was released, in all its variants. */
  async #wanted(): Promise<{ readonly variant: Variant; readonly hash: VariantHash; readonly prefetch: Prefetch }[]> {
    const { keeps, store, hashOf } = this.#parts;
    const { prefetches } = keeps();
    if (prefetches.length === 0) return [];
    const known = prefetches.some(({ means }) => means.kind === "range") ? await this.#parts.released() : [];
    const wanted = new Map<VariantHash, { variant: Variant; hash: VariantHash; prefetch: Prefetch }>();
    for (const prefetch of prefetches) {
      const [latest, ...others] = variantsMeant(prefetch.means, known);
      for (const variant of latest === undefined
        ? []
        : [latest, ...others.filter((each) => each.version === latest.version)]) {
        const hash = hashOf({ kind: "variant", variant });
        if (store.knowsRepository(variant.repository) && !wanted.has(hash))
          wanted.set(hash, { variant, hash, prefetch });
      }
    }
    return [...wanted.values()];
  }

  /** Each machine has a moment of its own for each list. */
  async #waitForTurn({ naming }: Prefetch, signal: AbortSignal): Promise<void> {
    const { id, spreadMs = defaultSpreadMs } = this.#parts;
    const list = `${naming.toolset} ${naming.version}`;
    if (this.#waited.has(list)) return;
    await sleep(spreadMs * turnOf(`${id()} ${list}`), undefined, { signal, ref: false });
    this.#waited.add(list);
  }
}

/** A number from 0 to 1 that the text alone decides. */
function turnOf(text: string): number {
  return createHash("sha256").update(text).digest().readUInt32BE() / 2 ** 32;
}

const defaultSpreadMs = 15 * 60_000;
/** How long it waits for those whose fetches somebody waits for, before it looks again. */
const busyMs = 2_000;
