import { setTimeout as sleep } from "node:timers/promises";
import { FormatError, NotFoundError, NotTrustedError, VersionError } from "../protocol/errors.ts";
import type { Log } from "./log.ts";
import type { Clock, Origin } from "./ports.ts";
import type { RecordTrust } from "./record-trust.ts";
import type { Settings } from "./settings/schema.ts";
import { PolicyState } from "./trust/policy-state.ts";
import { type PolicyFloor, TrustFloor } from "./trust/trust-floor.ts";

export interface PolicyWatchParts {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly log: Log;
  readonly trust: RecordTrust;
  readonly random: () => number;
  /** How long between two looks at the origins; ten minutes unless given. */
  readonly periodMs?: number | undefined;
}

/** Whom a policy is asked of, and what is done about a new one. */
export interface PolicyPartners {
  readonly origins: () => readonly Origin[];
  /** A newer policy is in force: what is held, and who is connected, must be looked at. Must not reject. */
  readonly onFollowed: (signal: AbortSignal) => Promise<void>;
  /** The origins were asked: time to look what has ended, and what peers have. Must not reject. */
  readonly onLooked: (signal: AbortSignal) => Promise<void>;
}

/** A file of a policy by its name, from somewhere; undefined where there is none. */
export type PolicySource = (name: string, signal: AbortSignal) => Promise<Uint8Array | undefined>;

/** Follows the network's policy for as long as a node runs: asks the origins now and then, and peers that have a newer one. */
export class PolicyWatch implements AsyncDisposable {
  readonly #parts: PolicyWatchParts;
  readonly #state: PolicyState;
  readonly #floor: TrustFloor;
  readonly #stop = new AbortController();
  #partners: PolicyPartners | undefined;
  #running: Promise<void> = Promise.resolve();
  /** One after the other: each builds upon what the one before has verified. */
  #last: Promise<unknown> = Promise.resolve();
  readonly #looked = Promise.withResolvers<void>();
  readonly #followed = Promise.withResolvers<void>();
  #isWarned = false;
  /** By source: what was said of it last, so that it is said once. */
  readonly #refused = new Map<string, string>();

  private constructor(parts: PolicyWatchParts, state: PolicyState, floor: TrustFloor) {
    this.#parts = parts;
    this.#floor = floor;
    this.#state = state;
  }

  /**
   * Puts the policy into force that was verified last; one that has its root only is followed once it is started.
   * Undefined where this machine has no policy and no root to find one by.
   * @throws {UsageError} for a root that is none; {UnusableError}.
   */
  static async open(parts: PolicyWatchParts): Promise<PolicyWatch | undefined> {
    const { settings, trust, log, clock } = parts;
    const { rootFile } = settings.trust;
    const noteProblem = (problem: string) => log("warn", "store-problem", { problem });
    const floor = await TrustFloor.open(settings.cache.path, noteProblem);
    let state = await PolicyState.open(settings.node.state);
    if (state.stored === undefined) {
      if (floor.isThere) noteProblem(stateGone(floor.floor));
      // A policy was followed here before, and trust.publishers may name keys that it has revoked.
      if (rootFile === undefined && floor.isThere) trust.awaitPolicy();
      if (rootFile === undefined) return undefined;
      // What knows TUF is loaded by whoever needs it: most starts do not.
      const { openNodeState } = await import("./trust/first-contact.ts");
      state = await openNodeState({ statePath: settings.node.state, rootFile, nowMs: clock.wallMs(), floor });
    }
    trust.awaitPolicy();
    trust.follow(state.stored);
    if (trust.inForce === undefined) log("warn", "policy-root-trusted", { since: state.stored?.since });
    return new PolicyWatch(parts, state, floor);
  }

  get state(): PolicyState {
    return this.#state;
  }

  /** Resolves once origins and peers were asked for the first time; never rejects. */
  get looked(): Promise<void> {
    return this.#looked.promise;
  }

  /** Resolves with the first policy that is followed; never rejects. */
  get followed(): Promise<void> {
    return this.#followed.promise;
  }

