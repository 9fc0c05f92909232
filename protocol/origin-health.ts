/** How an origin does: never asked yet; answering; failed lately; failing, and left alone while another one does well. */
export type OriginState = "untried" | "ok" | "unsteady" | "down";

/** Why an origin gave no answer. */
export interface OriginFailure {
  /** One line, for people. */
  readonly reason: string;
  /** Somebody has to change something first. */
  readonly isLasting: boolean;
  /** For how long it wants to be left alone. */
  readonly retryAfterMs?: number | undefined;
}

/** How one origin has answered, and when it is worth asking again. */
export class OriginHealth {
  #state: OriginState = "untried";
  #failure: OriginFailure | undefined;
  #troubles = 0;
  #lastTroubleMs = Number.NEGATIVE_INFINITY;
  #restsUntilMs = Number.NEGATIVE_INFINITY;
  /** Its own wish, and why. */
  #alone: { readonly untilMs: number; readonly reason: string } | undefined;

  get state(): OriginState {
    return this.#state;
  }

  /** Why it is unsteady or down. */
  get reason(): string | undefined {
    return this.#failure?.reason;
  }

  /** Whether it may be asked now: while it is down, once in a while, to see how it does. */
  ask(nowMs: number): boolean {
    if (this.#state !== "down") return true;
    if (nowMs < this.#restsUntilMs) return false;
    this.#restsUntilMs = nowMs + probeMs;
    return true;
  }

  /** Why it is not to be asked whatever else there is: it asked to be left alone. */
  leftAlone(nowMs: number): string | undefined {
    return this.#alone !== undefined && nowMs < this.#alone.untilMs ? this.#alone.reason : undefined;
  }

  /** It answered, if only that it does not have something. */
  answered(): void {
    this.#state = "ok";
    this.#failure = undefined;
    this.#troubles = 0;
  }

  /** What was asked at `askedMs` has failed. */
  failed(failure: OriginFailure, askedMs: number, nowMs: number): void {
    const { reason, retryAfterMs = 0 } = failure;
    const aloneUntilMs = nowMs + Math.min(aloneMsMax, retryAfterMs);
    if (retryAfterMs > 0 && aloneUntilMs > (this.#alone?.untilMs ?? nowMs))
      this.#alone = { untilMs: aloneUntilMs, reason };
    // What was asked together fails together: that is one trouble.
    if (askedMs < this.#lastTroubleMs && !failure.isLasting) return;
    this.#lastTroubleMs = nowMs;
    this.#failure = failure;
    this.#troubles++;
    const isDown = failure.isLasting || this.#troubles >= troublesMax;
    this.#state = isDown ? "down" : "unsteady";
    const restMs = Math.min(restMsMax, restMsMin * 2 ** Math.max(0, this.#troubles - troublesMax));
    this.#restsUntilMs = nowMs + Math.max(restMs, retryAfterMs);
  }
}

/** Troubles in a row until it is down. */
const troublesMax = 2;
/** Rests: DESIGN section 7, rule 9, doubled: what a transfer has found out is known to all that follow. */
const restMsMin = 1_000;
const restMsMax = 30_000;
/** Whoever asks for more is asked again all the same: a server that is up must not be lost to a typing error. */
const aloneMsMax = 60_000;
/** One probe at a time, and another one if nothing came of it: as long as its own three tries take. */
const probeMs = 5_000;
