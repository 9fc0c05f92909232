import type { PeerName } from "../protocol/directory.ts";
import { DeadlineError, NotFoundError, P2pCacheError, UsageError } from "../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../protocol/hash.ts";
import type { ReleaseRecord } from "../protocol/record.ts";
import type { Standing } from "../protocol/standing.ts";
import { variantText } from "../protocol/variant.ts";
import type { Clock, FetchStore, Holding, Origin, StagedTree, Swarm } from "./ports.ts";
import { type FoundRecord, findRecord, type RecordSources } from "./record-finder.ts";
import { type BytesBySource, TransferDrive } from "./transfer-drive.ts";

/** Overrides of one fetch; absent ones are as configured. */
export interface FetchOptions {
  readonly origin?: "auto" | "never";
  readonly peers?: "auto" | "never";
  readonly timeoutMs?: number;
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
  readonly origins: readonly Origin[];
  readonly recordSources: Omit<RecordSources, "origins" | "swarm">;
  readonly standing: Standing;
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** A variant was placed: it is announced. */
  readonly onPlaced: (holding: Holding) => void;
}

/** Brings variants in: one transfer for all who want the same. */
export class Fetcher {
  readonly #parts: FetcherParts;
  readonly #flights = new Map<string, Flight>();
  readonly #drives = new Map<PayloadId, Set<TransferDrive>>();

  constructor(parts: FetcherParts) {
    this.#parts = parts;
  }

