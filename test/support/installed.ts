import { copyFileSync, existsSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";

const checkout = join(import.meta.dirname, "../..");

/**
 * p2pcache as it is where it was installed, in a directory that is made: compiled, without the sources that a checkout
 * runs, since from them every thread would first have to strip types. Answers its launcher.
 * @throws {Error} where `npm run build` was not run.
 */
export function install(directory: string): string {
  if (!existsSync(join(checkout, "dist/cli/main.js"))) throw new Error("npm run build comes first");
  mkdirSync(join(directory, "cli"), { recursive: true });
  for (const name of ["package.json", "cli/launcher.js"]) copyFileSync(join(checkout, name), join(directory, name));
  for (const name of ["dist", "node_modules"]) symlinkSync(join(checkout, name), join(directory, name));
  return join(directory, "cli", "launcher.js");
}
