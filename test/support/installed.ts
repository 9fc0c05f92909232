import { cpSync, existsSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";

const checkout = join(import.meta.dirname, "../..");

/**
 * The words that start p2pcache as it is where it was installed: compiled, without the sources that a checkout runs, and
 * so without the megabytes that Node takes for stripping types. `directory` is made.
 * @throws {Error} where `npm run build` was not run.
 */
export function installed(directory: string): readonly string[] {
  if (!existsSync(join(checkout, "dist/cli/main.js"))) throw new Error("npm run build comes first");
  mkdirSync(join(directory, "cli"), { recursive: true });
  for (const each of ["dist", "package.json", "cli/launcher.js"]) {
    cpSync(join(checkout, each), join(directory, each), { recursive: true });
  }
  symlinkSync(join(checkout, "node_modules"), join(directory, "node_modules"));
  return [process.execPath, join(directory, "cli/launcher.js")];
}
