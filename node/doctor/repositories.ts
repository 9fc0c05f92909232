import { accessSync, constants, readdirSync, realpathSync, statSync } from "node:fs";
import { type CheckLine, failure, ok, warning } from "./check-line.ts";
import { mountOf } from "./mounts.ts";

/** Whether a repository is mounted and can be read. Blocks for as long as its mount does. */
export function* checkRepository(id: string, path: string): Generator<CheckLine> {
  const check = `repository ${id}`;
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) {
    return yield warning(check, `${path} is not there`, `mount it, or correct repositories.${id}`);
  }
  if (!stat.isDirectory()) return yield failure(check, `${path} is not a directory`, `correct repositories.${id}`);
  const real = realpathSync(path);
  try {
    accessSync(real, constants.R_OK | constants.X_OK);
  } catch {
    const hint = "packages are read there when they are published and where they are not cached";
    return yield warning(check, `${path} cannot be read by user ${process.geteuid?.()}`, hint);
  }
  const families = readdirSync(real).filter((name) => !name.startsWith(".")).length;
  if (families === 0) return yield warning(check, `${path} is empty`, "is it mounted on this machine?");
  const type = mountOf(real)?.type;
  yield ok(check, `${path}${real === path ? "" : ` (${real})`}: ${families} entries${type ? `, on ${type}` : ""}`);
}
