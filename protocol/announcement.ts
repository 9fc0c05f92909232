import type { PeerName } from "./directory.ts";
import type { PayloadId, VariantHash } from "./hash.ts";

/** A variant that is held whole, and as which payload. */
export type Holding = readonly [variant: VariantHash, payload: PayloadId];

/** What a peer says of itself besides what it holds. */
export interface PeerLabels {
  /** Multiaddrs where it can be dialled. */
  readonly addresses: readonly string[];
  readonly name: string;
  readonly site: string;
  readonly rack: string;
}

/**
 * What a peer signs: who and where it is, and the digest of all that it holds. Whoever gets the list itself, from anyone,
 * checks it against the digest; so a node keeps one signed envelope of each peer and may relay both.
 */
export interface Announcement extends PeerLabels {
  readonly version: 1;
  readonly network: string;
  readonly peer: PeerName;
  /** `(epoch, sequence)` is ordered: a later one replaces an earlier one. A node starts with a new epoch. */
  readonly epoch: number;
  readonly sequence: number;
  /** How long it counts without a later one, by the receiver's own clock; 0 says goodbye. */
  readonly lifetimeMs: number;
  /** Holdings, and the 64 hex digits of the BLAKE3 of their packed form (`packHoldings`). */
  readonly count: number;
  readonly digest: HoldingsDigest;
  readonly changes?: HoldingsChanges;
}

/** What turns the list with digest `from` into the announced one. */
export interface HoldingsChanges {
  readonly from: HoldingsDigest;
  /** A variant that was there as another payload is replaced. */
  readonly added: readonly Holding[];
  readonly removed: readonly VariantHash[];
}

/** BLAKE3 over holdings in their packed form, in hex. */
export type HoldingsDigest = string;

/**
 * Holdings as bytes: 32 of the variant and 32 of the payload each, sorted by these bytes, no variant twice. The digest
 * of an announcement is over this form, and lists travel and are kept in it.
 */
export type PackedHoldings = Uint8Array;

/** An announcement and the envelope it came in; the shell has checked the signature, and that the key is the peer's. */
export interface Signed {
  readonly announcement: Announcement;
  readonly envelope: Uint8Array;
}

/** A head as a node keeps and relays it: how long it still counts by that node's clock. */
export interface Head {
  readonly signed: Signed;
  readonly remainingMs: number;
}
