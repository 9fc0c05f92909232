import { packHoldings } from "../protocol/announcement.ts";
import { compareBytes } from "../protocol/hash.ts";
import type { GossipNetwork } from "./gossip-network.ts";

/** Where a directory is not what members truly hold: a line each. */
export function findLies({ members }: GossipNetwork): string[] {
  const running = members.filter((member) => member.isRunning);
  const truth = new Map(running.map((member) => [member.name, packHoldings(member.held)]));
  const lies: string[] = [];
  for (const { index, name, directory } of running) {
    for (const [peer, held] of truth) {
      if (peer === name) continue;
      const known = directory.holdings(peer);
      if (known === undefined) lies.push(`${index} does not know what ${peer} holds`);
      else if (compareBytes(known, held) !== 0) lies.push(`${index} is wrong about ${peer}`);
    }
    for (const peer of directory.peers()) if (!truth.has(peer)) lies.push(`${index} still knows ${peer}`);
  }
  return lies;
}
