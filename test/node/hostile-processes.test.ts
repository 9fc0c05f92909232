// runs unprivileged
// deadline: 420 s
// alone
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openHashEngine } from "../../node/hasher.ts";
import { MIB } from "../../protocol/limits.ts";
import { seededRandom } from "../../protocol/random.ts";
import { type Variant, variantHash } from "../../protocol/variant.ts";
import type { RawBehaviour } from "../support/hostile-process.ts";
import { Liars } from "../support/liars.ts";
import type { Lie } from "../support/lies.ts";
import { peakBytes } from "../support/memory.ts";
import { type RunningNode, Studio } from "../support/studio.ts";
import { eventually, within } from "../support/swarm-member.ts";
import { listTree, makeTree } from "../support/trees.ts";

const test = suite("hostile processes");
const variant: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };
const thing = { kind: "variant", variant } as const;

/** Behaviours that a member shows whose swarm is real, by what its processes are called; and those of raw streams. */
const lies: Readonly<Record<string, Lie>> = {
  "wrong bytes": "wrong chunks",
  "short and long pieces": "wrong sizes",
  "swapped items": "swapped items",
  "claims without content": "silence",
};
const rawBehaviours: readonly RawBehaviour[] = [
  "slow-loris",
  "oversize frames",
  "stream floods",
  "connect and say nothing",
  "announcements of a million variants",
  "join and leave",
  "leases taken and not used",
];

/** Honest nodes as processes: one holds the release, one fetches it again and again. */
class Scene implements AsyncDisposable {
  readonly #opened: AsyncDisposableStack;
  readonly #studio: Studio;
  readonly #liars: Liars;
  readonly nodes: readonly [RunningNode, RunningNode];
  readonly source: readonly string[];

  private constructor(opened: AsyncDisposableStack, studio: Studio, parts: Pick<Scene, "nodes" | "source">) {
    this.#opened = opened;
    this.#studio = studio;
    this.#liars = opened.use(new Liars());
    this.nodes = parts.nodes;
    this.source = parts.source;
  }

  static async open(): Promise<Scene> {
    await using opened = new AsyncDisposableStack();
    const studio = opened.use(await Studio.open());
    const tree = join(studio.path, "packages", "foo");
    mkdirSync(tree, { mode: 0o755 });
    makeTree(tree, seededRandom(1), { smallFiles: 200, largeMib: 16 });
    await studio.publish(variant, tree);
    const holder = await studio.start(studio.configure("holder"));
    await holder.client.fetch({ things: [thing] }, () => undefined, {});
    const victim = await studio.start(studio.configure("victim", { bootstrap: [holder.addresses[0]!] }));
    await eventually("that they have met", () => victim.log().includes("peer-joined"));
    return new Scene(opened.move(), studio, { nodes: [holder, victim], source: listTree(tree) });
  }

  /** Fetches what it then removes again. Answers how long it took, and the most memory of either node. */
  async fetch(): Promise<{ readonly ms: number; readonly bytes: readonly number[] }> {
    for (const node of this.nodes) forgetPeak(node);
    const { client } = this.nodes[1];
    const startedMs = performance.now();
    const [result] = await client.fetch({ things: [thing] }, () => undefined, {});
    const ms = performance.now() - startedMs;
    assert.is(result?.outcome, "fetched", result?.reason);
    assert.equal(listTree(result!.path!), this.source);
    const bytes = this.nodes.map(({ process }) => peakBytes(process.pid!));
    await client.remove([thing], {});
    return { ms, bytes };
  }

  /** Starts a hostile member. Answers its peer ids. */
  async enter(behaviour: string): Promise<string[]> {
    const { path } = this.#studio;
    const hash = variantHash(variant, openHashEngine().hash);
    const orders = { originPath: join(path, "origin"), keyFile: join(path, "network.key"), variant: hash };
    const victims = this.nodes.map(({ addresses }) => addresses[0]!);
    const lie = lies[behaviour];
    if (lie === undefined) {
      return await this.#liars.startRaw({ ...orders, behaviour: behaviour as RawBehaviour, victims });
    }
    const address = await this.#liars.start({ ...orders, lie, bootstrap: victims });
    return [address.split("/p2p/")[1]!];
  }

  /** Whether an honest node names a peer: by strikes, or in its log. */
  async isNamed(peer: string): Promise<boolean> {
    for (const { client, log } of this.nodes) {
      if ((await client.peers()).some((facts) => facts.peer === peer && Number(facts.strikes) > 0)) return true;
      if (
        log()
          .split("\n")
          .some((line) => /"peer-(misbehaves|refused)"/.test(line) && line.includes(peer))
      )
        return true;
    }
    return false;
  }

  async leave(): Promise<void> {
    await this.#liars.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened[Symbol.asyncDispose]();
  }
}

/** From now on the peak counts anew (proc(5), clear_refs). */
function forgetPeak({ process }: RunningNode): void {
  writeFileSync(`/proc/${process.pid}/clear_refs`, "5");
}

let scene: Scene;
test.before(async () => {
  scene = await Scene.open();
  // The first one compiles what the others need.
  await scene.fetch();
});
test.after(() => scene[Symbol.asyncDispose]());

// Whoever announced itself is remembered for a while after it has gone, also as a registrar: this one comes first.
for (const behaviour of ["false registrar answers", ...Object.keys(lies), ...rawBehaviours]) {
  test(`a hostile process: ${behaviour}: the tree is right, in time and in memory, and the culprit is named`, () =>
    within(60_000, behaviour, check(behaviour)));
}

async function check(behaviour: string): Promise<void> {
  let honest = await scene.fetch();
  const ids = await scene.enter(behaviour);
  // It has met them, and is at it.
  await sleep(500);
  const hostile = await scene.fetch();
  if (hostile.ms > 1.25 * honest.ms + 1_000) {
    // This machine may have had to do something else: what is honest is measured once more, under the same load.
    await scene.leave();
    honest = await scene.fetch();
    ids.splice(0, ids.length, ...(await scene.enter(behaviour)));
    await sleep(500);
    Object.assign(hostile, await scene.fetch());
  }
  const moreMib = hostile.bytes.map((bytes, i) => (bytes - honest.bytes[i]!) / MIB);
  const figures = `${Math.round(hostile.ms)} ms, ${Math.round(honest.ms)} ms without it, ${moreMib.map(Math.round).join(" and ")} MiB more`;
  if (process.env.P2PCACHE_SHOW !== undefined) console.log(`${behaviour}: ${figures}`);
  assert.ok(hostile.ms <= 1.25 * honest.ms + 1_000, figures);
  for (const mib of moreMib) assert.ok(mib < 64, figures);
  for (const id of ids) await untilNamed(id);
  await scene.leave();
}

/** @throws {Error} with what the nodes logged, when nobody says who it was. */
async function untilNamed(peer: string): Promise<void> {
  const untilMs = performance.now() + 25_000;
  while (!(await scene.isNamed(peer))) {
    if (performance.now() > untilMs) throw new Error(`nobody names ${peer}:\n${scene.nodes[1].log()}`);
    await sleep(50);
  }
}

test.run();
