import { setTimeout as sleep } from "node:timers/promises";
import { UnreachableError } from "../../protocol/errors.ts";
import type { ChunkHash, VariantHash } from "../../protocol/hash.ts";
import type { Random } from "../../protocol/random.ts";
import { type RetryLimits, retryWaitMs } from "../../protocol/retry.ts";
import type { ChunkOptions, Origin, WaitOptions } from "../ports.ts";

/** An origin of which what fails for a moment is asked again; an abort ends the waiting too. */
export class RetryingOrigin implements Origin {
  readonly #inner: Origin;
  readonly #random: Random;
  readonly #limits: RetryLimits;

  constructor(inner: Origin, random: Random, limits: RetryLimits = defaultLimits) {
    this.#inner = inner;
    this.#random = random;
    this.#limits = limits;
  }

  get name(): string {
    return this.#inner.name;
  }

  latestRecord(variant: VariantHash, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    return this.#retry(() => this.#inner.latestRecord(variant, options), options);
  }

  chunk(hash: ChunkHash, sizeBytes: number, options: ChunkOptions = {}): Promise<Uint8Array> {
    return this.#retry(() => this.#inner.chunk(hash, sizeBytes, options), options);
  }

  async index(options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    return await this.#retry(async () => await this.#inner.index?.(options), options);
  }

  async policyFile(name: string, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    return await this.#retry(async () => await this.#inner.policyFile?.(name, options), options);
  }

  async #retry<Result>(ask: () => Promise<Result>, { signal }: WaitOptions): Promise<Result> {
    for (let tries = 1; ; tries++) {
      try {
        return await ask();
      } catch (error) {
        if (!(error instanceof UnreachableError) || signal?.aborted === true) throw error;
        const waitMs = retryWaitMs(error, tries, this.#limits, this.#random);
        if (waitMs === undefined) throw error;
        await sleep(waitMs, undefined, signal === undefined ? {} : { signal }).catch(() => signal?.throwIfAborted());
      }
    }
  }
}

/** A connection that a server closed just now, a restart, a limit on requests: more is the business of `Transfer`. */
const defaultLimits: RetryLimits = { triesMax: 3, waitMsMin: 100, waitMsMax: 5_000 };
