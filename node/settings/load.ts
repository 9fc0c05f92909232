import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parse, TomlError } from "smol-toml";
import { UsageError } from "../../protocol/errors.ts";
import { printable, unknownKey } from "./explain.ts";
import { suggestion } from "./nearest.ts";
import { checkSocket, type Environment, expandPath, findPlaces, type Places, socketOf } from "./places.ts";
import type { SettingKey, Settings } from "./schema.ts";
import { parseValues, settingKey, settingKeys } from "./table.ts";

/** The flags that override settings (CONTRACTS), as typed; `origin` is the policy of every origin. */
export interface SettingFlags {
  readonly config?: string | undefined;
  readonly cache?: string | undefined;
  readonly state?: string | undefined;
  readonly socket?: string | undefined;
  readonly origin?: string | undefined;
  readonly peers?: string | undefined;
  readonly timeout?: string | undefined;
  /** Each `<id>=<path>`. */
  readonly repository?: string | readonly string[] | undefined;
  readonly key?: string | undefined;
}

export interface LoadOptions {
  readonly flags?: SettingFlags;
  readonly env: Environment;
  /** In place of `/etc/p2pcache/config.toml`. */
  readonly systemFile?: string;
  /** The user's home directory, in place of the environment's. */
  readonly home?: string;
}

export interface LoadedSettings {
  readonly settings: Settings;
  /** As written, by key, with paths made absolute and defaults filled in; `origin` is the list of tables. */
  readonly values: ReadonlyMap<string, unknown>;
  /** Of every key, where its value comes from: `flag`, `environment`, a file's path or `default`. */
  readonly origins: ReadonlyMap<string, string>;
  readonly warnings: readonly string[];
}

/**
 * Reads the configuration: flags over `P2PCACHE_*` over the user's file over the system's file over defaults, key by
 * key. A file named by `--config` or `P2PCACHE_CONFIG` stands for both files. Relative paths lie below the file that
 * names them or, of flags and environment, below the working directory.
 * @throws {UsageError} for an unknown key, a value that breaks a rule, or a named file that is not there.
 */
export function loadSettings(options: LoadOptions): LoadedSettings {
  const { flags = {}, env } = options;
  const places = findPlaces(env, options);
  const warnings: string[] = [];
  const files = readFiles(flags.config ?? textOf(env.P2PCACHE_CONFIG), places, warnings);
  const layers = [flagLayer(flags), environmentLayer(env, warnings), ...files, defaultLayer(places)];
  const values = new Map<string, unknown>();
  const origins = new Map(
    settingKeys()
      .filter(isOwnKey)
      .map(({ key }) => [key, "default"]),
  );
  for (const layer of layers) {
    for (const [key, value] of layer.values) {
      if (values.has(key)) continue;
      values.set(key, withAbsolutePaths(key, value, layer.base, places.home));
      origins.set(key, layer.source);
    }
  }
  derive(values, places);
  if (flags.origin !== undefined) setPolicy(values, origins, flags.origin);
  const sourceOf = (key: string) => describeSource(key, origins.get(key) ?? "default");
  const settings = parseValues(values, sourceOf);
  checkSocket(settings.node.socket, sourceOf("node.socket"));
  return { settings, values, origins, warnings: [...warnings, ...risks(settings)] };
}

/** The network's name. @throws {UsageError} where none is set: a node needs one, making a key does not. */
export function requireNetwork(settings: Settings): string {
  if (settings.network.name !== undefined) return settings.network.name;
  throw new UsageError("network.name is not set, and a node belongs to one network", {
    hint: 'write name = "studio" under [network] in the configuration, or set P2PCACHE_NETWORK__NAME',
  });
}

/**
 * Refuses to run a node that anybody could join unless that is written.
 * @param known whether this node has a policy that names its members, or will have; `trust.root` says so too.
 * @throws {UsageError}
 */
export function checkAdmission(settings: Settings, known: { readonly policy?: boolean } = {}): void {
  const { admission, keyFile } = settings.network;
  if (admission === "open" || known.policy === true || settings.trust.rootFile !== undefined) return;
  if (admission === "key" && keyFile !== undefined) return;
  if (admission === "members") {
    const key =
      keyFile === undefined ? '"key" with a network.key_file' : '"key", for who has the key of network.key_file';
    throw new UsageError('network.admission is "members", and this machine has no policy that names them', {
      hint: `set trust.root to the root of the policy, or write admission = ${key}, or "open" under [network]`,
    });
  }
  throw new UsageError("network.key_file is not set, so anybody could join this node", {
    hint: 'set network.key_file (make one with `p2pcache key network`), or write admission = "open" under [network]',
  });
}

