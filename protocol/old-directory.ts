import type { PeerName } from "./directory.ts";
import type { PayloadId, VariantHash } from "./hash.ts";
import { holdingsPerPeerMax } from "./limits.ts";
import type { DirectoryMessage } from "./messages.ts";

// Marked for removal by w/swarm: the first form, which only node/ still uses; protocol/directory.ts replaces it.

/** Who holds what, as the peers themselves announced it; a peer that goes is forgotten. */
export class Directory {
  readonly #peers = new Map<PeerName, PeerHoldings>();
  readonly #holders = new Map<VariantHash, Map<PeerName, PayloadId>>();

  /**
   * Takes in one frame of a peer's announcement; the last part of it replaces what was known of the peer.
   * Answers false for one that is stale, out of order or too large: it changes nothing.
   */
  learn(peer: PeerName, message: DirectoryMessage): boolean {
    const known = this.#peers.get(peer) ?? newPeer();
    if (message.part === 0) {
      if (!isLater(message, known)) return false;
      known.incoming = { epoch: message.epoch, sequence: message.sequence, parts: message.parts, whole: [] };
    }
    const incoming = known.incoming;
    if (incoming === undefined || !continues(message, incoming)) return false;
    incoming.whole.push(message.whole);
    this.#peers.set(peer, known);
    const holdings = incoming.whole.reduce((total, part) => total + part.length, 0);
    if (holdings > holdingsPerPeerMax) {
      known.incoming = undefined;
      return false;
    }
    if (incoming.whole.length === incoming.parts) this.#replace(peer, known, incoming);
    return true;
  }

  /** The peer has gone: nothing that it said counts any more. */
  forget(peer: PeerName): void {
    for (const variant of this.#peers.get(peer)?.holdings.keys() ?? []) this.#drop(peer, variant);
    this.#peers.delete(peer);
  }

  /** Who holds a variant whole, and as which payload. */
  holders(variant: VariantHash): ReadonlyMap<PeerName, PayloadId> {
    return this.#holders.get(variant) ?? noHolders;
  }

  /** The variants that are held as a payload, by anyone. */
  variantsOf(payload: PayloadId): VariantHash[] {
    const variants: VariantHash[] = [];
    for (const [variant, holders] of this.#holders) {
      if ([...holders.values()].includes(payload)) variants.push(variant);
    }
    return variants;
  }

  /** How many variants a peer says that it holds. */
  holdingsOf(peer: PeerName): number {
    return this.#peers.get(peer)?.holdings.size ?? 0;
  }

  #replace(peer: PeerName, known: PeerHoldings, incoming: Incoming): void {
    for (const variant of known.holdings.keys()) this.#drop(peer, variant);
    known.holdings = new Map(incoming.whole.flat());
    for (const [variant, payload] of known.holdings) {
      const holders = this.#holders.get(variant) ?? new Map<PeerName, PayloadId>();
      holders.set(peer, payload);
      this.#holders.set(variant, holders);
    }
    known.epoch = incoming.epoch;
    known.sequence = incoming.sequence;
    known.incoming = undefined;
  }

  #drop(peer: PeerName, variant: VariantHash): void {
    const holders = this.#holders.get(variant);
    holders?.delete(peer);
    if (holders?.size === 0) this.#holders.delete(variant);
  }
}

/** A peer's holdings cut into the frames of one announcement. */
export function announcementParts(
  epoch: number,
  sequence: number,
  whole: readonly (readonly [VariantHash, PayloadId])[],
  holdingsPerPart: number,
): DirectoryMessage[] {
  const parts = Math.max(1, Math.ceil(whole.length / holdingsPerPart));
  return Array.from({ length: parts }, (_, part) => ({
    kind: "announce",
    version: 1,
    epoch,
    sequence,
    part,
    parts,
    whole: whole.slice(part * holdingsPerPart, (part + 1) * holdingsPerPart),
  }));
}

interface PeerHoldings {
  epoch: number;
  sequence: number;
  holdings: Map<VariantHash, PayloadId>;
  incoming: Incoming | undefined;
}

interface Incoming {
  readonly epoch: number;
  readonly sequence: number;
  readonly parts: number;
  readonly whole: (readonly (readonly [VariantHash, PayloadId])[])[];
}

const noHolders: ReadonlyMap<PeerName, PayloadId> = new Map();

function newPeer(): PeerHoldings {
  return { epoch: -1, sequence: -1, holdings: new Map(), incoming: undefined };
}

function isLater(message: DirectoryMessage, known: PeerHoldings): boolean {
  return message.epoch > known.epoch || (message.epoch === known.epoch && message.sequence > known.sequence);
}

function continues(message: DirectoryMessage, incoming: Incoming): boolean {
  return (
    message.epoch === incoming.epoch &&
    message.sequence === incoming.sequence &&
    message.parts === incoming.parts &&
    message.part === incoming.whole.length
  );
}
