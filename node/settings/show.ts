import { stat } from "node:fs/promises";
import { P2pCacheError } from "../../protocol/errors.ts";
import { privateFileFault } from "../keys.ts";
import { hideSecrets } from "./explain.ts";
import { checkAdmission, type LoadedSettings, requireNetwork } from "./load.ts";
import { settingKey } from "./table.ts";

/** One key as `config show --json` prints it; a value that is not set is absent. */
export interface ShownSetting {
  readonly key: string;
  readonly value?: unknown;
  /** What holds where the value is not set, for people. */
  readonly default?: string;
  /** `flag`, `environment`, a file's path or `default`. */
  readonly origin?: string;
}

/** What `config check` found. */
export interface SettingProblem {
  /** With an error a node does not run; with a warning it does less. */
  readonly severity: "error" | "warning";
  /** Absent where no single key is meant. */
  readonly key?: string;
  readonly message: string;
  readonly hint?: string;
}

/**
 * Lines such as `cache.max_bytes = "500 GB"`, which are TOML; what is not set is a comment. With `origin` each says
 * where its value comes from. Of secrets only the paths of their files are known here; passwords in URLs are hidden.
 */
export function showSettings(loaded: LoadedSettings, options: { readonly origin: boolean }): string[] {
  return shownSettings(loaded, { origin: true }).map(({ key, value, default: fallback, origin }) => {
    const line = value === undefined ? `# ${keyText(key)}: ${fallback}` : `${keyText(key)} = ${tomlText(value)}`;
    return options.origin ? `${line}  # ${origin}` : line;
  });
}

/** The same for programs: one object, with its schema. */
export function showSettingsJson(
  loaded: LoadedSettings,
  options: { readonly origin: boolean },
): { readonly schema: string; readonly settings: readonly ShownSetting[]; readonly warnings: readonly string[] } {
  return { schema: "p2pcache/config/1", settings: shownSettings(loaded, options), warnings: loaded.warnings };
}

/** Looks at the files and directories that the settings name; nothing is changed. */
export async function checkSettings(loaded: LoadedSettings): Promise<SettingProblem[]> {
  const { settings } = loaded;
  const found: (SettingProblem | undefined)[] = [
    faultOf("network.name", () => requireNetwork(settings)),
    // Whether there is a policy is known to a running node only; it refuses by itself.
    settings.network.admission === "members" ? undefined : faultOf("network.admission", () => checkAdmission(settings)),
    await keyFileProblem("network.key_file", settings.network.keyFile, "network key", "p2pcache key network"),
    await publisherKeyProblem(loaded),
    ...sourceProblems(loaded),
  ];
  for (const [id, path] of settings.repositories) found.push(await directoryProblem(`repositories.${id}`, path));
  for (const path of settings.cache.chain) found.push(await directoryProblem("cache.chain", path));
  for (const origin of settings.origins) {
    if (origin.kind === "folder") found.push(await directoryProblem(`origin ${origin.name}`, origin.path));
  }
  for (const message of loaded.warnings) found.push({ severity: "warning", message });
  return found.filter((problem) => problem !== undefined);
}

function shownSettings(loaded: LoadedSettings, options: { readonly origin: boolean }): ShownSetting[] {
  return [...loaded.origins].map(([key, origin]) => {
    const value = loaded.values.get(key);
    const shown =
      value === undefined ? { default: settingKey(key)?.defaultText ?? "not set" } : { value: hidden(value) };
    return { key, ...shown, ...(options.origin ? { origin } : {}) };
  });
}

function hidden(value: unknown): unknown {
  return JSON.parse(hideSecrets(JSON.stringify(value)));
}

/** A dotted key of TOML; the id of a repository is quoted where TOML wants it. */
function keyText(key: string): string {
  const dot = key.indexOf(".");
  const name = key.slice(dot + 1);
  return dot < 0 || /^[A-Za-z0-9_-]+$/.test(name) ? key : `${key.slice(0, dot)}.${JSON.stringify(name)}`;
}

/** A value in one line of TOML. JSON's texts are TOML's too (TOML 1.0, basic strings). */
function tomlText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(tomlText).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(([name, member]) => `${name} = ${tomlText(member)}`);
  return `{ ${members.join(", ")} }`;
}

function faultOf(key: string, check: () => unknown): SettingProblem | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (!(error instanceof P2pCacheError)) throw error;
    return problem("error", key, error.message, error.hint);
  }
}

async function keyFileProblem(
  key: string,
  path: string | undefined,
  what: string,
  makeWith: string,
): Promise<SettingProblem | undefined> {
  if (path === undefined) return undefined;
  const fault = await privateFileFault(path, what, makeWith);
  return fault === undefined ? undefined : problem("error", key, fault.message, fault.hint);
}

/** Most machines publish nothing: a key that nobody named may be missing, and any fault of it stops no node. */
async function publisherKeyProblem(loaded: LoadedSettings): Promise<SettingProblem | undefined> {
  const path = loaded.settings.publish.keyFile;
  const named = loaded.origins.get("publish.key") !== "default";
  if (!named && !(await exists(path))) return undefined;
  const found = await keyFileProblem("publish.key", path, "publisher key", "p2pcache key gen");
  return found?.message.startsWith("there is no") ? { ...found, severity: "warning" } : found;
}

function* sourceProblems({ settings }: LoadedSettings): Generator<SettingProblem> {
  const { network, node, origins, transfer, trust } = settings;
  if (trust.mode === "signed" && trust.publishers.length === 0) {
    yield problem("warning", "trust.publishers", "nobody's releases are trusted", "name the publishers' keys");
  }
  const origin = origins.some(({ policy }) => policy !== "never");
  const peers = transfer.peers !== "never" && (node.mdns || node.bootstrap.length > 0);
  if (!origin && !peers) {
    yield problem("warning", "origin", "there is no origin and no way to find peers", "add an [[origin]]");
  }
  if (network.admission === "open" && network.keyFile !== undefined) {
    yield problem("warning", "network.admission", "it is open, yet network.key_file keeps out who lacks that key");
  }
}

async function directoryProblem(key: string, path: string): Promise<SettingProblem | undefined> {
  try {
    if ((await stat(path)).isDirectory()) return undefined;
    return problem("warning", key, `${path} is not a directory`);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    const reason = missing ? "does not exist" : `cannot be looked at: ${(error as Error).message}`;
    return problem("warning", key, `${path} ${reason}`, "is it mounted on this machine?");
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function problem(severity: SettingProblem["severity"], key: string, message: string, hint?: string): SettingProblem {
  return { severity, key, message, ...(hint === undefined ? {} : { hint }) };
}
