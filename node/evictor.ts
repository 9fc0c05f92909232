import { NoSpaceError, P2pCacheError } from "../protocol/errors.ts";
import {
  type EvictionGoal,
  type EvictionInput,
  type EvictionLimits,
  type EvictionPlan,
  explainHeld,
  type HeldFacts,
  type Hold,
  listsMayKeep,
  type PlanLine,
  planEviction,
} from "../protocol/eviction.ts";
import { reasonText } from "../protocol/eviction-text.ts";
import type { VariantHash } from "../protocol/hash.ts";
import type { KeepIndex, Naming } from "../protocol/keep-index.ts";
import { diskHighWatermark, evictionInodesMin, highWatermark } from "../protocol/limits.ts";
import type { ReleaseRecord } from "../protocol/record.ts";
import { variantText } from "../protocol/variant.ts";
import { LastPlan } from "./last-plan.ts";
import type { Leases } from "./leases.ts";
import type { Log } from "./log.ts";
import { Namings } from "./namings.ts";
import type { Clock, DirectoryView } from "./ports.ts";
import type { Programs } from "./programs.ts";
import type { CatalogueEntry } from "./store/catalogue.ts";
import { pathOf } from "./store/holdings.ts";
import type { PayloadStore } from "./store/payload-store.ts";
import { diskBytesOf, type Need } from "./store/space.ts";

export interface EvictorParts {
  readonly store: Pick<PayloadStore, "retention" | "space" | "remove">;
  readonly leases: Leases;
  /** What the lists in force name, at this moment. */
  readonly keeps: () => KeepIndex;
  /** Undefined where nobody else is known. */
  readonly directory: () => Pick<DirectoryView, "copies"> | undefined;
  /** What runs from trees without a lease. */
  readonly programs: Pick<Programs, "look" | "areSeen" | "from">;
  /** Whether a fetch of it is under way. */
  readonly isFetched: (variant: VariantHash) => boolean;
  readonly limits: () => EvictionLimits;
  readonly clock: Clock;
  readonly log: Log;
  /** Says to the peers what is held now. */
  readonly announce: () => void;
}

/** What became, or would become, of one held variant. */
export interface KeptLine {
  /** `studio:foo-1.0.0[0]`. */
  readonly handle: string;
  readonly variant: VariantHash;
  readonly bytes: number;
  readonly outcome: "kept" | "goes" | "removed" | "failed";
  /** `kept: toolset fx, version 42, rank 3, signed by pipeline`. */
  readonly reason: string;
}

export interface Collected {
  readonly freedBytes: number;
  readonly lines: readonly KeptLine[];
  /** What is missing still of room and places, for people; undefined where nothing is. */
  readonly missing: string | undefined;
}

/** Carries out what `planEviction` says, and explains it. One plan is carried out at a time. */
export class Evictor {
  readonly #parts: EvictorParts;
  readonly #stop = new AbortController();
  #last: Promise<unknown> = Promise.resolve();
  #all: { readonly atMs: number; readonly held: readonly HeldFacts[] } | undefined;
  readonly #lastPlan: LastPlan;
  readonly #namings: Namings;

