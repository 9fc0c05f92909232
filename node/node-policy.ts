import { setTimeout as sleep } from "node:timers/promises";
import type { Hasher, PayloadId, VariantHash } from "../protocol/hash.ts";
import type { Fetcher } from "./fetcher.ts";
import type { Log } from "./log.ts";
import { PolicyGossip } from "./policy-gossip.ts";
import { PolicySweep } from "./policy-sweep.ts";
import { PolicyWatch } from "./policy-watch.ts";
import type { Clock, Holding, Origin, PolicyHandlers, Swarm } from "./ports.ts";
import { RecordTrust } from "./record-trust.ts";
import { admitsMembersOnly } from "./settings/load.ts";
import type { Settings } from "./settings/schema.ts";
import type { PayloadStore } from "./store/payload-store.ts";

export interface NodePolicyParts {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly log: Log;
  readonly hasher: Hasher;
  /** How long between two looks at the origins; ten minutes unless given. */
  readonly periodMs: number | undefined;
}

/** What the policy is enforced upon. */
export interface PolicyReach {
  readonly store: Pick<PayloadStore, "announced" | "holdings" | "record" | "remove">;
  /** Fetches of what a policy denies end. */
  readonly fetcher: Pick<Fetcher, "endDenied">;
  readonly origins: () => readonly Origin[];
  readonly swarm: () => Swarm | undefined;
  /** Another policy is in force. */
  readonly onFollowed: () => void;
}

/** The network's policy in a node: followed from origins and peers, and enforced upon what is held and who is connected. */
export class NodePolicy implements AsyncDisposable {
  readonly trust: RecordTrust;
  readonly #parts: NodePolicyParts;
  readonly #watch: PolicyWatch | undefined;
  readonly #gossip: PolicyGossip;
  readonly #stop = new AbortController();
  #reach: PolicyReach | undefined;
  #sweep: PolicySweep | undefined;
  /** What is held was looked at by the policy, and the origins were asked whether there is a newer one, or took too long. */
  #isLooked: boolean;
  #looking: Promise<void> = Promise.resolve();

  private constructor(parts: NodePolicyParts, trust: RecordTrust, watch: PolicyWatch | undefined) {
    this.trust = trust;
    this.#parts = parts;
    this.#watch = watch;
    this.#isLooked = watch === undefined;
    this.#gossip = new PolicyGossip({
      watch,
      trust,
      swarm: () => this.#reach?.swarm(),
      admitsMembersOnly: admitsMembersOnly(parts.settings),
      random: Math.random,
      monotonicMs: () => parts.clock.monotonicMs(),
    });
  }

  /** Puts the policy into force that was verified last. @throws what `PolicyWatch.open` throws. */
  static async open(parts: NodePolicyParts): Promise<NodePolicy> {
    const { settings, clock, log, hasher, periodMs } = parts;
    const trust = new RecordTrust(settings.trust, hasher, () => clock.wallMs());
    const watch = await PolicyWatch.open({ settings, clock, log, trust, random: Math.random, periodMs });
    return new NodePolicy(parts, trust, watch);
  }

  /** Whether this machine has a policy, or a root to find one by. */
  get isFollowed(): boolean {
    return this.#watch !== undefined;
  }

  /** What peers hear and are told of it. */
  get handlers(): PolicyHandlers {
    return this.#gossip;
  }

  start(reach: PolicyReach): void {
    this.#reach = reach;
    const { hasher, log } = this.#parts;
    const announce = () => reach.swarm()?.announce();
    const sweep = new PolicySweep({ store: reach.store, trust: this.trust, hasher, log, announce }, this.#stop.signal);
    this.#sweep = sweep;
    this.#looking = this.#lookFirst(sweep);
    this.#watch?.start({
      origins: reach.origins,
      onFollowed: async () => {
        reach.fetcher.endDenied();
        reach.onFollowed();
        await sweep.run();
        // Not waited for: a neighbour that is slow must not keep the next policy from being followed.
        void this.#gossip.tell();
      },
      onLooked: async () => {
        await sweep.run(); // What could not be taken off before.
        await this.#gossip.compare();
      },
    });
  }

  /**
   * Waits on a machine that has no policy yet until it has looked for one.
   * @throws {NotTrustedError} where nobody's releases could count after all.
   */
  async ready(): Promise<void> {
    if (this.trust.isBlind && this.#watch !== undefined) {
      const { looked, followed } = this.#watch;
      // Origins that hang are not waited for longer, and peers need a moment to be reached at all.
      const late = sleep(originsMs, undefined, { ref: false });
      const isAlone = this.#reach?.swarm() === undefined;
      const missing = looked.then(() => (isAlone ? undefined : sleep(peersMs, undefined, { ref: false })));
      await Promise.race([followed, missing, late]);
    }
    this.trust.checkAnybody();
  }

  /** Asks the origins for a newer policy now. @throws the signal's reason, which does not end the look. */
  async look(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      void (this.#watch?.look() ?? Promise.resolve()).then(resolve);
    });
  }

  /** A peer was let in: compares what both have. */
  peerReady(peer: string): void {
    void this.#gossip.exchange(peer);
  }

  /** A variant was placed: the policy may have changed while it was on its way. */
  placed(variant: VariantHash): void {
    void this.#sweep?.run(variant);
  }

  /** Whether peers are told of a holding, and given its record: not once it counts no more, nor before that is known. */
  isGiven(holding: Pick<Holding, "variant" | "payload">): boolean {
    return this.#isLooked && this.trust.denial(holding.payload) === undefined && this.#sweep?.isVoid(holding) !== true;
  }

  /** Whether peers are served of a payload; `isComing`: it is on its way in, and whoever fetches it has asked the policy. */
  isServed(payload: PayloadId, isComing: boolean): boolean {
    if (this.trust.denial(payload) !== undefined) return false;
    if (isComing) return true;
    if (!this.#isLooked) return false;
    if (this.#sweep?.hasVoid(payload) !== true) return true;
    // The same tree may be held under another record as well.
    const held = this.#reach?.store.announced() ?? [];
    return held.some(([variant, of]) => of === payload && this.isGiven({ variant, payload }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("the node stops"));
    await this.#watch?.[Symbol.asyncDispose]();
    await this.#looking;
  }

  /** What was denied or revoked while this machine was off must not go out again. Never rejects. */
  async #lookFirst(sweep: PolicySweep): Promise<void> {
    if (this.#watch === undefined) return;
    const { signal } = this.#stop;
    const { periodMs = firstLookMs } = this.#parts;
    const late = sleep(Math.min(periodMs, firstLookMs), undefined, { signal, ref: false }).catch(() => undefined);
    await Promise.all([sweep.judge(), Promise.race([this.#watch.looked, late])]);
    if (signal.aborted) return;
    this.#isLooked = true;
    this.#reach?.swarm()?.announce();
  }
}

/** How long a first fetch waits for the first policy at all, and from peers once no origin has it. */
const originsMs = 15_000;
const peersMs = 3_000;
/** How long a node that has just started waits for its first look, before it gives to peers what it holds all the same. */
const firstLookMs = 5_000;
