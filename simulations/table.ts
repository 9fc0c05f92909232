import { runKrakenModel } from "./kraken-model.ts";
import { OracleWorld } from "./oracle.ts";
import type { Report } from "./report.ts";
import { rivalPolicies } from "./rivals.ts";
import { simulateCrowd } from "./scenarios/crowd.ts";
import { swarmFigures, swarmScenarios } from "./scenarios/swarms.ts";
import { SwarmWorld } from "./swarm-world.ts";

/** What of the tables is to be run. */
export interface TablePlan {
  readonly seed: number;
  readonly sizes: readonly number[];
  /** Scenarios, `rivals`, `kraken`; all of them where it is empty. */
  readonly only: readonly string[];
}

/**
 * All scenarios at all sizes, rivals, and Kraken's model, as Markdown. Rows of `before` that are not run stay. After each
 * run `onRow` is told the tables so far: some take many minutes.
 */
export function runTables(plan: TablePlan, before: string, onRow: (tables: string, text: string) => void): void {
  const { seed, sizes, only } = plan;
  const isAsked = (name: string) => only.length === 0 || only.includes(name);
  const rows = rowsOf(before);
  const put = (lines: readonly string[], text: string) => {
    for (const line of lines) rows.set(keyOf(line), line);
    onRow(textOf(rows), text);
  };
  for (const name of Object.keys(swarmScenarios).filter(isAsked)) {
    for (const nodes of sizes) {
      if (nodes > 1000 && !largest.includes(name)) continue;
      put([rowOf(name, nodes, simulateCrowd(name, { nodes, seed }))], `${name}, ${nodes} nodes`);
    }
  }
  for (const nodes of isAsked("rivals") ? sizes.filter((size) => size <= 1000) : []) {
    put(rivalRows(nodes, seed), `rivals, ${nodes} nodes`);
  }
  for (const [peers, pieces] of isAsked("kraken") ? krakenJobs : []) {
    for (const policy of ["kraken", "p2pcache"] as const) {
      const { p50Rounds, p100Rounds } = runKrakenModel({ peers, pieces, policy, seed });
      put(
        [`| ${peers} × ${pieces} | ${policy} | ${p50Rounds} | ${p100Rounds} |`],
        `Kraken's model, ${peers}, ${policy}`,
      );
    }
  }
}

/** The first two cells say what was run. */
function keyOf(row: string): string {
  return row.split("|").slice(1, 3).join("|").trim();
}

function rowsOf(tables: string): Map<string, string> {
  const rows = tables.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| ---"));
  return new Map(rows.filter((row) => !headings.includes(row)).map((row) => [keyOf(row), row]));
}

/** In the order of the scenarios and the sizes, whenever they were run. */
function textOf(rows: ReadonlyMap<string, string>): string {
  const scenarios = Object.keys(swarmScenarios);
  const cells = (row: string) => row.split("|").map((cell) => cell.trim());
  const of = (test: (name: string) => boolean) => [...rows.values()].filter((row) => test(cells(row)[1]!));
  const nodes = (row: string) => Number(cells(row)[2]);
  const swarms = of((name) => scenarios.includes(name));
  swarms.sort((a, b) => scenarios.indexOf(cells(a)[1]!) - scenarios.indexOf(cells(b)[1]!) || nodes(a) - nodes(b));
  const kraken = of((name) => name.includes("×"));
  const rivals = of((name) => !scenarios.includes(name) && !name.includes("×"));
  rivals.sort((a, b) => nodes(a) - nodes(b));
  return [...heading, ...swarms, "", ...rivalHeading, ...rivals, "", ...krakenHeading, ...kraken, ""].join("\n");
}

function rowOf(name: string, nodes: number, report: Report): string {
  const more = Object.entries(report).filter(([figure]) => !known.has(figure));
  const text = more.map(([figure, value]) => `${figure} ${value === "" ? "–" : value}`).join(", ");
  const { efficiency, originCopies, duplicates, p50Seconds, p99Seconds, p100Seconds } = report;
  const figures = [efficiency, originCopies, duplicates, p50Seconds, p99Seconds, p100Seconds].map((figure) =>
    Number.isFinite(figure) ? figure : "–",
  );
  return `| ${name} | ${nodes} | ${figures.join(" | ")} | ${text} |`;
}

function rivalRows(nodes: number, seed: number): string[] {
  const scenario = swarmScenarios["morning-rush"]!;
  const rows = Object.entries(rivalPolicies).map(([name, policies]) => {
    const world = new SwarmWorld(scenario.plan({ nodes, seed, policies })).run();
    const { efficiency, originCopies, p50Seconds, p100Seconds } = swarmFigures(scenario, world);
    return `| ${name} | ${nodes} | ${efficiency} | ${originCopies} | ${p50Seconds} | ${p100Seconds} |`;
  });
  const plan = scenario.plan({ nodes, seed });
  const seconds = new OracleWorld(plan).run();
  const [payload] = plan.payloads;
  const best = (payload!.bytes / plan.origin.upBytesPerMs / 1000) * (1 + Math.floor(Math.log2(nodes)) / payload!.items);
  return [...rows, `| central oracle | ${nodes} | ${(best / seconds).toFixed(4)} | 1 | – | ${seconds.toFixed(4)} |`];
}

const largest: readonly string[] = ["morning-rush", "churn"];
/** Kraken's published figures: 17 rounds, and 298 (p50 294). */
const krakenJobs: readonly (readonly [peers: number, pieces: number])[] = [
  [5000, 125],
  [1000, 2500],
];
const known: ReadonlySet<string> = new Set([
  ...["scenario", "nodes", "seed", "efficiency", "originCopies", "duplicates"],
  ...["p50Seconds", "p99Seconds", "p100Seconds"],
]);
const heading = [
  "| scenario | nodes | efficiency | origin copies | duplicates | p50 s | p99 s | p100 s | beside |",
  "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
];
const rivalHeading = [
  "| instead of ours, cold | nodes | efficiency | origin copies | p50 s | p100 s |",
  "| --- | --- | --- | --- | --- | --- |",
];
const krakenHeading = [
  "| Kraken's model, peers × pieces | policy | p50 rounds | p100 rounds |",
  "| --- | --- | --- | --- |",
];
const headings: readonly string[] = [heading[0]!, rivalHeading[0]!, krakenHeading[0]!];
