import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { NoSpaceError, NotFoundError, UsageError } from "../protocol/errors.ts";
import type { EvictionLimits } from "../protocol/eviction.ts";
import type { NamedThing } from "../protocol/handle-text.ts";
import { parseVariantHash, type VariantHash } from "../protocol/hash.ts";
import type { KeepPlace, PolicyList } from "../protocol/keep-alive.ts";
import { namingText } from "../protocol/keep-index.ts";
import type { ReleaseRecord } from "../protocol/record.ts";
import { variantText } from "../protocol/variant.ts";
import { type Coverage, coverageOf } from "./coverage.ts";
import { type Collected, Evictor, type KeptLine } from "./evictor.ts";
import { OriginListSource } from "./keep-alive/origin-list-source.ts";
import { KeepLists } from "./keep-lists.ts";
import { type Lease, Leases } from "./leases.ts";
import type { Log } from "./log.ts";
import type { Clock, DirectoryView, Origin } from "./ports.ts";
import { Prefetcher } from "./prefetcher.ts";
import { Programs } from "./programs.ts";
import { releasedVariants } from "./released-variants.ts";
import { type Removed, removeHeld } from "./removal.ts";
import type { Settings } from "./settings/schema.ts";
import { ownerIsDead, parseProcessMark } from "./store/owner.ts";
import type { PayloadStore } from "./store/payload-store.ts";

export interface KeepingParts {
  readonly store: PayloadStore;
  /** As they are now: a reload may change them. */
  readonly limits: () => EvictionLimits;
  readonly settings: Pick<Settings, "keepalive" | "node">;
  readonly clock: Clock;
  readonly log: Log;
  readonly directory: () => DirectoryView | undefined;
  readonly origins: () => readonly Origin[];
  /** The lists of the network's policy, as it is known by now. */
  readonly policyLists: () => readonly PolicyList[];
  /** Asks the origins for a newer policy first. Never rejects, but for the signal. */
  readonly lookAtPolicy: (signal: AbortSignal) => Promise<void>;
  /** What time it is for whether a list has expired: a clock that was set back brings none into force again. */
  readonly expiryMs: () => number;
  readonly hashOf: (thing: NamedThing) => VariantHash;
  readonly isFetched: (variant: VariantHash) => boolean;
  readonly isBusy: () => boolean;
  /** What a fetch would bring in now. */
  readonly find: (variant: VariantHash, signal: AbortSignal) => Promise<ReleaseRecord>;
  readonly fetch: (variant: VariantHash, signal: AbortSignal) => Promise<unknown>;
  readonly announce: () => void;
  /** This node's name on the network: machines do not all begin at once. */
  readonly id: () => string;
  /** Whether it cleans, asks for lists and fetches by itself; a node that is opened for one question does not. */
  readonly isOnItsOwn: boolean;
  /** How often lists are asked for, and over how long prefetches are spread; an hour and its quarter unless given. */
  readonly periodMs?: number | undefined;
  readonly spreadMs?: number | undefined;
}

/** A list as people are shown it. */
export interface ListFacts {
  readonly toolset: string;
  readonly version: number;
  readonly signer: string;
  readonly signedAt: string;
  readonly expires: string;
  readonly state: "in force" | "expired";
  readonly keep: readonly { readonly package: string; readonly prefetch: boolean }[];
}

/** What stays on this disk, what goes, and why: lists, pins, leases, eviction and prefetch of a node (DESIGN section 8). */
export class Keeping implements AsyncDisposable {
  readonly #parts: KeepingParts;
  readonly #leases: Leases;
  readonly #lists: KeepLists;
  readonly #evictor: Evictor;
  readonly #prefetcher: Prefetcher;
  readonly #stop = new AbortController();
  #ended: Promise<void> = Promise.resolve();
  #high: Promise<void> = Promise.resolve();
  #prefetching: Promise<void> | undefined;