  /** Begins to look, soon and then with jitter. */
  start(partners: PolicyPartners): void {
    this.#partners = partners;
    this.#running = this.#run().catch(() => this.#looked.resolve());
  }

  /**
   * Looks whether a source has a newer policy, and puts it into force. Answers whether it had.
   * @throws {NotTrustedError} POLICY_…; {NotFoundError}; what the source throws.
   */
  follow(from: string, source: PolicySource): Promise<boolean> {
    const followed = this.#last.then(async () => {
      // A source that answers just in time, each time, must not keep others from their turn.
      const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(followMs)]);
      signal.throwIfAborted();
      const { followPolicy } = await import("./trust/policy-follower.ts");
      const { settings, clock, trust, log } = this.#parts;
      const own = { state: this.#state, floor: this.#floor };
      const parts = { ...own, workPath: settings.node.state, nowMs: clock.wallMs() };
      const read = async (name: string) => {
        signal.throwIfAborted();
        return await source(name, signal);
      };
      const isNew = await followPolicy(parts, read);
      this.#refused.delete(from);
      if (!isNew) return false;
      trust.follow(this.#state.stored);
      this.#isWarned = false;
      const version = this.#state.stored?.facts.roles.find(({ role }) => role === "timestamp")?.version;
      log("info", "policy-followed", { version, from });
      this.#followed.resolve();
      await this.#partners?.onFollowed(this.#stop.signal);
      return true;
    });
    this.#last = followed.catch(() => undefined);
    return followed;
  }

  /** Asks each origin. Never rejects. */
  async look(): Promise<void> {
    for (const origin of this.#partners?.origins() ?? []) {
      if (this.#stop.signal.aborted) return;
      try {
        await this.follow(origin.name, async (name, signal) => await origin.policyFile?.(name, { signal }));
      } catch (error) {
        this.note(origin.name, error);
      }
    }
    this.#warnOfEnd();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("the node stops"));
    await Promise.all([this.#running, this.#last]);
  }

  /** Ends by a rejection, once it is closed. */
  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { random, periodMs = defaultPeriodMs, trust } = this.#parts;
    // Whoever has no policy yet can do nothing; others need not all ask when they are switched on at nine.
    let waitMs = trust.inForce === undefined ? 0 : Math.min(periodMs, firstMs) * random();
    for (;;) {
      await sleep(waitMs, undefined, { signal, ref: false });
      await this.look();
      await this.#partners?.onLooked(signal);
      this.#looked.resolve();
      waitMs = periodMs * (0.5 + random());
    }
  }

  /** A source that is away, or has no policy, is no news: `status` shows how origins do. */
  note(from: string, error: unknown): void {
    if (this.#stop.signal.aborted || error instanceof NotFoundError) return;
    const isRefusal = error instanceof NotTrustedError || error instanceof FormatError || error instanceof VersionError;
    if (!isRefusal || this.#refused.get(from) === error.message) return;
    if (this.#refused.size >= refusedMax) this.#refused.clear();
    this.#refused.set(from, error.message);
    this.#parts.log("error", "policy-refused", { from, code: error.code, reason: error.message });
  }

  #warnOfEnd(): void {
    const warning = this.#parts.trust.warning();
    if (warning === undefined || this.#isWarned) return;
    this.#isWarned = true;
    this.#parts.log("warn", "policy-ending", { reason: warning });
  }
}

function stateGone(floor: PolicyFloor | undefined): string {
  const seen = floor === undefined ? "" : ` older than its timestamp ${floor.timestamp}`;
  return `what was verified of the policy is gone from the state directory: nothing${seen} counts before a trust reset`;
}

/** All files of a policy from one source: a few round trips, and megabytes at most. */
const followMs = 60_000;
const defaultPeriodMs = 10 * 60_000;
const refusedMax = 1_000;
/** The first look of a node that has a policy: until then it gives peers nothing of what it holds. */
const firstMs = 2_000;
