import { P2pCacheError, TreeDamagedError, UsageError } from "../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../protocol/hash.ts";
import type { OriginPolicy } from "../protocol/origin-plan.ts";
import type { Politeness, TrafficClass } from "../protocol/politeness.ts";
import type { ReleaseRecord } from "../protocol/record.ts";
import { variantText } from "../protocol/variant.ts";
import { adoptCopy } from "./adopt.ts";
import { Flight } from "./flight.ts";
import { originAccess, originsUnder } from "./origin-access.ts";
import type { Clock, FetchStore, Holding, Origin, StagedTree, Swarm } from "./ports.ts";
import type { RecordSources } from "./record-finder.ts";
import { type FoundRelease, ReleaseFinder, type ReleaseFinderParts } from "./release-finder.ts";
import type { BytesBySource } from "./transfer-drive.ts";
import type { Transfers } from "./transfers.ts";
import { Turns } from "./turns.ts";

/** Overrides of one fetch; absent ones are as configured. */
export interface FetchOptions {
  /** `limited`: within the budgets of their site also where they are configured as `auto`; `auto`: as configured. */
  readonly origin?: OriginPolicy;
  readonly peers?: "auto" | "never";
  readonly timeoutMs?: number;
  /** Why its bytes move; interactive unless given. Who wants the same more urgently hurries it. */
  readonly traffic?: TrafficClass;
  /** The caller left: the fetch goes on if another one wants the same. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: FetchProgress) => void;
}

export interface FetchProgress {
  readonly text: string;
  readonly totalBytes: number;
  readonly bytes: BytesBySource;
}

/** What became of one variant (CONTRACTS, `fetch`). */
export interface FetchResult {
  /** `studio:foo-1.0.0[0]`. */
  readonly handle: string;
  readonly variant: VariantHash;
  readonly payload: PayloadId | undefined;
  /** Where its tree lies; of a skipped variant, where another one of it lies, if there is one. */
  readonly path: string | undefined;
  readonly outcome: "local" | "fetched" | "skipped";
  readonly reason?: string;
  readonly bytes: BytesBySource;
  readonly seconds: number;
}

export interface FetcherParts {
  readonly store: FetchStore;
  readonly swarm: () => Swarm | undefined;
  /** As they are configured; and (the same, unless given) all within their budgets. */
  readonly origins: readonly Origin[];
  readonly limitedOrigins?: readonly Origin[];
  /** What may be fetched, by class; all that comes unless given. */
  readonly down?: Politeness;
  readonly recordSources: Omit<RecordSources, "origins" | "swarm">;
  readonly transfers: Transfers;
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** Why nobody may have a release any more; undefined for one that may be had. */
  readonly denied?: (record: ReleaseRecord) => Error | undefined;
  /** A variant was placed: it is announced. */
  readonly onPlaced: (holding: Holding) => void;
  /** A damaged tree is right again: it is announced. */
  readonly onRepaired?: (holding: Holding, bytes: BytesBySource) => void;
  readonly onWithdrawn?: NonNullable<ReleaseFinderParts["onWithdrawn"]>;
  readonly onConflict?: NonNullable<ReleaseFinderParts["onConflict"]>;
}

/** Who is asked for a release. */
interface ReleaseSources {
  readonly origins: readonly Origin[];
  readonly swarm: Swarm | undefined;
}

/** Brings variants in: one transfer for all who want the same. */
export class Fetcher {
  #parts: FetcherParts;
  readonly #releases: ReleaseFinder;
  /** What callers may still join. */
  readonly #flights = new Map<string, Flight>();
  /** Also those that nobody waits for any more, until they have let go of the store. */
  readonly #landing = new Set<Promise<unknown>>();
  /** How many of them are for a variant. */
  readonly #flying = new Map<VariantHash, number>();
  /** Whoever has a payload's staging tree for itself; others wait. */
  readonly #staging = new Map<PayloadId, Promise<void>>();
  /** Of the settings: what began under others may read what must not be read any more, and is joined by nobody new. */
  #generation = 0;
  readonly #searches = new Turns(searchesAtOnce);
  readonly #transfers = new Turns(transfersAtOnce);
  #closed: Error | undefined;

