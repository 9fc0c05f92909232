import { spawnSync } from "node:child_process";
import { chownSync } from "node:fs";
import { join } from "node:path";

/** Debian's `nobody`: owns nothing, so that every fault of permissions shows. */
const unprivilegedId = 65534;

/** How to start a program as an unprivileged user. */
export interface User {
  readonly prefix: readonly string[];
  /** Makes a directory this user's own. */
  own(directory: string): void;
}

/** The user that we are. */
export const ourselves: User = { prefix: [], own: () => {} };

/** An unprivileged user who can read the checkout: ourselves unless we are root. @throws {Error} when there is no way. */
export function unprivilegedUser(checkout: string): User {
  if (process.getuid?.() !== 0) return ourselves;
  const plain = ["setpriv", "--reuid", `${unprivilegedId}`, "--regid", `${unprivilegedId}`, "--clear-groups"];
  // Below a directory of mode 0700 this user may read what it could not; faults of writing stay visible.
  const reading = [...plain, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"];
  const prefix = [plain, reading].find((words) => canRead(words, checkout));
  if (prefix === undefined)
    throw new Error("setpriv (apt-get install util-linux) cannot start an unprivileged Node here");
  return { prefix, own: (directory) => chownSync(directory, unprivilegedId, unprivilegedId) };
}

function canRead(prefix: readonly string[], checkout: string): boolean {
  const [command, ...words] = prefix;
  const reads = `require("node:fs").readFileSync(${JSON.stringify(join(checkout, "package.json"))})`;
  return spawnSync(command!, [...words, process.execPath, "-e", reads], { stdio: "ignore" }).status === 0;
}
