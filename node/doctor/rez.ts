import { execFile } from "node:child_process";
import { readFileSync, realpathSync } from "node:fs";
import { promisify } from "node:util";
import { type CheckLine, failure, ok, warning } from "./check-line.ts";

/** Where Rez's settings are read from. */
export interface RezPlace {
  /** `rezconfig.py`, a YAML file, or JSON; undefined: whatever the Rez that is found here reads. */
  readonly file: string | undefined;
  readonly env: NodeJS.ProcessEnv;
}

/** Whether Rez would use our cache as we mean it to (REZ.md sections 6 to 8). */
export async function* checkRez(cache: string, place: RezPlace): AsyncGenerator<CheckLine> {
  const found = await readSettings(place);
  if (found === undefined) {
    return yield ok("rez", "not looked at: no rez-config is found here (--rez-config names a file to read)");
  }
  if ("fault" in found) return yield failure("rez", found.fault, found.hint);
  const { settings, source } = found;
  const faults = [...cacheFaults(cache, settings, source), ...cleaningFaults(settings, source)];
  yield* faults;
  if (faults.length === 0) yield ok("rez", `${source} reads the packages in ${cache}`);
  if (faults.length === 0 && settings.get("write_package_cache") === true) {
    yield ok("rez", "Rez copies packages into the cache as well, wherever it is before us (write_package_cache)");
  }
}

type RezSettings = ReadonlyMap<string, unknown>;
type Found =
  | { readonly settings: RezSettings; readonly source: string }
  | { readonly fault: string; readonly hint?: string };

function* cacheFaults(cache: string, settings: RezSettings, source: string): Generator<CheckLine> {
  const path = settings.get("cache_packages_path");
  if (typeof path !== "string" || path === "") {
    const said = path === computed ? "is computed, and cannot be read here" : "is not set: Rez uses no package cache";
    const level = path === computed ? warning : failure;
    yield level("rez", `${source}: cache_packages_path ${said}`, `cache_packages_path = ${JSON.stringify(cache)}`);
  } else if (realPathOr(path) !== realPathOr(cache)) {
    yield failure(
      "rez",
      `${source}: cache_packages_path is ${path}, and cache.path is ${cache}: Rez does not see what is fetched`,
      `set cache_packages_path = ${JSON.stringify(cache)} in Rez's configuration, or cache.path to Rez's`,
    );
  }
  if (settings.get("read_package_cache") === false) {
    const hint = "set read_package_cache = True in Rez's configuration";
    yield failure("rez", `${source}: read_package_cache is off: Rez does not use the cache`, hint);
  }
}

function* cleaningFaults(settings: RezSettings, source: string): Generator<CheckLine> {
  const days = settings.get("package_cache_max_variant_days");
  if (settings.get("write_package_cache") !== true || days === 0) return;
  const limit = settings.get("package_cache_clean_limit");
  if (typeof limit === "number" && limit < 0) return;
  yield warning(
    "rez",
    `${source}: Rez deletes variants from the cache that it has not used for ${String(days ?? 30)} days`,
    "set write_package_cache = False, so that p2pcache alone writes, or package_cache_max_variant_days = 0",
  );
}

/** Undefined where neither Rez nor a file is there. */
async function readSettings({ file, env }: RezPlace): Promise<Found | undefined> {
  if (file !== undefined && !canRead(file)) {
    return { fault: `Rez's configuration ${file} cannot be read`, hint: "correct --rez-config" };
  }
  const asked = await askRez(file === undefined ? env : { ...env, REZ_CONFIG_FILE: file });
  if (asked !== undefined) return asked;
  if (file === undefined) return undefined;
  const settings = new Map([...rezDefaults, ...parseRezSettings(readFileSync(file, "utf8")), ...fromEnvironment(env)]);
  return { settings, source: file };
}

/** All settings as Rez itself says them: YAML, one a line. Undefined where Rez is not installed. */
async function askRez(env: NodeJS.ProcessEnv): Promise<Found | undefined> {
  for (const [command, words] of [
    ["rez-config", []],
    ["rez", ["config"]],
  ] as const) {
    try {
      const { stdout } = await promisify(execFile)(command, words, { env, timeout: rezMs, maxBuffer: 4 << 20 });
      return { settings: parseRezSettings(stdout), source: command };
    } catch (error) {
      const { code, stderr, killed } = error as { code?: unknown; stderr?: string; killed?: boolean };
      // Also what lies in a directory of PATH that we may not look into.
      if (code === "ENOENT" || code === "EACCES") continue;
      const reason = killed ? `no answer within ${rezMs / 1000} s` : stderr?.trim().split("\n").at(-1);
      return { fault: `${command} fails: ${reason || String(code)}`, hint: "run it by hand to see why" };
    }
  }
  return undefined;
}

/**
 * The settings that matter here, of YAML (`key: value`), Python (`key = value`) or JSON. Only plain values are read:
 * what a program would have to compute stands as `computed`.
 */
export function parseRezSettings(text: string): Map<string, unknown> {
  const lines = text.split("\n").flatMap((line): [string, unknown][] => {
    const [, name, value] = /^\s{0,2}"?([a-z_]+)"?\s*[:=]\s*(.*?),?\s*$/.exec(line) ?? [];
    return name === undefined || !rezDefaults.has(name) ? [] : [[name, plainValue(value!)]];
  });
  return new Map(lines);
}

function plainValue(text: string): unknown {
  const bare = text.replace(/\s+#.*$/, "").trim();
  if (/^(true|false)$/i.test(bare)) return bare.toLowerCase() === "true";
  if (/^(none|null|~)?$/i.test(bare)) return undefined;
  if (/^-?\d+(\.\d+)?$/.test(bare)) return Number(bare);
  const [, quoted] = /^(?:"([^"\\]*)"|'([^'\\]*)')$/.exec(bare)?.filter((part) => part !== undefined) ?? [];
  if (quoted !== undefined) return quoted;
  return /^[/~][^\s"'()+]*$/.test(bare) ? bare : computed;
}

/** `REZ_<NAME>` overrides what the file says. */
function fromEnvironment(env: NodeJS.ProcessEnv): [string, unknown][] {
  return [...rezDefaults.keys()].flatMap((name): [string, unknown][] => {
    const value = env[`REZ_${name.toUpperCase()}`];
    return value === undefined ? [] : [[name, plainValue(value)]];
  });
}

const computed: unique symbol = Symbol("computed");
/** As Rez 3.4.0 has them (rezconfig.py; REZ.md section 8). */
const rezDefaults: RezSettings = new Map<string, unknown>([
  ["cache_packages_path", undefined],
  ["read_package_cache", true],
  ["write_package_cache", true],
  ["package_cache_max_variant_days", 30],
  ["package_cache_clean_limit", 0.5],
]);
const rezMs = 5_000;

function canRead(file: string): boolean {
  try {
    readFileSync(file);
    return true;
  } catch {
    return false;
  }
}

function realPathOr(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
