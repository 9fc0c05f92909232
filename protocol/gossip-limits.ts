/** How the announcements of a network travel by gossipsub: what `simulations/` measured, and nodes must configure. */
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
  /** Bytes of a message's id: of the BLAKE3 of its data. */
  messageIdBytes: 16,
} as const;
