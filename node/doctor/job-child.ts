import { type ChildProcess, fork } from "node:child_process";
import { getCompileCacheDir } from "node:module";
import { broken, type CheckLine, type CheckLines, failure } from "./check-line.ts";

/** Some checks that run one after the other in a process of their own, which can be left behind. */
export interface Job {
  /** Stands in the process's arguments, so that `ps` shows what hangs. */
  readonly name: string;
  /** What the process is given, by the structured clone. */
  readonly work: unknown;
}

/** What a job's process says. */
type JobMessage =
  | { readonly kind: "begin"; readonly check: string }
  | { readonly kind: "line"; readonly line: CheckLine }
  | { readonly kind: "answer"; readonly answer: unknown }
  | { readonly kind: "end" };

/** What came of a job: its lines, and what it answered besides, if it did. */
export interface JobReport {
  readonly lines: readonly CheckLine[];
  readonly answer: unknown;
}

/**
 * Runs a job. At the deadline its process is killed and not waited for: a system call on a mount that hangs cannot be
 * cancelled, and neither thread pool nor exit of ours may hang with it. Never rejects.
 */
export async function runJob(script: URL, job: Job, deadlineMs: number): Promise<JobReport> {
  const lines: CheckLine[] = [];
  let [current, answer]: [string, unknown] = [job.name, undefined];
  const ended = Promise.withResolvers<"end" | "late" | "gone">();
  const child = start(script, job.name);
  const timer = setTimeout(() => ended.resolve("late"), deadlineMs);
  child.on("message", (message) => {
    const said = message as JobMessage;
    if (said.kind === "begin") current = said.check;
    else if (said.kind === "line") lines.push(said.line);
    else if (said.kind === "answer") ({ answer } = said);
    else ended.resolve("end");
  });
  child.once("error", () => ended.resolve("gone"));
  child.once("exit", () => ended.resolve("gone"));
  child.send(job.work as object, () => undefined);
  const outcome = await ended.promise;
  clearTimeout(timer);
  letGo(child);
  if (outcome === "late") lines.push(noAnswer(current, deadlineMs));
  if (outcome === "gone") lines.push(broken(current, new Error("its process ended before it had answered")));
  return { lines, answer };
}

/** For the process of a job: tells what each check finds, then the end. Never rejects. */
export async function reportChecks(
  checks: Iterable<readonly [check: string, run: () => CheckLines]>,
  answer?: () => unknown,
): Promise<void> {
  const say = (message: JobMessage) => void process.send?.(message);
  for (const [check, run] of checks) {
    say({ kind: "begin", check });
    try {
      for await (const line of run()) say({ kind: "line", line });
    } catch (error) {
      say({ kind: "line", line: broken(check, error) });
    }
  }
  if (answer !== undefined) say({ kind: "answer", answer: answer() });
  process.send?.({ kind: "end" } satisfies JobMessage);
}

function start(script: URL, name: string): ChildProcess {
  const stdio = ["ignore", "ignore", "ignore", "ipc"] as ("ignore" | "ipc")[];
  const codeCache = getCompileCacheDir();
  const env = codeCache === undefined ? process.env : { ...process.env, NODE_COMPILE_CACHE: codeCache };
  return fork(script, [name], { serialization: "advanced", stdio, env });
}

function letGo(child: ChildProcess): void {
  child.removeAllListeners();
  child.on("error", () => undefined);
  child.kill("SIGKILL");
  if (child.connected) child.disconnect();
  child.unref();
}

function noAnswer(check: string, deadlineMs: number): CheckLine {
  const message = `nothing answered within ${Math.round(deadlineMs / 100) / 10} s: a mount or a server that hangs`;
  return failure(check, message, "look at the mount with `mount` and `dmesg`, and at its server");
}
