import { DeadlineError, P2pCacheError } from "../protocol/errors.ts";
import { moreUrgent, type TrafficClass } from "../protocol/politeness.ts";
import type { FetchOptions, FetchProgress, FetchResult } from "./fetcher.ts";
import { formatBytes } from "./settings/units.ts";

/** One fetch and those who wait for it; it ends when it is done, or when all have left. */
export class Flight {
  readonly #controller = new AbortController();
  readonly #listeners = new Set<(progress: FetchProgress) => void>();
  readonly #outcome = Promise.withResolvers<FetchResult>();
  readonly #onEnd: () => void;
  #waiting = 0;
  progress: FetchProgress | undefined;
  /** Why its bytes move: the most urgent of what those say who wait, or waited, for it. */
  traffic: TrafficClass = "repair";

  /** `onEnd` is called as soon as nobody may join any more. */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
    // Those who wait hear of it; perhaps all of them have left.
    this.#outcome.promise.catch(() => undefined);
  }

  /** Begins. Answers when it has let go of everything; that never rejects. */
  async start(work: (signal: AbortSignal) => Promise<FetchResult>): Promise<void> {
    try {
      this.#outcome.resolve(await work(this.#controller.signal));
    } catch (error) {
      this.#outcome.reject(error);
    } finally {
      this.#onEnd();
    }
  }

  /**
   * Waits for the result, with others. @throws why it failed; {DeadlineError} after `timeoutMs`, the signal's reason
   * when this caller leaves: the work goes on while others wait.
   */
  async join({ signal, onProgress, traffic = "interactive" }: FetchOptions, timeoutMs: number): Promise<FetchResult> {
    this.traffic = moreUrgent(this.traffic, traffic);
    const own = Promise.withResolvers<never>();
    const onAbort = () => own.reject(signal?.reason);
    const timer = setTimeout(() => own.reject(tooLate(timeoutMs, this.progress)), timeoutMs);
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted) onAbort();
    if (onProgress !== undefined) this.#listeners.add(onProgress);
    this.#waiting++;
    try {
      return await Promise.race([this.#outcome.promise, own.promise]);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      if (onProgress !== undefined) this.#listeners.delete(onProgress);
      this.#waiting--;
      if (this.#waiting === 0) this.abort(new P2pCacheError("INTERRUPTED", 130, "nobody waits for it any more"));
    }
  }

  report(progress: FetchProgress): void {
    this.progress = progress;
    for (const listener of this.#listeners) listener(progress);
  }

  /** Ends it for all. */
  abort(reason: Error): void {
    this.#onEnd();
    this.#outcome.reject(reason);
    this.#controller.abort(reason);
  }
}

/** Names what is missing, once it is known what there is. */
function tooLate(timeoutMs: number, progress: FetchProgress | undefined): DeadlineError {
  const hint = "what was verified is kept: the next fetch goes on from there";
  const message = `not done within ${timeoutMs / 1000} s`;
  if (progress === undefined) return new DeadlineError(message, { hint });
  const { text: what, totalBytes, bytes } = progress;
  const missingBytes = Math.max(0, totalBytes - bytes.local - bytes.peers - bytes.origin);
  const missing = `${formatBytes(missingBytes)} of ${formatBytes(totalBytes)} of ${what} are missing`;
  return new DeadlineError(`${message}, and ${missing}`, { hint, details: { what, missingBytes, totalBytes } });
}