  constructor(parts: FetcherParts) {
    const { store, recordSources: sources, onWithdrawn, onConflict } = parts;
    this.#parts = parts;
    const onHidden = () => parts.swarm()?.announce();
    this.#releases = new ReleaseFinder({
      store,
      sources,
      onHidden,
      ...(onWithdrawn === undefined ? {} : { onWithdrawn }),
      ...(onConflict === undefined ? {} : { onConflict }),
    });
  }

  /** Transfers under way, for `status`. */
  transfers(): FetchProgress[] {
    return [...this.#flights.values()].flatMap(({ progress }) => (progress === undefined ? [] : [progress]));
  }

  /**
   * Makes sure that a variant lies on this disk. Every caller has a deadline of its own.
   * @throws a typed error at the deadline, at the latest; the signal's reason when it is aborted.
   */
  async fetch(variant: VariantHash, options: FetchOptions = {}): Promise<FetchResult> {
    if (this.#closed !== undefined) throw this.#closed;
    const startedMs = this.#parts.clock.monotonicMs();
    const key = `${this.#generation} ${variant} ${options.origin ?? "auto"} ${options.peers ?? "auto"}`;
    const flight = this.#flights.get(key) ?? this.#take(key, variant, options);
    const result = await flight.join(options, options.timeoutMs ?? this.#parts.timeoutMs);
    return { ...result, seconds: (this.#parts.clock.monotonicMs() - startedMs) / 1000 };
  }

  /** What holds for every fetch that begins from now on. */
  reconfigure(parts: Pick<FetcherParts, "origins" | "limitedOrigins" | "timeoutMs">): void {
    this.#parts = { ...this.#parts, ...parts };
    this.#generation++;
  }

  /** Ends all that are under way of what must not be had any more. */
  endDenied(): void {
    for (const flight of [...this.#flights.values()]) {
      const reason = flight.record === undefined ? undefined : this.#parts.denied?.(flight.record);
      if (reason !== undefined) flight.abort(reason);
    }
  }

  /** Once all that are under way now have let go of store and sources; never rejects. */
  async landed(): Promise<void> {
    await Promise.all(this.#landing);
  }

  /** Whether a fetch of it is under way, also one that nobody waits for any more. */
  isUnderWay(variant: VariantHash): boolean {
    return this.#flying.has(variant);
  }

  /** What a fetch would bring in now. @throws what a fetch throws that finds nothing. */
  async find(variant: VariantHash, signal: AbortSignal): Promise<ReleaseRecord> {
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(this.#parts.timeoutMs)]);
    return (await this.#search(variant, await this.#sourcesFor(variant, {}), inTime)).record;
  }

  /** Sees what the origins say of a held variant by now, and drops it if it was withdrawn. Never rejects. */
  async look(variant: VariantHash, signal: AbortSignal): Promise<void> {
    await this.#releases.look(variant, this.#parts.origins, signal);
  }

  /** Ends all transfers and waits until they have let go of the store. */
  async close(reason: Error): Promise<void> {
    this.#closed = reason;
    for (const flight of this.#flights.values()) flight.abort(reason);
    await Promise.all(this.#landing);
  }

  #take(key: string, variant: VariantHash, options: FetchOptions): Flight {
    const flight: Flight = new Flight(() => {
      // From here on nobody may join it, also while it still tidies up.
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    });
    this.#flights.set(key, flight);
    const landed = flight.start((signal) => this.#fetch(variant, options, flight, signal));
    this.#landing.add(landed);
    this.#flying.set(variant, (this.#flying.get(variant) ?? 0) + 1);
    void landed.then(() => {
      this.#landing.delete(landed);
      const others = this.#flying.get(variant)! - 1;
      if (others === 0) this.#flying.delete(variant);
      else this.#flying.set(variant, others);
    });
    return flight;
  }

  /** What is found may be outdated once it has come: then the newer release is what is wanted. */
  async #fetch(variant: VariantHash, options: FetchOptions, flight: Flight, signal: AbortSignal): Promise<FetchResult> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#fetchNewest(variant, options, flight, signal);
      } catch (error) {
        const isOutdated = error instanceof P2pCacheError && error.code === "RECORD_OUTDATED";
        if (!isOutdated || tries === releasesMax) throw error;
      }
    }
  }

  async #fetchNewest(
    variant: VariantHash,
    options: FetchOptions,
    flight: Flight,
    signal: AbortSignal,
  ): Promise<FetchResult> {
    const sources = await this.#sourcesFor(variant, options);
    const found = await this.#search(variant, sources, signal);
    flight.record = found.record;
    // It may have been denied since it was found; from here on `endDenied` sees it.
    const denied = this.#parts.denied?.(found.record);
    if (denied !== undefined) throw denied;
    const settled = this.#settled(variant, found.record);
    if (settled !== undefined) return settled;
    const release = await this.#reserve(found.record.payload, signal);
    try {
      // Somebody else may have brought it in meanwhile.
      return (
        this.#settled(variant, found.record) ?? (await this.#bringIn(variant, found, { ...sources, flight, signal }))
      );
    } finally {
      release();
    }
  }

  async #sourcesFor(variant: VariantHash, options: FetchOptions): Promise<ReleaseSources> {
    const { origins: configured, limitedOrigins = configured, store } = this.#parts;
    const origins = originsUnder(options.origin, configured, limitedOrigins);
    const swarm = options.peers === "never" ? undefined : this.#parts.swarm();
    // A node that has just started knows nobody yet, and would ask the origin for what its peers have.
    if (swarm !== undefined && (store.holding(variant) === undefined || store.isDamaged(variant)))
      await atMost(swarm.settled(), settleMs);
    return { origins, swarm };
  }

  /** The result for a variant that is here, or that must not be brought here. */
  #settled(variant: VariantHash, record: ReleaseRecord): FetchResult | undefined {
    const { store } = this.#parts;
    const known = store.holding(variant);
    const end = resultOf(variant, record);
    if (known !== undefined && known.payload === record.payload && !store.isDamaged(variant)) {
      return { ...end, path: known.path, outcome: "local", bytes: { ...noBytes, local: known.bytes } };
    }
    const skipped = this.#skip(variant, record);
    return skipped === undefined ? undefined : { ...end, ...skipped, outcome: "skipped" };
  }

  /** Waits for a payload's staging tree, which only one may fill at a time. Answers how to let go of it. */
  async #reserve(payload: PayloadId, signal: AbortSignal): Promise<() => void> {
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      // Another may be faster: whoever finds it free takes it.
      while (this.#staging.has(payload)) await Promise.race([this.#staging.get(payload), aborted.promise]);
      signal.throwIfAborted();
    } finally {
      signal.removeEventListener("abort", onAbort);
      aborted.promise.catch(() => undefined);
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#staging.set(payload, promise);
    return () => {
      this.#staging.delete(payload);
      resolve();
    };
  }

  async #search(variant: VariantHash, sources: ReleaseSources, signal: AbortSignal): Promise<FoundRelease> {
    const end = await this.#searches.take(signal);
    try {
      return await this.#releases.find(variant, sources, signal);
    } finally {
      end();
    }
  }

  async #bringIn(variant: VariantHash, found: FoundRelease, parts: TransferPartners): Promise<FetchResult> {
    const end = await this.#transfers.take(parts.signal);
    try {
      const repaired = await this.#repair(variant, found, parts);
      if (repaired !== undefined) return repaired;
      const isForeign = this.#parts.store.foreign(found.record.variant) !== undefined;
      if (!isForeign) return await this.#transferAndPlace(variant, found, parts);
      const transfer = (copy: StagedTree) => this.#transfer(copy, found, parts);
      const adopted = await adoptCopy({ ...this.#parts, variant, found, transfer, signal: parts.signal });
      return { ...resultOf(variant, found.record), ...adopted };
    } finally {
      end();
    }
  }

  /** Makes a damaged tree right where it lies; undefined where there is none, or it must be brought in anew. */
  async #repair(variant: VariantHash, found: FoundRelease, parts: TransferPartners): Promise<FetchResult | undefined> {
    const { store, onRepaired } = this.#parts;
    const { record } = found;
    if (!store.isDamaged(variant)) return undefined;
    const tree = await store.repairs.open(variant, record);
    if (tree === undefined) return undefined;
    try {
      const bytes = await this.#transfer(tree, found, parts);
      const holding = await store.repairs.mend(variant, tree, parts.signal);
      onRepaired?.(holding, bytes);
      return { ...resultOf(variant, record), path: holding.path, outcome: "fetched", bytes };
    } catch (error) {
      // What cannot be made right where it lies is brought in anew, beside it.
      if (error instanceof TreeDamagedError) return undefined;
      throw error;
    } finally {
      await store.repairs.leave(tree);
    }
  }

  async #transferAndPlace(variant: VariantHash, found: FoundRelease, parts: TransferPartners): Promise<FetchResult> {
    const { store } = this.#parts;
    const { record } = found;
    const end = resultOf(variant, record);
    const staged = await store.stage(variant, record, found.envelope, parts.signal);
    try {
      const bytes = await this.#transfer(staged, found, parts);
      const result = await store.commit(variant, staged, parts.signal);
      if (result.kind === "taken") {
        return { ...end, outcome: "skipped", path: result.path, reason: "Rez has put it there meanwhile" };
      }
      this.#parts.onPlaced(result.holding);
      const local = Math.max(0, record.root.bytes - bytes.peers - bytes.origin);
      return { ...end, path: result.holding.path, outcome: "fetched", bytes: { ...bytes, local } };
    } finally {
      await store.leave(staged);
    }
  }

  /** Why a variant must not be placed, and where Rez would find it instead. */
  #skip(variant: VariantHash, record: ReleaseRecord): { path: string | undefined; reason: string } | undefined {
    const { store } = this.#parts;
    const { repository } = record.variant;
    if (!store.knowsRepository(repository)) {
      throw new UsageError(`the repository ${repository} is not configured`, {
        code: "REPOSITORY_NOT_CONFIGURED",
        hint: `set repositories.${repository} to where this machine mounts it`,
      });
    }
    if (!record.attributes.cachable) return { path: undefined, reason: "its release says that it is not cachable" };
    const foreign = store.foreign(record.variant);
    // One that is whole may be adopted.
    if (foreign === undefined || foreign.state === "cached" || store.holding(variant) !== undefined) return undefined;
    return { path: foreign.path, reason: `Rez has its own copy there (${foreign.state})` };
  }

  async #transfer(staged: StagedTree, { record }: FoundRelease, parts: TransferPartners): Promise<BytesBySource> {
    const { down } = this.#parts;
    const { swarm, origins, flight, signal } = parts;
    const what = variantText(record.variant);
    const onProgress = (bytes: BytesBySource) => flight.report({ text: what, totalBytes: record.root.bytes, bytes });
    onProgress(noBytes);
    return await this.#parts.transfers.run(staged, {
      ...{ swarm, origins, signal, what, onProgress, ...originAccess(origins) },
      traffic: () => flight.traffic,
      ...(down === undefined ? {} : { pace: down.paceOf(() => flight.traffic) }),
    });
  }
}

/** Whom a transfer may ask, and who waits for it. */
interface TransferPartners {
  readonly swarm: Swarm | undefined;
  readonly origins: readonly Origin[];
  readonly flight: Flight;
  readonly signal: AbortSignal;
}

function resultOf(variant: VariantHash, record: ReleaseRecord) {
  const handle = variantText(record.variant);
  return { handle, variant, payload: record.payload, path: undefined, bytes: noBytes, seconds: 0 };
}

/** Each search has a stream open to up to four peers, and a peer takes 16 of them from one connection. */
const searchesAtOnce = 8;
/** Each transfer may have 16 MiB on its way: together 64 MiB (DESIGN section 7, rule 6). */
const transfersAtOnce = 4;
/** As long as a first dial and a hello take on a LAN, and a little more. */
const settleMs = 1_500;
/** Releases that came out one after the other while one fetch went on. */
const releasesMax = 3;
const noBytes: BytesBySource = { local: 0, peers: 0, origin: 0 };

/** Waits for a promise that never rejects, but not longer. */
async function atMost(promise: Promise<void>, waitMs: number): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, waitMs);
  await Promise.race([promise, late]);
  clearTimeout(timer);
}
