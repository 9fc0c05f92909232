import {
  type Announcement,
  digestHoldings,
  type Head,
  type Holding,
  type HoldingsChanges,
  type HoldingsDigest,
  isLater,
  type PackedHoldings,
  type PeerLabels,
  packHoldings,
  type Signed,
} from "./announcement.ts";
import type { PeerName } from "./directory.ts";
import {
  batchMs,
  firstBatchMs,
  firstChangesMax,
  heartbeatMs,
  lifetimeMs,
  meetMs,
  meetMsPerPeer,
} from "./gossip-limits.ts";
import { type Hasher, hexToBytes, type PayloadId, type VariantHash } from "./hash.ts";
import { changesMax, holdingsPerPeerMax, lifetimeMsMax } from "./limits.ts";
import type { Random } from "./random.ts";

export interface OwnParts {
  readonly network: string;
  readonly self: PeerName;
  readonly hash: Hasher;
  readonly random: Random;
}

/** What this node says of itself, and when. */
export class OwnAnnouncements {
  readonly #parts: OwnParts;
  #labels: PeerLabels = { addresses: [], name: "", site: "", rack: "" };
  #epoch = 0;
  #sequence = 0;
  /** What is held, and what was said so far. */
  #held: ReadonlyMap<VariantHash, PayloadId> = new Map();
  readonly #said = new Map<VariantHash, PayloadId>();
  #packed: PackedHoldings = new Uint8Array(0);
  #digest: HoldingsDigest;
  #heartbeatAtMs = Number.POSITIVE_INFINITY;
  #changeAtMs = Number.POSITIVE_INFINITY;
  #changedAtMs = Number.NEGATIVE_INFINITY;
  /** The next heartbeat is for those who were met first. */
  #isMeeting = false;
  #raisedAtMs = Number.NEGATIVE_INFINITY;
  /** Said and not yet signed, oldest first; and the newest that is. */
  #unsigned: Said[] = [];
  #signed: (Said & { readonly signed: Signed }) | undefined;

  constructor(parts: OwnParts) {
    this.#parts = parts;
    this.#digest = digestHoldings(this.#packed, parts.hash);
  }

