import type { Command } from "commander";
import { formatBytes } from "../../node/index.ts";
import type { Context, Run } from "../context.ts";
import { addSharedFlags } from "../flags.ts";
import { columns } from "../print.ts";
import { findNode } from "../session.ts";

export function addPeers(parent: Command, run: Run): void {
  const command = parent
    .command("peers")
    .description("List the peers of the running node: those that are here, and those that were.")
    .addHelpText("after", "\nExample:\n  p2pcache peers --json")
    .action((_options: object, self: Command) => run(self, peers));
  addSharedFlags(command);
}

/** What is printed of a peer; the node says the rest of CONTRACTS' shape as it is. */
interface ShownPeer {
  readonly peer: string;
  readonly name: string;
  readonly path: string;
  readonly holdings: number;
  readonly standing: string;
  readonly strikes: number;
  readonly bytesFrom: number;
  readonly bytesTo: number;
}

async function peers(context: Context): Promise<void> {
  const node = await findNode(context);
  const found = (await node.peers()) as unknown as ShownPeer[];
  context.out.list("peers", "peers", found, () => columns([heading, ...found.map(row)], [3, 5, 6, 7]));
}

const heading = ["name", "peer", "path", "holdings", "standing", "strikes", "from", "to"];

function row({ name, peer, path, holdings, standing, strikes, bytesFrom, bytesTo }: ShownPeer): string[] {
  const counts = [`${holdings}`, standing, `${strikes}`, formatBytes(bytesFrom), formatBytes(bytesTo)];
  return [name === "" ? "-" : name, peer, path, ...counts];
}
