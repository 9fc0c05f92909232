import { runKrakenModel } from "./kraken-model.ts";
import { OracleWorld } from "./oracle.ts";
import type { Report } from "./report.ts";
import { rivalPolicies } from "./rivals.ts";
import { simulateCrowd } from "./scenarios/crowd.ts";
import { swarmFigures, swarmScenarios } from "./scenarios/swarms.ts";
import { SwarmWorld } from "./swarm-world.ts";

/** All scenarios at all sizes, rivals, and Kraken's model, as Markdown. `progress` hears of every run. */
export function crowdTable(seed: number, sizes: readonly number[], progress: (text: string) => void): string {
  const lines: string[] = [...heading];
  for (const name of Object.keys(swarmScenarios)) {
    for (const nodes of sizes) {
      if (nodes > 1000 && !largest.includes(name)) continue;
      progress(`${name}, ${nodes} nodes`);
      lines.push(rowOf(name, nodes, simulateCrowd(name, { nodes, seed })));
    }
  }
  lines.push("", ...rivalHeading);
  for (const nodes of sizes.filter((size) => size <= 1000)) {
    progress(`rivals, ${nodes} nodes`);
    lines.push(...rivalRows(nodes, seed));
  }
  lines.push("", ...krakenHeading);
  for (const [peers, pieces] of krakenJobs) {
    for (const policy of ["kraken", "p2pcache"] as const) {
      progress(`Kraken's model, ${peers} peers, ${policy}`);
      const { p50Rounds, p100Rounds } = runKrakenModel({ peers, pieces, policy, seed });
      lines.push(`| ${peers} × ${pieces} | ${policy} | ${p50Rounds} | ${p100Rounds} |`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function rowOf(name: string, nodes: number, report: Report): string {
  const more = Object.entries(report).filter(([figure]) => !known.has(figure));
  const text = more.map(([figure, value]) => `${figure} ${value === "" ? "–" : value}`).join(", ");
  const { efficiency, originCopies, duplicates, p50Seconds, p99Seconds, p100Seconds } = report;
  return `| ${name} | ${nodes} | ${[efficiency, originCopies, duplicates, p50Seconds, p99Seconds, p100Seconds].join(" | ")} | ${text} |`;
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
