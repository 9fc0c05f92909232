import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { argv, exit, stderr, stdout } from "node:process";
import { parseArgs } from "node:util";
import { type Report, reportText } from "./report.ts";
import { simulateCrowd } from "./scenarios/crowd.ts";
import { simulateGossip } from "./scenarios/gossip.ts";
import { swarmScenarios } from "./scenarios/swarms.ts";
import { runTables } from "./table.ts";

/** `npm run simulate -- <scenario> [--nodes N] [--seed N] [--json]`: the same figures for the same seed. */
const scenarios: Record<string, (options: { nodes: number; seed: number }) => Report> = { gossip: simulateGossip };
for (const name of Object.keys(swarmScenarios)) scenarios[name] = (options) => simulateCrowd(name, options);

const { values, positionals } = parseArgs({
  args: argv.slice(2),
  allowPositionals: true,
  options: {
    nodes: { type: "string", default: "200" },
    seed: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
    table: { type: "boolean", default: false },
    sizes: { type: "string", default: "10,100,1000,5000" },
    only: { type: "string", default: "" },
  },
});
const [name = ""] = positionals;
const options = { nodes: Number(values.nodes), seed: Number(values.seed) };
const sizes = values.sizes.split(",").map(Number);
const scenario = scenarios[name];
const isSound = Number.isInteger(options.nodes) && options.nodes >= 2 && Number.isInteger(options.seed);
if (
  !isSound ||
  (scenario === undefined && !values.table) ||
  !sizes.every((size) => Number.isInteger(size) && size >= 2)
) {
  const names = Object.keys(scenarios).join("|");
  stderr.write(`usage: npm run simulate -- ${names} [--nodes N] [--seed N] [--json]\n`);
  stderr.write(
    "       npm run simulate -- --table [--only NAME,NAME…] [--sizes N,N…] [--seed N]: writes the tables of simulations/results.md\n",
  );
  exit(2);
}
if (values.table) runTable();
else {
  const report = scenario!(options);
  stdout.write(`${values.json ? JSON.stringify({ schema: "p2pcache/simulate/1", ...report }) : reportText(report)}\n`);
}

/** Puts the tables between their marks in results.md, row by row; what people wrote around them stays. */
function runTable(): void {
  const path = join(import.meta.dirname, "results.md");
  const [begin, end] = ["<!-- tables: npm run simulate -- --table -->", "<!-- end of tables -->"];
  const text = readFileSync(path, "utf8");
  const [from, to] = [text.indexOf(begin) + begin.length, text.indexOf(end)];
  const only = values.only.split(",").filter(Boolean);
  runTables({ seed: options.seed, sizes, only }, text.slice(from, to), (tables, what) => {
    writeFileSync(path, `${text.slice(0, from)}\n\n${tables}\n${text.slice(to)}`);
    stderr.write(`${what}\n`);
  });
}