/** Whether only those get in whom the policy names: where that is written, or there is no key that others would need. */
export function admitsMembersOnly({ network }: Settings): boolean {
  return network.admission === "members" || (network.admission === "key" && network.keyFile === undefined);
}

/** Values by key from one place. */
interface Layer {
  readonly source: string;
  /** What relative paths are below. */
  readonly base: string;
  readonly values: ReadonlyMap<string, unknown>;
}

const flagKeys: ReadonlyMap<string, Exclude<keyof SettingFlags, "repository">> = new Map([
  ["cache.path", "cache"],
  ["node.state", "state"],
  ["node.socket", "socket"],
  ["transfer.peers", "peers"],
  ["transfer.timeout", "timeout"],
  ["publish.key", "key"],
  ["origin", "origin"],
]);

function flagLayer(flags: SettingFlags): Layer {
  const values = new Map<string, unknown>();
  for (const [key, flag] of flagKeys) {
    if (key !== "origin" && flags[flag] !== undefined) values.set(key, flags[flag]);
  }
  for (const text of [flags.repository ?? []].flat()) {
    const [, id, path] = /^([^=]+)=(.+)$/.exec(text) ?? [];
    if (id === undefined) {
      throw new UsageError(`--repository: ${printable(text)} names no directory`, {
        hint: "write --repository studio=/mnt/sw/packages",
      });
    }
    values.set(`repositories.${id}`, path);
  }
  return { source: "flag", base: process.cwd(), values };
}

/** An empty variable counts as not set. */
function environmentLayer(env: Environment, warnings: string[]): Layer {
  const values = new Map<string, unknown>();
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(prefix) || name === `${prefix}CONFIG` || textOf(text) === undefined) continue;
    const key = name.slice(prefix.length).toLowerCase().replaceAll("__", ".");
    const known = settingKey(key);
    if (known !== undefined && !isOriginField(known)) values.set(key, readText(name, text!, known));
    else if (key.includes(".")) throw unknownKey(name, "(from the environment)", variableNames());
    else {
      // Without two underscores it may be somebody else's variable.
      const hint = suggestion(name, variableNames());
      if (hint !== undefined) warnings.push(`${name} is no setting and was ignored: ${hint}`);
    }
  }
  return { source: "environment", base: process.cwd(), values };
}

const prefix = "P2PCACHE_";

function variableNames(): string[] {
  return settingKeys()
    .filter(isOwnKey)
    .map(({ key }) => variableOf(key));
}

function variableOf(key: string): string {
  return prefix + key.toUpperCase().replaceAll(".", "__");
}

/** A variable's text as the value that a file would have. What cannot be read stays text and is refused later. */
function readText(name: string, text: string, { kind }: SettingKey): unknown {
  if (/^\s*[[{]/.test(text)) return readJson(name, text);
  if (kind === "flag") return words.get(text.toLowerCase()) ?? text;
  if (kind === "count") return /^\d{1,15}$/.test(text) ? Number(text) : text;
  if (kind !== "list" && kind !== "paths") return text;
  return text.split(",").flatMap((part) => textOf(part.trim()) ?? []);
}

const words: ReadonlyMap<string, boolean> = new Map([
  ...["true", "yes", "on", "1"].map((word): [string, boolean] => [word, true]),
  ...["false", "no", "off", "0"].map((word): [string, boolean] => [word, false]),
]);

function readJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UsageError(`${name}: not JSON: ${printable(text)}`, { hint: 'write ["a", "b"], or a,b', cause });
  }
}

function readFiles(named: string | undefined, places: Places, warnings: string[]): Layer[] {
  if (named !== undefined) {
    const path = expandPath(named, process.cwd(), places.home);
    const text = readConfig(path);
    if (typeof text === "string") return [fileLayer(path, text)];
    throw new UsageError(`the configuration ${path} cannot be read: ${text.message}`, {
      hint: "it is named by --config or P2PCACHE_CONFIG",
      cause: text,
    });
  }
  return [places.userFile, places.systemFile].flatMap((path) => {
    const text = readConfig(path);
    if (typeof text === "string") return [fileLayer(path, text)];
    const missing = text.code === "ENOENT" || text.code === "ENOTDIR";
    if (!missing) warnings.push(`the configuration ${path} cannot be read and was ignored: ${text.message}`);
    return [];
  });
}

