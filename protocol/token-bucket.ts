/** Bytes that may pass at a steady rate, and a little more at once after a pause. */
export class TokenBucket {
  readonly #burstBytes: number;
  #bytesPerMs: number;
  #tokens: number;
  #filledMs = 0;

  /** `bytesPerMs` may be infinite: then everything passes. */
  constructor(bytesPerMs: number, burstBytes: number) {
    this.#bytesPerMs = bytesPerMs;
    this.#burstBytes = burstBytes;
    this.#tokens = burstBytes;
  }

  /** From now on at another rate. */
  setRate(bytesPerMs: number, nowMs: number): void {
    this.#fill(nowMs);
    this.#bytesPerMs = bytesPerMs;
  }

  /** Takes bytes out, if any are in: the last ones may be borrowed, so that one item larger than the burst passes too. */
  take(bytes: number, nowMs: number): boolean {
    if (this.#bytesPerMs === Number.POSITIVE_INFINITY) return true;
    this.#fill(nowMs);
    if (this.#tokens <= 0) return false;
    this.#tokens -= bytes;
    return true;
  }

  /** When something may pass again. */
  readyAtMs(nowMs: number): number {
    this.#fill(nowMs);
    if (this.#tokens > 0 || this.#bytesPerMs === Number.POSITIVE_INFINITY) return nowMs;
    return this.#bytesPerMs <= 0 ? Number.POSITIVE_INFINITY : nowMs + (leastTokens - this.#tokens) / this.#bytesPerMs;
  }

  #fill(nowMs: number): void {
    const elapsedMs = Math.max(0, nowMs - this.#filledMs);
    this.#filledMs = Math.max(this.#filledMs, nowMs);
    if (elapsedMs === 0 || this.#bytesPerMs === Number.POSITIVE_INFINITY) return;
    this.#tokens = Math.min(this.#burstBytes, this.#tokens + elapsedMs * this.#bytesPerMs);
  }
}

/** More than nothing, whatever rounding does. */
const leastTokens = 1;
