import { P2pCacheError } from "../protocol/errors.ts";
import type { NamedThing } from "../protocol/handle-text.ts";
import type { PayloadId, VariantHash } from "../protocol/hash.ts";
import { Politeness } from "../protocol/politeness.ts";
import { variantHash } from "../protocol/variant.ts";
import { classRates } from "./class-rates.ts";
import { systemClock } from "./clock.ts";
import { Fetcher, type FetchOptions, type FetchResult } from "./fetcher.ts";
import { type FsckOptions, type FsckResult, fsck } from "./fsck.ts";
import { type HashEngine, openHashEngine } from "./hasher.ts";
import { Holders } from "./holders.ts";
import { Keeping, type KeepingParts } from "./keeping.ts";
import { verifySignature } from "./keys.ts";
import { type Log, noLog } from "./log.ts";
import { NodeEvents } from "./node-events.ts";
import { NodePolicy } from "./node-policy.ts";
import {
  type Damage,
  type HoldingStatus,
  holdingsStatus,
  type NodeStatus,
  nodeStatus,
  type PeerStatus,
} from "./node-status.ts";
import { openSwarm } from "./open-swarm.ts";
import { OriginsInUse } from "./origins-in-use.ts";
import { OriginSet } from "./origins-of.ts";
import { peerAnswers } from "./peer-answers.ts";
import { PeerTrouble } from "./peer-trouble.ts";
import type { Clock, Swarm } from "./ports.ts";
import { trustedReader, watchRecords } from "./record-watch.ts";
import { withLive } from "./reload.ts";
import type { Removed } from "./removal.ts";
import { RealRepositories } from "./repositories.ts";
import { checkAdmission, requireNetwork } from "./settings/load.ts";
import { resolveDiskDefaults, type Settings } from "./settings/schema.ts";
import { siteCrowd } from "./site-crowd.ts";
import { PayloadStore } from "./store/payload-store.ts";
import { nearestExisting, readDiskSpace } from "./store/space.ts";
import { storeOptions } from "./store-options.ts";
import { Transfers } from "./transfers.ts";
import { openUpkeep, type Upkeep } from "./upkeep.ts";
import { verifyHeld } from "./verify-held.ts";

export interface NodeOptions {
  readonly log?: Log;
  readonly clock?: Clock;
  /** How long until the records of all that is held have been looked at again at the origins; an hour or more unless given. */
  readonly recordPeriodMs?: number;
  /** How long between two looks for a newer policy at the origins; about ten minutes unless given. */
  readonly policyPeriodMs?: number;
  /** How long after damage was found its repair begins. */
  readonly repairDelayMs?: number;
  /** Whether it cleans its cache, asks for keep-alive lists and prefetches by itself, and how often. */
  readonly keeping?: Pick<KeepingParts, "periodMs" | "spreadMs">;
}

/** A node: opens everything, owns it, and closes it in reverse. */
export class CacheNode implements AsyncDisposable {
  #settings: ReturnType<typeof resolveDiskDefaults>;
  readonly #policy: NodePolicy;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #engine: HashEngine;
  readonly #store: PayloadStore;
  readonly #origins: OriginsInUse;
  readonly #repositories: RealRepositories;
  readonly #down: Politeness;
  readonly #trouble: PeerTrouble;
  readonly #holders: Holders;
  readonly #transfers: Transfers;
  readonly #fetcher: Fetcher;
  readonly #startedMs: number;
  readonly #events: NodeEvents;
  #swarm: Swarm | undefined;
  #verifying: Promise<void> = Promise.resolve();
  #watch: AsyncDisposable | undefined;
  #upkeep: Upkeep | undefined;
  #keeping!: Keeping;

