import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import { homedir, hostname, tmpdir } from "node:os";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { UsageError } from "../../protocol/errors.ts";

/** A process's environment. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Where this machine and this user keep things: absolute paths. */
export interface Places {
  readonly home: string;
  readonly hostName: string;
  readonly userFile: string;
  readonly systemFile: string;
  readonly state: string;
  readonly cache: string;
  /** Sockets go into a directory below it. */
  readonly runtime: string;
}

/**
 * systemd's directories where it set them (systemd.exec(5), RuntimeDirectory=), else the user's by the XDG Base
 * Directory Specification, which says to ignore relative ones.
 */
export function findPlaces(env: Environment, given: { readonly home?: string; readonly systemFile?: string }): Places {
  const home = given.home ?? homeOf(env);
  const ours = (systemd: string, xdg: string, fallback: string) =>
    firstOf(env[systemd]) ?? join(absolute(env[xdg]) ?? fallback, "p2pcache");
  const systemDirectory = firstOf(env.CONFIGURATION_DIRECTORY) ?? "/etc/p2pcache";
  // Without a runtime directory the user's number keeps two users' sockets apart in a directory that all share.
  const shared = absolute(env.TMPDIR) ?? tmpdir();
  const xdgRuntime = absolute(env.XDG_RUNTIME_DIR);
  const userRuntime =
    xdgRuntime === undefined ? join(shared, `p2pcache-${process.getuid?.() ?? 0}`) : join(xdgRuntime, "p2pcache");
  return {
    home,
    hostName: hostname(),
    userFile: join(absolute(env.XDG_CONFIG_HOME) ?? join(home, ".config"), "p2pcache", "config.toml"),
    systemFile: given.systemFile ?? join(systemDirectory, "config.toml"),
    state: ours("STATE_DIRECTORY", "XDG_STATE_HOME", join(home, ".local", "state")),
    cache: ours("CACHE_DIRECTORY", "XDG_CACHE_HOME", join(home, ".cache")),
    runtime: firstOf(env.RUNTIME_DIRECTORY) ?? userRuntime,
  };
}

/** An absolute path: `~` is the home directory, and what is relative lies below `base`. An empty text stays empty. */
export function expandPath(text: string, base: string, home: string): string {
  if (text === "") return text;
  if (text === "~" || text.startsWith("~/")) return resolve(home, text.slice(2));
  return resolve(base, text);
}

/** The socket of the node that owns a cache: all who name that cache, by whatever link, find the same one. */
export function socketOf(cache: string, runtime: string): string {
  const digest = createHash("sha256").update(realPathOf(cache)).digest("hex");
  return join(runtime, digest.slice(0, socketDigits), "node.sock");
}

/** @throws {UsageError} where the kernel would refuse the socket or the one beside it, or the two would be one. */
export function checkSocket(path: string, source: string): void {
  if (basename(path) === "admin.sock") {
    throw new UsageError(`node.socket: ${path} is the name of the admin socket beside it (from ${source})`, {
      hint: "name it node.sock",
    });
  }
  const bytes = Math.max(Buffer.byteLength(path), Buffer.byteLength(join(dirname(path), "admin.sock")));
  if (bytes <= socketBytesMax) return;
  throw new UsageError(
    `node.socket: ${path} is too long for a Unix socket: ${bytes} bytes, and ${socketBytesMax} are allowed (from ${source})`,
    { hint: "set node.socket, or XDG_RUNTIME_DIR, to a shorter path" },
  );
}

/** The path without its links where it exists, else as it is. */
function realPathOr(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** sun_path has 108 bytes with its NUL (unix(7)). */
const socketBytesMax = 107;
/** 64 bits: no two caches of a machine share them by chance, and the path stays short. */
const socketDigits = 16;

/** The path without its links, also while its last parts do not exist yet: making them does not change the answer. */
function realPathOf(path: string): string {
  const real = realPathOr(path);
  const parent = dirname(path);
  return real !== path || parent === path ? real : join(realPathOf(parent), basename(path));
}

/** systemd separates several directories by colons; the first is the main one. */
function firstOf(text: string | undefined): string | undefined {
  return absolute(text?.split(":")[0]);
}

function absolute(path: string | undefined): string | undefined {
  return path !== undefined && isAbsolute(path) ? path : undefined;
}

/** In a container a user may have neither HOME nor an entry in passwd. */
function homeOf(env: Environment): string {
  try {
    return absolute(env.HOME) ?? homedir();
  } catch {
    return "/";
  }
}
