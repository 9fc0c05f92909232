import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";

/**
 * Commands that touch mounts themselves run in a process apart. A call on a mount that hangs may block the one thread that
 * could hear of Ctrl-C, and holds its process in the kernel, killed or not; so somebody else has to wait, and leave.
 */

/** What a process apart tells who waits for it: what to say if it has to be left behind. */
export interface LastWords {
  readonly interrupted: string;
  /** Absent without a deadline. */
  readonly late?: { readonly line: string; readonly timeoutMs: number };
}

/** Runs a command line apart, and ends as it does; or without it, when it does not end in time. */
export async function main(argv: string[]): Promise<void> {
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1]!, ...argv], {
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, [mark]: "1" },
  });
  let words: LastWords = { interrupted: "p2pcache: interrupted\n" };
  let late: NodeJS.Timeout | undefined;
  const leave = (line: string, code: number) => {
    process.stderr.write(line);
    child.kill("SIGKILL");
    process.exit(code);
  };
  child.on("message", (told: LastWords) => {
    words = told;
    clearTimeout(late);
    const { late: end } = told;
    if (end !== undefined) {
      late = setTimeout(() => leave(end.line, lateExit), Math.min(end.timeoutMs + graceMs, timerMsMax));
    }
  });
  let isInterrupted = false;
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (isInterrupted) leave("", interruptedExit);
      isInterrupted = true;
      // It may have ended just now.
      child.send("interrupt", () => undefined);
      setTimeout(() => leave(words.interrupted, interruptedExit), graceMs).unref();
    });
  }
  const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
  clearTimeout(late);
  process.exitCode = code ?? 128 + constants.signals[signal!];
}

/** In a process apart: hears of interrupts from who waits for it, and ends with it. Answers whether this is one. */
export function listenApart(onInterrupt: () => void): boolean {
  if (process.env[mark] === undefined || process.send === undefined) return false;
  // Not for processes that this one starts.
  delete process.env[mark];
  process.on("message", onInterrupt);
  process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
  // What a terminal or an init system sends to all of us comes to both: it counts once.
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, onInterrupt);
  process.channel?.unref();
  return true;
}

/** In a process apart: says what to say for it. Nothing elsewhere. */
export function tellLastWords(words: LastWords): void {
  if (process.connected) process.send?.(words, undefined, {}, () => undefined);
}

const mark = "P2PCACHE_APART";
const interruptedExit = 130;
const lateExit = 6;
/** More than what `atMounts` gives. */
const graceMs = 4_000;
const timerMsMax = 2 ** 31 - 1;
