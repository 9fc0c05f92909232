import { NotTrustedError, P2pCacheError } from "../protocol/errors.ts";
import type { VariantHash } from "../protocol/hash.ts";
import { decodeEnvelope, type ReleaseRecord, signerOf } from "../protocol/record.ts";
import { type Withdrawal, withdrawnError } from "../protocol/withdrawal.ts";
import type { FetchStore, Origin, Swarm } from "./ports.ts";
import { type FoundRecord, findRecord, type RecordSources } from "./record-finder.ts";

/** A release that a publisher whom we trust has signed, and the envelope that proves it. */
export interface FoundRelease extends FoundRecord {
  readonly record: ReleaseRecord;
}

/** Who may be asked. */
export interface RecordPartners {
  readonly origins: readonly Origin[];
  readonly swarm: Swarm | undefined;
}

export interface ReleaseFinderParts {
  readonly store: Pick<FetchStore, "noteRecord" | "holding" | "remove">;
  readonly sources: Omit<RecordSources, "origins" | "swarm">;
  /** A held variant that was withdrawn is about to go, and nobody is served from it any more: peers should know. */
  readonly onHidden: () => void;
  /** A held variant was dropped since its publisher withdrew it; with `error`, could not be dropped yet. */
  readonly onWithdrawn?: (withdrawal: Withdrawal, error: Error | undefined) => void;
  /** Publishers contradict each other about what is held. */
  readonly onConflict?: (variant: VariantHash, error: NotTrustedError) => void;
}

/** Finds releases, remembers the highest revision that was seen (P6), and drops what was withdrawn. */
export class ReleaseFinder {
  readonly #parts: ReleaseFinderParts;

  constructor(parts: ReleaseFinderParts) {
    this.#parts = parts;
  }

  /**
   * The newest release of a variant.
   * @throws {WithdrawnError} when its newest record takes it back: it is not held here any more then; what `findRecord`
   * throws.
   */
  async find(variant: VariantHash, partners: RecordPartners, signal: AbortSignal): Promise<FoundRelease> {
    for (let tries = 1; ; tries++) {
      const found = await findRecord({ ...this.#parts.sources, ...partners }, variant, { signal });
      try {
        return await this.#accept(variant, found, signal);
      } catch (error) {
        // A search beside this one saw a newer record, which is on this disk now.
        const isOutdated = error instanceof P2pCacheError && error.code === "RECORD_OUTDATED";
        if (!isOutdated || tries === triesMax) throw error;
      }
    }
  }

  /** Sees what the origins that may be asked (P8) say of a held variant by now, and drops what was withdrawn. Never rejects. */
  async look(variant: VariantHash, origins: readonly Origin[], signal: AbortSignal): Promise<void> {
    if (origins.length === 0) return;
    // What lies here must not answer first, or a slow origin would only be given a moment.
    const sources = { ...this.#parts.sources, stored: async () => undefined, swarm: undefined, origins };
    try {
      await this.#accept(variant, await findRecord(sources, variant, { signal }), signal);
    } catch (error) {
      // Whether it was dropped has been told. An origin that knows less, or nothing, or does not answer changes nothing.
      if (error instanceof NotTrustedError && error.code === "RECORD_CONFLICT")
        this.#parts.onConflict?.(variant, error);
    }
  }

  async #accept(variant: VariantHash, found: FoundRecord, signal: AbortSignal): Promise<FoundRelease> {
    const { record, envelope } = found;
    const { store, sources } = this.#parts;
    if (!record.withdrawn) {
      await store.noteRecord(variant, envelope);
      return { record, envelope };
    }
    await this.#drop(variant, record, envelope, signal);
    throw withdrawnError(record, signerOf(decodeEnvelope(envelope), sources.publishers));
  }

  /** The word of the publisher first, so that nothing older is taken for it; then the tree. @throws {NotTrustedError} */
  async #drop(variant: VariantHash, record: Withdrawal, envelope: Uint8Array, signal: AbortSignal): Promise<void> {
    const { store, onHidden, onWithdrawn } = this.#parts;
    const noted = await failureOf(store.noteRecord(variant, envelope));
    if (noted instanceof NotTrustedError) throw noted;
    if (store.holding(variant) === undefined) return;
    const removed = await failureOf(store.remove(variant, { signal, onHidden }));
    // On a disk that was full there is room now.
    if (noted !== undefined && removed === undefined) await failureOf(store.noteRecord(variant, envelope));
    onWithdrawn?.(record, removed);
  }
}

async function failureOf(work: Promise<unknown>): Promise<Error | undefined> {
  return await work.then(
    () => undefined,
    (error: unknown) => error as Error,
  );
}

const triesMax = 3;
