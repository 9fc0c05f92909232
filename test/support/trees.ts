import { createHash } from "node:crypto";
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Random } from "../../protocol/random.ts";
import { noise } from "./noise.ts";

/** A tree of what packages consist of: `smallFiles` of them up to 20 kB, `largeMib` MiB in files of 4 MiB, links, an empty file. */
export function makeTree(
  path: string,
  random: Random,
  { smallFiles, largeMib }: { smallFiles: number; largeMib: number },
): void {
  mkdirSync(join(path, "bin"), { recursive: true, mode: 0o755 });
  writeFileSync(join(path, "empty"), "");
  mkdirSync(join(path, "empty-directory"));
  symlinkSync("bin/../empty", join(path, "link"));
  symlinkSync("nowhere", join(path, "bin", "dangling"));
  writeFileSync(join(path, "bin", "tool"), "#!/bin/sh\n", { mode: 0o755 });
  utimesSync(join(path, "bin", "tool"), 1_000_000_000.7, 1_000_000_000.7);
  for (let i = 0; i < smallFiles; i++) {
    const directory = join(path, "python", `module${i % 20}`);
    if (i < 20) mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `file${i}.py`), noise(seedOf(random), 1 + Math.floor(random() * 20_000)));
  }
  for (let i = 0; i * 4 < largeMib; i++) {
    writeFileSync(join(path, `library${i}.so`), noise(seedOf(random), 4 * 1024 * 1024), { mode: 0o755 });
  }
}

/** All that p2pcache keeps of a tree, one line an entry: two trees are equal when these are. */
export function listTree(path: string, below = ""): string[] {
  const names = readdirSync(join(path, below)).sort();
  return names.flatMap((name) => {
    const relative = below === "" ? name : `${below}/${name}`;
    const full = join(path, relative);
    const stat = lstatSync(full);
    if (stat.isSymbolicLink()) return [`link ${relative} -> ${readlinkSync(full)}`];
    if (stat.isDirectory()) return [`directory ${relative}`, ...listTree(path, relative)];
    const hash = createHash("sha256").update(readFileSync(full)).digest("hex");
    const executable = (stat.mode & 0o100) !== 0 ? "x" : "-";
    return [`file ${relative} ${executable} ${Math.floor(stat.mtimeMs / 1000)} ${stat.size} ${hash}`];
  });
}

function seedOf(random: Random): number {
  return Math.floor(random() * 2 ** 32);
}
