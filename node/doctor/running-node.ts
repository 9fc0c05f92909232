import { type CheckLine, failure, ok, warning } from "./check-line.ts";
import type { PeerClock } from "./clock.ts";

/** What a running node said of itself. */
export interface RunningNode {
  readonly version: string;
  readonly pid: number;
  readonly addresses: readonly string[];
  readonly peers: number;
  readonly warnings: readonly string[];
  readonly clocks: readonly PeerClock[];
}

/** What the running node has to say, and whether it is the p2pcache that is installed here. */
export function* checkRunningNode(
  node: RunningNode | undefined,
  options: { readonly version: string; readonly refusal: string | undefined },
): Generator<CheckLine> {
  if (options.refusal !== undefined)
    return yield failure("node", options.refusal, "restart the node, or ask its owner");
  if (node === undefined) return yield ok("node", "no node runs for this cache at this moment");
  const text = `process ${node.pid}, version ${node.version}, ${node.peers} peers`;
  if (node.version === options.version) yield ok("node", text);
  else {
    const hint = "restart the node: p2pcache node stop, then start it as before";
    yield warning("node", `${text}: this command is of version ${options.version}`, hint);
  }
  for (const message of node.warnings) yield warning("node", `the node says: ${message}`);
}
