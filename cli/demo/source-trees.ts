import {
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { UsageError } from "../../node/index.ts";
import { packageDirectory, readVersion } from "../context.ts";
import { Breath } from "./breath.ts";

/** A tree that the demo publishes, and as what. */
export interface SourceTree {
  readonly name: string;
  readonly version: string;
  readonly path: string;
}

/**
 * The two trees that `npm ci` left on this disk: Node itself, and all other modules. The second one is made of hard
 * links in `directory`, or copied where there can be none.
 * @throws {UsageError} outside of a checkout.
 */
export async function sourceTrees(directory: string, signal: AbortSignal): Promise<[SourceTree, SourceTree]> {
  const modules = findModules(packageDirectory);
  const node = join(modules, "node");
  const { version } = JSON.parse(readFileSync(join(node, "package.json"), "utf8")) as { version: string };
  await linkTree(modules, directory, notModules, signal);
  return [
    { name: "node", version, path: node },
    { name: "modules", version: readVersion(), path: directory },
  ];
}

/** The first one is the other package; in the second, tools keep what changes at any time. */
const notModules: ReadonlySet<string> = new Set(["node", ".cache"]);

function findModules(directory: string): string {
  const modules = join(directory, "node_modules");
  if (existsSync(join(modules, "node", "package.json"))) return modules;
  const parent = dirname(directory);
  if (parent !== directory) return findModules(parent);
  throw new UsageError("the demo needs the packages of a checkout, with the package node among them", {
    hint: "clone p2pcache, and run: npm ci && npm run demo",
  });
}

async function linkTree(from: string, to: string, except: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
  const breath = new Breath(signal);
  let mayLink = true;
  const take = async (source: string, target: string, left: ReadonlySet<string>): Promise<void> => {
    mkdirSync(target, { mode: 0o755 });
    for (const entry of readdirSync(source, { withFileTypes: true })) {
      if (left.has(entry.name)) continue;
      const [path, copy] = [join(source, entry.name), join(target, entry.name)];
      if (entry.isDirectory()) await take(path, copy, new Set());
      else if (entry.isSymbolicLink()) symlinkSync(readlinkSync(path), copy);
      else if (entry.isFile()) {
        mayLink &&= tryLink(path, copy);
        if (!mayLink) copyFile(path, copy);
      }
      await breath.take();
    }
  };
  await take(from, to, except);
}

/** False between two disks, and where the kernel protects the files of others (proc(5), protected_hardlinks). */
function tryLink(path: string, copy: string): boolean {
  try {
    linkSync(path, copy);
    return true;
  } catch {
    return false;
  }
}

function copyFile(path: string, copy: string): void {
  copyFileSync(path, copy);
  const { atime, mtime } = lstatSync(path);
  utimesSync(copy, atime, mtime);
}
