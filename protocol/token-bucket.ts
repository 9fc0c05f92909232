/** Bytes that may pass at a steady rate, and a little more at once after a pause. */
export class TokenBucket {
  readonly #burstBytes: number;
  #bytesPerMs: number;
  #tokens: number;
  #filledMs = 0;

  /** `bytesPerMs` may be infinite: then everything passes. `firstBytes` are in it at first: as much as it holds, unless given. */
  constructor(bytesPerMs: number, burstBytes: number, firstBytes: number = burstBytes) {
    this.#bytesPerMs = bytesPerMs;
    this.#burstBytes = burstBytes;
    this.#tokens = firstBytes;
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

  /** Takes bytes out whether they are in or not: what comes after them waits for longer. */
  spend(bytes: number, nowMs: number): void {
    this.#fill(nowMs);
    if (this.#bytesPerMs !== Number.POSITIVE_INFINITY) this.#tokens -= bytes;
  }

  /** Bytes that were taken out have not gone after all. */
  giveBack(bytes: number, nowMs: number): void {
    this.#fill(nowMs);
    this.#tokens = Math.min(this.#burstBytes, this.#tokens + bytes);
  }

  /** When something may pass again; or, if `bytes` are named, when so many are in: never more than it holds. */
  readyAtMs(nowMs: number, bytes?: number): number {
    this.#fill(nowMs);
    const isReady = bytes === undefined ? this.#tokens > 0 : this.#tokens >= bytes;
    if (isReady || this.#bytesPerMs === Number.POSITIVE_INFINITY) return nowMs;
    if (this.#bytesPerMs <= 0) return Number.POSITIVE_INFINITY;
    return nowMs + ((bytes ?? leastTokens) - this.#tokens) / this.#bytesPerMs;
  }

  /** When something may pass, once `aheadBytes` have: each as soon as it may. */
  freeAtMs(nowMs: number, aheadBytes: number): number {
    const readyAtMs = this.readyAtMs(nowMs);
    if (this.#bytesPerMs === Number.POSITIVE_INFINITY || readyAtMs === Number.POSITIVE_INFINITY) return readyAtMs;
    const debtBytes = aheadBytes + leastTokens - this.#tokens;
    return debtBytes <= 0 ? nowMs : nowMs + debtBytes / Math.max(this.#bytesPerMs, Number.MIN_VALUE);
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
