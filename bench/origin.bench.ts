import { type ChildProcess, spawn } from "node:child_process";
import { createCipheriv } from "node:crypto";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { generateNetworkKey, generatePublisherKey, loadSettings, publicKeyText, publish } from "../node/index.ts";
import { install } from "../test/support/installed.ts";
import { Nginx } from "../test/support/nginx.ts";
import { removeTree } from "../test/support/studio.ts";
import { cpuSecondsOf, machineText, median, type Sample, timed } from "./measure.ts";

// P9: one node that knows no peers, against who copies the same tree from the same place. All contenders read what the
// page cache has, write to one filesystem, and are done when `sync -f` is.

/**
 * `npm run bench -- origin [--rounds 3] [--to DIRECTORY] [--only file|tree] [--site DIRECTORY] [--small] [--profile DIRECTORY]`
 * A site that is named is kept, and used again by the next run that names it.
 */
export async function run(words: readonly string[]): Promise<void> {
  const option = (name: string) => (words.includes(name) ? words[words.indexOf(name) + 1] : undefined);
  const rounds = Number(option("--rounds") ?? 3);
  const scale = words.includes("--small") ? 0.1 : 1;
  const kept = option("--site");
  const path = kept ?? mkdtempSync(join(tmpdir(), "p2pcache-bench-"));
  const target = mkdtempSync(join(option("--to") ?? tmpdir(), "p2pcache-bench-to-"));
  try {
    const site = await Site.open(path, target, scale, option("--profile"));
    await using server = await Nginx.open({ root: path });
    for (const what of ["file", "tree"] as const) {
      if (option("--only") !== undefined && option("--only") !== what) continue;
      const samples = await compare(site, what, server.url, rounds);
      if (rounds > 0) report(what, samples, target);
    }
  } finally {
    if (kept === undefined) removeTree(path);
    removeTree(target);
  }
}

type What = "file" | "tree";
type Contenders = ReadonlyMap<string, readonly Sample[]>;

/** Each contender once a round, so that what the machine does besides hits all of them. */
async function compare(site: Site, what: What, url: string, rounds: number): Promise<Contenders> {
  const contenders: [name: string, measure: () => Promise<Sample>][] = [
    ["curl | tar x", () => site.copy(`curl -sf ${url}/${what}.tar | tar -x -C`)],
    ["fetch, nginx", () => site.fetch(what, `kind = "http"\nurl = "${url}/origin"`)],
    ["cp -a", () => site.copy(`cp -a ${site.source(what)}`)],
    ["fetch, folder", () => site.fetch(what, `kind = "folder"\npath = "${join(site.path, "origin")}"`)],
  ];
  const samples = new Map<string, Sample[]>(contenders.map(([name]) => [name, []]));
  // A round that does not count: what was just written is still on its way to the disk.
  for (let round = -1; round < rounds; round++) {
    for (const [name, measure] of contenders) {
      const sample = await measure();
      process.stderr.write(`${what} ${name}: ${sample.seconds.toFixed(2)} s, CPU ${sample.cpuSeconds.toFixed(2)} s\n`);
      if (round >= 0) samples.get(name)!.push(sample);
    }
  }
  return samples;
}

function report(what: What, samples: Contenders, target: string): void {
  const wall = (name: string) => median(samples.get(name)!.map(({ seconds }) => seconds));
  const cpu = (name: string) => median(samples.get(name)!.map(({ cpuSeconds }) => cpuSeconds));
  const say = (line: string) => process.stdout.write(`${line}\n`);
  say(`${what}, to ${target.replace(/p2pcache-bench-to-.*/, "")}, ${machineText()}`);
  for (const [name, all] of samples) {
    const seconds = all.map((sample) => sample.seconds);
    const range = `${Math.min(...seconds).toFixed(2)}-${Math.max(...seconds).toFixed(2)}`;
    say(`  ${name.padEnd(14)} ${wall(name).toFixed(2)} s (${range}), CPU ${cpu(name).toFixed(2)} s`);
  }
  for (const [ours, theirs] of [
    ["fetch, nginx", "curl | tar x"],
    ["fetch, folder", "cp -a"],
  ] as const) {
    const bar = wall(theirs) * 1.05 + 0.5;
    const verdict = wall(ours) <= bar ? "within P9" : "misses P9";
    say(`  ${ours} against ${theirs}: ${(wall(ours) / wall(theirs)).toFixed(2)}, ${verdict} (${bar.toFixed(2)} s)`);
  }
}

/** Two published trees and their tar files; and machines to fetch them to, each new. */
class Site {
  readonly path: string;
  readonly #target: string;
  readonly #publisher: string;
  readonly #profile: string | undefined;
  #machines = 0;

  private constructor(path: string, target: string, publisher: string, profile: string | undefined) {
    this.path = path;
    this.#target = target;
    this.#publisher = publisher;
    this.#profile = profile;
  }

