import { type Random, randomBelow, seededRandom } from "../protocol/random.ts";
import { WantedItems } from "../protocol/wanted-items.ts";

/**
 * The model in which Kraken's authors simulated it (uber/kraken, tools/bin/simulation/random_regular_graph.py): rounds; a
 * random regular graph of degree 5; one seeder; a peer sends and receives at most so many pieces a round; what has been
 * received can be sent on in the same round.
 */
export interface KrakenJob {
  readonly peers: number;
  readonly pieces: number;
  readonly seed: number;
  readonly policy: "kraken" | "p2pcache";
}

/** Rounds until half of the peers, and until all of them, had everything. */
export interface KrakenResult {
  readonly p50Rounds: number;
  readonly p100Rounds: number;
}

interface Peer {
  readonly neighbours: number[];
  readonly pieces: Uint32Array;
  count: number;
  sent: number;
  received: number;
  doneAt: number | undefined;
}

/** What a peer takes next, and from which of its neighbours; undefined where nobody has anything for it. */
interface Policy {
  choose(peer: number): { readonly from: number; readonly piece: number } | undefined;
  received(peer: number, piece: number): void;
}

export function runKrakenModel(job: KrakenJob): KrakenResult {
  const random = seededRandom(job.seed);
  const peers = regularGraph(job.peers, random).map((neighbours) => newPeer(neighbours, job.pieces));
  const policy =
    job.policy === "kraken" ? new KrakenPolicy(peers, job.pieces, random) : new OwnPolicy(peers, job.pieces, random);
  const give = (to: number, piece: number) => {
    const peer = peers[to]!;
    peer.pieces[piece >> 5]! |= 1 << (piece & 31);
    peer.count++;
    policy.received(to, piece);
  };
  for (let piece = 0; piece < job.pieces; piece++) give(0, piece);
  let left = job.peers - 1;
  for (let round = 1; left > 0 && round <= roundsMax; round++) {
    const turns = turnsOf(peers, job.pieces);
    shuffle(turns, random);
    for (const turn of turns) {
      const peer = peers[turn]!;
      if (peer.count === job.pieces || peer.received >= piecesPerRound) continue;
      const choice = policy.choose(turn);
      if (choice === undefined) continue;
      peer.received++;
      peers[choice.from]!.sent++;
      give(turn, choice.piece);
      if (peer.count < job.pieces) continue;
      peer.doneAt = round;
      left--;
    }
    for (const peer of peers) {
      peer.sent = 0;
      peer.received = 0;
    }
  }
  const rounds = peers.slice(1).map(({ doneAt }) => doneAt ?? Number.POSITIVE_INFINITY);
  rounds.sort((a, b) => a - b);
  return { p50Rounds: rounds[Math.ceil(rounds.length / 2) - 1]!, p100Rounds: rounds.at(-1)! };
}

/** Kraken's: of all pairs of a neighbour and a piece that it could give, any. */
class KrakenPolicy implements Policy {
  readonly #peers: readonly Peer[];
  readonly #random: Random;

  constructor(peers: readonly Peer[], _pieces: number, random: Random) {
    this.#peers = peers;
    this.#random = random;
  }

