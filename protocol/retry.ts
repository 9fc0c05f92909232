import type { UnreachableError } from "./errors.ts";
import type { Random } from "./random.ts";

/** How often and how far apart something is tried. */
export interface RetryLimits {
  /** The first one included. */
  readonly triesMax: number;
  /** Before the second try; it doubles from there. */
  readonly waitMsMin: number;
  readonly waitMsMax: number;
}

/**
 * How long to wait after a try that failed; undefined: there is no other one. Whoever asks to be left alone for longer
 * than `waitMsMax` is not waited for, and otherwise never asked earlier.
 * @param tries how many there have been.
 */
export function retryWaitMs(
  failure: Pick<UnreachableError, "isLasting" | "retryAfterMs">,
  tries: number,
  limits: RetryLimits,
  random: Random,
): number | undefined {
  const { isLasting, retryAfterMs = 0 } = failure;
  if (isLasting || tries >= limits.triesMax || retryAfterMs > limits.waitMsMax) return undefined;
  const waitMs = Math.min(limits.waitMsMax, limits.waitMsMin * 2 ** (tries - 1));
  // Half of it by chance: those who failed together do not come back together.
  return Math.max(retryAfterMs, waitMs * (0.5 + random() / 2));
}