  private constructor(parts: KeepingParts, opened: { readonly leases: Leases; readonly lists: KeepLists }) {
    this.#parts = parts;
    this.#leases = opened.leases;
    this.#lists = opened.lists;
    const keeps = () => this.#lists.index();
    const programs = new Programs({ cachePath: parts.store.cachePath, nowMs: () => parts.clock.monotonicMs() });
    this.#evictor = new Evictor({ ...parts, leases: opened.leases, keeps, programs });
    parts.store.makeRoom = (record, need) => this.#evictor.makeRoom(record, need);
    const released = () => releasedVariants(parts.origins(), this.#stop.signal);
    const { spreadMs, ...rest } = parts;
    const mayBeKept = (coming: Parameters<Evictor["mayBeKept"]>[0]) => this.#evictor.mayBeKept(coming);
    this.#prefetcher = new Prefetcher({
      ...rest,
      keeps,
      released,
      mayBeKept,
      ...(spreadMs === undefined ? {} : { spreadMs }),
    });
  }

  static async open(parts: KeepingParts): Promise<Keeping> {
    const { store, settings, clock, log } = parts;
    const onProblem = (problem: string) => log("warn", "store-problem", { problem });
    const leases = await Leases.open(store.retention, onProblem);
    const lists = await KeepLists.open(settings.keepalive.keys, {
      directory: join(settings.node.state, "keepalive"),
      place: placeOf(settings),
      clock: { ...clock, wallMs: parts.expiryMs },
      onRefused: (toolset, reason) => log("warn", "lists-refused", { toolset, reason }),
    });
    const keeping = new Keeping(parts, { leases, lists });
    lists.takePolicy(parts.policyLists());
    if (parts.isOnItsOwn) keeping.#ended = keeping.#run().catch(() => undefined);
    return keeping;
  }

  /** Follows other toolsets from now on. */
  async reconfigure({ keepalive }: Pick<Settings, "keepalive">): Promise<void> {
    await this.#lists.follow(keepalive.keys);
    this.#evictor.forgetPlan();
  }

  /** For `status`. */
  get warnings(): readonly string[] {
    return this.#lists.warnings();
  }

  /** Why a held variant stays, or would go. @throws {NotFoundError} when it is not held, with the list that names it. */
  async explain(thing: NamedThing): Promise<KeptLine> {
    const line = await this.#evictor.explain(this.#parts.hashOf(thing));
    if (line !== undefined) return line;
    const naming = thing.kind === "variant" ? this.#lists.index().best(thing.variant) : undefined;
    const what = thing.kind === "variant" ? variantText(thing.variant) : "it";
    const listed = naming === undefined ? "and no keep-alive list names it" : `but ${namingText(naming)} names it`;
    throw new NotFoundError(`${what} is not held here, ${listed}`, { hint: "p2pcache ls lists what is held" });
  }

  /** Removes what must go, or says what would. */
  async gc({ dryRun, signal }: { readonly dryRun: boolean; readonly signal?: AbortSignal }): Promise<Collected> {
    this.#evictor.forgetPlan();
    if (dryRun) return await this.#evictor.dryRun();
    return await this.#evictor.collect({ toLow: true, ...(signal === undefined ? {} : { signal }) });
  }

  /**
   * Keeps a held variant until it is unpinned, whatever the lists say.
   * @throws {NotFoundError} when it is not held; {NoSpaceError} past `pinned_bytes_max`.
   */
  async pin(thing: NamedThing): Promise<{ readonly handle: string; readonly variant: VariantHash }> {
    const { store, clock, limits } = this.#parts;
    const { handle, variant, bytes } = this.#held(thing);
    const pinned = store.retention.entries().filter(({ hash }) => store.retention.isPinned(hash) && hash !== variant);
    const total = pinned.reduce((sum, each) => sum + each.bytes, bytes);
    if (total > limits().pinnedBytesMax) {
      throw new NoSpaceError(`${handle} would take what is pinned to ${total} bytes, past cache.pinned_bytes_max`, {
        hint: "unpin something, or raise cache.pinned_bytes_max",
      });
    }
    await store.retention.pin(variant, new Date(clock.wallMs()).toISOString());
    this.#evictor.forgetPlan();
    return { handle, variant };
  }

  /** @throws {NotFoundError} when it is not pinned. */
  async unpin(thing: NamedThing): Promise<{ readonly handle: string; readonly variant: VariantHash }> {
    const variant = this.#parts.hashOf(thing);
    const entry = this.#parts.store.retention.entry(variant);
    const handle =
      entry !== undefined
        ? variantText(entry.variant)
        : thing.kind === "variant"
          ? variantText(thing.variant)
          : variant;
    if (!(await this.#parts.store.retention.unpin(variant))) throw new NotFoundError(`${handle} is not pinned`);
    this.#evictor.forgetPlan();
    return { handle, variant };
  }

  /**
   * Keeps variants, held or about to be, as long as the lease is not left, or the process that it names lives.
   * @throws {BusyError} when there are too many leases; {UsageError} for a `process` that is none, or has gone.
   */
  async leaseFor(request: {
    readonly variants: readonly string[];
    readonly name: string;
    readonly process: unknown;
  }): Promise<Lease> {
    const mark = request.process === undefined ? undefined : parseProcessMark(request.process);
    if (request.process !== undefined && (mark === undefined || ownerIsDead(mark))) {
      throw new UsageError("a lease's process is the mark of one that runs here");
    }
    const variants = request.variants.map(parseVariantHash);
    this.#evictor.forgetPlan();
    return await this.#leases.hold({ variants, name: request.name, ...(mark === undefined ? {} : { process: mark }) });
  }

  /** Takes a held variant off this disk because somebody says so. @throws what `removeHeld` throws. */
  async remove(thing: NamedThing, signal?: AbortSignal): Promise<Removed> {
    const holdOf = (variant: VariantHash) => this.#evictor.holdOf(variant);
    const removed = await removeHeld({ ...this.#parts, holdOf }, thing, signal);
    this.#parts.log("info", "variant-removed", { ...removed });
    this.#evictor.forgetPlan();
    return removed;
  }

  /** The lists that are followed; `refresh`: asks the origins first. */
  async lists({ refresh, signal }: { readonly refresh: boolean; readonly signal?: AbortSignal }): Promise<ListFacts[]> {
    if (refresh) {
      await this.#parts.lookAtPolicy(signal ?? this.#stop.signal);
      await this.#refresh(signal ?? this.#stop.signal);
    }
    const nowMs = this.#parts.expiryMs();
    return this.#lists.all().map(({ toolset, version, signer, signedAt, expires, keep }) => ({
      ...{ toolset, version, signer, signedAt, expires },
      state: Date.parse(expires) > nowMs ? "in force" : "expired",
      keep: keep.map(({ package: text, prefetch }) => ({ package: text, prefetch })),
    }));
  }

  /** How much of a toolset's list is here and on the network. @throws {NotFoundError} when no such list is followed. */
  async coverage(toolset: string, signal?: AbortSignal): Promise<Coverage> {
    const list = this.#lists.all().find((each) => each.toolset === toolset);
    if (list === undefined) {
      throw new NotFoundError(`no keep-alive list of ${JSON.stringify(toolset)} is known here`, {
        hint: "keepalive.keys says which are followed; p2pcache keepalive show --refresh asks the origins",
      });
    }
    const { store, hashOf, directory, origins } = this.#parts;
    const released = await releasedVariants(origins(), signal ?? this.#stop.signal);
    const copies = (variant: VariantHash) => directory()?.holders(variant).size ?? 0;
    return coverageOf(list, { held: store.retention.entries(), released, copies, hashOf });
  }

  /** The network's policy has changed, and with it perhaps its lists. */
  policyChanged(): void {
    this.#lists.takePolicy(this.#parts.policyLists());
    this.#evictor.forgetPlan();
  }

  /** Something was placed: it may have taken the cache past its watermark. */
  placed(): void {
    this.#evictor.forgetPlan();
    if (!this.#parts.isOnItsOwn) return;
    this.#high = this.#high.then(() => (this.#stop.signal.aborted ? undefined : this.#evictor.collectIfHigh()));
  }

  /** Begins to end: nothing is evicted any more, for a fetch neither. */
  stop(): void {
    const reason = new Error("the node stops");
    this.#stop.abort(reason);
    this.#evictor.stop(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    await this.#ended;
    await this.#high;
    await this.#prefetching;
    await this.#evictor.settled();
  }

  /** Ends by a rejection, once it is closed. */
  async #run(): Promise<void> {
    const { periodMs = hourMs, clock } = this.#parts;
    const { signal } = this.#stop;
    await this.#evictor.warm();
    await this.#evictor.collectIfHigh();
    let tidiedMs = Number.NEGATIVE_INFINITY;
    // Machines that were started together do not ask together.
    let waitMs = Math.min(startMsMax, periodMs) * Math.random();
    for (;;) {
      await sleep(waitMs, undefined, { signal, ref: false });
      await this.#refresh(signal);
      if (clock.monotonicMs() - tidiedMs >= dayMs) {
        tidiedMs = clock.monotonicMs();
        await this.#daily();
      } else await this.#evictor.collectIfHigh();
      this.#prefetch(signal);
      signal.throwIfAborted();
      waitMs = periodMs * (0.75 + Math.random() / 2);
    }
  }

  /** Behind the rest: it may take its time. */
  #prefetch(signal: AbortSignal): void {
    if (this.#prefetching !== undefined) return;
    const end = () => {
      this.#prefetching = undefined;
    };
    this.#prefetching = this.#prefetcher.run(signal).then(end, end);
  }

  async #refresh(signal: AbortSignal): Promise<void> {
    this.policyChanged();
    const sources = this.#parts.origins().map((origin) => new OriginListSource(origin));
    if (!(await this.#lists.refresh(sources, signal))) return;
    this.#evictor.forgetPlan();
    await this.#evictor.warm();
  }

  /** Rez deletes what was not used for long, so what must stay is touched; then what is too old goes. */
  async #daily(): Promise<void> {
    const { store, clock, log } = this.#parts;
    try {
      await store.retention.touch(await this.#evictor.wanted(), clock.wallMs());
    } catch (error) {
      log("warn", "store-problem", { problem: (error as Error).message });
    }
    await this.#evictor.tidy();
  }

  #held(thing: NamedThing): { readonly handle: string; readonly variant: VariantHash; readonly bytes: number } {
    const variant = this.#parts.hashOf(thing);
    const entry = this.#parts.store.retention.entry(variant);
    if (entry !== undefined) return { handle: variantText(entry.variant), variant, bytes: entry.bytes };
    const what = thing.kind === "variant" ? variantText(thing.variant) : `the variant ${variant}`;
    throw new NotFoundError(`${what} is not held here`, { hint: "p2pcache ls lists what is" });
  }
}

function placeOf({ node }: Pick<Settings, "node">): KeepPlace {
  return { site: node.site, rack: node.rack, host: node.name };
}

const hourMs = 3_600_000;
const dayMs: number = 24 * hourMs;
/** Lists are asked for in the first minutes of a node. */
const startMsMax = 120_000;
