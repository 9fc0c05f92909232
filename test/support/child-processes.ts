import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** The processes that a process has started and that run `file`, by their pids. */
export function childrenOf(pid: number, file: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((each) => parentOf(each) === pid && textOf(`/proc/${each}/cmdline`).includes(file));
}

/** `R`, `S`, `T` for stopped, `Z` for one that nobody has looked after (proc(5)); undefined for none. */
export function stateOf(pid: number): string | undefined {
  return statOf(pid)?.[0];
}

/** Waits until something holds that no event tells. */
export async function until(what: string, holds: () => boolean, waitMs = 10_000): Promise<void> {
  const endMs = performance.now() + waitMs;
  while (!holds()) {
    if (performance.now() > endMs) throw new Error(`not within ${waitMs} ms: ${what}`);
    await sleep(20);
  }
}

function parentOf(pid: number): number {
  return Number(statOf(pid)?.[1]);
}

/** From the state on; the name before it may hold anything. */
function statOf(pid: number): string[] | undefined {
  const text = textOf(`/proc/${pid}/stat`);
  return text === "" ? undefined : text.slice(text.lastIndexOf(")") + 2).split(" ");
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
