import { existsSync } from "node:fs";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { UsageError } from "../protocol/errors.ts";
import {
  generateNetworkKey,
  generatePublisherKey,
  loadNetworkKey,
  loadPublisherKey,
  parsePublicKey,
  publicKeyText,
} from "./keys.ts";
import { loadSettings, type SettingFlags } from "./settings/load.ts";
import { type Environment, expandPath, findPlaces } from "./settings/places.ts";
import { checkSettings, type SettingProblem } from "./settings/show.ts";
import { configTemplate } from "./settings/template.ts";

/** What a new configuration is to say; paths as typed. */
export interface InitRequest {
  readonly network: string;
  /** An existing network key; else one beside the configuration is used, or made. */
  readonly networkKey?: string;
  /** `--config`, `--cache`, `--state` and `--repository`, as every command has them. */
  readonly flags: SettingFlags;
  readonly originPath?: string;
  readonly originUrl?: string;
  /** Makes a publisher's key, unless there is one, and trusts it. */
  readonly publisher?: boolean;
  /** Public keys of publishers to trust. */
  readonly trust?: readonly string[];
  readonly bootstrap?: readonly string[];
  /** Replaces a configuration that is there; keys are never replaced. */
  readonly force?: boolean;
  readonly env: Environment;
}

/** A key file, and whether it was made just now. */
export interface InitKey {
  readonly path: string;
  readonly outcome: "made" | "found";
  /** Of a publisher's key. */
  readonly publicKey?: string;
}

export interface Initialised {
  readonly config: string;
  readonly networkKey: InitKey;
  readonly publisherKey?: InitKey;
  /** What `config check` says of it. */
  readonly problems: readonly SettingProblem[];
}

/**
 * Writes a commented configuration and the keys that it names, and checks it. A key that is there is used, never replaced.
 * @throws {UsageError} (CONFIG_EXISTS) where there is a configuration already; for a value that breaks a rule: nothing is
 * written then.
 */
export async function initialise(request: InitRequest): Promise<Initialised> {
  const { env, flags, force = false, trust = [] } = request;
  const places = findPlaces(env, {});
  const absolute = (path: string) => expandPath(path, process.cwd(), places.home);
  const config = absolute(flags.config ?? (env.P2PCACHE_CONFIG || places.userFile));
  if (!force && existsSync(config)) {
    throw new UsageError(`${config} exists already`, { code: "CONFIG_EXISTS", hint: "--force writes it anew" });
  }
  const networkKeyPath = absolute(request.networkKey ?? join(dirname(config), "network.key"));
  if (request.networkKey !== undefined) await loadNetworkKey(networkKeyPath);
  for (const text of trust) parsePublicKey(text);
  const chosen = chosenValues(request, networkKeyPath, absolute);
  if (trust.length > 0) chosen.set("trust.publishers", trust);
  // Read as it will be, so that nothing is made for a configuration that would be refused.
  const draft = await writeBeside(config, configTemplate(chosen));
  try {
    const { settings } = loadSettings({ flags: { config: draft }, env });
    const publisherKey = request.publisher === true ? await keyOfPublisher(settings.publish.keyFile) : undefined;
    const networkKey = await keyOfNetwork(networkKeyPath);
    if (publisherKey !== undefined) {
      chosen.set("trust.publishers", [...new Set([publisherKey.publicKey, ...trust])]);
      chosen.set("publish.key", publisherKey.path);
    }
    await rename(await writeBeside(config, configTemplate(chosen)), config);
    const problems = await checkSettings(loadSettings({ flags: { config }, env }));
    return { config, networkKey, ...(publisherKey === undefined ? {} : { publisherKey }), problems };
  } finally {
    await rm(draft, { force: true });
  }
}

function chosenValues(
  { network, flags, originPath, originUrl, bootstrap = [] }: InitRequest,
  networkKeyPath: string,
  absolute: (path: string) => string,
): Map<string, unknown> {
  if (originPath !== undefined && originUrl !== undefined) {
    throw new UsageError("--origin-path and --origin-url name two origins, and init writes one", {
      hint: "add the other one to the configuration afterwards",
    });
  }
  const chosen = new Map<string, unknown>([
    ["network.name", network],
    ["network.key_file", networkKeyPath],
  ]);
  if (flags.cache !== undefined) chosen.set("cache.path", absolute(flags.cache));
  if (flags.state !== undefined) chosen.set("node.state", absolute(flags.state));
  if (flags.socket !== undefined) chosen.set("node.socket", absolute(flags.socket));
  if (bootstrap.length > 0) chosen.set("node.bootstrap", bootstrap);
  for (const text of [flags.repository ?? []].flat()) {
    const [, id, path] = /^([^=]+)=(.+)$/.exec(text) ?? [];
    if (id === undefined) {
      throw new UsageError(`--repository: ${JSON.stringify(text.slice(0, 80))} names no directory`, {
        hint: "write --repository studio=/mnt/sw/packages",
      });
    }
    chosen.set(`repositories.${id}`, absolute(path!));
  }
  if (originUrl !== undefined) refuseSecrets(originUrl);
  const origin = originPath === undefined ? (["url", originUrl] as const) : (["path", absolute(originPath)] as const);
  if (origin[1] !== undefined) {
    chosen.set("origin.name", "origin");
    chosen.set("origin.kind", origin[0] === "path" ? "folder" : "http");
    chosen.set(`origin.${origin[0]}`, origin[1]);
  }
  return chosen;
}

/** A configuration may be read by everybody. @throws {UsageError} for an address with a user or a password in it. */
function refuseSecrets(url: string): void {
  if (!URL.canParse(url)) return; // Refused with all that is no address.
  const { username, password } = new URL(url);
  if (username === "" && password === "") return;
  throw new UsageError("--origin-url has a user or a password in it, and everybody may read a configuration", {
    hint: "give the address without them, and name a credentials_file (mode 0600) in its [[origin]] afterwards",
  });
}

async function keyOfNetwork(path: string): Promise<InitKey> {
  if (existsSync(path)) {
    (await loadNetworkKey(path)).fill(0);
    return { path, outcome: "found" };
  }
  (await generateNetworkKey(path)).fill(0);
  return { path, outcome: "made" };
}

async function keyOfPublisher(path: string): Promise<InitKey & { readonly publicKey: string }> {
  const isThere = existsSync(path);
  const key = isThere ? await loadPublisherKey(path) : await generatePublisherKey(path);
  return { path, outcome: isThere ? "found" : "made", publicKey: publicKeyText(key) };
}

/** Durably, in a file beside it that is nobody else's. @returns its path. */
async function writeBeside(path: string, text: string): Promise<string> {
  const beside = `${path}.${process.pid}.new`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    await using file = await open(beside, "w", 0o644);
    await file.writeFile(text);
    await file.sync();
    return beside;
  } catch (cause) {
    throw new UsageError(`the configuration ${path} cannot be written: ${(cause as Error).message}`, {
      hint: "name another file with --config",
      cause,
    });
  }
}
