import type { Head, PackedHoldings, PeerLabels, Signed } from "./announcement.ts";
import type { Hasher, PayloadId, VariantHash } from "./hash.ts";
import type { Random } from "./random.ts";

/** Who a peer is: the text of its libp2p peer id. */
export type PeerName = string;

export interface DirectoryLimits {
  readonly peersMax: number;
  readonly holdingsPerPeerMax: number;
  /** Different pairs of variant and payload, of all peers together. */
  readonly pairsMax: number;
}

/** Who holds what, as the peers themselves announced it; in typed arrays, since there may be millions of holdings. */
export class Directory {
  constructor(_parts: { readonly hash: Hasher; readonly random: Random; readonly limits?: DirectoryLimits }) {}

  /** Peers of which a head is known. */
  get size(): number {
    throw new Error("not yet");
  }

  /** Who holds a variant whole, and as which payload. */
  holders(_variant: VariantHash): ReadonlyMap<PeerName, PayloadId> {
    throw new Error("not yet");
  }

  /** As which payload a peer holds a variant whole. */
  holds(_peer: PeerName, _variant: VariantHash): PayloadId | undefined {
    throw new Error("not yet");
  }

  /** Who holds a payload whole. */
  holdersOf(_payload: PayloadId): PeerName[] {
    throw new Error("not yet");
  }

  /** The variants that are held as a payload, by anyone. */
  variantsOf(_payload: PayloadId): VariantHash[] {
    throw new Error("not yet");
  }

  /** How many variants a peer is known to hold. */
  holdingsOf(_peer: PeerName): number {
    throw new Error("not yet");
  }

  /** The list of a peer; undefined when it is not known, or older than the head. */
  holdings(_peer: PeerName): PackedHoldings | undefined {
    throw new Error("not yet");
  }

  /** Where a peer is and what it is called. */
  labels(_peer: PeerName): PeerLabels | undefined {
    throw new Error("not yet");
  }

  peers(): IterableIterator<PeerName> {
    throw new Error("not yet");
  }

  /** A peer's newest announcement. */
  head(_peer: PeerName, _nowMs: number): Head | undefined {
    throw new Error("not yet");
  }

  /** For whoever drives it: use `Gossip`. */
  learn(_signed: Signed, _remainingMs: number, _nowMs: number): void {
    throw new Error("not yet");
  }
}
