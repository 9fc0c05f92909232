import { BusyError, NotFoundError, P2pCacheError, UsageError } from "../protocol/errors.ts";
import type { Hold } from "../protocol/eviction.ts";
import type { NamedThing } from "../protocol/handle-text.ts";
import type { PayloadId, VariantHash } from "../protocol/hash.ts";
import { variantText } from "../protocol/variant.ts";
import type { Holding } from "./ports.ts";
import type { PayloadStore } from "./store/payload-store.ts";
import { leasedBy } from "./store/removal.ts";

export interface RemovalParts {
  readonly store: Pick<PayloadStore, "holdings" | "remove" | "foreign">;
  readonly hashOf: (thing: NamedThing) => VariantHash;
  /** Whether a fetch of it is under way. */
  readonly isFetched: (variant: VariantHash) => boolean;
  /** Why it must stay, whoever asks. */
  readonly holdOf: (variant: VariantHash) => Promise<Hold | undefined>;
  /** Says to the peers what is held now. */
  readonly announce: () => void;
}

/** What was taken off this disk. */
export interface Removed {
  /** `studio:foo-1.0.0[0]`. */
  readonly handle: string;
  readonly variant: VariantHash;
  readonly payload: PayloadId;
  /** Where its tree lay. */
  readonly path: string;
  readonly bytes: number;
}

/**
 * Takes a held variant off this disk, after the peers were told that it goes.
 * @throws {NotFoundError} when it is not held; {BusyError} while a fetch of it is under way, REZ_LOCK_HELD, LEASED or PINNED;
 * {UsageError} for a payload that is held as several variants; NOT_OURS (exit 9) for what Rez has there itself.
 */
export async function removeHeld(parts: RemovalParts, thing: NamedThing, signal?: AbortSignal): Promise<Removed> {
  const { store, announce } = parts;
  signal?.throwIfAborted();
  const holding = findHeld(parts, thing);
  const { variant, payload, text: handle, path, bytes } = holding;
  if (parts.isFetched(variant)) {
    throw new BusyError(`${handle} is being fetched just now`, { hint: "end that fetch first, or wait for its end" });
  }
  const hold = await parts.holdOf(variant);
  if (hold?.kind === "leased") {
    throw leasedBy(handle, hold.by);
  }
  if (hold?.kind === "pinned") {
    throw new BusyError(`${handle} is pinned on this machine`, { code: "PINNED", hint: "p2pcache unpin it first" });
  }
  try {
    const removed = await store.remove(variant, { onHidden: announce, ...(signal === undefined ? {} : { signal }) });
    if (removed === undefined) throw notHeld(handle);
  } catch (error) {
    // It is still held after all.
    announce();
    throw error;
  }
  return { handle, variant, payload, path, bytes };
}

function findHeld({ store, hashOf }: RemovalParts, thing: NamedThing): Holding {
  const all = store.holdings();
  if (thing.kind === "payload") {
    const same = all.filter(({ payload }) => payload === thing.payload);
    if (same.length > 1) {
      const names = same.map(({ text }) => text).join(", ");
      throw new UsageError(`the payload ${thing.payload} is held as several variants: ${names}`, { hint: "name one" });
    }
    if (same.length === 0) throw notHeld(`the payload ${thing.payload}`);
    return same[0]!;
  }
  const hash = hashOf(thing);
  const held = all.find(({ variant }) => variant === hash);
  if (held !== undefined) return held;
  if (thing.kind === "variantHash") throw notHeld(`the variant ${hash}`);
  const handle = variantText(thing.variant);
  const foreign = store.foreign(thing.variant);
  if (foreign === undefined) throw notHeld(handle);
  throw new P2pCacheError("NOT_OURS", 9, `${handle} is left alone: Rez has its own copy in ${foreign.path}`, {
    hint: "rez-pkg-cache -r removes it; p2pcache removes what it has placed or adopted",
    details: { path: foreign.path, state: foreign.state },
  });
}

function notHeld(what: string): NotFoundError {
  return new NotFoundError(`${what} is not held here`, { hint: "p2pcache ls lists what is" });
}
