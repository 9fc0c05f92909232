import type { Random } from "../protocol/random.ts";
import { Transfer } from "../protocol/transfer.ts";
import { defaultTransferLimits } from "../protocol/transfer-limits.ts";
import { WantedItems } from "../protocol/wanted-items.ts";
import { ownPolicies, type Policies, type SwarmWorld } from "./swarm-world.ts";

/** Any item that the peer has, instead of the rarest. */
class RandomItems extends WantedItems {
  override rarest(masks: Uint32Array, sources: number): number | undefined {
    return this.any(masks, sources);
  }
}

/** The standard case with one thing done otherwise. */
export const rivalPolicies: Readonly<Record<string, Policies>> = {
  "random item": {
    ...ownPolicies,
    transfer: (plan, random: Random) => {
      return new Transfer(plan, defaultTransferLimits, random, new RandomItems(plan.items, random));
    },
  },
  "no coordination at the origin": { ...ownPolicies, access: "open" },
  "static tree": { ...ownPolicies, access: "open", isPlanned: false, graph: parentOf },
};

/** A binary tree in the order in which members start. */
function parentOf(world: SwarmWorld, member: number): readonly number[] {
  const order = world.plan.members
    .map(({ startMs }, number) => ({ startMs, number }))
    .sort((a, b) => a.startMs - b.startMs)
    .map(({ number }) => number);
  const place = order.indexOf(member);
  return place === 0 ? [] : [order[(place - 1) >> 1]!];
}
