import { NotTrustedError } from "../protocol/errors.ts";
import { bytesToHex, type Hasher, type PayloadId } from "../protocol/hash.ts";
import { type Denial, Policy, type SignerVerdict } from "../protocol/policy.ts";
import type { PublisherKeys, ReleaseRecord, SignedRecord } from "../protocol/record.ts";
import { variantText } from "../protocol/variant.ts";
import { publisherKeys } from "./publishing.ts";
import type { Settings } from "./settings/schema.ts";
import { policyContent } from "./trust/policy-content.ts";
import { effectiveMs, type PolicyTerm, storedContents, termOf } from "./trust/policy-facts.ts";
import { PolicyState, type StoredPolicy } from "./trust/policy-state.ts";
import { TrustFloor } from "./trust/trust-floor.ts";

/** A policy as decisions need it. */
export interface PolicyInForce {
  readonly policy: Policy;
  readonly stored: StoredPolicy;
  readonly term: PolicyTerm;
}

/**
 * Whose records count on this machine: as the policy says where there is one, else as `trust.publishers` does. Others hold
 * on to it while both may change.
 */
export class RecordTrust implements PublisherKeys {
  readonly #hasher: Hasher;
  readonly #wallMs: () => number;
  #settings: Settings["trust"];
  #keys: ReadonlyMap<string, Uint8Array>;
  #inForce: PolicyInForce | undefined;
  /** Whether there is a root by which to find a policy: until it is found nobody counts. */
  #awaitsPolicy = false;

  /** `wallMs`: milliseconds since 1970. */
  constructor(settings: Settings["trust"], hasher: Hasher, wallMs: () => number) {
    this.#settings = settings;
    this.#keys = publisherKeys(settings);
    this.#hasher = hasher;
    this.#wallMs = wallMs;
  }

  /** As the node of this machine trusts, or whoever changes policies on it: for commands. */
  static async look(settings: Settings, hasher: Hasher): Promise<RecordTrust> {
    const trust = new RecordTrust(settings.trust, hasher, Date.now);
    const stored = await newestPolicy(settings.node.state);
    const isAwaited = stored !== undefined || settings.trust.rootFile !== undefined;
    if (isAwaited || (await TrustFloor.isAt(settings.cache.path))) trust.awaitPolicy();
    trust.follow(stored);
    return trust;
  }

  get inForce(): PolicyInForce | undefined {
    return this.#inForce;
  }

  /** A policy was verified; one that only has its root yet says nothing. */
  follow(stored: StoredPolicy | undefined): void {
    const term = stored === undefined ? undefined : termOf(stored.facts);
    if (stored === undefined || term === undefined) return;
    const policy = new Policy(policyContent({ contents: storedContents(stored) }));
    this.#inForce = { policy, stored, term };
  }

  /** There is a root, and so a policy somewhere: `trust.publishers` may name keys that it has revoked. */
  awaitPolicy(): void {
    this.#awaitsPolicy = true;
  }

  /** Whether nothing can be judged yet. */
  get isBlind(): boolean {
    return this.#awaitsPolicy && this.#inForce === undefined;
  }

  /** `trust` of the settings has changed. */
  reconfigure(settings: Settings["trust"]): void {
    this.#settings = settings;
    this.#keys = publisherKeys(settings);
  }

