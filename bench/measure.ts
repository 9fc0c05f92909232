import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { text } from "node:stream/consumers";

/** What one run took. CPU is that of whoever receives: user and system time of its processes. */
export interface Sample {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

/** Runs a line of bash until it ends. @throws {Error} with what it said, when it fails. */
export async function timed(line: string): Promise<Sample> {
  const script = `set -o pipefail; TIMEFORMAT='%R %U %S'; time { ${line}; }`;
  const child = spawn("bash", ["-c", script], { stdio: ["ignore", "ignore", "pipe"] });
  const [said, [code]] = await Promise.all([text(child.stderr), once(child, "exit")]);
  const figures = said.trimEnd().split("\n").at(-1)!.split(" ").map(Number);
  if (code !== 0 || figures.length !== 3) throw new Error(`${line}: ${said}`);
  const [seconds, user, system] = figures as [number, number, number];
  return { seconds, cpuSeconds: user + system };
}

/** CPU seconds of a process so far, with all its threads and the processes that it has started. */
export function cpuSecondsOf(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").split(" ").filter(Boolean).map(Number);
  return children.reduce((sum, child) => sum + cpuSecondsOf(child), ownCpuSecondsOf(pid));
}

/** proc(5), /proc/pid/stat, fields 14 to 17, in 1/100 s: with children that have ended and were waited for. */
function ownCpuSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .map(Number);
  return (fields[11]! + fields[12]! + fields[13]! + fields[14]!) / 100;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function machineText(): string {
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${availableParallelism()} x ${cpus()[0]?.model ?? "unknown"}, ${memory} GiB, Node ${process.versions.node}`;
}
