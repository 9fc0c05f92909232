// deadline: 300 s
// alone
import { globSync, statSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { seededRandom } from "../../protocol/random.ts";
import { until } from "../support/child-processes.ts";
import { Crowd } from "../support/crowd.ts";
import { needs } from "../support/needs.ts";
import { Nginx } from "../support/nginx.ts";
import { Studio } from "../support/studio.ts";
import { listTree, makeTree } from "../support/trees.ts";

const variant = { kind: "rez", repository: "studio", name: "crowd", version: "1.0.0" } as const;
/** The gate has a small form; twenty nodes are for `npm run bench -- flash-crowd`. */
const isLong = process.env.P2PCACHE_LONG !== undefined;
const form = isLong
  ? { nodes: 8, largeMib: 48, copies: 1.1, surplus: 0.02 }
  : { nodes: 4, largeMib: 16, copies: 1.2, surplus: 0.05 };
/** The bars are for a machine that does nothing else: the nodes share it with whatever runs beside them. */
const slowness = Math.max(1, loadavg()[0]! / availableParallelism() / 2);
/** Of fetches whose origin goes. */
const deadlineMs = (isLong ? 12_000 : 6_000) * slowness;
const things = [{ kind: "variant", variant }] as const;

/** A studio whose origin is an nginx, and nodes that know each other. */
class Rush implements AsyncDisposable {
  readonly crowd: Crowd;
  /** What every node needs: chunks and manifest segments, by their paths at the origin. */
  readonly needed: ReadonlyMap<string, number>;
  readonly tree: readonly string[];
  server: Nginx;
  readonly #studio: Studio;
  readonly #extra: string;

  private constructor(crowd: Crowd, studio: Studio, server: Nginx, tree: readonly string[], extra: string) {
    this.crowd = crowd;
    this.#studio = studio;
    this.server = server;
    this.tree = tree;
    this.#extra = extra;
    const paths = globSync("origin/chunks/*/*", { cwd: studio.path });
    this.needed = new Map(paths.map((path) => [`/${path}`, statSync(join(studio.path, path)).size]));
  }

  /** `server`: what stands in nginx's `server` block. */
  static async open(nodes: number, largeMib: number, server = ""): Promise<Rush> {
    await using opened = new AsyncDisposableStack();
    const studio = opened.use(await Studio.open());
    const source = join(studio.path, "source");
    makeTree(source, seededRandom(nodes), { smallFiles: 50, largeMib });
    await studio.publish(variant, source);
    const origin = opened.use(await Nginx.open({ root: studio.path, server }));
    const web = `[[origin]]\nname = "web"\nkind = "http"\nurl = "${origin.url}/origin"`;
    const crowd = await Crowd.start(studio, { nodes, name: "machine", machine: { origin: web } });
    await crowd.meet(20_000 * slowness);
    const rush = new Rush(crowd, studio, origin, listTree(source), server);
    opened.move();
    return rush;
  }

  get neededBytes(): number {
    return [...this.needed.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** What the origin has sent whole so far, each item once. */
  get givenBytes(): number {
    const whole = this.server.served().filter(({ path, bytes }) => this.needed.get(path) === bytes);
    return [...new Set(whole.map(({ path }) => path))].reduce((sum, path) => sum + this.needed.get(path)!, 0);
  }

  /** The origin comes back where it was. */
  async restart(): Promise<void> {
    this.server = await Nginx.open({ root: this.#studio.path, server: this.#extra, port: this.server.port });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
    await this.#studio[Symbol.asyncDispose]();
  }
}

if (needs("nginx", "nginx-light")) {
  test(`${form.nodes} nodes that want one cold payload at once read the origin about once, and all have it`, async () => {
    await using rush = await Rush.open(form.nodes, form.largeMib);
    const arrivals = await rush.crowd.fetch({ things });
    for (const { variant } of arrivals) {
      assert.is(variant.outcome, "fetched", JSON.stringify(variant));
      assert.equal(listTree(variant.path!), rush.tree);
    }
    const sent = rush.server.served().filter(({ path }) => rush.needed.has(path));
    const copies = sent.reduce((sum, { bytes }) => sum + bytes, 0) / rush.neededBytes;
    const allBytes = copies * rush.neededBytes + (await rush.crowd.bytesBetween());
    const surplus = allBytes / (arrivals.length * rush.neededBytes) - 1;
    assert.ok(copies <= form.copies + 0.3 * (slowness - 1), `${copies} copies were read`);
    assert.ok(surplus <= form.surplus * slowness, `${surplus} of what was needed came twice`);
    assert.equal(await rush.crowd.stop(), Array(form.nodes).fill(0));
    console.log(
      `${copies.toFixed(3)} copies, surplus ${surplus.toFixed(4)}, ${arrivals.at(-1)!.seconds.toFixed(1)} s; bars x ${slowness.toFixed(1)} for the load`,
    );
  });

  test("an origin that dies when it has given everything once is not missed", async () => {
    await using rush = await Rush.open(4, form.largeMib);
    let ended = 0;
    const fetching = rush.crowd.fetch({ things }).finally(() => ended++);
    await until("everything has been given", () => rush.givenBytes === rush.neededBytes, 60_000 * slowness);
    await rush.server[Symbol.asyncDispose]();
    assert.is(ended, 0, "some were still fetching");
    for (const { variant } of await fetching) {
      assert.is(variant.outcome, "fetched", JSON.stringify(variant));
      assert.equal(listTree(variant.path!), rush.tree);
    }
  });

  test("an origin that dies before ends the fetches by their deadline with what is missing, and the next ones go on", async () => {
    await using rush = await Rush.open(3, form.largeMib, "limit_rate 1m;");
    const fetching = rush.crowd.fetch({ things, timeoutMs: deadlineMs });
    await until("a third has been given", () => rush.givenBytes > rush.neededBytes / 3, 60_000 * slowness);
    await rush.server[Symbol.asyncDispose]();
    for (const { variant, seconds } of await fetching) {
      assert.is(variant.outcome, "failed", JSON.stringify(variant));
      assert.match(variant.error?.code ?? "", /^(DEADLINE|UNREACHABLE)$/);
      assert.match(variant.error?.message ?? "", /studio:crowd-1\.0\.0.*missing|missing.*studio:crowd-1\.0\.0/);
      assert.ok(seconds < deadlineMs / 1_000 + 2, `${seconds} s`);
    }
    await rush.restart();
    for (const { variant } of await rush.crowd.fetch({ things })) {
      assert.is(variant.outcome, "fetched", JSON.stringify(variant));
      assert.ok(variant.bytes.local > 0, "what had come before was kept");
      assert.equal(listTree(variant.path!), rush.tree);
    }
    assert.ok(rush.givenBytes < 0.9 * rush.neededBytes, "what the swarm had was not read again");
  });
}

test.run();
