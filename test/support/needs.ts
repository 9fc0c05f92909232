import { accessSync, constants } from "node:fs";
import { basename, delimiter, join } from "node:path";

/**
 * Whether a counterpart of a test is installed; if not, prints how to get it, in a line that the runner counts.
 * @throws {Error} when it is missing under `CI=true`, where nothing may be skipped.
 */
export function needs(command: string, debianPackage: string): boolean {
  if (searchPath().some((directory) => isExecutable(join(directory, command)))) return true;
  const what = basename(process.argv[1] ?? "a test", ".test.ts");
  const line = `${what} needs ${command} (apt-get install ${debianPackage})`;
  if (process.env.CI === "true") throw new Error(line);
  process.stdout.write(`skipped: ${line}\n`);
  return false;
}

function searchPath(): string[] {
  // Debian's daemons and disk tools are in sbin, which the path of an ordinary user lacks.
  return [...(process.env.PATH ?? "").split(delimiter).filter((part) => part !== ""), "/usr/sbin", "/sbin"];
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