  /** When the next announcement is due. */
  get nextAtMs(): number {
    return Math.min(this.#heartbeatAtMs, this.#changeAtMs);
  }

  /** The first announcement. */
  start(labels: PeerLabels, epoch: number, whole: readonly Holding[], peers: number, nowMs: number): Announcement {
    this.#labels = labels;
    this.#epoch = epoch;
    this.#held = firstOf(whole);
    for (const [variant, payload] of this.#held) this.#said.set(variant, payload);
    this.#pack();
    return this.#say(peers, nowMs, this.#firstChanges());
  }

  holdings(whole: readonly Holding[], nowMs: number): void {
    this.#held = firstOf(whole);
    if (this.#nextChanges().size > 0) this.#change(nowMs);
  }

  labels(labels: PeerLabels, nowMs: number): void {
    this.#labels = labels;
    this.#change(nowMs);
  }

  /** An own announcement was heard: a later one than ours says that state was lost, or a clock set back. */
  heard(announcement: Announcement, nowMs: number): void {
    const { epoch, sequence } = announcement;
    const isOurs = !isLater({ epoch: this.#epoch, sequence: this.#sequence - 1 }, announcement);
    if (isOurs) return;
    // Nobody could come after the last epoch: there, sequences go on.
    const isLast = epoch >= Number.MAX_SAFE_INTEGER;
    this.#epoch = isLast ? epoch : epoch + 1;
    this.#sequence = isLast ? sequence + 1 : 0;
    // Once at once; but two machines with one key must not drive each other on.
    this.#changeAtMs = Math.max(nowMs, this.#raisedAtMs + raiseMsMin);
    this.#raisedAtMs = this.#changeAtMs;
  }

  /**
   * What was said to nobody is said again, once gossip has had its time to take up the first neighbour. Thousands that
   * were alone together, for a switch that started anew, do not all speak at once.
   */
  metSomebody(peers: number, nowMs: number): void {
    const spreadMs = peers * meetMsPerPeer * this.#parts.random();
    this.#heartbeatAtMs = Math.min(this.#heartbeatAtMs, nowMs + meetMs + spreadMs);
    this.#isMeeting = true;
  }

  /** The announcement that is due, if one is. */
  due(peers: number, nowMs: number): Announcement | undefined {
    if (nowMs < this.nextAtMs) return undefined;
    if (nowMs < this.#changeAtMs) return this.#say(peers, nowMs, this.#isMeeting ? this.#firstChanges() : undefined);
    this.#changeAtMs = Number.POSITIVE_INFINITY;
    this.#changedAtMs = nowMs;
    const changes = this.#nextChanges();
    const from = this.#digest;
    const added: Holding[] = [];
    const removed: VariantHash[] = [];
    for (const [variant, payload] of changes) {
      if (payload === undefined) {
        removed.push(variant);
        this.#said.delete(variant);
      } else {
        added.push([variant, payload]);
        this.#said.set(variant, payload);
      }
    }
    if (changes.size === 0) return this.#say(peers, nowMs, undefined);
    this.#pack();
    if (this.#nextChanges().size > 0) this.#change(nowMs);
    return this.#say(peers, nowMs, { from, added: packHoldings(added), removed: hexToBytes(removed.sort().join("")) });
  }

  goodbye(): Announcement {
    return { ...this.#announcement(0), sequence: this.#sequence++ };
  }

  /** An announcement of ours has its envelope: from now on it is what others get. */
  signed(signed: Signed): void {
    const { epoch, sequence } = signed.announcement;
    const index = this.#unsigned.findIndex((said) => said.epoch === epoch && said.sequence === sequence);
    if (index < 0) return;
    this.#signed = { ...this.#unsigned[index]!, signed };
    this.#unsigned = this.#unsigned.slice(index + 1);
  }

  /** What others are given of us: the newest that was signed. */
  part(nowMs: number): { readonly head: Head; readonly whole: PackedHoldings } | undefined {
    if (this.#signed === undefined) return undefined;
    const { signed, whole, atMs } = this.#signed;
    const remainingMs = Math.max(0, Math.floor(signed.announcement.lifetimeMs - (nowMs - atMs)));
    return { head: { signed, remainingMs }, whole };
  }

  /** The changes of the next announcement, at most as many as one may have; undefined for a variant that is gone. */
  #nextChanges(): Map<VariantHash, PayloadId | undefined> {
    const changes = new Map<VariantHash, PayloadId | undefined>();
    for (const variant of this.#said.keys()) {
      if (changes.size >= changesMax) return changes;
      if (!this.#held.has(variant)) changes.set(variant, undefined);
    }
    for (const [variant, payload] of this.#held) {
      if (changes.size >= changesMax) return changes;
      if (this.#said.get(variant) !== payload) changes.set(variant, payload);
    }
    return changes;
  }

  /** All that is held, as changes of nothing, if that is short: whoever does not know us needs not ask for it. */
  #firstChanges(): HoldingsChanges | undefined {
    if (this.#said.size === 0 || this.#said.size > firstChangesMax) return undefined;
    const none = new Uint8Array(0);
    return { from: digestHoldings(none, this.#parts.hash), added: this.#packed, removed: none };
  }

  #change(nowMs: number): void {
    if (this.#changeAtMs !== Number.POSITIVE_INFINITY) return;
    this.#changeAtMs = Math.max(nowMs + firstBatchMs, this.#changedAtMs + batchMs);
  }

  #pack(): void {
    this.#packed = packHoldings(this.#said);
    this.#digest = digestHoldings(this.#packed, this.#parts.hash);
  }

  #say(peers: number, nowMs: number, changes: HoldingsChanges | undefined): Announcement {
    // All that started together do not go on announcing together.
    this.#heartbeatAtMs = nowMs + heartbeatMs(peers) * (0.9 + 0.2 * this.#parts.random());
    this.#isMeeting = false;
    const said = this.#announcement(Math.min(lifetimeMsMax, lifetimeMs(peers)));
    this.#sequence++;
    const { epoch, sequence } = said;
    this.#unsigned.push({ epoch, sequence, whole: this.#packed, atMs: nowMs });
    if (this.#unsigned.length > unsignedMax) this.#unsigned.shift();
    return changes === undefined ? said : { ...said, changes };
  }

  #announcement(forMs: number): Announcement {
    const { network, self } = this.#parts;
    const { addresses, name, site, rack } = this.#labels;
    return {
      ...{ version: 1, network, peer: self, addresses, name, site, rack },
      ...{ epoch: this.#epoch, sequence: this.#sequence, lifetimeMs: forMs, count: this.#said.size },
      digest: this.#digest,
    };
  }
}

interface Said {
  readonly epoch: number;
  readonly sequence: number;
  readonly whole: PackedHoldings;
  readonly atMs: number;
}

const raiseMsMin = 30_000;
/** Signing takes a millisecond: more wait only when the signer is stuck. */
const unsignedMax = 8;

function firstOf(whole: readonly Holding[]): ReadonlyMap<VariantHash, PayloadId> {
  return new Map(whole.slice(0, holdingsPerPeerMax));
}
