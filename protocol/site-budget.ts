import type { PeerName } from "./directory.ts";
import { rankFor } from "./rendezvous.ts";

/** What an origin bears from a whole site, as an admin says. */
export interface SiteBudget {
  /** How many nodes may read it at a time. */
  readonly slots: number;
  /** Bytes a millisecond for all of them together; infinity for no limit. */
  readonly bytesPerMs: number;
}

/**
 * What a node may read of an origin now, in bytes a millisecond: its part of the budget if it is among the first by
 * rendezvous hash in this epoch, else nothing. Nobody coordinates that: everyone who knows the same members agrees, and
 * the slots go round from one epoch to the next.
 */
export function shareOfBudget(
  budget: SiteBudget,
  origin: string,
  self: PeerName,
  members: Iterable<PeerName>,
  wallMs: number,
): number {
  const epoch = Math.floor(wallMs / epochMs);
  const rank = rankFor(`slot ${origin} ${epoch}`, self, members);
  return rank < budget.slots ? budget.bytesPerMs / budget.slots : 0;
}

/** Long enough to fetch a few groups, short enough that nobody waits long for a turn; clocks differ by less. */
const epochMs = 30_000;
