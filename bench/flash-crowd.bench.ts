import { globSync, statSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { seededRandom } from "../protocol/random.ts";
import { Crowd } from "../test/support/crowd.ts";
import { install } from "../test/support/installed.ts";
import { NetworkLab } from "../test/support/network-lab.ts";
import { Nginx } from "../test/support/nginx.ts";
import { removeTree, Studio } from "../test/support/studio.ts";
import { makeTree } from "../test/support/trees.ts";
import {
  bytesPerSecondOf,
  type CrowdCase,
  type CrowdSample,
  crowdReport,
  crowdTable,
  putTable,
} from "./crowd-report.ts";
import { cpuSecondsOf } from "./measure.ts";

// P7 with real processes: everybody wants one cold payload at once, from nginx and from each other; against everybody
// reading nginx directly over the same links. What is sent is counted by who sends it.

const usage = `npm run bench -- flash-crowd [--form loopback|namespaces] [--nodes N] [--mib 256] [--rate 100mbit] [--rounds 1]
  [--only swarm|direct] [--to DIRECTORY] [--profile DIRECTORY] [--json] [--table]
  --table puts what was measured into bench/results.md`;

export async function run(words: readonly string[]): Promise<void> {
  const { values } = parseArgs({ args: [...words], options: flags });
  const forms = values.form === undefined ? (["loopback", "namespaces"] as const) : ([values.form] as const);
  for (const form of forms) {
    if (form !== "loopback" && form !== "namespaces") throw new Error(usage);
    const nodes = Number(values.nodes ?? (form === "loopback" ? 20 : 8));
    const rate = form === "loopback" ? undefined : (values.rate ?? "100mbit");
    const options: SceneOptions = { nodes, rate, mib: Number(values.mib), to: values.to, profile: values.profile };
    const only = values.only === undefined ? contenders : contenders.filter((name) => name === values.only);
    const result = await measure(options, only, Number(values.rounds));
    const lines = values.json ? [JSON.stringify(crowdReport(result))] : [crowdTable(result)];
    process.stdout.write(`${lines.join("\n")}\n`);
    if (values.table) putTable(form, crowdTable(result));
  }
}

const flags = {
  form: { type: "string" },
  nodes: { type: "string" },
  mib: { type: "string", default: "256" },
  rate: { type: "string" },
  rounds: { type: "string", default: "1" },
  only: { type: "string" },
  to: { type: "string", default: tmpdir() },
  profile: { type: "string" },
  json: { type: "boolean", default: false },
  table: { type: "boolean", default: false },
} as const;

const contenders = ["swarm", "direct"] as const;
type Contender = (typeof contenders)[number];

/** Both contenders once a round, so that what the machine does besides hits both. */
async function measure(options: SceneOptions, only: readonly Contender[], rounds: number): Promise<CrowdCase> {
  await using scene = await Scene.open(options);
  const loads = [loadavg()[0]!];
  const samples = new Map<Contender, CrowdSample[]>(only.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const name of only) {
      const sample = await scene.measure(name);
      samples.get(name)!.push(sample);
      loads.push(loadavg()[0]!);
      process.stderr.write(`${name} ${JSON.stringify(sample)}, load ${loads.at(-1)!.toFixed(1)}\n`);
    }
  }
  return {
    nodes: options.nodes,
    rate: options.rate,
    payloadBytes: scene.payloadBytes,
    items: scene.items,
    loads,
    samples,
  };
}

interface SceneOptions {
  readonly nodes: number;
  /** What each machine's link carries each way, as `tc` has it; undefined: all on loopback. */
  readonly rate: string | undefined;
  readonly mib: number;
  readonly to: string;
  readonly profile: string | undefined;
}

/** A published payload, an nginx that serves it, and the network between it and whoever wants it. */
class Scene implements AsyncDisposable {
  /** What each node needs: chunks and manifest segments. */
  readonly payloadBytes: number;
  readonly items: number;
  readonly #options: SceneOptions;
  readonly #studio: Studio;
  readonly #lab: NetworkLab | undefined;
  readonly #launcher: string;
  #crowds = 0;

  private constructor(
    parts: { options: SceneOptions; studio: Studio; lab: NetworkLab | undefined; launcher: string },
    itemSizesBytes: readonly number[],
  ) {
    this.#options = parts.options;
    this.#studio = parts.studio;
    this.#lab = parts.lab;
    this.#launcher = parts.launcher;
    this.payloadBytes = itemSizesBytes.reduce((sum, bytes) => sum + bytes, 0);
    this.items = itemSizesBytes.length;
  }

