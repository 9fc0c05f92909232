import { setTimeout as sleep } from "node:timers/promises";
import { P2pCacheError } from "../protocol/errors.ts";
import type { VariantHash } from "../protocol/hash.ts";
import { type ScrubCandidate, type ScrubPosition, ScrubRound } from "../protocol/scrub-round.ts";
import type { Fetcher } from "./fetcher.ts";
import { errorFacts, type Log } from "./log.ts";
import type { Clock } from "./ports.ts";
import type { Settings } from "./settings/schema.ts";

/** The store, as its upkeep sees it. */
interface UpkeptStore {
  holdings(): readonly { readonly variant: VariantHash }[];
  holding(variant: VariantHash): unknown;
  isDamaged(variant: VariantHash): boolean;
  readonly scrub: {
    candidates(): Promise<readonly ScrubCandidate[]>;
    look(variant: VariantHash, step: number, signal?: AbortSignal): Promise<boolean>;
    load(): Promise<ScrubPosition | undefined>;
    save(position: ScrubPosition): Promise<void>;
  };
}

export interface UpkeepParts {
  readonly store: UpkeptStore;
  /** Brings in what is wrong of a damaged variant. */
  readonly repair: (variant: VariantHash, signal: AbortSignal) => Promise<unknown>;
  /** Whether a fetch is under way. */
  readonly isFetching: () => boolean;
  readonly clock: Clock;
  readonly log: Log;
  /** In which time all that is held is looked at; 0: it is not. */
  readonly scrubPeriodMs: number;
  /** How long after damage was found its repair begins; 5 s unless given. */
  readonly repairDelayMs?: number;
}

/** The upkeep of a node; undefined for one that is open as long as a question takes, and has no sources. */
export function openUpkeep(
  store: UpkeptStore,
  fetcher: Pick<Fetcher, "fetch" | "transfers">,
  parts: Pick<UpkeepParts, "clock" | "log"> & { readonly settings: Settings; readonly delayMs: number | undefined },
): Upkeep | undefined {
  const { clock, log, settings, delayMs: repairDelayMs } = parts;
  if (settings.transfer.peers === "never" && settings.origins.length === 0) return undefined;
  return new Upkeep({
    store,
    clock,
    log,
    repair: (variant, signal) => fetcher.fetch(variant, { signal, traffic: "repair" }),
    isFetching: () => fetcher.transfers().length > 0,
    scrubPeriodMs: settings.cache.scrubPeriodMs,
    ...(repairDelayMs === undefined ? {} : { repairDelayMs }),
  });
}

/**
 * Keeps what is held as it should be: looks at all of it now and then, and repairs what was found damaged, whoever found
 * it. Does nothing that anybody waits for.
 */
export class Upkeep implements AsyncDisposable {
  readonly #parts: UpkeepParts;
  readonly #stop = new AbortController();
  #scrubPeriodMs: number;
  #scrubbing: Promise<void> = Promise.resolve();
  #repairing: Promise<void> = Promise.resolve();
  /** Variants to be repaired, and how often that has failed. */
  readonly #wanted = new Map<VariantHash, { failures: number; atMs: number }>();
  #isRepairing = false;
  #gaveMs = Number.NEGATIVE_INFINITY;
  #woken = Promise.withResolvers<void>();

  constructor(parts: UpkeepParts) {
    this.#parts = parts;
    this.#scrubPeriodMs = parts.scrubPeriodMs;
    for (const { variant } of parts.store.holdings()) if (parts.store.isDamaged(variant)) this.want(variant);
    this.#scrub();
  }

