import type { SwarmWorld } from "./swarm-world.ts";

/** What a world came to (CONTRACTS, `simulate`). */
export interface SwarmFigures {
  readonly efficiency: number;
  readonly originCopies: number;
  readonly duplicates: number;
  readonly p50Seconds: number;
  readonly p99Seconds: number;
  readonly p100Seconds: number;
  /** What a scenario has to say beside. */
  readonly [figure: string]: number | string;
}

/** Which fetches count. */
export type Counts = (member: number, payload: number) => boolean;

export function figuresOf(world: SwarmWorld, rateBytesPerMs: number, counts: Counts = () => true): SwarmFigures {
  const seconds: number[] = [];
  let surplusBytes = 0;
  let wantedBytes = 0;
  for (const member of world.members) {
    for (const fetch of member.fetches) {
      if (fetch === undefined) continue;
      surplusBytes += fetch.outcome.surplusBytes;
      wantedBytes += fetch.payload.bytes;
      if (!counts(member.number, fetch.payload.number) || !member.isUp) continue;
      const { startedMs, endedMs, fault } = fetch.outcome;
      const isDone = endedMs !== undefined && fault === undefined;
      seconds.push(isDone ? (endedMs - startedMs) / 1000 : Number.POSITIVE_INFINITY);
    }
  }
  seconds.sort((a, b) => a - b);
  const payloadBytes = world.payloads.reduce((sum, { bytes }) => sum + bytes, 0);
  const items = world.payloads.reduce((sum, payload) => sum + payload.items, 0);
  const nodes = Math.max(2, world.plan.members.length);
  const bestSeconds = (payloadBytes / rateBytesPerMs / 1000) * (1 + Math.floor(Math.log2(nodes)) / items);
  const at = (part: number) => seconds[Math.max(0, Math.ceil(part * seconds.length) - 1)] ?? 0;
  return {
    efficiency: round(bestSeconds / at(1)),
    originCopies: round(world.originReadBytes / payloadBytes),
    duplicates: round(surplusBytes / wantedBytes),
    p50Seconds: round(at(0.5)),
    p99Seconds: round(at(0.99)),
    p100Seconds: round(at(1)),
  };
}

function round(value: number): number {
  return Math.round(value * 10_000) / 10_000;
}