/** The text, or why there is none. @throws {UsageError} where it is too long to be a configuration. */
function readConfig(path: string): string | NodeJS.ErrnoException {
  try {
    const bytes = readFileSync(path);
    if (bytes.length <= configBytesMax) return bytes.toString("utf8");
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
  throw new UsageError(`the configuration ${path} is too long: more than ${configBytesMax} bytes`);
}

/** A thousand times what a site writes by hand. */
const configBytesMax = 1024 * 1024;

function fileLayer(path: string, text: string): Layer {
  const values = new Map<string, unknown>();
  const source = `(from ${path})`;
  for (const [group, value] of Object.entries(readToml(path, text))) {
    if (settingKey(group) !== undefined) {
      values.set(group, value);
      continue;
    }
    if (!groups().has(group)) throw unknownKey(group, source, [...groups(), ...ownKeys()]);
    if (!isTable(value)) throw new UsageError(`${group} is a table ${source}`, { hint: `write [${group}]` });
    for (const [name, member] of Object.entries(value)) {
      const key = `${group}.${name}`;
      if (settingKey(key) === undefined) throw unknownKey(key, source, ownKeys());
      values.set(key, member);
    }
  }
  return { source: path, base: dirname(path), values };
}

function readToml(path: string, text: string): Record<string, unknown> {
  try {
    return parse(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const reason = cause.message.split("\n")[0];
    throw new UsageError(`${path}:${cause.line}:${cause.column}: ${reason}`, {
      hint: "the file is TOML: texts stand in quotes, tables in [brackets]",
      cause,
    });
  }
}

function defaultLayer(places: Places): Layer {
  const values = new Map<string, unknown>([
    ["node.name", places.hostName],
    ["node.state", places.state],
    ["cache.path", places.cache],
  ]);
  for (const known of settingKeys()) {
    if (isOwnKey(known) && known.default !== undefined) values.set(known.key, known.default);
  }
  return { source: "default", base: places.home, values };
}

/** What follows from other values. Those are texts, or the check names them as wrong. */
function derive(values: Map<string, unknown>, places: Places): void {
  const [state, cache] = [String(values.get("node.state")), String(values.get("cache.path"))];
  if (!values.has("publish.key")) values.set("publish.key", join(state, "keys", "publisher.pem"));
  if (!values.has("node.socket")) values.set("node.socket", socketOf(cache, places.runtime));
}

function withAbsolutePaths(key: string, value: unknown, base: string, home: string): unknown {
  const expand = (one: unknown) => (typeof one === "string" ? expandPath(one, base, home) : one);
  const kind = settingKey(key)?.kind;
  if (kind === "path") return expand(value);
  if (!Array.isArray(value)) return value;
  if (kind === "paths") return value.map(expand);
  if (kind !== "tables") return value;
  return value.map((table) => {
    if (!isTable(table)) return table;
    const named = originPaths.filter((name) => name in table).map((name) => [name, expand(table[name])]);
    return { ...table, ...Object.fromEntries(named) };
  });
}

/** The fields of an origin that are paths. */
const originPaths = ["path", "ca_file", "credentials_file"];

function setPolicy(values: Map<string, unknown>, origins: Map<string, string>, policy: string): void {
  if (!policies.includes(policy)) {
    throw new UsageError(`--origin: ${printable(policy)} is not one of ${policies.join(", ")}`);
  }
  const tables = values.get("origin");
  if (!Array.isArray(tables)) return;
  values.set(
    "origin",
    tables.map((table) => (isTable(table) ? { ...table, policy } : table)),
  );
  origins.set("origin.policy", "flag");
}

const policies = ["auto", "limited", "never"];

function risks({ trust, node, network }: Settings): string[] {
  const all: [boolean, string][] = [
    [trust.mode === "hash-only", "trust.mode is hash-only: releases are taken from anybody who can write to an origin"],
    [!node.encryption, "node.encryption is off, which has no effect yet: this release encrypts all bytes on their way"],
    [network.admission === "open", "network.admission is open: anybody on this network can join this node"],
  ];
  return all.flatMap(([holds, text]) => (holds ? [text] : []));
}

function describeSource(key: string, source: string): string {
  if (source === "flag") return `the flag --${flagKeys.get(key) ?? "repository"}`;
  if (source === "environment") return `the environment: ${variableOf(key)}`;
  return source === "default" ? "the defaults" : source;
}

/** Whether values are merged by this key: not the fields of an origin, nor the stand-in for a repository. */
function isOwnKey(known: SettingKey): boolean {
  return !isOriginField(known) && known.key !== "repositories.<id>";
}

/** Origins are one list of tables, so a field of one has no key of its own. */
function isOriginField({ key }: SettingKey): boolean {
  return key.startsWith("origin.");
}

function ownKeys(): string[] {
  return settingKeys()
    .filter(isOwnKey)
    .map(({ key }) => key);
}

function groups(): Set<string> {
  return new Set(settingKeys().flatMap(({ key }) => (key.includes(".") ? key.split(".")[0]! : [])));
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

function textOf(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}
