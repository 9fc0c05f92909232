import type { PeerName } from "./directory.ts";
import { highestFor } from "./rendezvous.ts";

/** A member as somebody sees it, and since when it has been up, by its own word. */
export interface SeenMember {
  readonly name: PeerName;
  readonly upSinceMs: number;
}

/**
 * The registrars for a key, the first one first. Members that have been up only for a moment are passed over: not
 * everybody knows of them yet, and two who disagree about the first registrar would have the origin read twice. Where too
 * few have been up for long, all count.
 */
export function registrarsFor(key: string, members: Iterable<SeenMember>, nowMs: number): PeerName[] {
  const settled: PeerName[] = [];
  const all: PeerName[] = [];
  for (const { name, upSinceMs } of members) {
    all.push(name);
    if (nowMs - upSinceMs >= settledMs) settled.push(name);
  }
  return highestFor(key, settled.length >= registrarsPerPayload ? settled : all, registrarsPerPayload);
}

/** DESIGN section 7, rule 1. */
const registrarsPerPayload = 3;
/** Twice the lag of views that the plan must bear. */
const settledMs = 10_000;
