/** What a wanter has from its registrar while nothing comes. */
export interface Advice {
  /** A lease of it is at work here. */
  readonly isLeased: boolean;
  /** It has named a peer, or a lease, at some time. */
  readonly isOfUse: boolean;
}

/** Since when nothing has come, and how long that is borne with. */
export class Standstill {
  readonly #longestMs: number;
  #sinceMs = 0;
  #cameMs: number | undefined;
  /** Between one item and the next, of late. */
  #gapMs: number | undefined;

  /** `longestMs`: with a lease, or where items come slowly. */
  constructor(longestMs: number) {
    this.#longestMs = longestMs;
  }

  /** It begins anew: at the start, or where there is nothing to wait for. */
  begin(nowMs: number): void {
    this.#sinceMs = nowMs;
  }

  /** An item has come. */
  came(nowMs: number): void {
    if (this.#cameMs !== undefined) {
      const gapMs = nowMs - this.#cameMs;
      this.#gapMs = this.#gapMs === undefined ? gapMs : 0.9 * this.#gapMs + 0.1 * gapMs;
    }
    this.#cameMs = nowMs;
    this.#sinceMs = nowMs;
  }

  /**
   * When what a registrar says is not waited for any longer. A lease of one's own is given time, since it may be the
   * origin that is slow; so is one that others have, where items come seldom.
   */
  endMs(advisedSinceMs: number, { isLeased, isOfUse }: Advice): number {
    return Math.max(this.#sinceMs, advisedSinceMs) + (isLeased ? this.#longestMs : this.#patienceMs(isOfUse));
  }

  #patienceMs(isOfUse: boolean): number {
    if (!isOfUse) return uselessMs;
    if (this.#cameMs === undefined) return firstItemMs;
    return Math.min(this.#longestMs, Math.max(shortestMs, gapsBorne * (this.#gapMs ?? this.#longestMs)));
  }
}

/** Of one that names nobody and gives nothing: somebody else may know more. */
const uselessMs = 750;
/**
 * Where items come fast, so long a gap is somebody's fault. Shorter, and whoever is shunned for what it did would read the
 * origin by another registrar's leave at once, beside all others.
 */
const shortestMs = 3_500;
/** Before any item has come: the segments are small, and cost little if somebody else reads them as well. */
const firstItemMs = 3_000;
/** Items come in bursts: a gap of so many times the usual one is nothing yet. */
const gapsBorne = 8;
