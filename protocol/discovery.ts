import type { PeerName } from "./directory.ts";
import type { Random } from "./random.ts";

/** What happens on the segment, as far as it matters for when to ask and whether to answer. */
export type DiscoveryEvent =
  | { readonly kind: "started" }
  | { readonly kind: "woke" }
  /** How many neighbours there are now, and how many members of the network are known at all. */
  | { readonly kind: "neighbours"; readonly count: number; readonly members: number }
  /** An interface came or changed: whoever is behind it has not heard of us. */
  | { readonly kind: "networkChanged" }
  /** A stranger asks who is there; `known` are those whom it needs no answer from. */
  | { readonly kind: "asked"; readonly known: readonly PeerName[] }
  /** Somebody answered: everyone on the segment has heard it. */
  | { readonly kind: "answered" };

export type DiscoveryAction =
  | { readonly kind: "ask" }
  | { readonly kind: "answer" }
  /** Say `woke` then, at the latest; it replaces an earlier one. */
  | { readonly kind: "wakeAt"; readonly atMs: number };

/**
 * When to ask a segment who is there, and whether to answer others who ask: on one of a thousand hosts a question must
 * not bring a thousand answers, and nobody asks who knows enough (DESIGN section 6).
 */
export class Discovery {
  readonly #own: PeerName;
  readonly #random: Random;
  #hasStarted = false;
  /** Questions of the present series that have been asked: the first few come quickly, then ever slower ones. */
  #asked = 0;
  #askAtMs = Number.POSITIVE_INFINITY;
  #answerAtMs = Number.POSITIVE_INFINITY;
  /** What others have answered since somebody asked. */
  #heard = 0;
  #seriesMs = Number.NEGATIVE_INFINITY;
  #answeredMs = Number.NEGATIVE_INFINITY;
  #neighbours = 0;
  #members = 0;

  constructor(own: PeerName, random: Random) {
    this.#own = own;
    this.#random = random;
  }

  /** Takes in one event and gives back everything to do about it. */
  step(event: DiscoveryEvent, nowMs: number): DiscoveryAction[] {
    switch (event.kind) {
      case "started":
        this.#hasStarted = true;
        this.#startSeries(nowMs);
        break;
      case "networkChanged":
        this.#startSeries(nowMs);
        break;
      case "neighbours":
        this.#count(event.count, event.members, nowMs);
        break;
      case "asked":
        this.#wasAsked(event.known, nowMs);
        break;
      case "answered":
        this.#heard++;
        break;
      case "woke":
        break;
    }
    return this.#due(nowMs);
  }

  #count(neighbours: number, members: number, nowMs: number): void {
    const wasAlone = this.#neighbours === 0;
    this.#neighbours = neighbours;
    this.#members = members;
    // Whoever has lost everybody begins anew.
    if (neighbours === 0 && !wasAlone) this.#startSeries(nowMs);
  }

  #startSeries(nowMs: number): void {
    // One that is still to come serves as well.
    if (!this.#hasStarted || nowMs < this.#seriesMs) return;
    // However often that happens, a segment hears one series in ten seconds.
    const fromMs = Math.max(nowMs, this.#seriesMs + seriesGapMs);
    this.#seriesMs = fromMs;
    this.#asked = 0;
    this.#askAtMs = fromMs + this.#random() * firstDelayMsMax;
  }

  #wasAsked(known: readonly PeerName[], nowMs: number): void {
    if (!this.#hasStarted || known.includes(this.#own) || this.#answerAtMs !== Number.POSITIVE_INFINITY) return;
    this.#heard = 0;
    // RFC 6762, section 6: 20–120 ms, so that answers do not collide. Many members spread out further, so that most
    // of them hear the first answers before they would give their own.
    const spreadMs = Math.min(spreadMsMax, Math.max(spreadMsMin, this.#members * spreadMsPerMember));
    const atMs = nowMs + answerDelayMsMin + this.#random() * spreadMs;
    // RFC 6762, section 6, has a second here: whoever starts just after an answer would wait as long for the next one.
    this.#answerAtMs = Math.max(atMs, this.#answeredMs + answerGapMs);
  }

  #due(nowMs: number): DiscoveryAction[] {
    const actions: DiscoveryAction[] = [];
    if (nowMs >= this.#askAtMs) {
      // Who has enough neighbours stays silent, and looks again at the next turn.
      if (this.#neighbours < neighboursEnough) actions.push({ kind: "ask" });
      this.#askAtMs = nowMs + this.#gapMs(this.#asked++);
    }
    if (nowMs >= this.#answerAtMs) {
      this.#answerAtMs = Number.POSITIVE_INFINITY;
      if (this.#heard < answersEnough) {
        this.#answeredMs = nowMs;
        actions.push({ kind: "answer" });
      }
    }
    const wakeAtMs = Math.min(this.#askAtMs, this.#answerAtMs);
    // Each time: a timer may go off a little early, and must not be the last one then.
    if (wakeAtMs !== Number.POSITIVE_INFINITY) actions.push({ kind: "wakeAt", atMs: wakeAtMs });
    return actions;
  }

  /** How long after a question the next one follows: packets get lost, so the first ones come in the first second. */
  #gapMs(asked: number): number {
    const quick = quickGapsMs[asked];
    if (quick !== undefined) return quick;
    const doublings = Math.min(asked - quickGapsMs.length, 30);
    const gapMs = Math.min(askGapMsMax, askGapMsMin * 2 ** doublings);
    // A fleet that was switched on together does not ask together for ever.
    return gapMs * (1 - jitter * this.#random());
  }
}

/** Enough to learn the whole directory from, and to stay in the network when half of them go (DESIGN section 6). */
export const neighboursEnough = 8;
/** Enough answers to one question: with some that are lost or full, still eight neighbours. */
const answersEnough = 12;
const firstDelayMsMax = 20;
const quickGapsMs = [250, 750] as const;
const askGapMsMin = 60_000;
const askGapMsMax = 3_600_000;
const jitter = 0.2;
const seriesGapMs = 10_000;
const answerDelayMsMin = 20;
const spreadMsMin = 100;
/** With a thousand members a question brings two answers a millisecond: a dozen come before the others have heard. */
const spreadMsPerMember = 0.5;
const spreadMsMax = 500;
const answerGapMs = 250;
