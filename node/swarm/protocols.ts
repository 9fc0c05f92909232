import {
  directoryBodyBytesMax,
  frameBodyBytesMax,
  frameHeaderBytesMax,
  KIB,
  knownBytesMax,
  policyFileBytesMax,
  recordBytesMax,
  registerAnswerBytesMax,
  registerQuestionBytesMax,
} from "../../protocol/limits.ts";
import type { FrameLimits } from "../../protocol/wire.ts";

export type ProtocolName = "hello" | "directory" | "catalog" | "register" | "swarm";

interface ProtocolFacts {
  readonly id: string;
  /** What the opener of a stream may send in one frame. */
  readonly asks: FrameLimits;
  /** What it may be answered in one frame. */
  readonly answers: FrameLimits;
  /** Streams of one connection at a time; extra ones are reset. */
  readonly streamsMax: number;
}

/** Who only asks sends no bodies, and so cannot make us keep room for them. */
const words = (headerBytesMax: number): FrameLimits => ({ headerBytesMax, bodyBytesMax: 0 });

/** The protocols and what a peer may send in one frame of each (DESIGN section 6). */
export const protocols: Readonly<Record<ProtocolName, ProtocolFacts>> = {
  hello: { id: "/p2pcache/hello/1", asks: words(4 * KIB), answers: words(4 * KIB), streamsMax: 2 },
  directory: {
    id: "/p2pcache/directory/1",
    asks: { headerBytesMax: frameHeaderBytesMax, bodyBytesMax: knownBytesMax },
    answers: { headerBytesMax: frameHeaderBytesMax, bodyBytesMax: directoryBodyBytesMax },
    streamsMax: 4,
  },
  catalog: {
    id: "/p2pcache/catalog/1",
    // 32 heads of the policy.
    asks: words(4 * KIB),
    answers: { headerBytesMax: 4 * KIB, bodyBytesMax: Math.max(recordBytesMax, policyFileBytesMax) },
    streamsMax: 16,
  },
  register: {
    id: "/p2pcache/register/1",
    asks: words(registerQuestionBytesMax),
    answers: words(registerAnswerBytesMax),
    streamsMax: 2,
  },
  swarm: {
    id: "/p2pcache/swarm/1",
    // 256 items of five bytes, and what they are.
    asks: words(4 * KIB),
    answers: { headerBytesMax: 4 * KIB, bodyBytesMax: frameBodyBytesMax },
    streamsMax: 4,
  },
};
