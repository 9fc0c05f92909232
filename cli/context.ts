import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Command } from "commander";
import type { LoadedSettings } from "../node/index.ts";
import type { SharedFlags } from "./flags.ts";
import type { Output } from "./print.ts";

/** What a command works with. */
export interface Context {
  readonly flags: SharedFlags;
  readonly out: Output;
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  /** Reads the configuration and prints its warnings. @throws {UsageError} */
  settings(): LoadedSettings;
}

/** Does a command's work with its context; what it throws is printed, and decides the exit code. */
export type Run = (command: Command, work: (context: Context) => Promise<void>) => Promise<void>;

/** Where this package lies: the checkout, or what npm installed. */
export const packageDirectory: string = findPackage(import.meta.dirname);

/** What starts another p2pcache by the Node that runs this one. */
export const launcherPath: string = join(packageDirectory, "cli", "launcher.js");

export function readVersion(): string {
  return (JSON.parse(readFileSync(join(packageDirectory, "package.json"), "utf8")) as { version: string }).version;
}

/** Sources lie in `cli/`, what is built in `dist/cli/`. */
function findPackage(directory: string): string {
  const parent = dirname(directory);
  return existsSync(join(parent, "package.json")) ? parent : dirname(parent);
}