  /** A held variant was found damaged. */
  want(variant: VariantHash): void {
    if (this.#stop.signal.aborted || this.#wanted.has(variant)) return;
    const { clock, repairDelayMs = delayMs } = this.#parts;
    this.#wanted.set(variant, { failures: 0, atMs: clock.monotonicMs() + repairDelayMs });
    this.#wake();
    if (!this.#isRepairing) this.#beginRepairs();
  }

  /** From now on all that is held is looked at in this time; 0: not at all. */
  setScrubPeriod(periodMs: number): void {
    const before = this.#scrubPeriodMs;
    this.#scrubPeriodMs = periodMs;
    if (before === 0 && periodMs > 0) this.#scrub();
    this.#wake();
  }

  /** An item was sent to a peer. */
  gave(): void {
    this.#gaveMs = this.#parts.clock.monotonicMs();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new P2pCacheError("STOPPED", 6, "the node stops"));
    await Promise.all([this.#scrubbing, this.#repairing]);
  }

  #beginRepairs(): void {
    this.#isRepairing = true;
    this.#repairing = this.#repair().finally(() => {
      this.#isRepairing = false;
      // Somebody may have wanted one when the last had just ended.
      if (this.#wanted.size > 0 && !this.#stop.signal.aborted) this.#beginRepairs();
    });
  }

  #isBusy(): boolean {
    const { isFetching, clock } = this.#parts;
    return isFetching() || clock.monotonicMs() - this.#gaveMs < servingMs;
  }

  #scrub(): void {
    const { log } = this.#parts;
    const { signal } = this.#stop;
    this.#scrubbing = this.#scrubbing
      .then(() => this.#scrubOn(signal))
      .catch((error: unknown) => {
        if (!signal.aborted) log("error", "scrub-failed", { reason: (error as Error).message });
      });
  }

  async #scrubOn(signal: AbortSignal): Promise<void> {
    const { store, clock } = this.#parts;
    if (this.#scrubPeriodMs === 0 || signal.aborted) return;
    const round = new ScrubRound(this.#scrubPeriodMs, clock.wallMs(), await store.scrub.load());
    let saved = round.position;
    let savedMs = clock.monotonicMs();
    const save = async () => {
      if (saved === round.position) return;
      saved = round.position;
      savedMs = clock.monotonicMs();
      await store.scrub.save(saved);
    };
    try {
      while (!signal.aborted && this.#scrubPeriodMs > 0) {
        round.setPeriod(this.#scrubPeriodMs);
        const action = round.step(await store.scrub.candidates(), this.#isBusy(), clock.wallMs());
        if (action.kind === "wait") await this.#wait(action.untilMs - clock.wallMs(), signal);
        else if (!(await store.scrub.look(action.variant, action.step, signal))) round.skip(action.variant);
        if (clock.monotonicMs() - savedMs > saveMs) await save();
      }
    } finally {
      await save();
    }
  }

  /** One after the other, in the order in which their time comes; never rejects. */
  async #repair(): Promise<void> {
    const { store, repair, clock, log } = this.#parts;
    const { signal } = this.#stop;
    while (!signal.aborted && this.#wanted.size > 0) {
      const [variant, want] = [...this.#wanted].reduce((a, b) => (b[1].atMs < a[1].atMs ? b : a));
      await this.#wait(want.atMs - clock.monotonicMs(), signal);
      if (signal.aborted || clock.monotonicMs() < want.atMs) continue;
      this.#wanted.delete(variant);
      // What has gone as a whole was taken away: by Rez, or by somebody who wants the room.
      if (!store.isDamaged(variant) || store.holding(variant) === undefined) continue;
      try {
        await repair(variant, signal);
      } catch (error) {
        if (signal.aborted) return;
        const { code, message } = errorFacts(error);
        log("warn", "repair-failed", { variant, code, reason: message });
        const waitMs = Math.min(retryMsMax, retryMs * 2 ** want.failures);
        this.#wanted.set(variant, { failures: want.failures + 1, atMs: clock.monotonicMs() + waitMs });
      }
    }
  }

  /** Whoever waits looks again at what there is to do. */
  #wake(): void {
    this.#woken.resolve();
    this.#woken = Promise.withResolvers();
  }

  /** Never rejects; may end early. */
  async #wait(waitMs: number, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const either = AbortSignal.any([signal, over.signal]);
    const ends = sleep(Math.max(0, Math.min(waitMs, waitMsMax)), undefined, { signal: either, ref: false });
    await Promise.race([ends.catch(() => undefined), this.#woken.promise]);
    over.abort();
  }
}

/** After an item was sent another one may follow soon. */
const servingMs = 1_000;
/** Whoever found it may be about to fetch it anew. */
const delayMs = 5_000;
/** With no source that has it, a repair is tried again after a minute, and then more and more seldom. */
const retryMs = 60_000;
const retryMsMax = 3_600_000;
/** What a crash makes the scrub do again. */
const saveMs = 60_000;
const waitMsMax = 60_000;
