/** So much at once, and so much more each second: a token bucket. */
export class Allowance {
  readonly #burst: number;
  readonly #perSecond: number;
  #left: number;
  #sinceMs: number | undefined;

  constructor(burst: number, perSecond: number) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#left = burst;
  }

  /** Takes some, or answers false when there is not enough left. */
  take(amount: number, nowMs: number): boolean {
    const grown = ((nowMs - (this.#sinceMs ?? nowMs)) / 1000) * this.#perSecond;
    this.#left = Math.min(this.#burst, this.#left + grown);
    this.#sinceMs = nowMs;
    if (amount > this.#left) return false;
    this.#left -= amount;
    return true;
  }
}
