import { readdirSync, readFileSync } from "node:fs";

/** Stands in the environment of a test file and of whatever it starts, so that also a daemon that left its group is found. */
export const markName = "TEST_OF_P2PCACHE";

export interface LiveProcess {
  readonly pid: number;
  readonly command: string;
}

/** The processes of a test file that are alive: those in its group, and those that carry its mark. */
export function processesOf(group: number, mark: string): LiveProcess[] {
  const found: LiveProcess[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readOrEmpty(`/proc/${name}/stat`);
    // The second field is the command in parentheses, which may hold anything; state, parent, group come after the last one.
    const [state, , processGroup] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (stat === "" || state === "Z" || state === "X") continue;
    const environment = readOrEmpty(`/proc/${name}/environ`).split("\0");
    if (Number(processGroup) !== group && !environment.includes(`${markName}=${mark}`)) continue;
    found.push({ pid: Number(name), command: readOrEmpty(`/proc/${name}/cmdline`).split("\0").join(" ").trim() });
  }
  return found;
}

/** Kills a group and whatever else carries its mark. */
export function killAll(group: number, mark: string): void {
  killQuietly(-group);
  for (const { pid } of processesOf(group, mark)) killQuietly(pid);
}

function killQuietly(target: number): void {
  try {
    process.kill(target, "SIGKILL");
  } catch {
    // Gone meanwhile: that is what was wanted.
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