  choose(self: number): { readonly from: number; readonly piece: number } | undefined {
    const own = this.#peers[self]!;
    const givers = own.neighbours.filter((other) => this.#peers[other]!.sent < piecesPerRound);
    const counts = givers.map((other) => usefulOf(this.#peers[other]!, own));
    let place = randomBelow(counts.reduce((sum, count) => sum + count, 0) || 1, this.#random);
    for (const [at, from] of givers.entries()) {
      if (place < counts[at]!) return { from, piece: usefulAt(this.#peers[from]!, own, place) };
      place -= counts[at]!;
    }
    return undefined;
  }

  received(): void {}
}

/** Ours: of two neighbours that can give something the one that has sent less, and of what it has the rarest. */
class OwnPolicy implements Policy {
  readonly #peers: readonly Peer[];
  readonly #random: Random;
  readonly #wanted: readonly WantedItems[];
  /** By peer and piece: the bits of the neighbours that have it, and how many they are. */
  readonly #masks: readonly Uint32Array[];
  readonly #copies: readonly Uint8Array[];

  constructor(peers: readonly Peer[], pieces: number, random: Random) {
    this.#peers = peers;
    this.#random = random;
    this.#masks = peers.map(() => new Uint32Array(pieces));
    this.#copies = peers.map(() => new Uint8Array(pieces));
    this.#wanted = peers.map(() => {
      const wanted = new WantedItems(pieces, random);
      for (let piece = 0; piece < pieces; piece++) wanted.add(piece, 0);
      return wanted;
    });
  }

  choose(self: number): { readonly from: number; readonly piece: number } | undefined {
    const { neighbours } = this.#peers[self]!;
    const givers = neighbours.map((_, at) => at).filter((at) => this.#peers[neighbours[at]!]!.sent < piecesPerRound);
    while (givers.length > 0) {
      const one = randomBelow(givers.length, this.#random);
      const other = randomBelow(givers.length, this.#random);
      const sent = (at: number) => this.#peers[neighbours[givers[at]!]!]!.sent;
      const better = sent(other) < sent(one) ? other : one;
      const slot = givers[better]!;
      const piece = this.#wanted[self]!.rarest(this.#masks[self]!, 1 << slot);
      if (piece !== undefined) return { from: neighbours[slot]!, piece };
      givers.splice(better, 1);
    }
    return undefined;
  }

  received(self: number, piece: number): void {
    this.#wanted[self]!.remove(piece, this.#copies[self]![piece]!);
    for (const other of this.#peers[self]!.neighbours) {
      this.#masks[other]![piece]! |= 1 << this.#peers[other]!.neighbours.indexOf(self);
      this.#wanted[other]!.raise(piece, ++this.#copies[other]![piece]!);
    }
  }
}

function usefulOf(giver: Peer, taker: Peer): number {
  let count = 0;
  for (let at = 0; at < giver.pieces.length; at++) count += bitsIn(giver.pieces[at]! & ~taker.pieces[at]!);
  return count;
}

/** The piece that a giver has, a taker lacks, and that so many such pieces come before. */
function usefulAt(giver: Peer, taker: Peer, before: number): number {
  let left = before;
  for (let at = 0; at < giver.pieces.length; at++) {
    let bits = giver.pieces[at]! & ~taker.pieces[at]!;
    const count = bitsIn(bits);
    if (left >= count) {
      left -= count;
      continue;
    }
    while (left-- > 0) bits &= bits - 1;
    return 32 * at + 31 - Math.clz32(bits & -bits);
  }
  return -1;
}

function bitsIn(bits: number): number {
  let left = bits - ((bits >>> 1) & 0x55555555);
  left = (left & 0x33333333) + ((left >>> 2) & 0x33333333);
  return Math.imul((left + (left >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

function newPeer(neighbours: number[], pieces: number): Peer {
  const words = new Uint32Array(Math.ceil(pieces / 32));
  return { neighbours, pieces: words, count: 0, sent: 0, received: 0, doneAt: undefined };
}

/** As many turns a round as a peer may receive pieces. */
function turnsOf(peers: readonly Peer[], pieces: number): number[] {
  const turns: number[] = [];
  for (const [at, { count }] of peers.entries()) {
    if (count < pieces) for (let i = 0; i < piecesPerRound; i++) turns.push(at);
  }
  return turns;
}

/** Ends of links are paired at random; pairs that cannot be are broken up with another, until none is left. */
function regularGraph(peers: number, random: Random): number[][] {
  const ends: number[] = [];
  for (let peer = 0; peer < peers; peer++) for (let i = 0; i < degree; i++) ends.push(peer);
  shuffle(ends, random);
  const key = (a: number, b: number) => Math.min(a, b) * peers + Math.max(a, b);
  for (let isSound = false; !isSound; ) {
    isSound = true;
    const seen = new Set<number>();
    for (let i = 0; i < ends.length; i += 2) {
      const pair = key(ends[i]!, ends[i + 1]!);
      if (ends[i] !== ends[i + 1] && !seen.has(pair)) {
        seen.add(pair);
        continue;
      }
      isSound = false;
      const other = randomBelow(ends.length, random);
      [ends[i + 1], ends[other]] = [ends[other]!, ends[i + 1]!];
    }
  }
  const graph: number[][] = Array.from({ length: peers }, () => []);
  for (let i = 0; i < ends.length; i += 2) {
    graph[ends[i]!]!.push(ends[i + 1]!);
    graph[ends[i + 1]!]!.push(ends[i]!);
  }
  return graph;
}

function shuffle(list: number[], random: Random): void {
  for (let i = list.length - 1; i > 0; i--) {
    const j = randomBelow(i + 1, random);
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
}

const degree = 5;
const piecesPerRound = 10;
const roundsMax = 1000;
