import type { Connection, Stream } from "@libp2p/interface";

/** Streams of the same protocol that the same side has opened on a connection, besides this one. */
export function othersOpen(connection: Connection, { protocol, direction, id }: Stream): number {
  return connection.streams.filter((each) => {
    return each.protocol === protocol && each.direction === direction && each.id !== id;
  }).length;
}

/** Streams beyond what a protocol has that are looked at before they are reset. */
export const surplusStreams = 16;