  static async open(path: string, target: string, scale: number, profile: string | undefined): Promise<Site> {
    if (existsSync(join(path, "ready"))) {
      return new Site(path, target, readFileSync(join(path, "ready"), "utf8"), profile);
    }
    for (const name of ["origin", "packages"]) mkdirSync(join(path, name), { recursive: true });
    const key = await generatePublisherKey(join(path, "publisher.pem"));
    await generateNetworkKey(join(path, "network.key"));
    const site = new Site(path, target, publicKeyText(key), profile);
    install(join(path, "app"));
    writeTrees(site, scale);
    const { settings } = loadSettings({ flags: { config: site.#configure("publisher", site.#folder) }, env: {} });
    for (const what of ["file", "tree"] as const) {
      const variant = { kind: "rez", repository: "studio", name: what, version: "1.0.0" } as const;
      await publish(settings, { variant, treePath: site.source(what), requires: [] });
      await timed(`tar -c -C ${site.source(what)} -f ${join(path, `${what}.tar`)} .`);
    }
    await timed("sync");
    writeFileSync(join(path, "ready"), publicKeyText(key));
    return site;
  }

  source(what: What): string {
    return join(this.path, "packages", what, "1.0.0");
  }

  /** A command whose last word is where to put the tree. */
  async copy(command: string): Promise<Sample> {
    const to = join(this.#target, "copy");
    mkdirSync(to);
    const sample = await timed(`${command} ${to} && sync -f ${to}`);
    removeTree(to);
    await timed(`sync -f ${this.#target}`);
    return sample;
  }

  /** `p2pcache fetch` by a node that runs already, and has nothing. */
  async fetch(what: What, origin: string): Promise<Sample> {
    const name = `machine${this.#machines++}`;
    const config = this.#configure(name, `[[origin]]\n${origin}`);
    const node = await this.#start(config);
    const beforeSeconds = cpuSecondsOf(node.pid!);
    const command = `${process.execPath} ${this.#launcher} fetch ${what}-1.0.0 --quiet --config ${config}`;
    const { seconds, cpuSeconds } = await timed(`${command} && sync -f ${this.#target}`);
    const sample = { seconds, cpuSeconds: cpuSeconds + cpuSecondsOf(node.pid!) - beforeSeconds };
    const exited = once(node, "exit");
    node.kill("SIGTERM");
    await exited;
    removeTree(join(this.#target, name));
    await timed(`sync -f ${this.#target}`);
    return sample;
  }

  async #start(config: string): Promise<ChildProcess> {
    const profiling = this.#profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${this.#profile}`];
    const words = [...profiling, this.#launcher, "node", "run", "--quiet", "--config", config];
    const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] });
    await once(createInterface({ input: child.stdout! }), "line");
    return child;
  }

  get #launcher(): string {
    return join(this.path, "app", "cli", "launcher.js");
  }

  get #folder(): string {
    return `[[origin]]\nkind = "folder"\npath = "${this.path}/origin"`;
  }

  #configure(machine: string, origin: string): string {
    const file = join(this.path, `${machine}.toml`);
    const place = join(this.#target, machine);
    const lines = [
      `[network]\nname = "bench"\nkey_file = "${this.path}/network.key"`,
      `[node]\nname = "${machine}"\nlisten = ["/ip4/127.0.0.1/tcp/0"]\nmdns = false`,
      `state = "${place}/state"\nsocket = "${place}/node.sock"`,
      `[cache]\npath = "${place}/cache"\nmax_bytes = "100 GB"\nfree_bytes_min = "1 MiB"`,
      `[repositories]\nstudio = "${this.path}/packages"`,
      origin,
      `[trust]\npublishers = ["${this.#publisher}"]`,
      `[publish]\nkey = "${this.path}/publisher.pem"`,
    ];
    writeFileSync(file, `${lines.join("\n")}\n`);
    return file;
  }
}

/** A file of 1 GB; 50,000 files of 256 B to 48 KiB, log-uniform, and 50 of 20 MiB (PERFORMANCE section 4): noise. */
function writeTrees(site: Site, scale: number): void {
  const noise = new Noise();
  for (const what of ["file", "tree"] as const) mkdirSync(site.source(what), { recursive: true });
  writeNoise(join(site.source("file"), "data"), noise, Math.round(1e9 * scale));
  const top = site.source("tree");
  for (let i = 0; i < 50_000 * scale; i++) {
    const directory = join(top, `python${i % 10}`, `module${Math.floor(i / 10) % 50}`);
    if (i < 500) mkdirSync(directory, { recursive: true });
    const sizeBytes = Math.round(256 * (48 * 4) ** noise.fraction());
    writeFileSync(join(directory, `file${i}.py`), noise.bytes(sizeBytes));
  }
  for (let i = 0; i < 50 * scale; i++) writeNoise(join(top, `library${i}.so`), noise, 20 * 2 ** 20);
}

function writeNoise(path: string, noise: Noise, sizeBytes: number): void {
  const file = openSync(path, "w");
  for (let left = sizeBytes; left > 0; left -= 2 ** 20) writeSync(file, noise.bytes(Math.min(left, 2 ** 20)));
  closeSync(file);
}

/** The same bytes without any pattern each time. */
class Noise {
  readonly #cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, 1), Buffer.alloc(16));

  bytes(length: number): Buffer {
    return this.#cipher.update(Buffer.alloc(length));
  }

  /** In `[0, 1)`. */
  fraction(): number {
    return this.bytes(4).readUInt32BE() / 2 ** 32;
  }
}
