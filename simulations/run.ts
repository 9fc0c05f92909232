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

const parsed = parsedWords();
if (typeof parsed === "string") {
  const names = Object.keys(scenarios).join("|");
  stderr.write(`${parsed}\n`);
  stderr.write(`usage: npm run simulate -- ${names} [--nodes N] [--seed N] [--json]\n`);
  stderr.write(
    "       npm run simulate -- --table [--only NAME,NAME…] [--sizes N,N…] [--seed N]: writes the tables of simulations/results.md\n",
  );
  exit(2);
}
const { values, scenario, options, sizes } = parsed;
if (values.table) runTable();
else {
  const report = scenario!(options);
  stdout.write(`${values.json ? JSON.stringify({ schema: "p2pcache/simulate/1", ...report }) : reportText(report)}\n`);
}

/** What is asked for; a line that says what is wrong with it. */
function parsedWords() {
  const config = {
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
  } as const;
  let parsed: ReturnType<typeof parseArgs<typeof config>>;
  try {
    parsed = parseArgs(config);
  } catch (error) {
    return (error as Error).message;
  }
  const { values, positionals } = parsed;
  const [name = ""] = positionals;
  const options = { nodes: Number(values.nodes), seed: Number(values.seed) };
  const sizes = values.sizes.split(",").map(Number);
  const scenario = Object.hasOwn(scenarios, name) ? scenarios[name] : undefined;
  if (scenario === undefined && !values.table) return name === "" ? "which scenario?" : `there is no scenario ${name}`;
  if (![options.nodes, ...sizes].every((count) => Number.isInteger(count) && count >= 2)) {
    return "--nodes and --sizes are whole numbers, from 2 on";
  }
  if (!Number.isInteger(options.seed)) return "--seed is a whole number";
  return { values, options, sizes, scenario };
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
