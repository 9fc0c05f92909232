import { ChunkCorruptError, ChunkMissingError, P2pCacheError, UnreachableError } from "../../protocol/errors.ts";
import type { ChunkHash, VariantHash } from "../../protocol/hash.ts";
import { OriginHealth } from "../../protocol/origin-health.ts";
import type { ChunkOptions, Clock, Origin, WaitOptions } from "../ports.ts";

/** Told whenever an origin's state changes. */
export type OnOriginState = (origin: HealthyOrigin) => void;

/**
 * An origin whose health is watched. While it is down, and another one is not, it is not asked but for a probe now and
 * then: what one transfer has found out costs the next one no time. The only origin that works is always asked, unless it
 * has asked to be left alone: until then every call fails at once, with what it said.
 */
export class HealthyOrigin implements Origin {
  readonly #inner: Origin;
  readonly #clock: Clock;
  readonly #hasOther: () => boolean;
  readonly #onState: OnOriginState;
  readonly #health = new OriginHealth();

  /** `hasOther` says whether another origin can be asked in its place. */
  constructor(inner: Origin, clock: Clock, hasOther: () => boolean, onState: OnOriginState) {
    this.#inner = inner;
    this.#clock = clock;
    this.#hasOther = hasOther;
    this.#onState = onState;
  }

  get name(): string {
    return this.#inner.name;
  }

  get state(): OriginHealth["state"] {
    return this.#health.state;
  }

  get reason(): string | undefined {
    return this.#health.reason;
  }

  latestRecord(variant: VariantHash, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    return this.#watch(() => this.#inner.latestRecord(variant, options), options);
  }

  chunk(hash: ChunkHash, sizeBytes: number, options: ChunkOptions = {}): Promise<Uint8Array> {
    return this.#watch(() => this.#inner.chunk(hash, sizeBytes, options), options);
  }

  async index(options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    return await this.#watch(async () => await this.#inner.index?.(options), options);
  }

  async policyFile(name: string, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    return await this.#watch(async () => await this.#inner.policyFile?.(name, options), options);
  }

  async #watch<Result>(ask: () => Promise<Result>, { signal }: WaitOptions): Promise<Result> {
    signal?.throwIfAborted();
    const askedMs = this.#clock.monotonicMs();
    const refusal = this.#health.leftAlone(askedMs) ?? this.#rests(askedMs);
    if (refusal !== undefined) throw new UnreachableError(refusal);
    const before = this.state;
    try {
      const result = await ask();
      this.#health.answered();
      return result;
    } catch (error) {
      this.#learn(error, askedMs, signal);
      throw error;
    } finally {
      if (this.state !== before) this.#onState(this);
    }
  }

  /** Why another origin is asked in its place. */
  #rests(nowMs: number): string | undefined {
    if (!this.#hasOther() || this.#health.ask(nowMs)) return undefined;
    return this.reason ?? `the origin ${this.name} is left alone for a while`;
  }

  #learn(error: unknown, askedMs: number, signal: AbortSignal | undefined): void {
    const nowMs = this.#clock.monotonicMs();
    if (error instanceof ChunkMissingError || error instanceof ChunkCorruptError) {
      this.#health.answered();
    } else if (signal?.aborted === true) {
      // Who leaves early says nothing; who has waited that long has been kept waiting.
      const waitedMs = nowMs - askedMs;
      if (waitedMs < silentMs) return;
      const reason = `the origin ${this.name} gave no answer in ${Math.round(waitedMs / 1000)} s`;
      this.#health.failed({ reason, isLasting: false }, askedMs, nowMs);
    } else {
      const { isLasting, retryAfterMs } = error instanceof UnreachableError ? error : notOurs;
      const reason = error instanceof P2pCacheError ? error.message : `the origin ${this.name} fails: ${String(error)}`;
      this.#health.failed({ reason, isLasting, retryAfterMs }, askedMs, nowMs);
    }
  }
}

const notOurs = { isLasting: false, retryAfterMs: undefined };
/** A little less than the shortest deadline that `Transfer` gives a chunk. */
const silentMs = 1_500;
