import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ApiVariant, type NamedThing, NodeClient, P2pCacheError } from "../../node/index.ts";
import { spawnNode } from "../node-process.ts";
import type { Workspace } from "./workspace.ts";

/** What all nodes of the demo share. */
export interface DemoNetwork {
  readonly workspace: Workspace;
  readonly repositoryPath: string;
  readonly originPath: string;
  readonly networkKeyPath: string;
  /** As `trust.publishers` has it. */
  readonly publisher: string;
}

/** What one node did; `path` is its cache. */
export interface DemoResult {
  readonly name: string;
  readonly local: number;
  readonly peers: number;
  readonly origin: number;
  readonly seconds: number;
  readonly verified: boolean;
  readonly path: string;
  /** Where each variant lies, in the order of asking. */
  readonly trees: readonly string[];
}

/** One node of the demo, in a process and a directory of its own. */
export class DemoNode {
  readonly name: string;
  readonly configPath: string;
  readonly addresses: readonly string[];
  readonly #cachePath: string;
  readonly #client: NodeClient;

  private constructor(name: string, directory: string, addresses: readonly string[]) {
    this.name = name;
    this.configPath = join(directory, "config.toml");
    this.addresses = addresses;
    this.#cachePath = join(directory, "cache");
    this.#client = new NodeClient({ socket: join(directory, "node.sock"), adminSocket: join(directory, "admin.sock") });
  }

  /** @param lingerSeconds after which the node ends by itself, in case nobody is left to end it. */
  static async start(
    network: DemoNetwork,
    name: string,
    bootstrap: readonly string[],
    { lingerSeconds, signal }: { readonly lingerSeconds: number | undefined; readonly signal: AbortSignal },
  ): Promise<DemoNode> {
    const directory = join(network.workspace.path, name);
    mkdirSync(directory, { mode: 0o755 });
    const configPath = join(directory, "config.toml");
    writeFileSync(configPath, configText(network, name, directory, bootstrap));
    const { addresses } = await spawnNode({
      words: [`--config=${configPath}`, ...(lingerSeconds === undefined ? [] : [`--linger=${lingerSeconds}`])],
      logPath: join(directory, "node.log"),
      env: environment(),
      signal,
      onProcess: (child) => network.workspace.adopt(child),
    });
    return new DemoNode(name, directory, addresses);
  }

  /** @throws the error of the first variant that could not be had. */
  async fetch(things: readonly NamedThing[], signal: AbortSignal): Promise<Omit<DemoResult, "verified">> {
    const startedMs = performance.now();
    const variants = await this.#client.fetch({ things }, () => undefined, { signal });
    const seconds = (performance.now() - startedMs) / 1000;
    const sum = (source: keyof ApiVariant["bytes"]) => variants.reduce((total, { bytes }) => total + bytes[source], 0);
    const bytes = { local: sum("local"), peers: sum("peers"), origin: sum("origin") };
    const trees = variants.map((variant) => treeOf(this.name, variant));
    return { name: this.name, ...bytes, seconds, path: this.#cachePath, trees };
  }

  /** Whether every tree of this node is what its manifest says, and there are as many as asked for. */
  async verify(things: readonly NamedThing[], signal: AbortSignal): Promise<boolean> {
    const { checked, damaged } = await this.#client.verify(things, { signal });
    return checked === things.length && damaged.length === 0;
  }
}

/** The user's own settings stay out of it. */
export function environment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("P2PCACHE_")));
}

function treeOf(name: string, variant: ApiVariant): string {
  if (variant.path !== undefined && variant.outcome !== "failed") return variant.path;
  const { code = "INTERNAL", exit = 1 } = variant.error ?? {};
  const reason = variant.error?.message ?? variant.reason ?? "it has no path";
  throw new P2pCacheError(code, exit as P2pCacheError["exit"], `${name}: ${variant.handle}: ${reason}`);
}

/** JSON's texts are TOML's too. */
export function configText(
  { repositoryPath, originPath, networkKeyPath, publisher }: DemoNetwork,
  name: string,
  directory: string,
  bootstrap: readonly string[],
): string {
  const text = (value: unknown) => JSON.stringify(value);
  return `[network]
name = "demo"
key_file = ${text(networkKeyPath)}

[node]
name = ${text(name)}
listen = ["/ip4/127.0.0.1/tcp/0"]
bootstrap = ${text(bootstrap)}
mdns = false
announce_loopback = true
state = ${text(join(directory, "state"))}
socket = ${text(join(directory, "node.sock"))}

[cache]
path = ${text(join(directory, "cache"))}
max_bytes = "50 GB"
free_bytes_min = "100 MB"

[repositories]
demo = ${text(repositoryPath)}

[[origin]]
name = "demo"
kind = "folder"
path = ${text(originPath)}

[trust]
publishers = [${text(publisher)}]
`;
}
