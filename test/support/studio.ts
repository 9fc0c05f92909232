import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { NodeClient } from "../../node/http/client.ts";
import { generateNetworkKey, generatePublisherKey, publicKeyText } from "../../node/keys.ts";
import { publish } from "../../node/publish.ts";
import { loadSettings } from "../../node/settings/load.ts";
import type { Settings } from "../../node/settings/schema.ts";
import type { Variant } from "../../protocol/variant.ts";

/** A node process of a test, and how to talk to it. */
export interface RunningNode {
  readonly process: ChildProcess;
  readonly client: NodeClient;
  readonly addresses: readonly string[];
  /** From spawn until its sockets answered. */
  readonly readyMs: number;
  /** Everything that it has written to stderr. */
  readonly log: () => string;
}

/** How a node is started. */
export interface StartOptions {
  /** Words that start it: in a namespace, or as somebody else. */
  readonly prefix?: readonly string[];
  /** What is p2pcache; this checkout's sources when absent. */
  readonly program?: readonly string[];
}

/** How a machine of a studio is configured. */
export interface StudioMachine {
  readonly bootstrap?: readonly string[];
  readonly originPolicy?: string;
  /** On loopback when absent. */
  readonly listen?: string;
  readonly mdns?: boolean;
  /** TOML in place of the folder origin. */
  readonly origin?: string;
  /** More lines of TOML in `[cache]`. */
  readonly cache?: string;
  /** TOML that comes last. */
  readonly more?: string;
}

/** A studio in a temporary directory: keys, a folder origin, and machines with a cache each. */
export class Studio implements AsyncDisposable {
  readonly path: string;
  readonly #publisher: string;
  readonly #nodes = new Set<ChildProcess>();

  private constructor(path: string, publisher: string) {
    this.path = path;
    this.#publisher = publisher;
  }

  static async open(under: string = tmpdir()): Promise<Studio> {
    const path = mkdtempSync(join(under, "p2pcache-studio-"));
    for (const name of ["origin", "packages"]) mkdirSync(join(path, name), { mode: 0o755 });
    const key = await generatePublisherKey(join(path, "publisher.pem"));
    await generateNetworkKey(join(path, "network.key"));
    return new Studio(path, publicKeyText(key));
  }

  /** Writes a machine's configuration. */
  configure(machine: string, options: StudioMachine = {}): string {
    const file = join(this.path, `${machine}.toml`);
    const { bootstrap = [], originPolicy = "auto", more = "", listen = "/ip4/127.0.0.1/tcp/0", mdns = false } = options;
    const isLocal = listen.includes("/127.0.0.1/");
    const folder = `[[origin]]\nname = "filer"\nkind = "folder"\npath = "${this.path}/origin"\npolicy = "${originPolicy}"`;
    const lines = [
      `[network]\nname = "test"\nkey_file = "${this.path}/network.key"`,
      `[node]\nname = "${machine}"\nlisten = ["${listen}"]\nbootstrap = ${JSON.stringify(bootstrap)}\nmdns = ${mdns}`,
      `announce_loopback = ${isLocal}`,
      `state = "${this.path}/${machine}/state"\nsocket = "${this.path}/${machine}/run/node.sock"`,
      `[cache]\npath = "${this.path}/${machine}/cache"\nmax_bytes = "100 GB"\nfree_bytes_min = "1 MiB"\n${options.cache ?? ""}`,
      `[repositories]\nstudio = "${this.path}/packages"`,
      options.origin ?? folder,
      `[trust]\npublishers = ["${this.#publisher}"]`,
      `[publish]\nkey = "${this.path}/publisher.pem"`,
      more,
    ];
    writeFileSync(file, `${lines.join("\n")}\n`);
    return file;
  }

  settings(config: string): Settings {
    return loadSettings({ flags: { config }, env: {} }).settings;
  }

  /** Publishes a tree in this process. */
  async publish(variant: Variant, treePath: string): Promise<void> {
    await publish(this.settings(this.configure("publisher")), { variant, treePath, requires: [] });
  }

  /** Starts a node as a process of its own, and waits until its sockets answer. */
  async start(config: string, words: readonly string[] = [], options: StartOptions = {}): Promise<RunningNode> {
    const startedMs = performance.now();
    const { prefix = [], program = [process.execPath, launcher] } = options;
    const run = [...program, "node", "run", "--config", config, "--json", ...words];
    const [command, ...rest] = [...prefix, ...run] as [string, ...string[]];
    const child = spawn(command, rest, { stdio: ["ignore", "pipe", "pipe"] });
    this.#nodes.add(child);
    child.once("exit", () => this.#nodes.delete(child));
    const log: string[] = [];
    child.stderr.on("data", (bytes: Buffer) => log.push(bytes.toString()));
    const exited = once(child, "exit").then(([code]) => {
      throw new Error(`the node ended with ${code} before it was ready: ${log.join("")}`);
    });
    exited.catch(() => undefined);
    const [line] = (await Promise.race([once(createInterface({ input: child.stdout }), "line"), exited])) as [string];
    const ready = JSON.parse(line) as { addresses: string[] };
    const { node } = this.settings(config);
    const client = new NodeClient({ socket: node.socket, adminSocket: node.adminSocket });
    return {
      process: child,
      client,
      addresses: ready.addresses,
      readyMs: performance.now() - startedMs,
      log: () => log.join(""),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.#nodes) {
      const exited = once(node, "exit");
      node.kill("SIGKILL");
      await exited;
    }
    removeTree(this.path);
  }
}

/** Ends a node the hard way and waits until it is gone. */
export async function kill(node: RunningNode, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
  if (node.process.exitCode !== null || node.process.signalCode !== null) return;
  const exited = once(node.process, "exit");
  node.process.kill(signal);
  await exited;
}

/** Removes a tree with directories of mode 0555 in it, as an unprivileged user too. */
export function removeTree(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    makeWritable(path);
    rmSync(path, { recursive: true, force: true });
  }
}

const launcher = fileURLToPath(new URL("../../cli/launcher.js", import.meta.url));

function makeWritable(path: string): void {
  chmodSync(path, 0o755);
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) makeWritable(join(path, entry.name));
  }
}
