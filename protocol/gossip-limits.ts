/**
 * How the announcements of a network travel by gossipsub: what `simulations/results.md` was measured with, and nodes
 * configure. Every announcement is signed by its peer, so gossipsub's own signatures (`globalSignaturePolicy`) are off.
 */
export const gossipMesh = {
  /** Neighbours that each announcement is sent on to at once: the traffic is nearly proportional to it. */
  D: 4,
  Dlo: 3,
  Dhi: 6,
  /** Further neighbours that hear once a heartbeat which announcements there were. */
  Dlazy: 3,
  heartbeatIntervalMs: 1_000,
  /** Heartbeats that an announcement can be asked for, and that its id is told. */
  mcacheLength: 5,
  mcacheGossip: 2,
  /** Bytes of a message's id: the start of the BLAKE3 of its data. */
  messageIdBytes: 16,
} as const;

/** The whole network hears of a peer this often at least, so that traffic grows slower than the network (DESIGN section 6). */
const heartbeatMsMin = 30_000;
const heartbeatMsPerPeer = 60;
/** Three heartbeats may be lost before a peer counts as gone. */
const lifetimeHeartbeats = 3.5;

/** How often a peer announces itself when nothing changes. */
export function heartbeatMs(peers: number): number {
  return Math.max(heartbeatMsMin, peers * heartbeatMsPerPeer);
}

/** How long an announcement counts without a later one. */
export function lifetimeMs(peers: number): number {
  return Math.ceil(heartbeatMs(peers) * lifetimeHeartbeats);
}

/** Changes of an own list go out together, this long after the one before. */
export const batchMs = 1_000;
/** After quiet a change waits this long: a node that places one variant is heard of at once. */
export const firstBatchMs = 50;
/** From the first neighbour to its place in gossipsub's mesh: it takes neighbours in at its heartbeats. */
export const meetMs: number = 1.2 * gossipMesh.heartbeatIntervalMs;
export const meetMsPerPeer = 10;
/** Holdings that the first announcement of a node names: who knows it from before needs none of them. */
export const firstChangesMax = 32;

/** Asks for lists or heads in flight. */
export const asksMax = 4;
/** Comparisons of heads that wait or go on; one more neighbour hardly knows more than two. */
export const comparesMax = 2;
/** An ask that is not over by then has failed. The shell ends its streams earlier. */
export const askMs = 60_000;
/** Lists are asked for once all comparisons are over, or after this: so that a joiner splits them over two neighbours. */
export const compareWaitMs = 500;
/** A head of at least this age that a comparison brought should have come by gossip: there is more to find. */
export const oldNewsMs = 5_000;
/** How long a neighbour that is due to expire is asked first. */
export const graceMs = 10_000;

/** How often heads are compared with some neighbour: it heals what gossip lost. */
export function compareEveryMs(peers: number): number {
  return heartbeatMs(peers) / 3;
}

/** When all notice a gap at once they ask over this span, so that those who asked first can answer the others. */
export function gapDelayMsMax(peers: number): number {
  return Math.min(2_000, peers * 10);
}

/** Neighbours that are remembered as knowing a list. */
export const sourcesMax = 4;
/** Failed tries for a list; its peer's next heartbeat begins anew. */
export const triesMax = 8;

/**
 * How long a list is left alone after failed tries: at first those who lack it too have it soon, since lists of a new
 * peer spread from neighbour to neighbour.
 */
export function retryMs(tries: number): number {
  return Math.min(60_000, 1_000 * 2 ** Math.max(0, tries - 4));
}
