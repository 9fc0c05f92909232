import { copyFileSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";

/**
 * p2pcache as it is installed, in a directory: compiled. From the sources every thread would first have to strip types.
 * Answers its launcher. `tsc -b` must have been run.
 */
export function install(directory: string): string {
  mkdirSync(join(directory, "cli"), { recursive: true });
  for (const name of ["package.json", "cli/launcher.js"]) copyFileSync(join(checkout, name), join(directory, name));
  symlinkSync(join(checkout, "dist"), join(directory, "dist"));
  return join(directory, "cli", "launcher.js");
}

const checkout = join(import.meta.dirname, "..");