  /** Transfers under way, for `status`. */
  transfers(): FetchProgress[] {
    return [...this.#flights.values()].flatMap(({ progress }) => (progress === undefined ? [] : [progress]));
  }

  /**
   * Makes sure that a variant lies on this disk. @throws a typed error before its deadline, at the latest.
   */
  async fetch(variant: VariantHash, options: FetchOptions = {}): Promise<FetchResult> {
    const startedMs = this.#parts.clock.monotonicMs();
    const key = `${variant} ${options.origin ?? "auto"} ${options.peers ?? "auto"}`;
    const flight = this.#flights.get(key) ?? this.#take(key, variant, options);
    const leave = flight.join(options);
    try {
      const result = await flight.result(options.signal);
      return { ...result, seconds: (this.#parts.clock.monotonicMs() - startedMs) / 1000 };
    } finally {
      leave();
    }
  }

  /** A peer may have something that is being fetched. */
  consider(peer: PeerName, payload?: PayloadId): void {
    for (const [each, drives] of this.#drives) {
      if (payload === undefined || payload === each) for (const drive of drives) drive.consider(peer);
    }
  }

  /** A peer has gone. */
  left(peer: PeerName): void {
    for (const drives of this.#drives.values()) for (const drive of drives) drive.left(peer);
  }

  /** Ends all transfers and waits until they have let go of the store. */
  async close(reason: Error): Promise<void> {
    const flights = [...this.#flights.values()];
    for (const flight of flights) flight.abort(reason);
    await Promise.allSettled(flights.map((flight) => flight.result()));
  }

  #take(key: string, variant: VariantHash, options: FetchOptions): Flight {
    const timeoutMs = options.timeoutMs ?? this.#parts.timeoutMs;
    const flight: Flight = new Flight(
      timeoutMs,
      (signal) => this.#fetch(variant, options, flight, signal),
      () => {
        this.#flights.delete(key);
      },
    );
    this.#flights.set(key, flight);
    return flight;
  }

  async #fetch(variant: VariantHash, options: FetchOptions, flight: Flight, signal: AbortSignal): Promise<FetchResult> {
    const { store } = this.#parts;
    const origins = options.origin === "never" ? [] : this.#parts.origins;
    const swarm = options.peers === "never" ? undefined : this.#parts.swarm();
    const found = await findRecord({ ...this.#parts.recordSources, origins, swarm }, variant, { signal });
    const { record } = found;
    const text = variantText(record.variant);
    const known = store.holding(variant);
    const end = { handle: text, variant, payload: record.payload, bytes: noBytes, seconds: 0 };
    if (known !== undefined && known.payload === record.payload && !store.isDamaged(variant)) {
      return { ...end, path: known.path, outcome: "local", bytes: { ...noBytes, local: known.bytes } };
    }
    const skipped = this.#skip(variant, record);
    if (skipped !== undefined) return { ...end, ...skipped, outcome: "skipped" };
    const staged = await store.stage(variant, record, found.envelope);
    try {
      const bytes = await this.#transfer(staged, found, { swarm, origins, flight, signal });
      const result = await store.commit(variant, staged, signal);
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
    if (foreign === undefined || store.holding(variant) !== undefined) return undefined;
    return { path: foreign.path, reason: `Rez has its own copy there (${foreign.state})` };
  }

  async #transfer(
    staged: StagedTree,
    { record }: FoundRecord,
    parts: { swarm: Swarm | undefined; origins: readonly Origin[]; flight: Flight; signal: AbortSignal },
  ): Promise<BytesBySource> {
    const { standing, clock } = this.#parts;
    const { swarm, origins, flight, signal } = parts;
    const what = variantText(record.variant);
    const onProgress = (bytes: BytesBySource) => flight.report({ text: what, totalBytes: record.root.bytes, bytes });
    onProgress(noBytes);
    const drive = new TransferDrive({
      target: staged,
      swarm,
      origins,
      standing,
      clock,
      signal,
      what,
      onProgress,
      random: Math.random,
    });
    const drives = this.#drives.get(record.payload) ?? new Set();
    this.#drives.set(record.payload, drives.add(drive));
    try {
      return await drive.run(swarm?.peers().map(({ peer }) => peer) ?? []);
    } finally {
      drives.delete(drive);
      if (drives.size === 0) this.#drives.delete(record.payload);
    }
  }
}

/** One transfer and those who wait for it; it ends when it is done, past its deadline, or when all have left. */
class Flight {
  readonly #controller = new AbortController();
  readonly #listeners = new Set<(progress: FetchProgress) => void>();
  readonly #timer: NodeJS.Timeout;
  readonly #start: (signal: AbortSignal) => Promise<FetchResult>;
  readonly #onEnd: () => void;
  #running: Promise<FetchResult> | undefined;
  #waiting = 0;
  progress: FetchProgress | undefined;

  constructor(timeoutMs: number, start: (signal: AbortSignal) => Promise<FetchResult>, onEnd: () => void) {
    this.#start = start;
    this.#onEnd = onEnd;
    const late = new DeadlineError(`not done within ${Math.round(timeoutMs / 1000)} s`, {
      hint: "what was verified is kept: the next fetch goes on from there",
    });
    this.#timer = setTimeout(() => this.abort(late), timeoutMs).unref();
  }

  /** One more waits. Answers how to leave. */
  join({ onProgress }: FetchOptions): () => void {
    this.#waiting++;
    if (onProgress !== undefined) this.#listeners.add(onProgress);
    this.#running ??= this.#run();
    return () => {
      this.#waiting--;
      if (onProgress !== undefined) this.#listeners.delete(onProgress);
      if (this.#waiting === 0) this.abort(new P2pCacheError("INTERRUPTED", 130, "nobody waits for it any more"));
    };
  }

  /** The result, or the reason why this caller left. */
  async result(signal?: AbortSignal): Promise<FetchResult> {
    const running = this.#running ?? Promise.reject(new NotFoundError("the transfer has not begun"));
    if (signal === undefined) return await running;
    const { promise, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      return await Promise.race([running, promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  report(progress: FetchProgress): void {
    this.progress = progress;
    for (const listener of this.#listeners) listener(progress);
  }

  abort(reason: Error): void {
    this.#controller.abort(reason);
  }

  async #run(): Promise<FetchResult> {
    try {
      return await this.#start(this.#controller.signal);
    } finally {
      clearTimeout(this.#timer);
      this.#onEnd();
    }
  }
}

const noBytes: BytesBySource = { local: 0, peers: 0, origin: 0 };
