import { formatBytes } from "../../node/index.ts";
import { launcherPath } from "../context.ts";
import { columns, type Output } from "../print.ts";
import type { DemoNode, DemoResult } from "./demo-node.ts";

/** The table for people: what each node took from where. */
export function tableOf(
  out: Output,
  payloadBytes: number,
  results: readonly DemoResult[],
  treesEqual: boolean,
): string[] {
  const originBytes = results.reduce((total, { origin }) => total + origin, 0);
  const [heading = "", ...rows] = columns([headings, ...results.map(row)], [1, 2, 3, 4, 5]);
  const shares = results.slice(1).map(shareOfPeers);
  const enough = shares.every((share) => share >= shareWanted);
  const least = percent(Math.min(...shares));
  return [
    out.paint("bold", heading),
    ...rows,
    "",
    `payload ${formatBytes(payloadBytes)}; the origin gave ${formatBytes(originBytes)}, ${(originBytes / payloadBytes).toFixed(2)} copies for ${results.length} nodes`,
    mark(out, enough, `the last ${shares.length} took at least ${least} from peers (wanted: ${percent(shareWanted)})`),
    mark(out, treesEqual, treesEqual ? "every placed tree equals its source" : "a placed tree differs from its source"),
  ];
}

/** What to type while the nodes run, and to be rid of them. */
export function howToLook(directory: string, nodes: readonly DemoNode[]): string[] {
  const program = `${quoted(process.execPath)} ${quoted(launcherPath)}`;
  const config = quoted(nodes[0]!.configPath);
  return [
    `the nodes run on; their directories are in ${directory}`,
    `  ${program} node status --config ${config}`,
    `  ${program} peers --config ${config}`,
    `  ${program} ls --config ${config}`,
    "to stop them and to clean up:",
    `  for c in ${quoted(directory)}/node-*/config.toml; do ${program} node stop --config "$c"; done`,
    `  find ${quoted(directory)} -type d -exec chmod u+w {} + && rm -rf ${quoted(directory)}`,
  ];
}

const headings = ["node", "local", "peers", "origin", "from peers", "seconds", "verified", "path"];

function row(result: DemoResult): string[] {
  const { name, local, peers, origin, seconds, verified, path } = result;
  const bytes = [local, peers, origin].map(formatBytes);
  return [name, ...bytes, percent(shareOfPeers(result)), seconds.toFixed(1), verified ? "yes" : "NO", path];
}

/** peers / (peers + origin), as CONTRACTS has it. */
function shareOfPeers({ peers, origin }: DemoResult): number {
  return peers + origin === 0 ? 1 : peers / (peers + origin);
}

function percent(share: number): string {
  // Rounded down: 94.99 % is not 95 %.
  return `${(Math.floor(share * 1000) / 10).toFixed(1)} %`;
}

function mark(out: Output, good: boolean, text: string): string {
  return `${good ? out.paint("green", "ok") : out.paint("red", "NOT OK")}  ${text}`;
}

function quoted(path: string): string {
  return /^[\w./@+-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

/** What the peers are for. */
const shareWanted = 0.95;