  constructor(parts: EvictorParts) {
    this.#parts = parts;
    const { store, leases, clock } = parts;
    this.#namings = new Namings({
      keeps: parts.keeps,
      held: () => store.retention.entries(),
      onWarm: () => this.forgetPlan(),
      signal: this.#stop.signal,
    });
    this.#lastPlan = new LastPlan({
      make: () => this.#plan({ kind: "tidy", toLow: false }),
      stamp: () => {
        const entries = store.retention.entries();
        return JSON.stringify([entries.length, entries.at(-1)?.hash, leases.holders().size]);
      },
      nowMs: () => clock.monotonicMs(),
      signal: this.#stop.signal,
    });
  }

  /** What would go if `collect` were called now. */
  async dryRun(): Promise<Collected> {
    const plan = await this.#plan({ kind: "tidy", toLow: true });
    const lines = plan.lines.map((line) => this.#shown(line, line.goes ? "goes" : "kept"));
    return { freedBytes: plan.freedBytes, lines, missing: missingText(plan) };
  }

  /** Removes what must go; `toLow`: down to the low watermark in any case. */
  collect(options: { readonly toLow: boolean; readonly signal?: AbortSignal }): Promise<Collected> {
    return this.#alone(async () => {
      const { toLow } = options;
      const signal = AbortSignal.any([this.#stop.signal, ...[options.signal ?? []].flat()]);
      const plan = await this.#plan({ kind: "tidy", toLow });
      if (!toLow) this.#lastPlan.note(plan);
      const lines: KeptLine[] = [];
      for (const line of plan.lines) {
        lines.push(line.goes && !signal.aborted ? await this.#remove(line, signal) : this.#shown(line, "kept"));
      }
      const gone = lines.filter(({ outcome }) => outcome === "removed");
      return { freedBytes: gone.reduce((sum, { bytes }) => sum + bytes, 0), lines, missing: missingText(plan) };
    });
  }

  /** Removes what must go by itself, where a watermark was passed. Never rejects. */
  async collectIfHigh(): Promise<void> {
    try {
      const { usedBytes, freeBytes, freeInodes, comingVariants } = await this.#parts.store.space.use();
      const { maxBytes, freeBytesMin, maxVariants = Number.POSITIVE_INFINITY } = this.#parts.limits();
      const count = this.#parts.store.retention.entries().length + comingVariants;
      const isFull = usedBytes > highWatermark * maxBytes || freeBytes < diskHighWatermark * freeBytesMin;
      if (isFull || count > maxVariants || (freeInodes ?? Number.POSITIVE_INFINITY) < evictionInodesMin)
        await this.tidy();
    } catch (error) {
      this.#noteFailure(error);
    }
  }

  /** Within the limits, by age, and past a watermark. Never rejects. */
  async tidy(): Promise<void> {
    try {
      const { missing } = await this.collect({ toLow: false });
      if (missing !== undefined && !this.#stop.signal.aborted) this.#parts.log("warn", "cache-too-full", { missing });
    } catch (error) {
      this.#noteFailure(error);
    }
  }

  /**
   * Makes room for a release that is about to be fetched; answers whether something went.
   * @throws {NoSpaceError} when not enough may go for it: then nothing has; what it was stopped with.
   */
  makeRoom(record: ReleaseRecord, need: Need): Promise<boolean> {
    return this.#alone(async () => {
      const { blockBytes } = await this.#parts.store.space.use();
      const plan = await this.#plan({
        kind: "room",
        bytes: need.totalBytes,
        diskBytes: diskBytesOf(need, { blockBytes }),
        inodes: need.inodes,
        variants: need.variants === 1 ? 1 : 0,
        naming: this.#parts.keeps().best(record.variant),
      });
      if (plan.missing !== undefined) throw noRoom(variantText(record.variant), missingText(plan)!);
      let hasGone = false;
      for (const line of plan.lines.filter(({ goes }) => goes)) {
        this.#stop.signal.throwIfAborted();
        hasGone = (await this.#remove(line, this.#stop.signal)).outcome === "removed" || hasGone;
      }
      return hasGone;
    });
  }

  /**
   * Why a held variant stays, or would go now; undefined where it is not held. All but whether others go before it is as
   * it is now; that may be some seconds old where very much is held.
   */
  async explain(variant: VariantHash): Promise<KeptLine | undefined> {
    const { retention } = this.#parts.store;
    await this.#namings.warmIfCold();
    const entry = retention.entry(variant);
    if (entry === undefined) return undefined;
    const { held, input } = await this.#factsAlone(entry);
    const line = explainHeld(held, input) ?? explainHeld(held, input, await this.#lastPlan.goes(variant))!;
    return this.#shown(line, line.goes ? "goes" : "kept");
  }

  /** Looks up what the lists name of all that is held, a little at a time, so that nobody has to wait for it later. */
  async warm(): Promise<void> {
    await this.#namings.warm();
  }

  /** What explains one variant without a plan, which takes a second for a hundred thousand. */
  async #factsAlone(entry: CatalogueEntry): Promise<{ readonly held: HeldFacts; readonly input: EvictionInput }> {
    const { store, leases, limits, clock } = this.#parts;
    await this.#lookAtUsers();
    const holders = leases.holders();
    const factsOf = ({ hash, bytes, files }: CatalogueEntry, naming: Naming | undefined): HeldFacts => ({
      variant: hash,
      bytes,
      files,
      lastUsedMs: undefined,
      replicas: 0,
      naming,
      hold: this.#holdIn(holders, hash),
    });
    const input = {
      held: this.#others((other) => factsOf(other, this.#namings.late(other))),
      limits: limits(),
      fullness: await store.space.use(),
      goal: { kind: "tidy", toLow: false } as const,
      wallMs: clock.wallMs(),
    };
    const lastUsedMs = store.retention.lastUsedMs(entry.hash);
    const replicas = this.#parts.directory()?.copies(entry.hash, entry.payload) ?? 0;
    return { held: { ...factsOf(entry, this.#namings.of(entry)), lastUsedMs, replicas }, input };
  }

  /** All that is held, without when it was used; remembered for a while. */
  #others(factsOf: (entry: CatalogueEntry) => HeldFacts): readonly HeldFacts[] {
    const nowMs = this.#parts.clock.monotonicMs();
    const entries = this.#parts.store.retention.entries();
    const known = this.#all;
    if (known !== undefined && known.held.length === entries.length && nowMs - known.atMs < explainedMs)
      return known.held;
    const held = entries.map(factsOf);
    this.#all = { atMs: nowMs, held };
    return held;
  }

  /** What somebody wants kept: a list in force, an admin, a program. */
  async wanted(): Promise<VariantHash[]> {
    await this.#lookAtUsers();
    const holders = this.#parts.leases.holders();
    const isWanted = (entry: CatalogueEntry) =>
      this.#namings.of(entry)?.isExpired === false || this.#holdIn(holders, entry.hash) !== undefined;
    return this.#parts.store.retention
      .entries()
      .filter(isWanted)
      .map(({ hash }) => hash);
  }

  /** Whether lists may keep one that is not here yet: what they may not would go again, and be prefetched again. */
  mayBeKept(coming: { readonly bytes: number; readonly naming: Naming }): boolean {
    const { store, limits } = this.#parts;
    const held = store.retention.entries().map((entry) => {
      const hold = store.retention.isPinned(entry.hash) ? ({ kind: "pinned" } as const) : undefined;
      return { bytes: entry.bytes, naming: this.#namings.of(entry), hold };
    });
    return listsMayKeep(coming, held, limits().pinnedBytesMax);
  }

  /** What holds a variant now, whatever the lists say. */
  async holdOf(variant: VariantHash): Promise<Hold | undefined> {
    await this.#lookAtUsers();
    return this.#holdIn(this.#parts.leases.holders(), variant);
  }

  /** Something has changed that an explanation depends on. */
  forgetPlan(): void {
    this.#all = undefined;
    this.#lastPlan.changed();
  }

  /** Nothing is removed any more: what is being removed is let go of, where its directory has not been taken out yet. */
  stop(reason: Error): void {
    this.#stop.abort(reason);
  }

  /** Waits for what is being carried out. */
  async settled(): Promise<void> {
    await this.#last;
    await this.#namings.settled();
    await this.#lastPlan.settled();
  }

  async #plan(goal: EvictionGoal): Promise<EvictionPlan> {
    const { store, leases, limits, clock } = this.#parts;
    // Who has just ended keeps nothing.
    await this.#lookAtUsers(0);
    const uses = await store.retention.lastUses();
    const holders = leases.holders();
    const directory = this.#parts.directory();
    const factsOf = (entry: CatalogueEntry): HeldFacts => ({
      variant: entry.hash,
      bytes: entry.bytes,
      files: entry.files,
      lastUsedMs: uses.get(entry.hash),
      replicas: directory?.copies(entry.hash, entry.payload) ?? 0,
      naming: this.#namings.of(entry),
      hold: this.#holdIn(holders, entry.hash),
    });
    const fullness = await store.space.use();
    const held = store.retention.entries().map(factsOf);
    return planEviction({ held, limits: limits(), fullness, goal, wallMs: clock.wallMs() });
  }

  #holdIn(holders: ReadonlyMap<VariantHash, string>, variant: VariantHash): Hold | undefined {
    const by = holders.get(variant);
    if (by !== undefined) return { kind: "leased", by };
    if (this.#parts.isFetched(variant)) return { kind: "busy" };
    const { retention } = this.#parts.store;
    if (retention.isPinned(variant)) return { kind: "pinned" };
    const { programs } = this.#parts;
    const entry = programs.areSeen ? retention.entry(variant) : undefined;
    const program = entry === undefined ? undefined : programs.from(pathOf(entry));
    return program === undefined ? undefined : { kind: "running", by: program };
  }

  /** Whose process has ended holds nothing any more. */
  async #lookAtUsers(maxAgeMs?: number): Promise<void> {
    await Promise.all([this.#parts.leases.prune(), this.#parts.programs.look(maxAgeMs)]);
  }

  /** Looks again first: somebody may have begun to use it since the plan was made (P5). */
  async #remove(line: PlanLine, signal: AbortSignal): Promise<KeptLine> {
    const { store, log, announce, limits, clock } = this.#parts;
    const { variant } = line.held;
    const hold = await this.holdOf(variant);
    if (hold !== undefined) return this.#shown({ ...line, goes: false, reason: { kind: "held", hold } }, "kept");
    const lastUsedMs = store.retention.lastUsedMs(variant);
    if (lastUsedMs !== undefined && clock.wallMs() - lastUsedMs < limits().minIdleMs) {
      const held = { ...line.held, lastUsedMs };
      return this.#shown({ held, goes: false, reason: { kind: "recent" } }, "kept");
    }
    if (this.#isLastNow(line))
      return this.#shown({ ...line, goes: false, held: { ...line.held, replicas: 0 } }, "kept");
    const shown = this.#shown(line, "removed");
    try {
      await store.remove(variant, { onHidden: announce, signal });
      log("info", "variant-evicted", { ...shown });
      return shown;
    } catch (error) {
      announce();
      if (!(error instanceof P2pCacheError)) throw error;
      log("warn", "eviction-failed", { variant: shown.handle, reason: error.message });
      return { ...shown, outcome: "failed", reason: `kept: ${error.message}` };
    }
  }

  /** Another machine has let its copy go since the plan was made: of what a list names that is for the next plan. */
  #isLastNow({ held, reason }: PlanLine): boolean {
    const payload = this.#parts.store.retention.entry(held.variant)?.payload;
    if (reason.kind !== "listed" || held.replicas === 0 || payload === undefined) return false;
    return this.#parts.directory()?.copies(held.variant, payload) === 0;
  }

  #shown(line: PlanLine, outcome: KeptLine["outcome"]): KeptLine {
    const { variant, bytes } = line.held;
    const entry = this.#parts.store.retention.entry(variant);
    const handle = entry === undefined ? variant : variantText(entry.variant);
    return { handle, variant, bytes, outcome, reason: reasonText(line, this.#parts.clock.wallMs()) };
  }

  #noteFailure(error: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#parts.log("warn", "eviction-failed", { reason: (error as Error).message });
  }

  #alone<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(() => {
      this.#stop.signal.throwIfAborted();
      return work();
    });
    this.#last = result.catch(() => undefined);
    return result;
  }
}

function missingText({ missing }: EvictionPlan): string | undefined {
  if (missing === undefined) return undefined;
  const { bytes, diskBytes, inodes, variants } = missing;
  const parts = [
    [bytes, `${Math.ceil(bytes)} bytes below max_bytes`],
    [diskBytes, `${Math.ceil(diskBytes)} bytes on the disk`],
    [inodes, `${inodes} inodes`],
    [variants, `${variants} places below max_variants`],
  ] as const;
  return parts.flatMap(([amount, text]) => (amount > 0 ? [text] : [])).join(", ");
}

function noRoom(what: string, missing: string): NoSpaceError {
  return new NoSpaceError(`there is no room for ${what}: ${missing} are missing once all has gone that may`, {
    hint: "p2pcache gc --dry-run says for every variant why it stays",
  });
}

/** How long an explanation may be behind. */
const explainedMs = 10_000;
