import { frameBodyBytesMax, frameHeaderBytesMax, KIB, recordBytesMax } from "../../protocol/limits.ts";
import type { FrameLimits } from "../../protocol/wire.ts";

export type ProtocolName = "hello" | "directory" | "catalog" | "swarm";

interface ProtocolFacts {
  readonly id: string;
  readonly limits: FrameLimits;
  /** Streams of one connection at a time; extra ones are reset. */
  readonly streamsMax: number;
}

/** The protocols and what a peer may send in one frame of each (DESIGN section 6). */
export const protocols: Readonly<Record<ProtocolName, ProtocolFacts>> = {
  hello: { id: "/p2pcache/hello/1", limits: { headerBytesMax: 4 * KIB, bodyBytesMax: 0 }, streamsMax: 2 },
  directory: {
    id: "/p2pcache/directory/1",
    limits: { headerBytesMax: frameHeaderBytesMax, bodyBytesMax: 0 },
    streamsMax: 4,
  },
  catalog: { id: "/p2pcache/catalog/1", limits: { headerBytesMax: KIB, bodyBytesMax: recordBytesMax }, streamsMax: 16 },
  swarm: {
    id: "/p2pcache/swarm/1",
    limits: { headerBytesMax: frameHeaderBytesMax, bodyBytesMax: frameBodyBytesMax },
    streamsMax: 4,
  },
};
