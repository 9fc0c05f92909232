// runs unprivileged
// deadline: 240 s
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openHashEngine } from "../../node/hasher.ts";
import { CacheNode } from "../../node/node.ts";
import { seededRandom } from "../../protocol/random.ts";
import { type Variant, variantHash } from "../../protocol/variant.ts";
import { Liars } from "../support/liars.ts";
import type { Lie } from "../support/lies.ts";
import { Studio } from "../support/studio.ts";
import { eventually, failureOf, within } from "../support/swarm-member.ts";
import { listTree, makeTree } from "../support/trees.ts";

const test = suite("liars");
const variant: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };
const other: Variant = { kind: "rez", repository: "studio", name: "other" };
const { hash } = openHashEngine();

interface Scene {
  readonly studio: Studio;
  readonly source: readonly string[];
  /** Starts hostile members, and answers their addresses. */
  readonly lie: (...lies: readonly Lie[]) => Promise<string[]>;
  /** A real node that has met all of these. */
  readonly node: (
    name: string,
    options: { readonly bootstrap?: readonly string[]; readonly originPolicy?: string },
  ) => Promise<CacheNode>;
}

/** A studio with a release of some 20 MB, real nodes, and liars in processes of their own. */
function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    await using studio = await Studio.open();
    await using liars = new Liars();
    await using nodes = new AsyncDisposableStack();
    const tree = join(studio.path, "packages", "foo");
    mkdirSync(tree, { mode: 0o755 });
    makeTree(tree, seededRandom(1), { smallFiles: 200, largeMib: 16 });
    await studio.publish(variant, tree);
    const orders = {
      originPath: join(studio.path, "origin"),
      keyFile: join(studio.path, "network.key"),
      variant: variantHash(variant, hash),
    };
    const scene: Scene = {
      studio,
      source: listTree(tree),
      lie: (...lies) =>
        Promise.all(lies.map((lie) => liars.start({ ...orders, lie, otherVariant: variantHash(other, hash) }))),
      node: async (name, { bootstrap = [], originPolicy = "auto" }) => {
        const config = studio.configure(name, { bootstrap, originPolicy });
        const node = nodes.use(await CacheNode.open(studio.settings(config)));
        while (node.peers().length < bootstrap.length) await new Promise((resolve) => setTimeout(resolve, 10));
        return node;
      },
    };
    await within(30_000, text, check(scene));
  });
}

const thing = { kind: "variant", variant } as const;

/** What a node says of a liar. */
function standingOf(node: CacheNode, lie: Lie): { strikes: number; standing: string; bytesFrom: number } {
  const { strikes, standing, bytesFrom } = node.peers().find(({ name }) => name === lie)!;
  return { strikes, standing, bytesFrom };
}

/** What lies under the cache outside our own directory. */
function placed(studio: Studio, machine: string): string[] {
  const cache = join(studio.path, machine, "cache");
  return existsSync(cache) ? readdirSync(cache).filter((name) => name !== ".sys") : [];
}

for (const lie of ["wrong chunks", "wrong segments", "wrong sizes", "swapped items"] as const) {
  rule(`${lie} from one peer, right ones from another: the tree is right, and the liar is known`, async (scene) => {
    const honest = await scene.node("honest", {});
    await honest.fetch(thing);
    const bootstrap = [...(await scene.lie(lie)), honest.status("1").addresses[0]!];
    const victim = await scene.node("victim", { bootstrap, originPolicy: "never" });
    const result = await victim.fetch(thing);
    assert.equal([result.outcome, result.bytes.origin], ["fetched", 0]);
    assert.equal(listTree(result.path!), scene.source);
    assert.ok(standingOf(victim, lie).strikes >= 1);
    const friend = victim.peers().find(({ name }) => name === "honest")!;
    assert.equal([friend.strikes, friend.standing], [0, "good"]);
    assert.ok(friend.bytesFrom > 0);
    assert.equal((await victim.verify([])).damaged, []);
  });

  rule(`${lie} from the only peer: the origin gives what is right, and the liar is in quarantine`, async (scene) => {
    const victim = await scene.node("victim", { bootstrap: await scene.lie(lie) });
    const result = await victim.fetch(thing);
    assert.is(result.outcome, "fetched");
    assert.equal(listTree(result.path!), scene.source);
    const liar = standingOf(victim, lie);
    // A manifest has few segments: three strikes may not come together.
    if (lie === "wrong chunks") assert.is(liar.standing, "quarantined");
    assert.ok(liar.strikes >= 1);
    assert.equal((await victim.verify([])).damaged, []);
  });
}

for (const lie of ["gone", "silence"] as const) {
  rule(`a peer that claims all and answers with ${lie}: the origin gives it, in time`, async (scene) => {
    const victim = await scene.node("victim", { bootstrap: await scene.lie(lie) });
    const result = await victim.fetch(thing, { timeoutMs: 25_000 });
    assert.equal([result.outcome, result.bytes.peers], ["fetched", 0]);
    assert.equal(listTree(result.path!), scene.source);
    assert.ok(result.seconds < 15, `${result.seconds} s`);
    // Who is silent may be slow: it is waited for, also when the fetch is over before that.
    await eventually("that the liar is struck", () => standingOf(victim, lie).strikes >= 1, 5_000);
  });
}

rule("many liars of every kind and one honest peer", async (scene) => {
  const honest = await scene.node("honest", {});
  await honest.fetch(thing);
  const lies = ["wrong chunks", "wrong sizes", "gone", "silence"] as const;
  const bootstrap = [...(await scene.lie(...lies)), honest.status("1").addresses[0]!];
  const victim = await scene.node("victim", { bootstrap, originPolicy: "never" });
  const result = await victim.fetch(thing);
  assert.equal(listTree(result.path!), scene.source);
  assert.is(victim.peers().find(({ name }) => name === "honest")!.strikes, 0);
});

rule("with nobody but a liar it fails, with a typed error, and nothing lies under a final path", async (scene) => {
  for (const [lie, exits] of [
    ["wrong chunks", [3, 4, 6]],
    ["gone", [3, 6]],
  ] as const) {
    const machine = lie.replace(" ", "-");
    const victim = await scene.node(machine, { bootstrap: await scene.lie(lie), originPolicy: "never" });
    const failure = await failureOf(victim.fetch(thing, { timeoutMs: 25_000 }));
    assert.ok((exits as readonly number[]).includes(failure.exit!), `${failure.code} ${failure.message}`);
    assert.equal([placed(scene.studio, machine), victim.holdings()], [[], []]);
  }
});

for (const lie of ["record of another variant", "unsigned record", "garbage record"] as const) {
  rule(`a false record (${lie}): the one from elsewhere counts; alone it is an error`, async (scene) => {
    const tree = join(scene.studio.path, "packages", "foo");
    await scene.studio.publish(other, tree);
    const bootstrap = await scene.lie(lie);
    const lonely = await scene.node("lonely", { bootstrap, originPolicy: "never" });
    const failure = await failureOf(lonely.fetch(thing));
    const expected = { "record of another variant": 3, "unsigned record": 5, "garbage record": 4 }[lie];
    assert.is(failure.exit, expected, failure.message);
    assert.equal(placed(scene.studio, "lonely"), []);
    const victim = await scene.node("victim", { bootstrap });
    const result = await victim.fetch(thing);
    assert.equal(listTree(result.path!), scene.source);
    assert.is(standingOf(victim, lie).strikes, 0);
  });
}

test.run();
