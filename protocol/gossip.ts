import type { Announcement, Head, Holding, PackedHoldings, PeerLabels, Signed } from "./announcement.ts";
import type { Directory, PeerName } from "./directory.ts";
import type { Hasher } from "./hash.ts";
import type { DirectoryFrame } from "./messages.ts";
import type { Random } from "./random.ts";

export type GossipEvent =
  /** The first event. `epoch` is later than any that this node ever announced: `max(stored + 1, now)`. */
  | {
      readonly kind: "started";
      readonly labels: PeerLabels;
      readonly epoch: number;
      readonly whole: readonly Holding[];
    }
  /** All that this node holds now; of more than `holdingsPerPeerMax` the first count. */
  | { readonly kind: "holdings"; readonly whole: readonly Holding[] }
  /** Own addresses or labels changed. */
  | { readonly kind: "labels"; readonly labels: PeerLabels }
  /** An own announcement, signed as `announce` asked. */
  | { readonly kind: "signed"; readonly signed: Signed }
  /** An announcement came by gossip; `from` is the neighbour that sent it on. */
  | { readonly kind: "received"; readonly from: PeerName; readonly signed: Signed }
  /** A part of the answer to `askHeads`. */
  | { readonly kind: "heads"; readonly from: PeerName; readonly heads: readonly Head[] }
  /** A part of the answer to `askParts`: the head of a peer and its list, as `PartsReader` gives it. */
  | { readonly kind: "part"; readonly from: PeerName; readonly head: Head; readonly whole: PackedHoldings }
  /** The ask that was in flight at this peer is over: fully answered (its `end` came), or not. */
  | { readonly kind: "answered"; readonly from: PeerName }
  | { readonly kind: "failed"; readonly from: PeerName }
  /** A neighbour: connected and let in; it can be asked. */
  | { readonly kind: "joined"; readonly peer: PeerName }
  | { readonly kind: "left"; readonly peer: PeerName }
  /** The last `wakeAt` has come, or nearly. */
  | { readonly kind: "woke" }
  /** The last event: says goodbye. */
  | { readonly kind: "stopping" };

export type GossipAction =
  /** Store its epoch if that is later than the stored one, sign it, publish it, and give it back as `signed`. */
  | { readonly kind: "announce"; readonly announcement: Announcement }
  /** Send `want-heads` with `known` as its body; one ask is in flight at a peer at a time. */
  | { readonly kind: "askHeads"; readonly peer: PeerName; readonly known: Uint8Array }
  /** Send `want-parts` of these peers. */
  | { readonly kind: "askParts"; readonly peer: PeerName; readonly parts: readonly PeerName[] }
  /** The peer holds more than was known: these, or so many that `Directory.holds` is to be asked for what matters. */
  | { readonly kind: "learnt"; readonly peer: PeerName; readonly added: readonly Holding[] | "many" }
  /** The directory knows nothing of the peer any more. */
  | { readonly kind: "forgot"; readonly peer: PeerName }
  /** In place of the one before. */
  | { readonly kind: "wakeAt"; readonly atMs: number };

export interface GossipParts {
  readonly network: string;
  /** This node. */
  readonly self: PeerName;
  /** Learns what is heard; nobody else may change it. */
  readonly directory: Directory;
  readonly hash: Hasher;
  readonly random: Random;
}

/** When to announce what, what to believe of others, and whom to ask for what is missing. */
export class Gossip {
  readonly #parts: GossipParts;

  constructor(parts: GossipParts) {
    this.#parts = parts;
  }

  /** Takes in one event and gives back everything to do about it. */
  step(_event: GossipEvent, _nowMs: number): GossipAction[] {
    throw new Error(`not yet: ${this.#parts.network}`);
  }

  /** The answer to `want-heads`: our own head and all others that the asker has not. Frames are made as they are taken. */
  answerHeads(_known: Uint8Array, _nowMs: number): Iterable<DirectoryFrame> {
    throw new Error("not yet");
  }

  /** The answer to `want-parts`: of those peers whose list is known. Frames are made as they are taken. */
  answerParts(_peers: readonly PeerName[], _nowMs: number): Iterable<DirectoryFrame> {
    throw new Error("not yet");
  }
}
