import { argv, exit, stderr, stdout } from "node:process";
import { parseArgs } from "node:util";
import { type Report, reportText } from "./report.ts";
import { simulateGossip } from "./scenarios/gossip.ts";

/** `npm run simulate -- <scenario> [--nodes N] [--seed N] [--json]`: the same figures for the same seed. */
const scenarios: Readonly<Record<string, (options: { nodes: number; seed: number }) => Report>> = {
  gossip: simulateGossip,
};

const { values, positionals } = parseArgs({
  args: argv.slice(2),
  allowPositionals: true,
  options: {
    nodes: { type: "string", default: "200" },
    seed: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const [name = ""] = positionals;
const options = { nodes: Number(values.nodes), seed: Number(values.seed) };
const scenario = scenarios[name];
if (
  scenario === undefined ||
  !Number.isInteger(options.nodes) ||
  options.nodes < 2 ||
  !Number.isInteger(options.seed)
) {
  stderr.write(`usage: npm run simulate -- ${Object.keys(scenarios).join("|")} [--nodes N] [--seed N] [--json]\n`);
  exit(2);
}
const report = scenario(options);
stdout.write(`${values.json ? JSON.stringify({ schema: "p2pcache/simulate/1", ...report }) : reportText(report)}\n`);
