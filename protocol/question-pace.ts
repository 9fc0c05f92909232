/** When a wanter asks its registrar, and from when on it asks for leases. */
export class QuestionPace {
  #nextMs = 0;
  #askedMs = Number.NEGATIVE_INFINITY;
  #wantsFromMs = Number.NEGATIVE_INFINITY;
  /** That time has been put off for a slow answer already. */
  #isStretched = false;
  /** A question for nothing but more peers comes so long after the last; each time it is longer. */
  #seekGapMs = gapMs;

  /** Before this time nothing is asked. */
  get nextMs(): number {
    return this.#nextMs;
  }

  /** The next question is asked at this time, whatever was said before. */
  at(nextMs: number): void {
    this.#nextMs = nextMs;
  }

  /** It is asked at this time, if not before. */
  notAfter(nextMs: number): void {
    this.#nextMs = Math.min(this.#nextMs, nextMs);
  }

  /** Something has changed that a registrar should hear of now, but for a moment in which more may. */
  hurry(nowMs: number): void {
    this.notAfter(Math.max(nowMs, this.#askedMs + gapMs));
  }

  /** More peers are of use: where few are there, a registrar has named all of them soon. */
  seek(nowMs: number): void {
    this.notAfter(Math.max(nowMs, this.#askedMs + this.#seekGapMs));
  }

  asked(nowMs: number): void {
    this.#askedMs = nowMs;
    this.#nextMs = nowMs;
    this.#seekGapMs = Math.min(seekGapMsMax, 2 * this.#seekGapMs);
  }

  /** A registrar has answered after `tookMs`, and need not be asked again before `retryAfterMs`. */
  answered(retryAfterMs: number, tookMs: number, nowMs: number): void {
    this.#nextMs = nowMs + Math.max(gapMs, retryAfterMs);
    if (this.mayWant(nowMs)) return;
    // Where answers take long, that of the one before may only be late. It is waited for once: others take as long.
    if (!this.#isStretched)
      this.#wantsFromMs = Math.max(this.#wantsFromMs, nowMs + Math.min(leaveMsMax, lateTimes * tookMs));
    this.#isStretched = true;
    this.notAfter(this.#wantsFromMs);
  }

  /**
   * The registrar is another now: for a while those who have leases tell it of them, and nobody asks for more; it would give
   * others what is under way. Once only where one after the other goes. `lateMs`: how late this wanter is itself; on a machine
   * that is so busy the one before may only be late, too.
   */
  leaveToOthers(nowMs: number, lateMs = 0): void {
    if (nowMs < this.#wantsFromMs + againMs) return;
    this.#wantsFromMs = nowMs + Math.min(leaveMsMax, Math.max(leaveMs, busyTimes * lateMs));
    this.#isStretched = false;
  }

  /** From when on it asks for leases. */
  get wantsFromMs(): number {
    return this.#wantsFromMs;
  }

  mayWant(nowMs: number): boolean {
    return nowMs >= this.#wantsFromMs;
  }
}

/** Questions to a registrar are so far apart at least. */
const gapMs = 20;
const seekGapMsMax = 640;
/** More would spare more in `lagging-views`; but one that is silent from the start must not cost anybody a second. */
const leaveMs = 400;
const leaveMsMax = 4_000;
const lateTimes = 3;
const busyTimes = 8;
const againMs = 5_000;
