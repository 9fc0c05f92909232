import { chmodSync, globSync, mkdirSync, mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeFile, type Outcome, runFile, skippedLines, type TestFile } from "./support/runner-file.ts";
import { ourselves, unprivilegedUser } from "./support/runner-user.ts";

/** Two: the machines that run the gate have two cores. One that mostly waits runs beside them. */
const filesAtOnce = 2;
const memoryBytesMin: number = 8 * 2 ** 30;

const checkout = join(import.meta.dirname, "..");
const words = process.argv.slice(2);
const long = words.includes("--long");
process.exitCode = await runAll(words.filter((word) => !word.startsWith("--")));

/** Runs every test file whose path has one of `filters` in it, reports, and gives back the exit code. */
async function runAll(filters: readonly string[]): Promise<number> {
  const files = findFiles(filters);
  if (files.length === 0) say(`no test file matches ${filters.join(", ")}`);
  const interrupt = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => interrupt.abort());

  const [homes, homesInMemory] = [tmpdir(), memoryDirectory() ?? tmpdir()].map(makeHomes) as [string, string];
  const code = join(homes, "code");
  mkdirSync(code);
  chmodSync(code, 0o1777); // For every user that tests run as.
  const outcomes: Outcome[] = [];
  try {
    const unprivileged = files.some((file) => file.unprivileged) ? unprivilegedUser(checkout) : ourselves;
    const numbered = [...files.entries()];
    const lane = (of: (file: TestFile) => boolean) => numbered.filter(([, file]) => of(file)).values();
    const work = async (waiting: Iterable<[number, TestFile]>) => {
      for (const [index, file] of waiting) {
        if (interrupt.signal.aborted) return;
        const user = file.unprivileged ? unprivileged : ourselves;
        const home = join(file.inMemory ? homesInMemory : homes, `${index}`);
        const outcome = await runFile(file, { checkout, user, home, code, long, signal: interrupt.signal });
        outcomes.push(outcome);
        report(outcome);
      }
    };
    const busy = lane(({ alone, waits }) => !alone && !waits);
    const waiting = lane(({ alone, waits }) => !alone && waits);
    await Promise.all([...Array.from({ length: filesAtOnce }, () => work(busy)), work(waiting)]);
    await work(lane(({ alone }) => alone));
  } finally {
    for (const each of [homes, homesInMemory]) rmSync(each, { recursive: true, force: true });
  }
  return conclude(outcomes, interrupt.signal.aborted);
}

/** Those with the longest deadlines first, so that none of them is left alone at the end. */
function findFiles(filters: readonly string[]): TestFile[] {
  return globSync("test/**/*.test.ts", { cwd: checkout })
    .filter((path) => long || !path.startsWith("test/long/"))
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .sort()
    .map((path) => describeFile(checkout, path, long))
    .sort((a, b) => b.deadlineMs - a.deadlineMs);
}

/** Where files lie in memory, if there is room for the largest test. */
function memoryDirectory(): string | undefined {
  try {
    const { bavail, bsize } = statfsSync("/dev/shm");
    const bytes = Math.min(bavail * bsize, process.availableMemory());
    return bytes >= memoryBytesMin ? "/dev/shm" : undefined;
  } catch {
    return undefined;
  }
}

/** In a directory that every user may enter. */
function makeHomes(directory: string): string {
  const homes = mkdtempSync(join(directory, "p2pcache-tests-"));
  chmodSync(homes, 0o755);
  return homes;
}

function report(outcome: Outcome): void {
  const { file, passed, total, seconds, faults, output } = outcome;
  const name = file.path.replace(/^test\//, "").replace(/\.test\.ts$/, "");
  const verdict = failuresOf(outcome) === 0 ? "ok  " : "FAIL";
  say(`${verdict} ${name.padEnd(44)} ${`${passed}/${total}`.padStart(9)} ${seconds.toFixed(1).padStart(7)} s`);
  if (verdict === "FAIL") say(output.trimEnd());
  else for (const line of skippedLines(output)) say(`     ${line}`);
  for (const fault of faults) say(`     ${file.path}: ${fault}`);
}

/** A file that failed as a whole counts as one, unless its tests already do. */
function failuresOf({ total, passed, faults }: Outcome): number {
  return Math.max(total - passed, faults.length > 0 ? 1 : 0);
}

function conclude(outcomes: readonly Outcome[], interrupted: boolean): number {
  const sum = (of: (outcome: Outcome) => number) => outcomes.reduce((total, outcome) => total + of(outcome), 0);
  const failed = outcomes.length === 0 ? 1 : sum(failuresOf);
  const skipped = sum((outcome) => outcome.skipped);
  if (outcomes.length > 0 && failed > 0) {
    const names = outcomes.filter((outcome) => failuresOf(outcome) > 0).map((outcome) => outcome.file.path);
    say(`\nfailed: ${names.join(" ")}`);
  }
  say(`${sum((outcome) => outcome.passed)} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  if (interrupted) return 130;
  return failed > 0 ? 1 : 0;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
