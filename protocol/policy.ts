import { matchesGlob } from "./glob.ts";
import type { PayloadId } from "./hash.ts";

/** A key and the variants that it may release: patterns over `studio:maya`, `*` for all. */
export interface PublisherRule {
  /** Hex SHA-256 of the raw key, as signatures name it. */
  readonly keyid: string;
  /** The raw Ed25519 key, 32 bytes. */
  readonly key: Uint8Array;
  readonly names: readonly string[];
  /** For people; empty where none was given. */
  readonly label: string;
}

/** A key that releases nothing any more; the records that it had signed by then stay valid. */
export interface RetiredPublisher extends PublisherRule {
  /** ISO 8601, UTC. */
  readonly at: string;
  /** BLAKE3 of each such record's signed body, 64 hex digits. */
  readonly records: ReadonlySet<string>;
}

/** A key whose every record is void. */
export interface RevokedPublisher {
  readonly keyid: string;
  readonly at: string;
  readonly reason: string;
}

/** A peer that belongs to the network. */
export interface MemberRule {
  /** Its libp2p peer id. */
  readonly peer: string;
  readonly labels: readonly string[];
  /** Milliseconds since 1970; undefined: as long as it is listed. */
  readonly untilMs: number | undefined;
}

/** Why nobody may have a payload. */
export interface Denial {
  readonly payload: PayloadId;
  /** Who denied it, for people. */
  readonly by: string;
  /** ISO 8601, UTC. */
  readonly at: string;
  readonly reason: string;
}

/** What the verified targets of a policy say. */
export interface PolicyContent {
  readonly publishers: readonly PublisherRule[];
  readonly retired: readonly RetiredPublisher[];
  readonly revoked: readonly RevokedPublisher[];
  /** By site. */
  readonly members: ReadonlyMap<string, readonly MemberRule[]>;
  readonly denied: readonly Denial[];
}

export type SignerVerdict =
  | { readonly kind: "trusted" }
  | { readonly kind: "unknown" }
  /** It may release others only. */
  | { readonly kind: "otherNames"; readonly names: readonly string[] }
  /** It signed this one after it was retired. */
  | { readonly kind: "retired"; readonly at: string }
  | { readonly kind: "revoked"; readonly at: string; readonly reason: string };

export type MemberVerdict =
  | { readonly kind: "member"; readonly site: string; readonly labels: readonly string[] }
  | { readonly kind: "stranger" }
  | { readonly kind: "expired"; readonly site: string; readonly untilMs: number };

/** Decides by a policy: who may release what, who belongs to the network, and what nobody may have. */
export class Policy {
  readonly content: PolicyContent;
  readonly #publishers: ReadonlyMap<string, PublisherRule>;
  readonly #retired: ReadonlyMap<string, RetiredPublisher>;
  readonly #revoked: ReadonlyMap<string, RevokedPublisher>;
  readonly #members = new Map<string, { readonly site: string; readonly rule: MemberRule }>();
  readonly #denied: ReadonlyMap<PayloadId, Denial>;

  constructor(content: PolicyContent) {
    this.content = content;
    this.#publishers = byKeyid(content.publishers);
    this.#retired = byKeyid(content.retired);
    this.#revoked = byKeyid(content.revoked);
    this.#denied = new Map(content.denied.map((denial) => [denial.payload, denial]));
    for (const [site, rules] of content.members) {
      for (const rule of rules) {
        // Two sites may name one machine on the move: the one that keeps it longer counts.
        const known = this.#members.get(rule.peer);
        if (known === undefined || endOf(known.rule) < endOf(rule)) this.#members.set(rule.peer, { site, rule });
      }
    }
  }

  /** The raw key of whoever may have signed something that counts; a revoked key is nobody's. */
  keyOf(keyid: string): Uint8Array | undefined {
    if (this.#revoked.has(keyid)) return undefined;
    return (this.#publishers.get(keyid) ?? this.#retired.get(keyid))?.key;
  }

  /**
   * Whether a key's signature makes a record count.
   * @param name of the variant, as `studio:maya`. @param digest BLAKE3 of the record's signed body, 64 hex digits.
   */
  signer(keyid: string, name: string, digest: string): SignerVerdict {
    const revoked = this.#revoked.get(keyid);
    if (revoked !== undefined) return { kind: "revoked", at: revoked.at, reason: revoked.reason };
    const publisher = this.#publishers.get(keyid);
    if (publisher !== undefined) return verdictByName(publisher, name);
    const retired = this.#retired.get(keyid);
    if (retired === undefined) return { kind: "unknown" };
    // What it was never allowed to release does not become valid by its leaving.
    return retired.records.has(digest) ? verdictByName(retired, name) : { kind: "retired", at: retired.at };
  }

  /** Whether a peer belongs to the network at a time. */
  member(peer: string, nowMs: number): MemberVerdict {
    const found = this.#members.get(peer);
    if (found === undefined) return { kind: "stranger" };
    const { site, rule } = found;
    if (rule.untilMs !== undefined && nowMs >= rule.untilMs) return { kind: "expired", site, untilMs: rule.untilMs };
    return { kind: "member", site, labels: rule.labels };
  }

  denial(payload: PayloadId): Denial | undefined {
    return this.#denied.get(payload);
  }
}

/** Whether a rule's patterns let its key release a variant of this name, as `studio:maya`. */
export function mayRelease({ names }: Pick<PublisherRule, "names">, name: string): boolean {
  return names.some((pattern) => matchesGlob(name, pattern));
}

function verdictByName(rule: PublisherRule, name: string): SignerVerdict {
  return mayRelease(rule, name) ? { kind: "trusted" } : { kind: "otherNames", names: rule.names };
}

function byKeyid<Rule extends { readonly keyid: string }>(rules: readonly Rule[]): ReadonlyMap<string, Rule> {
  return new Map(rules.map((rule) => [rule.keyid, rule]));
}

function endOf({ untilMs }: MemberRule): number {
  return untilMs ?? Number.POSITIVE_INFINITY;
}
