import { setTimeout as delay } from "node:timers/promises";
import { BusyError } from "../../protocol/errors.ts";
import { type Claim, readOwner, tryClaim } from "./owner.ts";

/** How long to wait for the lock, and by what time; tests pass their own. */
export interface LockTiming {
  readonly waitMs: number;
  /** Any clock that does not jump. */
  nowMs(): number;
  /** Rejects with the signal's reason when it aborts. */
  sleep(ms: number, signal: AbortSignal | undefined): Promise<void>;
}

/** As long as Rez itself waits (REZ.md section 5), on the machine's own clock. */
export const systemTiming: LockTiming = {
  waitMs: 10_000,
  nowMs: () => performance.now(),
  async sleep(ms, signal) {
    try {
      await delay(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      throw signal?.aborted ? signal.reason : error;
    }
  },
};

/**
 * The lock of Rez's package cache, held (REZ.md section 5). Rez links an empty file there and never breaks a lock; ours
 * has our owner data in it from its first moment, so that one which a crash left is provably ours. Hold it for
 * milliseconds: every Rez copy on this cache waits for it.
 */
export class RezLock {
  readonly #claim: Claim;

  private constructor(claim: Claim) {
    this.#claim = claim;
  }

  /**
   * @param path `.sys/.lock.lock` of the cache.
   * @param scratch a directory of ours on the same filesystem.
   * @throws {BusyError} REZ_LOCK_HELD after `timing.waitMs`.
   */
  static async take(
    path: string,
    scratch: string,
    { timing = systemTiming, signal }: { readonly timing?: LockTiming; readonly signal?: AbortSignal | undefined } = {},
  ): Promise<RezLock> {
    const untilMs = timing.nowMs() + timing.waitMs;
    for (;;) {
      signal?.throwIfAborted();
      const claim = tryClaim(path, scratch);
      if (claim !== undefined) return new RezLock(claim);
      if (timing.nowMs() >= untilMs) throw lockHeld(path, timing.waitMs);
      await timing.sleep(pollMs, signal);
    }
  }

  release(): void {
    this.#claim.release();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

function lockHeld(path: string, waitMs: number): BusyError {
  const holder = readOwner(path);
  const hint =
    holder === undefined
      ? "a rez-pkg-cache may be running; if none is, one has crashed: delete the file"
      : `process ${holder.pid} of p2pcache on ${holder.host} holds it; if you know that it is gone, delete the file`;
  return new BusyError(`Rez's lock was not free within ${waitMs / 1000} s: ${path}`, {
    code: "REZ_LOCK_HELD",
    hint,
    details: { path, ...(holder === undefined ? {} : { pid: holder.pid, host: holder.host }) },
  });
}

/** Rez polls once a second; holders need milliseconds. */
const pollMs = 50;
