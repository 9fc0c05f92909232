import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";

/** A process that is no more. */
let dead: number | undefined;

/** What this process holds of a cache and a state below `machine` belongs to a dead one from now on, as after a crash. */
export function bury(machine: string): void {
  dead ??= spawnSync("/bin/true").pid;
  const cache = join(machine, "cache/.sys");
  const files = [join(machine, "state/owner"), join(cache, "p2pcache/owner"), join(cache, ".lock.lock")];
  const drafts = fs.readdirSync(join(cache, "p2pcache")).filter((name) => /^\.(claim|break)-/.test(name));
  for (const path of [...files, ...drafts.map((name) => join(cache, "p2pcache", name))]) {
    const text = fs.existsSync(path) ? fs.readFileSync(path, "utf8") : "";
    if (text !== "") fs.writeFileSync(path, text.replace(`"pid":${process.pid},`, `"pid":${dead},`));
  }
}
