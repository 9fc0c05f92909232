import type { SiteCrowd } from "../protocol/site-budget.ts";
import type { Swarm } from "./ports.ts";

/** Who is at a node's site: those that announced themselves, and those that are connected. Without a swarm it is alone. */
export function siteCrowd(swarm: Swarm | undefined, site: string): SiteCrowd {
  if (swarm === undefined) return { self: "", members: [] };
  const { id: self, directory } = swarm;
  const members = new Set([...directory.peers()].filter((peer) => directory.labels(peer)?.site === site));
  for (const facts of swarm.peers()) {
    if (facts.site === site) members.add(facts.peer);
    else members.delete(facts.peer);
  }
  return { self, members: [...members] };
}
