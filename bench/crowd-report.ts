import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { machineText, median } from "./measure.ts";

/** What one crowd did. */
export interface CrowdSample {
  /** From when all were told to begin until each had its tree in place; the first first. */
  readonly seconds: readonly number[];
  /** Of all nodes, with their threads and children. */
  readonly cpuSeconds: number;
  readonly originCpuSeconds: number;
  /** Of items, as the origin counted them. */
  readonly originBytes: number;
  /** What was sent of items, by peers and the origin, beyond what all nodes needed. */
  readonly surplusBytes: number;
}

/** One network, and what each contender did there, once a round. */
export interface CrowdCase {
  readonly nodes: number;
  /** What a link carries each way, as `tc` has it; undefined: loopback. */
  readonly rate: string | undefined;
  /** Chunks and manifest segments. */
  readonly payloadBytes: number;
  readonly items: number;
  /** Load averages of the minute before each contender, and after the last. */
  readonly loads: readonly number[];
  readonly samples: ReadonlyMap<string, readonly CrowdSample[]>;
}

/** As CONTRACTS has `bench`, with what a crowd has besides. A GB is 10^9 bytes that the crowd needed. */
export function crowdReport(result: CrowdCase): object {
  const { nodes, payloadBytes, rate, items } = result;
  return {
    schema: "p2pcache/bench/1",
    case: "flash-crowd",
    machine: machineText(),
    loads: result.loads.map((load) => Number(load.toFixed(1))),
    nodes,
    payloadBytes,
    items,
    ...(rate === undefined ? {} : { rate, optimumSeconds: optimumSeconds(result) }),
    contenders: [...result.samples].map(([name, samples]) => ({ name, ...figuresOf(result, samples) })),
  };
}

/** For people, in Markdown. */
export function crowdTable(result: CrowdCase): string {
  const { nodes, rate, payloadBytes, items, loads, samples } = result;
  const where = rate === undefined ? "on loopback" : `in namespaces, ${rate} each way a node and for the origin`;
  const optimum = rate === undefined ? "" : `; the optimum is ${optimumSeconds(result).toFixed(1)} s`;
  const rounds = Math.max(...[...samples.values()].map(({ length }) => length));
  const lines = [
    `${nodes} nodes ${where}; ${(payloadBytes / 1e6).toFixed(0)} MB in ${items} items${optimum}; ${rounds} round(s), medians; ` +
      `${machineText()}; load ${Math.min(...loads).toFixed(1)} to ${Math.max(...loads).toFixed(1)}.`,
    "",
    `| | p50 s | p100 s |${rate === undefined ? "" : " p100 / optimum |"} origin copies | duplicates | CPU s/GB, nodes | CPU s/GB, origin |`,
    `| --- | --- | --- |${rate === undefined ? "" : " --- |"} --- | --- | --- | --- |`,
  ];
  for (const [name, all] of samples) {
    const figures = figuresOf(result, all);
    const cells = [
      name,
      figures.p50Seconds.toFixed(1),
      figures.p100Seconds.toFixed(1),
      ...(rate === undefined ? [] : [(figures.p100Seconds / optimumSeconds(result)).toFixed(2)]),
      figures.sourceCopies.toFixed(3),
      figures.duplicates.toFixed(4),
      figures.receiverCpuSecondsPerGb.toFixed(1),
      figures.sourceCpuSecondsPerGb.toFixed(2),
    ];
    lines.push(`| ${cells.join(" | ")} |`);
  }
  return lines.join("\n");
}

/** Puts a table between its marks in results.md; what people wrote around them stays. */
export function putTable(form: string, table: string): void {
  const path = join(import.meta.dirname, "results.md");
  const [begin, end] = [`<!-- flash-crowd ${form} -->`, `<!-- end of flash-crowd ${form} -->`];
  const text = readFileSync(path, "utf8");
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`results.md lacks its marks: ${begin} and ${end}`);
  writeFileSync(path, `${text.slice(0, from + begin.length)}\n\n${table}\n\n${text.slice(to)}`);
}

/** `100mbit` or `1gbit`. */
export function bytesPerSecondOf(rate: string): number {
  const [, number, unit] = /^(\d+)(mbit|gbit)$/.exec(rate) ?? [];
  if (number === undefined) throw new Error(`a rate is 100mbit or 1gbit, not ${rate}`);
  return (Number(number) * (unit === "gbit" ? 1e9 : 1e6)) / 8;
}

function figuresOf({ nodes, payloadBytes }: CrowdCase, samples: readonly CrowdSample[]) {
  const neededBytes = nodes * payloadBytes;
  const middle = (of: (sample: CrowdSample) => number) => median(samples.map(of));
  const p100 = samples.map(({ seconds }) => seconds.at(-1)!);
  const p100Seconds = median(p100);
  return {
    mbPerSecond: neededBytes / p100Seconds / 1e6,
    spread: Math.max(...p100) / Math.min(...p100),
    receiverCpuSecondsPerGb: middle(({ cpuSeconds }) => cpuSeconds) / (neededBytes / 1e9),
    sourceCpuSecondsPerGb: middle(({ originCpuSeconds }) => originCpuSeconds) / (neededBytes / 1e9),
    sourceCopies: middle(({ originBytes }) => originBytes) / payloadBytes,
    p50Seconds: middle(({ seconds }) => median(seconds)),
    p100Seconds,
    duplicates: middle(({ surplusBytes }) => surplusBytes) / neededBytes,
  };
}

/** `T*` of CONTRACTS, by what the link carries with all headers. */
function optimumSeconds({ nodes, payloadBytes, items, rate }: CrowdCase): number {
  return (payloadBytes / bytesPerSecondOf(rate!)) * (1 + Math.floor(Math.log2(nodes)) / items);
}
