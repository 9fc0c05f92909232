import { DeadlineError, formatDuration, P2pCacheError, type Settings } from "../node/index.ts";
import { tellLastWords } from "./apart.ts";
import type { Context } from "./context.ts";

/**
 * Does work that touches mounts in this very process. One that hangs blocks a call for ever, which nothing can take back:
 * once the work was interrupted, or `timeoutMs` are over, it has a moment to end by itself, and is then left behind.
 * @throws the reason of the interrupt; {DeadlineError}
 */
export async function atMounts<Result>(
  { signal: interrupt, out }: Context,
  { what, timeoutMs }: { readonly what: string; readonly timeoutMs: number | undefined },
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const deadline = new AbortController();
  const signal = AbortSignal.any([interrupt, deadline.signal]);
  const late = new DeadlineError(`${what}: not done within ${formatDuration(timeoutMs ?? 0)}`);
  const abort = () => deadline.abort(late);
  const timer = timeoutMs === undefined ? undefined : setTimeout(abort, Math.min(timeoutMs, timerMsMax));
  const interrupted = out.errorText(new P2pCacheError("INTERRUPTED", 130, "interrupted"));
  tellLastWords({
    interrupted,
    ...(timeoutMs === undefined ? {} : { late: { line: out.errorText(late), timeoutMs } }),
  });
  const left = Promise.withResolvers<never>();
  let grace: NodeJS.Timeout | undefined;
  const leave = () => {
    grace = setTimeout(() => left.reject(signal.reason), graceMs);
  };
  signal.addEventListener("abort", leave, { once: true });
  if (signal.aborted) leave();
  try {
    return await Promise.race([work(signal), left.promise]);
  } finally {
    signal.removeEventListener("abort", leave);
    clearTimeout(timer);
    clearTimeout(grace);
    tellLastWords({ interrupted });
  }
}

/** What `--timeout` says of such work; it has no deadline otherwise. */
export function timeoutOf({ flags }: Context, settings: Settings): number | undefined {
  return flags.timeout === undefined ? undefined : settings.transfer.timeoutMs;
}

/**
 * Ends this process now, with this exit code. `process.exit` waits for the threads that make system calls (libuv joins
 * its pool), and so for a mount that hangs; another program in our place does not.
 */
export function endNow(code: number): never {
  try {
    process.execve?.("/bin/sh", ["sh", "-c", `exit ${code}`], {});
  } catch {
    // Without a shell.
  }
  process.exit(code);
}

/** For what is half-written to be taken away. */
const graceMs = 2_000;
const timerMsMax = 2 ** 31 - 1;