  /** What time it is for all that expires; a clock that was set back changes nothing. */
  get nowMs(): number {
    return effectiveMs(this.#inForce?.stored, this.#wallMs());
  }

  get takesAnybody(): boolean {
    return this.#settings.mode === "hash-only" && this.#inForce === undefined && !this.#awaitsPolicy;
  }

  has(keyid: string): boolean {
    return this.get(keyid) !== undefined;
  }

  get(keyid: string): Uint8Array | undefined {
    if (this.#inForce !== undefined) return this.#inForce.policy.keyOf(keyid);
    return this.#awaitsPolicy ? undefined : this.#keys.get(keyid);
  }

  /** Why nothing that is signed by these keys alone counts. */
  stranger(keyids: readonly string[]): NotTrustedError {
    const [keyid = "nobody"] = keyids;
    const by = `a release record is signed by ${keyid.slice(0, 16)}`;
    if (this.#inForce !== undefined) {
      const verdict = this.#inForce.policy.signer(keyid, "", "");
      return verdictError(verdict, by, "it");
    }
    if (this.isBlind) return notFollowed();
    if (this.#keys.size === 0) return nobodyTrusted();
    return new NotTrustedError(`${by}, which is not a publisher that we trust`, {
      hint: "add the publisher's key to trust.publishers, if it should be trusted",
    });
  }

  /** Why a record does not count although its signatures by these keys are right; undefined where it does. */
  faultOf(keyids: readonly string[], record: SignedRecord, body: Uint8Array): NotTrustedError | undefined {
    return (record.withdrawn ? undefined : this.deniedError(record)) ?? this.#signerFault(keyids, record, body);
  }

  /** The same publishers for whom it is no matter what is denied: who denies a release, or allows it, must be able to name it. */
  get signers(): PublisherKeys {
    return {
      takesAnybody: this.takesAnybody,
      has: (keyid) => this.has(keyid),
      get: (keyid) => this.get(keyid),
      stranger: (keyids) => this.stranger(keyids),
      faultOf: (keyids, record, body) => this.#signerFault(keyids, record, body),
    };
  }

  #signerFault(keyids: readonly string[], record: SignedRecord, body: Uint8Array): NotTrustedError | undefined {
    if (this.#inForce === undefined) return undefined;
    const { policy } = this.#inForce;
    const name = `${record.variant.repository}:${record.variant.name}`;
    const digest = bytesToHex(this.#hasher(body));
    const verdicts = keyids.map((keyid) => [keyid, policy.signer(keyid, name, digest)] as const);
    if (verdicts.some(([, { kind }]) => kind === "trusted")) return undefined;
    const [keyid, verdict] = verdicts[0]!;
    return verdictError(verdict, `${variantText(record.variant)} is signed by ${keyid.slice(0, 16)}`, name);
  }

  /** Why nothing counts that is not on this machine already: the policy has expired, and might say otherwise by now. */
  refusesNew(): NotTrustedError | undefined {
    if (this.#inForce === undefined || this.nowMs < this.#inForce.term.expiresMs) return undefined;
    const { role, expiresMs } = this.#inForce.term;
    return new NotTrustedError(`the policy's ${role} was in force until ${new Date(expiresMs).toISOString()}`, {
      code: "POLICY_EXPIRED",
      hint: "what is held here goes on being used; an admin signs the policy anew with `p2pcache trust refresh`",
    });
  }

  /** What people should know of the policy's term: from half of its life on that it ends, and then that it has. */
  warning(): string | undefined {
    if (this.#inForce === undefined || this.nowMs < this.#inForce.term.warnMs) return undefined;
    const { role, expiresMs } = this.#inForce.term;
    const at = new Date(expiresMs).toISOString();
    if (this.nowMs < expiresMs)
      return `the policy's ${role} is in force until ${at} only: run \`p2pcache trust refresh\``;
    return `the policy's ${role} was in force until ${at}: new releases and members are refused until it is signed anew`;
  }

  /** For `status`. */
  status(): TrustStatus {
    const { mode } = this.#settings;
    if (this.#inForce === undefined) return { mode, publishers: this.#keys.size };
    const { policy, stored, term } = this.#inForce;
    const version = stored.facts.roles.find(({ role }) => role === "timestamp")?.version ?? 0;
    const state = this.nowMs >= term.expiresMs ? "expired" : this.nowMs >= term.warnMs ? "ending" : "in-force";
    const { publishers, denied } = policy.content;
    const expires = new Date(term.expiresMs).toISOString();
    const lists = this.lists().map(({ toolset, version: of, expiresMs, isExpired }) => {
      const ended = isExpired ? ("expired" as const) : ("in force" as const);
      return { toolset, version: of, expires: new Date(expiresMs).toISOString(), state: ended };
    });
    return { mode, publishers: publishers.length, policy: { version, state, expires, denied, lists } };
  }

  /**
   * The keep-alive lists as their toolsets' owners signed them, also those that have expired: they have no force, but
   * what they named is known to have been named.
   */
  lists(): ToolsetList[] {
    if (this.#inForce === undefined) return [];
    const { stored } = this.#inForce;
    const contents = storedContents(stored);
    return stored.facts.roles.flatMap(({ role, version, expiresMs, keyids }) => {
      const toolset = /^keepalive\/(.+)$/.exec(role)?.[1];
      const bytes = toolset === undefined ? undefined : contents.get(`${role}.json`);
      if (toolset === undefined || bytes === undefined) return [];
      const isExpired = this.nowMs >= expiresMs;
      return [{ toolset, version, expiresMs, isExpired, keyids, bytes }];
    });
  }

  /** @throws {NotTrustedError} where nobody's releases could ever count. */
  checkAnybody(): void {
    if (this.isBlind) throw notFollowed();
    if (this.#inForce === undefined && this.#keys.size === 0 && !this.takesAnybody) throw nobodyTrusted();
  }

  /** What a fetch of a denied payload ends with; undefined where nobody denies it. */
  deniedError({ payload, variant }: Pick<ReleaseRecord, "payload" | "variant">): NotTrustedError | undefined {
    return this.denialError(payload, variantText(variant));
  }

  /** The same by the payload alone; `what` says to people what it is. */
  denialError(payload: PayloadId, what: string): NotTrustedError | undefined {
    const denial = this.denial(payload);
    return denial === undefined ? undefined : deniedError(denial, what);
  }

  denial(payload: PayloadId): Denial | undefined {
    return this.#inForce?.policy.denial(payload);
  }
}

/** Whose releases are taken, as `status` has it. */
export interface TrustStatus {
  readonly mode: string;
  readonly publishers: number;
  /** Absent where there is none. */
  readonly policy?: {
    readonly version: number;
    readonly state: "in-force" | "ending" | "expired";
    /** ISO 8601, UTC. */
    readonly expires: string;
    readonly denied: readonly Denial[];
    readonly lists: readonly {
      readonly toolset: string;
      readonly version: number;
      readonly expires: string;
      readonly state: "in force" | "expired";
    }[];
  };
}

/** A toolset's keep-alive list, verified. */
export interface ToolsetList {
  readonly toolset: string;
  readonly version: number;
  readonly expiresMs: number;
  readonly isExpired: boolean;
  /** Who may sign it. */
  readonly keyids: readonly string[];
  readonly bytes: Uint8Array;
}

/** The newest policy that was verified on a machine. @throws {UnusableError} where it cannot be read. */
export async function newestPolicy(statePath: string): Promise<StoredPolicy | undefined> {
  const found = [await PolicyState.look(statePath), await PolicyState.look(statePath, "policy-author")];
  return found.reduce((a, b) => (versionOf(a) >= versionOf(b) ? a : b));
}

function versionOf(stored: StoredPolicy | undefined): number {
  if (stored === undefined) return -1;
  return stored.facts.roles.find(({ role }) => role === "timestamp")?.version ?? 0;
}

function verdictError(verdict: SignerVerdict, by: string, name: string): NotTrustedError {
  switch (verdict.kind) {
    case "revoked": {
      const why = verdict.reason === "" ? "" : `: ${verdict.reason}`;
      return new NotTrustedError(`${by}, which was revoked on ${verdict.at}${why}`, {
        code: "PUBLISHER_REVOKED",
        hint: "what it released is void; ask for a release by another key",
      });
    }
    case "retired":
      return new NotTrustedError(`${by}, which was retired on ${verdict.at} and had not signed this by then`, {
        code: "PUBLISHER_RETIRED",
      });
    case "otherNames":
      return new NotTrustedError(`${by}, which may release ${verdict.names.join(", ")}, not ${name}`, {
        code: "NAME_NOT_ALLOWED",
        hint: "an admin changes what it may release with `p2pcache trust add-publisher`",
      });
    case "unknown":
    case "trusted":
      return new NotTrustedError(`${by}, which is no publisher of the network's policy`, {
        hint: "an admin adds it with `p2pcache trust add-publisher`, if it should be trusted",
      });
  }
}

/** What a fetch of a denied payload ends with. */
function deniedError({ by, at, reason, payload }: Denial, what: string): NotTrustedError {
  const why = reason === "" ? "" : `: ${reason}`;
  return new NotTrustedError(`${what} was denied by ${by} on ${at}${why}`, {
    code: "PAYLOAD_DENIED",
    hint: "nobody may have this payload; ask its publisher for another release",
    details: { payload, by, at, reason },
  });
}

function nobodyTrusted(): NotTrustedError {
  return new NotTrustedError("nobody's releases are trusted on this machine: it has neither publishers nor a policy", {
    hint: "set trust.publishers, or trust.root for the network's policy",
  });
}

function notFollowed(): NotTrustedError {
  return new NotTrustedError(
    "nobody's releases are trusted on this machine yet: no policy was found that its root leads to",
    {
      hint: "see that an origin, or a peer, has the policy: `p2pcache trust verify`",
    },
  );
}
