import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { seededRandom } from "../../protocol/random.ts";
import type { Machine } from "./command-line.ts";
import { makeTree } from "./trees.ts";

/** A package of version 1.0.0 in the studio's repository, as `publish <name>-1.0.0` finds it. Answers where it lies. */
export function packageTree(machine: Machine, name: string, { largeMib = 4 }: { largeMib?: number } = {}): string {
  const path = join(machine.studio.path, "packages", name, "1.0.0");
  makeTree(path, seededRandom(name.charCodeAt(0)), { smallFiles: 30, largeMib });
  writeFileSync(join(path, "package.py"), `name = "${name}"\n`);
  chmodSync(path, 0o755);
  return path;
}
