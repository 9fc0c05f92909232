import type { VariantHash } from "./hash.ts";
import { MIB } from "./limits.ts";

/** How far a round has come. It outlives the process. */
export interface ScrubPosition {
  /** When the round began, in milliseconds since 1970. */
  readonly startedMs: number;
  /** Variants are looked at in the order of their hashes: all before this one have been. */
  readonly variant: VariantHash | "";
  /** Steps of this variant that have been done. */
  readonly step: number;
}

/** A held variant that can be looked at, and of how many steps of about the same size that consists. */
export interface ScrubCandidate {
  readonly variant: VariantHash;
  readonly bytes: number;
  readonly steps: number;
}

/** What to do now. */
export type ScrubAction =
  | { readonly kind: "look"; readonly variant: VariantHash; readonly step: number }
  | { readonly kind: "wait"; readonly untilMs: number };

/**
 * When to hash again what is held, so that all of it has been in one period: a step at a time, at a rate that comes from
 * what is left of the round and of its time. Whatever else the node does goes first, up to a point.
 */
export class ScrubRound {
  #periodMs: number;
  #position: ScrubPosition;
  #nextMs = 0;
  #lateSinceMs: number | undefined;

  /** `position` as an earlier process left it. @param periodMs above 0. */
  constructor(periodMs: number, nowMs: number, position?: ScrubPosition) {
    this.#periodMs = periodMs;
    // A clock that was set back would make a round that never ends.
    const isUsable = position !== undefined && position.startedMs <= nowMs;
    this.#position = isUsable ? position : { startedMs: nowMs, variant: "", step: 0 };
  }

  get position(): ScrubPosition {
    return this.#position;
  }

  /** From now on within another time. */
  setPeriod(periodMs: number): void {
    this.#periodMs = periodMs;
  }

  /**
   * @param held in any order. @param isBusy whether something goes on that must not wait.
   */
  step(held: readonly ScrubCandidate[], isBusy: boolean, nowMs: number): ScrubAction {
    const sorted = held.toSorted((a, b) => (a.variant < b.variant ? -1 : 1));
    const idleMs = Math.min(waitMsMax, this.#periodMs / idleShare);
    if (sorted.length === 0) return { kind: "wait", untilMs: nowMs + idleMs };
    const next = sorted.find((each) => this.#stepsLeft(each) > 0);
    if (next === undefined) return this.#endRound(nowMs, idleMs);
    if (nowMs < this.#nextMs) return { kind: "wait", untilMs: Math.min(this.#nextMs, nowMs + waitMsMax) };
    if (isBusy) {
      this.#lateSinceMs ??= nowMs;
      if (nowMs - this.#lateSinceMs < lateMsMax) return { kind: "wait", untilMs: nowMs + yieldMs };
    }
    this.#lateSinceMs = undefined;
    this.#nextMs = nowMs + this.#stepMs(sorted, next, nowMs);
    const step = next.variant === this.#position.variant ? this.#position.step : 0;
    this.#position = { ...this.#position, variant: next.variant, step: step + 1 };
    return { kind: "look", variant: next.variant, step };
  }

  /** The rest of a variant need not be looked at: it is known to be damaged, or has gone. */
  skip(variant: VariantHash): void {
    if (this.#position.variant === variant) this.#position = { ...this.#position, step: Number.MAX_SAFE_INTEGER };
  }

  #stepsLeft({ variant, steps }: ScrubCandidate): number {
    if (variant < this.#position.variant) return 0;
    return variant === this.#position.variant ? Math.max(0, steps - this.#position.step) : steps;
  }

  /** The next round begins when this one's time is over, however soon it was through. */
  #endRound(nowMs: number, idleMs: number): ScrubAction {
    const untilMs = this.#position.startedMs + this.#periodMs;
    if (nowMs < untilMs) return { kind: "wait", untilMs: Math.min(untilMs, nowMs + idleMs) };
    this.#position = { startedMs: nowMs, variant: "", step: 0 };
    return { kind: "wait", untilMs: nowMs };
  }

  /** How long a step may take: what was lost while the machine was off is made good, at a rate that nobody notices. */
  #stepMs(held: readonly ScrubCandidate[], next: ScrubCandidate, nowMs: number): number {
    let [allBytes, leftBytes] = [0, 0];
    for (const each of held) {
      allBytes += each.bytes;
      leftBytes += (each.bytes * this.#stepsLeft(each)) / Math.max(1, each.steps);
    }
    const leftMs = this.#position.startedMs + this.#periodMs - nowMs;
    const fastest = Math.min(bytesPerMsMax, Math.max(bytesPerMsMin, (hurryMax * allBytes) / this.#periodMs));
    const bytesPerMs = leftMs <= 0 ? fastest : Math.min(fastest, leftBytes / leftMs);
    const stepBytes = Math.max(1, next.bytes / Math.max(1, next.steps));
    return Math.ceil(stepBytes / Math.max(bytesPerMs, Number.MIN_VALUE));
  }
}

/** A tenth of what one disk of spinning rust reads, and a hundredth of an SSD. */
const bytesPerMsMax: number = (16 * MIB) / 1000;
/** What is left of a small cache is made good at this rate. */
const bytesPerMsMin: number = MIB / 1000;
/** How many times the usual rate makes good what was lost. */
const hurryMax = 4;
/** Whoever fetches or serves all day must not keep the disk from being looked at. */
const lateMsMax: number = 60 * 60 * 1000;
const yieldMs = 1_000;
/** What is held may change meanwhile. */
const waitMsMax = 60_000;
/** Also where the period is short. */
const idleShare = 10;