  static async open(options: SceneOptions): Promise<Scene> {
    await using opened = new AsyncDisposableStack();
    const studio = opened.use(await Studio.open(options.to));
    const source = join(studio.path, "source");
    makeTree(source, seededRandom(7), { smallFiles: 200, largeMib: options.mib });
    await studio.publish(variant, source);
    removeTree(source);
    // Noise: nothing is compressed, and no chunk comes twice.
    const objects = globSync(join(studio.path, "origin", "chunks", "*", "*"));
    const launcher = install(join(studio.path, "app"));
    const { nodes, rate } = options;
    const lab = rate === undefined ? undefined : opened.use(await NetworkLab.open({ machines: nodes + 1, rate }));
    const scene = new Scene(
      { options, studio, lab, launcher },
      objects.map((path) => statSync(path).size),
    );
    opened.move();
    return scene;
  }

  async measure(contender: Contender): Promise<CrowdSample> {
    const { nodes, rate } = this.#options;
    const lab = this.#lab;
    const origin = lab?.machine(nodes + 1);
    const place = origin === undefined ? {} : { address: origin.address, inside: origin.inside, port: 8080 };
    await using server = await Nginx.open({ root: this.#studio.path, ...place });
    const name = `crowd${this.#crowds++}-`;
    const crowd = await Crowd.start(this.#studio, {
      nodes,
      name,
      machine: {
        origin: `[[origin]]\nname = "web"\nkind = "http"\nurl = "${server.url}/origin"`,
        ...(lab === undefined ? {} : { listen: "/ip4/0.0.0.0/tcp/0", mdns: true }),
        more: contender === "swarm" ? "" : `[transfer]\npeers = "never"`,
      },
      start: (number) => ({ program: this.#program, prefix: lab?.machine(number).inside ?? [] }),
    });
    if (contender === "swarm") {
      await crowd.meet(60_000);
      await sleep(settledMs);
    }
    const cpuBefore = crowd.nodes.map(({ process }) => cpuSecondsOf(process.pid!));
    const timeoutMs = deadlineMs(this.payloadBytes, nodes, rate);
    const arrivals = await crowd.fetch({ things: [{ kind: "variant", variant }], timeoutMs });
    const cpuSeconds = crowd.nodes.reduce((sum, { process }, i) => sum + cpuSecondsOf(process.pid!) - cpuBefore[i]!, 0);
    const failed = arrivals.find(({ variant: { outcome } }) => outcome !== "fetched");
    if (failed !== undefined) throw new Error(`a fetch failed: ${JSON.stringify(failed.variant)}`);
    const originBytes = server
      .served()
      .filter(({ path }) => path.includes("/chunks/"))
      .reduce((sum, { bytes }) => sum + bytes, 0);
    const sentBytes = originBytes + (await crowd.bytesBetween());
    const sample: CrowdSample = {
      seconds: arrivals.map(({ seconds }) => seconds).sort((a, b) => a - b),
      cpuSeconds,
      originCpuSeconds: cpuSecondsOf(server.pid),
      originBytes,
      surplusBytes: sentBytes - nodes * this.payloadBytes,
    };
    await crowd.stop();
    for (let i = 1; i <= nodes; i++) removeTree(join(this.#studio.path, `${name}${i}`));
    return sample;
  }

  /** With a profile it may not start itself anew, as the launcher does: the profiler's signal would kill it there. */
  get #program(): readonly string[] {
    const { profile } = this.#options;
    if (profile === undefined) return [process.execPath, this.#launcher];
    const preloaded = join(import.meta.dirname, "main-profiler.js");
    const flags = ["--max-semi-space-size=2", "--cpu-prof", `--cpu-prof-dir=${profile}`, "--import", preloaded];
    return ["env", "MALLOC_ARENA_MAX=2", `MAIN_PROFILES=${profile}`, process.execPath, ...flags, this.#launcher];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#studio[Symbol.asyncDispose]();
    await this.#lab?.[Symbol.asyncDispose]();
  }
}

/** Whoever has been up for less is no registrar yet: a crowd is of machines that have been on for long. */
const settledMs = 11_000;
const variant = { kind: "rez", repository: "studio", name: "crowd", version: "1.0.0" } as const;

/** Twice what it takes everybody to read the origin in turn over its link; on loopback, at 10 MB/s. */
function deadlineMs(payloadBytes: number, nodes: number, rate: string | undefined): number {
  const bytesPerMs = rate === undefined ? 10_000 : bytesPerSecondOf(rate) / 1_000;
  return 60_000 + Math.ceil((2 * nodes * payloadBytes) / bytesPerMs);
}
