import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { P2pCacheError } from "../../protocol/errors.ts";
import { loadNetworkKey, privateFileFault } from "../keys.ts";
import { readAuthorities, readCredentials } from "../origin-files.ts";
import { lookAtPaths } from "../path-looks.ts";
import { withoutUrlUsers } from "../redact.ts";
import { checkAdmission, type LoadedSettings, requireNetwork } from "./load.ts";
import type { HttpOriginSettings, Settings } from "./schema.ts";
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

/**
 * What would keep a node from running, by the checks that opening one makes; what of the settings has no effect; and the
 * files and directories that they name. Nothing is changed.
 * @param options with `directories: false` those of repositories and origins are not looked at.
 */
export async function checkSettings(
  loaded: LoadedSettings,
  options: { readonly directories?: boolean } = {},
): Promise<SettingProblem[]> {
  const { settings } = loaded;
  const found: (SettingProblem | undefined)[] = [
    faultOf("network.name", () => requireNetwork(settings)),
    // A node without peers lets nobody in.
    settings.transfer.peers === "never"
      ? undefined
      : faultOf("network.admission", () => checkAdmission(settings, { policy: existsSync(policyPath(settings)) })),
    await networkKeyProblem(loaded),
    await publisherKeyProblem(loaded),
    ...sourceProblems(loaded),
    ...idleSettings(loaded),
    ...budgetProblems(settings),
  ];
  if (options.directories !== false) found.push(...(await directoryProblems(settings)));
  for (const origin of settings.origins) {
    if (origin.kind === "http") found.push(...(await serverProblems(origin)));
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
  return JSON.parse(withoutUrlUsers(JSON.stringify(value)));
}

/** A dotted key of TOML; the id of a repository is quoted where TOML wants it. */
function keyText(key: string): string {
  const dot = key.indexOf(".");
  const name = key.slice(dot + 1);
  return dot < 0 || /^[A-Za-z0-9_-]+$/.test(name) ? key : `${key.slice(0, dot)}.${JSON.stringify(name)}`;
}

/** A value in one line of TOML. JSON's texts are TOML's too (TOML 1.0, basic strings). */
export function tomlText(value: unknown): string {
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

/** The key is read by a node with peers only. */
async function networkKeyProblem({ settings }: LoadedSettings): Promise<SettingProblem | undefined> {
  const { keyFile } = settings.network;
  if (keyFile === undefined) return undefined;
  const severity = settings.transfer.peers === "never" ? "warning" : "error";
  try {
    (await loadNetworkKey(keyFile)).fill(0);
    return undefined;
  } catch (error) {
    if (!(error instanceof P2pCacheError)) throw error;
    return problem(severity, "network.key_file", error.message, error.hint);
  }
}

/** Most machines publish nothing: a key that nobody named may be missing, and any fault of it stops no node. */
async function publisherKeyProblem(loaded: LoadedSettings): Promise<SettingProblem | undefined> {
  const path = loaded.settings.publish.keyFile;
  const named = loaded.origins.get("publish.key") !== "default";
  if (!named && !(await exists(path))) return undefined;
  const fault = await privateFileFault(path, "publisher key", "p2pcache key gen");
  if (fault === undefined) return undefined;
  const severity = fault.message.startsWith("there is no") ? "warning" : "error";
  return problem(severity, "publish.key", fault.message, fault.hint);
}

function* sourceProblems({ settings }: LoadedSettings): Generator<SettingProblem> {
  const { network, node, origins, transfer, trust } = settings;
  if (trust.mode === "signed" && trust.publishers.length === 0 && trust.rootFile === undefined) {
    yield problem(
      "warning",
      "trust.publishers",
      "nobody's releases are trusted",
      "name the publishers' keys, or set trust.root",
    );
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

/** Budgets of origins that do not do what they seem to. */
function* budgetProblems({ origins, transfer }: Settings): Generator<SettingProblem> {
  for (const { name, policy, slots, rateBytesPerSecond } of origins) {
    const hasBudget = slots !== undefined || rateBytesPerSecond !== undefined;
    if (policy === "auto" && hasBudget) {
      const message = 'it is "auto", so its slots and rate hold for `fetch --origin limited` only';
      yield problem("warning", `origin ${name} policy`, message, 'write policy = "limited"');
    }
    if (policy !== "limited") continue;
    if (!hasBudget) {
      const hint = 'write slots = 4, rate = "200 MB/s", or both';
      yield problem("warning", `origin ${name} policy`, "it is limited, yet to nothing", hint);
    } else if (transfer.peers === "never") {
      const message = "a node without peers cannot share a budget: it takes the whole of it";
      yield problem("warning", `origin ${name} policy`, message);
    }
  }
}

/** Settings that are read and checked, and that nothing acts on in this release. */
function* idleSettings({ settings, origins }: LoadedSettings): Generator<SettingProblem> {
  const { cache, network, node, transfer } = settings;
  const isSet = (key: string): boolean => (origins.get(key) ?? "default") !== "default";
  const idle: [string, boolean][] = [
    ["network.admission", network.admission === "members" && transfer.peers === "never"],
    ["node.lanes", node.lanes !== 0 && isSet("node.lanes")],
    ["cache.chain", cache.chain.length > 0],
    ...alwaysIdle.map((key): [string, boolean] => [key, isSet(key)]),
  ];
  for (const [key, holds] of idle) if (holds) yield noEffect(key);
}

const alwaysIdle = [
  "node.lane_ports",
  "cache.max_variants",
  "cache.max_age",
  "cache.min_idle",
  "cache.pinned_bytes_max",
  "local_packages",
];

function noEffect(key: string): SettingProblem {
  return problem("warning", key, "has no effect yet in this release");
}

async function directoryProblems({ repositories, cache, origins }: Settings): Promise<(SettingProblem | undefined)[]> {
  const found: (SettingProblem | undefined)[] = [];
  for (const [id, path] of repositories) found.push(await directoryProblem(`repositories.${id}`, path));
  for (const path of cache.chain) found.push(await directoryProblem("cache.chain", path));
  for (const origin of origins) {
    if (origin.kind === "folder") found.push(await directoryProblem(`origin ${origin.name}`, origin.path));
  }
  return found;
}

async function directoryProblem(key: string, path: string): Promise<SettingProblem | undefined> {
  const look = (await lookAtPaths([path], lookMs)).get(path)!;
  switch (look.kind) {
    case "directory":
      return undefined;
    case "other":
      return problem("warning", key, `${path} is not a directory`);
    case "silent":
      return problem("warning", key, `${path} does not answer`, "its mount hangs: see whether its server is up");
    case "failed": {
      const reason = look.code === "ENOENT" ? "does not exist" : `cannot be looked at: ${look.code}`;
      return problem("warning", key, `${path} ${reason}`, "is it mounted on this machine?");
    }
  }
}

/** What a mount that works never takes. */
const lookMs = 5_000;

/** The files of an http origin: without its certificates no node runs, without its credentials that origin is not used. */
async function serverProblems(origin: HttpOriginSettings): Promise<SettingProblem[]> {
  const { name, url, policy, caFile, credentialsFile } = origin;
  if (policy === "never") return [];
  const found: (SettingProblem | undefined)[] = [];
  if (caFile !== undefined) found.push(await fileProblem("error", `origin ${name} ca_file`, readAuthorities(caFile)));
  if (credentialsFile !== undefined) {
    found.push(await fileProblem("warning", `origin ${name} credentials_file`, readCredentials(credentialsFile)));
  }
  const hasSecret = credentialsFile !== undefined || new URL(url).username !== "";
  if (hasSecret && url.startsWith("http:")) {
    found.push(problem("warning", `origin ${name} url`, "credentials are sent in the clear", "use https"));
  }
  return found.filter((one) => one !== undefined);
}

async function fileProblem(
  severity: SettingProblem["severity"],
  key: string,
  reading: Promise<unknown>,
): Promise<SettingProblem | undefined> {
  try {
    await reading;
    return undefined;
  } catch (error) {
    if (!(error instanceof P2pCacheError)) throw error;
    return problem(severity, key, error.message, error.hint);
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

/** What the node has verified lies there, once it has a policy. */
function policyPath({ node }: Settings): string {
  return join(node.state, "policy", "verified.json");
}
