import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { killAll, type LiveProcess, markName, processesOf } from "./runner-processes.ts";
import type { User } from "./runner-user.ts";

export interface TestFile {
  /** Relative to the checkout. */
  readonly path: string;
  readonly deadlineMs: number;
  readonly unprivileged: boolean;
  /** It measures time: it runs while no other file does. */
  readonly alone: boolean;
  /** For deadlines and hung mounts: it needs little of a core, and runs beside those that need one. */
  readonly waits: boolean;
  /**
   * Its home is in memory where there is room: it writes tens of thousands of files and is not about disks. On ext4 whoever
   * makes files soon after as many were deleted waits for the search of a free inode (seen: 88 s of system time, not 17).
   */
  readonly inMemory: boolean;
}

export interface Outcome {
  readonly file: TestFile;
  readonly total: number;
  readonly passed: number;
  readonly skipped: number;
  readonly seconds: number;
  /** Why the file as a whole failed, whatever its tests say. */
  readonly faults: readonly string[];
  readonly output: string;
}

export interface RunOptions {
  readonly checkout: string;
  readonly user: User;
  /** A directory of this file's own: its HOME and TMPDIR. */
  readonly home: string;
  /** Where Node keeps compiled code from one process to the next: about 0.2 s of a process that starts the whole program. */
  readonly code: string;
  readonly long: boolean;
  readonly signal: AbortSignal;
}

/** Enough for any report; a test that prints for ever must not fill our memory. */
const outputCharactersMax = 4 * 1024 * 1024;
const defaultDeadlineMs = 120_000;
/** Long forms take minutes where the gate's take seconds. */
const longFactor = 10;
/** A child that was told to stop gets this long to go. */
const graceMs = 1_000;

/** Reads what a test file's first lines ask for. */
export function describeFile(checkout: string, path: string, long: boolean): TestFile {
  const head = readFileSync(join(checkout, path), "utf8").split("\n", 5);
  const seconds = head.map((line) => /^\/\/ deadline: (\d+) s$/.exec(line)?.[1]).find((found) => found !== undefined);
  const deadlineMs = seconds === undefined ? defaultDeadlineMs : Number(seconds) * 1000;
  const unprivileged = path.startsWith("test/node/store/") || head[0] === "// runs unprivileged";
  const [alone, waits, inMemory] = ["alone", "mostly waits", "in memory"].map((mark) => head.includes(`// ${mark}`));
  const marks = { unprivileged, alone: alone === true, waits: waits === true, inMemory: inMemory === true };
  return { path, deadlineMs: long ? deadlineMs * longFactor : deadlineMs, ...marks };
}

/** Runs one file in a process group of its own, and looks at what it left behind. Never rejects for what the file does. */
export async function runFile(file: TestFile, options: RunOptions): Promise<Outcome> {
  mkdirSync(options.home, { mode: 0o700 });
  options.user.own(options.home);
  const mark = randomUUID();
  const startedMs = performance.now();
  const child = start(file, options, mark);
  const output = collect(child);
  const faults: string[] = [];

  const exited = exitOf(child);
  const outcome = await Promise.race([exited, deadlineOf(file.deadlineMs, options.signal, exited)]);
  if (outcome === "deadline") faults.push(`killed: its deadline of ${file.deadlineMs / 1000} s passed`);
  else if (outcome === "interrupted") faults.push("killed: the run was interrupted");
  else {
    if (outcome !== "exit code 0") faults.push(outcome);
    for (const left of await leftProcesses(child.pid, mark)) faults.push(`left a process: ${left.pid} ${left.command}`);
  }
  if (child.pid !== undefined) killAll(child.pid, mark);
  await exited;
  await Promise.race([output.closed, sleep(graceMs, undefined, { ref: false })]);
  for (const name of leftFiles(options.home)) faults.push(`left in its temporary directory: ${name}`);

  const summary = parseSummary(output.text());
  const notices = skippedLines(output.text()).length;
  if (summary === undefined) faults.push("printed no summary: does it call run()?");
  else if (summary.total === 0 && notices === 0) faults.push("ran no test: does it call run()?");
  const { total, passed, skipped } = summary ?? { total: 0, passed: 0, skipped: 0 };
  // A skipped test may both print its reason and be counted by uvu.
  const seconds = (performance.now() - startedMs) / 1000;
  return { file, total, passed, skipped: Math.max(skipped, notices), seconds, faults, output: output.text() };
}

/** The lines by which `needs` says what was skipped. */
export function skippedLines(output: string): string[] {
  return output.split("\n").filter((line) => line.startsWith("skipped: "));
}

function start(file: TestFile, { checkout, user, home, code, long }: RunOptions, mark: string): ChildProcess {
  const [command, ...words] = [...(file.unprivileged ? user.prefix : []), process.execPath, join(checkout, file.path)];
  const env: NodeJS.ProcessEnv = { ...process.env, HOME: home, TMPDIR: home, NO_COLOR: "1", [markName]: mark };
  // What the developer's own p2pcache listens to must not reach the tests.
  for (const name of Object.keys(env)) {
    if (name.startsWith("XDG_") || name.startsWith("P2PCACHE_")) delete env[name];
  }
  delete env.FORCE_COLOR;
  env.NODE_COMPILE_CACHE = code;
  if (long) env.P2PCACHE_LONG = "1";
  return spawn(command!, words, { cwd: checkout, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
}

function collect(child: ChildProcess): { readonly text: () => string; readonly closed: Promise<unknown> } {
  let text = "";
  const streams = [child.stdout!, child.stderr!];
  for (const stream of streams) {
    stream.setEncoding("utf8");
    stream.on("data", (part: string) => {
      text = (text + part).slice(-outputCharactersMax);
    });
  }
  const closed = Promise.all(streams.map((stream) => new Promise((resolve) => stream.once("close", resolve))));
  return { text: () => text, closed };
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once("error", (error) => resolve(`could not be started: ${error.message}`));
    child.once("exit", (code, signal) => resolve(signal === null ? `exit code ${code}` : `ended by ${signal}`));
  });
}

async function deadlineOf(
  ms: number,
  signal: AbortSignal,
  over: Promise<unknown>,
): Promise<"deadline" | "interrupted"> {
  const done = new AbortController();
  void over.then(() => done.abort());
  try {
    await sleep(ms, undefined, { signal: AbortSignal.any([signal, done.signal]) });
    return "deadline";
  } catch {
    return "interrupted";
  }
}

async function leftProcesses(group: number | undefined, mark: string): Promise<LiveProcess[]> {
  if (group === undefined) return [];
  const untilMs = performance.now() + graceMs;
  let left = processesOf(group, mark);
  while (left.length > 0 && performance.now() < untilMs) {
    await sleep(50);
    left = processesOf(group, mark);
  }
  return left;
}

function leftFiles(home: string): string[] {
  return readdirSync(home).filter((name) => name.startsWith("p2pcache-"));
}

function parseSummary(output: string): { total: number; passed: number; skipped: number } | undefined {
  const last = [...output.matchAll(/^ {2}Total: +(\d+)\n {2}Passed: +(\d+)\n {2}Skipped: +(\d+)$/gm)].at(-1);
  return last && { total: Number(last[1]), passed: Number(last[2]), skipped: Number(last[3]) };
}
