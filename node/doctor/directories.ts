import { accessSync, constants, lstatSync, realpathSync, type Stats, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { P2pCacheError } from "../../protocol/errors.ts";
import { checkNoOtherWriter } from "../path-guard.ts";
import { type CheckLine, failure, ok, warning } from "./check-line.ts";
import { isRemote, type Mount, mountOf } from "./mounts.ts";

/** What a directory is to us. */
export interface DirectoryUse {
  readonly check: "cache" | "state" | "socket";
  readonly path: string;
}

/** Whether a directory that we own can be used as what it is for: the way to it, who may write there, and its mount. */
export function* checkDirectory(use: DirectoryUse): Generator<CheckLine> {
  const { check, path } = use;
  const existing = deepestDirectory(path);
  if (!statSync(existing).isDirectory()) {
    return yield failure(check, `${existing} is not a directory`, "move it away, or set another path");
  }
  const real = realpathSync(existing);
  const faults = [...guardFaults(check, real), ...writeFault(check, real), ...mountFaults(use, mountOf(real))];
  yield* faults;
  if (faults.some(({ level }) => level === "failure")) return;
  if (existing !== path) yield ok(check, `${path} is not there yet, and can be made in ${existing}`);
  else yield ok(check, `${path}${real === path ? "" : ` (${real})`}: ${describe(real)}`);
}

/** The deepest part of a path that is there. @throws {Error} when a link in it leads in a circle. */
export function deepestDirectory(path: string): string {
  for (let at = path; ; at = dirname(at)) {
    if (statSync(at, { throwIfNoEntry: false }) !== undefined) return at;
    // A link that leads nowhere: what is made there would be made elsewhere.
    if (lstatSync(at, { throwIfNoEntry: false }) !== undefined) return at;
    if (at === dirname(at)) return at;
  }
}

/**
 * Every directory from `/` down in which another user may put, rename or delete things. A node refuses to use such a
 * cache or socket.
 */
function* guardFaults(check: string, real: string): Generator<CheckLine> {
  for (const directory of [...ways(real), ...(check === "cache" ? ownDirectories(real) : [])]) {
    try {
      checkNoOtherWriter(directory);
    } catch (error) {
      if (!(error instanceof P2pCacheError)) throw error;
      yield (check === "state" ? warning : failure)(check, error.message, error.hint);
    }
  }
}

function* ways(real: string): Generator<string> {
  if (dirname(real) !== real) yield* ways(dirname(real));
  yield real;
}

/** What the node renames in and out of. */
function ownDirectories(cache: string): string[] {
  return [".sys", join(".sys", "to_delete"), join(".sys", "p2pcache")]
    .map((name) => join(cache, name))
    .filter((path) => lstatSync(path, { throwIfNoEntry: false }) !== undefined);
}

function* writeFault(check: string, real: string): Generator<CheckLine> {
  try {
    accessSync(real, constants.W_OK | constants.X_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const stat = statSync(real);
    if (code === "EROFS") {
      const mount = mountOf(real);
      const hint = `mount it for writing${mount === undefined ? "" : ` (${mount.path}, ${mount.type})`}, or set another path`;
      return yield failure(check, `${real} is on a read-only mount`, hint);
    }
    const hint = `run the node as user ${stat.uid}, or give ${real} to user ${process.geteuid?.()} with chown`;
    yield failure(check, `${real} cannot be written by user ${process.geteuid?.()}: ${ownership(stat)}`, hint);
  }
}

function* mountFaults({ check, path }: DirectoryUse, mount: Mount | undefined): Generator<CheckLine> {
  if (mount === undefined) return;
  if (check === "cache" && mount.options.has("noexec")) {
    yield failure(
      check,
      `${path} is on a mount that runs no programs (${mount.path}, noexec), and packages are run from it`,
      `mount -o remount,exec ${mount.path}, or set another cache.path`,
    );
  }
  if (!isRemote(mount)) return;
  const hint = `put ${check === "cache" ? "cache.path" : "node.state"} on this machine's own disk`;
  yield warning(check, `${path} is on ${mount.type} (${mount.path}), which other machines may share`, hint);
}

function describe(real: string): string {
  const mount = mountOf(real);
  return `${ownership(statSync(real))}${mount === undefined ? "" : `, on ${mount.type} (${mount.path})`}`;
}

function ownership(stat: Stats): string {
  return `owner ${stat.uid}:${stat.gid}, mode ${(stat.mode & 0o7777).toString(8).padStart(4, "0")}`;
}

/** Whoever looks as root sees through every permission. */
export function* checkUser(cachePath: string): Generator<CheckLine> {
  const user = process.geteuid?.();
  if (user === undefined) return;
  const owner = statSync(deepestDirectory(cachePath)).uid;
  const isThere = relative(deepestDirectory(cachePath), cachePath) === "";
  if (user !== 0 || !isThere || owner === 0) return yield ok("user", `looked at as user ${user}`);
  yield warning(
    "user",
    `looked at as root, and the cache belongs to user ${owner}: what root may do says little`,
    `setpriv --reuid ${owner} --clear-groups p2pcache doctor, or sudo -u with its name`,
  );
}