  private constructor(parts: {
    settings: ReturnType<typeof resolveDiskDefaults>;
    log: Log;
    clock: Clock;
    engine: HashEngine;
    store: PayloadStore;
    policy: NodePolicy;
    origins: OriginSet;
    repositories: RealRepositories;
  }) {
    this.#settings = parts.settings;
    this.#policy = parts.policy;
    this.#repositories = parts.repositories;
    this.#log = parts.log;
    this.#clock = parts.clock;
    this.#engine = parts.engine;
    this.#store = parts.store;
    this.#trouble = new PeerTrouble(parts.log, parts.clock, () => this.#swarm);
    this.#origins = new OriginsInUse(parts.origins);
    this.#startedMs = parts.clock.monotonicMs();
    this.#down = new Politeness(classRates(parts.settings.transfer.downBytesPerSecond));
    this.#events = new NodeEvents(parts.log, () => this.#swarm?.announce());
    this.#holders = new Holders({
      swarm: () => this.#swarm,
      standing: this.#trouble.standing,
      own: parts.settings.node,
      random: Math.random,
      nowMs: () => parts.clock.monotonicMs(),
    });
    this.#transfers = new Transfers({
      misbehaved: (peer, fault, reason) => this.#trouble.misbehaved(peer, fault, reason),
      swarm: () => this.#swarm,
      standing: this.#trouble.standing,
      clock: parts.clock,
      random: Math.random,
      site: parts.settings.node.site,
      distanceTo: (peer) => this.#holders.distanceTo(peer),
      holdersFor: (payload) => this.#holders.forPayload(payload),
    });
    this.#fetcher = new Fetcher({
      store: parts.store,
      swarm: () => this.#swarm,
      origins: parts.origins.origins,
      limitedOrigins: parts.origins.limited,
      down: this.#down,
      recordSources: {
        peersFor: (variant) => this.#holders.forRecord(variant),
        stored: (variant) => parts.store.record(variant),
        publishers: this.#policy.trust,
        verify: verifySignature,
        hasher: parts.engine.hash,
      },
      transfers: this.#transfers,
      clock: parts.clock,
      timeoutMs: parts.settings.transfer.timeoutMs,
      denied: (record) => this.#policy.trust.deniedError(record),
      onPlaced: (holding) => {
        this.#events.placed(holding);
        this.#policy.placed(holding.variant);
        this.#keeping.placed();
      },
      onRepaired: (holding, bytes) => this.#events.repaired(holding, bytes),
      onWithdrawn: (withdrawal, error) => this.#events.withdrawn(withdrawal, error),
      onConflict: (variant, error) => this.#events.conflictFound(variant, error),
    });
  }

  /**
   * Starts a node. Nothing is shared with the network before the store is open.
   * @throws {UsageError} for settings that cannot be used; {BusyError} when another node has the cache or the state;
   * {UnusableError} when either cannot be written.
   */
  static async open(written: Settings, options: NodeOptions = {}): Promise<CacheNode> {
    const network = requireNetwork(written);
    // Modes are given explicitly everywhere; what is made for everybody must not lose its bits (DESIGN section 5).
    process.umask(0);
    await using opened = new AsyncDisposableStack();
    const { log = noLog, clock = systemClock } = options;
    const looking = RealRepositories.open(written.repositories, written.node.state);
    const engine = openHashEngine();
    const onProblem = (problem: string) => log("warn", "store-problem", { problem });
    const disk = await readDiskSpace(await nearestExisting(written.cache.path));
    const repositories = opened.use(await looking);
    const settings = { ...written, repositories: repositories.paths };
    const resolved = resolveDiskDefaults(settings, disk);
    const { policyPeriodMs: periodMs } = options;
    const policy = opened.use(await NodePolicy.open({ settings, clock, log, hasher: engine.hash, periodMs }));
    if (written.transfer.peers !== "never") checkAdmission(written, { policy: policy.isFollowed });
    const readRecord = trustedReader(policy.trust, engine.hash);
    // Beside the store: origins take their time, or the whole of it.
    let node: CacheNode | undefined;
    const crowd = () => siteCrowd(node === undefined ? undefined : node.#swarm, settings.node.site);
    const opening = OriginSet.open(settings, { network, clock, log, random: Math.random, crowd });
    opened.defer(async () => (await opening.catch(() => undefined))?.[Symbol.asyncDispose]());
    const store = opened.use(
      await PayloadStore.open({ ...storeOptions(resolved, clock, engine), readRecord, onProblem }),
    );
    const origins = await opening;
    node = new CacheNode({ settings: resolved, log, clock, engine, store, origins, repositories, policy });
    store.onLost = (variant, fault) => {
      node.#events.lost(variant, fault);
      node.#upkeep?.want(variant);
    };
    await repositories.remember();
    if (settings.transfer.peers !== "never") node.#swarm = opened.use(await node.#openSwarm(network));
    if (settings.trust.mode === "hash-only") {
      node.#events.warn(
        "trust.mode is hash-only: whoever can write to an origin or serve peers decides what runs here",
      );
    }
    if (engine.name === "wasm") node.#events.warn("the native BLAKE3 engine does not load: hashing is slower by far");
    node.#keeping = opened.use(await Keeping.open(node.#keepingParts(options)));
    node.#watch = watchRecords(store.retention, node.#fetcher, {
      machines: () => 1 + (node.#swarm?.directory.size ?? 0),
      periodMs: options.recordPeriodMs,
    });
    policy.start({
      ...{ store, fetcher: node.#fetcher, origins: () => node.#origins.current.origins, swarm: () => node.#swarm },
      onFollowed: () => node.#keeping.policyChanged(),
    });
    node.#upkeep = openUpkeep(store, node.#fetcher, { settings: resolved, clock, log, delayMs: options.repairDelayMs });
    opened.move();
    log("info", "node-started", { node: node.id, cache: store.cachePath, addresses: node.#swarm?.addresses() ?? [] });
    node.#verifying = node.#verifyUnsure();
    return node;
  }

  /** Its peer id; without a network, the name that it was given. */
  get id(): string {
    return this.#swarm?.id ?? this.#settings.node.name;
  }

  /** What stays on this disk, what goes, and why. */
  get keeping(): Keeping {
    return this.#keeping;
  }

  /** What users may mean by a handle without naming the repository, and where each lies. */
  get repositories(): ReadonlyMap<string, string> {
    return this.#repositories.paths;
  }

  /**
   * Puts what may change at run time into force, for all that begins from now on.
   * @throws {UsageError} {UnusableError} for settings that cannot be used: then all is as it was.
   */
  async reconfigure(next: Settings): Promise<void> {
    const settings = withLive(this.#settings, next);
    const crowd = () => siteCrowd(this.#swarm, settings.node.site);
    const network = requireNetwork(settings);
    const parts = { network, clock: this.#clock, log: this.#log, random: Math.random, crowd };
    await using opened = new AsyncDisposableStack();
    const origins = opened.use(await OriginSet.open({ ...settings, repositories: this.#repositories.paths }, parts));
    const disk = await readDiskSpace(await nearestExisting(this.#store.cachePath));
    await this.#repositories.change(settings.repositories);
    await this.#repositories.remember();
    this.#settings = resolveDiskDefaults({ ...settings, repositories: this.#repositories.paths }, disk);
    this.#store.space.limits = this.#settings.cache;
    const { timeoutMs, upBytesPerSecond, downBytesPerSecond } = settings.transfer;
    this.#swarm?.setRates(classRates(upBytesPerSecond));
    this.#down.setRates(classRates(downBytesPerSecond), this.#clock.monotonicMs());
    this.#fetcher.reconfigure({ origins: origins.origins, limitedOrigins: origins.limited, timeoutMs });
    this.#upkeep?.setScrubPeriod(this.#settings.cache.scrubPeriodMs);
    // Transfers that have begun go on with the old ones.
    this.#origins.replace(origins, this.#fetcher.landed());
    opened.move();
    this.#policy.trust.reconfigure(settings.trust);
    await this.#keeping.reconfigure(settings);
  }

  /** Makes sure that a variant lies on this disk. @throws a typed error before its deadline. */
  async fetch(thing: NamedThing, options: FetchOptions = {}): Promise<FetchResult> {
    await this.#policy.ready();
    const hash = this.hashOf(thing);
    this.#log("debug", "fetch-asked", { variant: hash });
    const fetched = this.#fetcher.fetch(hash, options);
    const result = await fetched.catch(async (error) => {
      const explained = await this.#origins.current.explained(error);
      this.#events.fetchFailed(hash, explained);
      throw explained;
    });
    if (result.outcome === "local") this.#log("debug", "fetch-local", { ...result });
    else this.#log("info", "fetch-ended", { ...result });
    return result;
  }

  /**
   * The variant that is meant. @throws {NotFoundError} when nobody is known to hold a payload; {UsageError} when it is
   * held as several variants.
   */
  hashOf(thing: NamedThing): VariantHash {
    switch (thing.kind) {
      case "variant":
        return variantHash(thing.variant, this.#engine.hash);
      case "variantHash":
        return thing.hash;
      case "payload":
        return this.#variantOf(thing.payload);
    }
  }

  status(version: string): NodeStatus {
    const { trust } = this.#policy;
    const { warnings: kept } = this.#keeping;
    const warnings = [
      ...this.#events.warnings,
      ...this.#repositories.warnings,
      ...[trust.warning() ?? []].flat(),
      ...kept,
    ];
    const upMs = this.#clock.monotonicMs() - this.#startedMs;
    const said = { id: this.id, version, upMs, trust: trust.status(), warnings };
    const parts = { settings: this.#settings, store: this.#store, swarm: this.#swarm };
    return nodeStatus(said, {
      ...parts,
      transfers: this.#fetcher.transfers(),
      origins: this.#origins.current.status(),
    });
  }

  /** What `ls` lists. */
  holdings(): HoldingStatus[] {
    return holdingsStatus(this.#store);
  }

  /** Peers that are here, and those of whom something is known. */
  peers(): PeerStatus[] {
    return this.#holders.status();
  }

  /** Compares held trees with their manifests; all of them when none is named. */
  verify(
    things: readonly NamedThing[],
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<{ checked: number; damaged: Damage[] }> {
    const variants = things.length === 0 ? undefined : things.map((thing) => this.hashOf(thing));
    return verifyHeld(this.#store, variants, signal);
  }

  /** Takes a held variant off this disk. @throws what `removeHeld` throws. */
  async remove(thing: NamedThing, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Removed> {
    return await this.#keeping.remove(thing, signal);
  }

  /** What is wrong with the bookkeeping of cache and state, and what became of it. */
  fsck(options: FsckOptions = {}): Promise<FsckResult> {
    return fsck({ store: this.#store, fetcher: this.#fetcher, announce: () => this.#swarm?.announce() }, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { id } = this;
    // Each in turn, also when one before it fails.
    await using parts = new AsyncDisposableStack();
    parts.defer(() => this.#log("info", "node-stopped", { node: id }));
    parts.defer(() => this.#verifying);
    parts.use(this.#store);
    parts.use(this.#origins);
    parts.use(this.#repositories);
    if (this.#swarm !== undefined) parts.use(this.#swarm);
    parts.use(this.#watch);
    parts.use(this.#policy);
    parts.use(this.#upkeep);
    parts.use(this.#keeping);
    parts.defer(() => this.#fetcher.close(new P2pCacheError("STOPPED", 6, "the node stops")));
    parts.defer(() => this.#keeping.stop()); // A fetch may wait for room.
  }

  #keepingParts({ keeping }: NodeOptions): KeepingParts {
    return {
      ...{ store: this.#store, settings: this.#settings, clock: this.#clock, log: this.#log, ...keeping },
      limits: () => this.#settings.cache,
      directory: () => this.#swarm?.directory,
      origins: () => this.#origins.current.origins,
      policyLists: () =>
        this.#policy.trust.lists().map(({ keyids, ...list }) => ({ ...list, signer: keyids[0]!.slice(0, 16) })),
      lookAtPolicy: (signal) => this.#policy.look(signal),
      expiryMs: () => this.#policy.trust.nowMs,
      hashOf: (thing) => this.hashOf(thing),
      isFetched: (variant) => this.#fetcher.isUnderWay(variant),
      isBusy: () => this.#fetcher.transfers().length > 0,
      find: (variant, signal) => this.#fetcher.find(variant, signal),
      fetch: (variant, signal) => this.#fetcher.fetch(variant, { signal, traffic: "prefetch" }),
      announce: () => this.#swarm?.announce(),
      id: () => this.id,
      isOnItsOwn: keeping !== undefined,
    };
  }

  /** Checks behind the start what an unclean end left in doubt; never rejects. */
  async #verifyUnsure(): Promise<void> {
    try {
      await this.#store.verifyUnsure();
      this.#swarm?.announce();
    } catch (error) {
      this.#log("error", "verify-failed", { reason: (error as Error).message });
    }
  }

  async #openSwarm(network: string): Promise<Swarm> {
    const epoch = await this.#store.nextEpoch();
    const parts = { network, hash: this.#engine.hash, epoch, log: this.#log };
    const answers = peerAnswers({
      ...{ store: this.#store, policy: this.#policy, transfers: this.#transfers, trouble: this.#trouble },
      ...{ hash: this.#engine.hash, log: this.#log, swarm: () => this.#swarm, upkeep: () => this.#upkeep },
    });
    return await openSwarm(this.#settings, parts, answers);
  }

  #variantOf(payload: PayloadId): VariantHash {
    const held = this.#store.holdings().find((holding) => holding.payload === payload);
    return held?.variant ?? this.#holders.variantOf(payload);
  }
}
