// runs unprivileged
// deadline: 180 s
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { putKeepList } from "../../node/keep-alive/put-list.ts";
import { generatePublisherKey, type PublisherKey, publicKeyText } from "../../node/keys.ts";
import type { Log } from "../../node/log.ts";
import { CacheNode, type NodeOptions } from "../../node/node.ts";
import { seededRandom } from "../../protocol/random.ts";
import { until } from "../support/child-processes.ts";
import { sealedList, signedList } from "../support/keep-lists.ts";
import { Studio } from "../support/studio.ts";
import { failureOf, within } from "../support/swarm-member.ts";
import { makeTree } from "../support/trees.ts";

const test = suite("a node that keeps and cleans");
const dayMs = 86_400_000;
const thing = (name: string, version = "1.0.0") =>
  ({ kind: "variant", variant: { kind: "rez", repository: "studio", name, version } }) as const;

interface Scene {
  readonly studio: Studio;
  readonly key: PublisherKey;
  /** Opens a node whose cache takes this much. */
  open(cache: { readonly mb: number; readonly pinnedMb?: number }, options?: NodeOptions): Promise<CacheNode>;
  putList(version: number, keep: Parameters<typeof signedList>[2]): Promise<void>;
}

/** Each of `one`, `two` and `three` has a little over four megabytes. */
function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    await using studio = await Studio.open();
    await using nodes = new AsyncDisposableStack();
    const key = await generatePublisherKey(join(studio.path, "fx.pem"));
    for (const [i, name] of ["one", "two", "three"].entries()) {
      const tree = join(studio.path, "packages", name);
      mkdirSync(tree, { mode: 0o755 });
      makeTree(tree, seededRandom(i), { smallFiles: 5, largeMib: 1 });
      await studio.publish(thing(name).variant, tree);
    }
    const scene: Scene = {
      studio,
      key,
      async open(cache, options = {}) {
        const keys = `[keepalive]\nkeys = ["fx=${publicKeyText(key)}"]`;
        const settings = studio.settings(studio.configure("machine", { more: keys }));
        const limits = {
          maxBytes: cache.mb * 1e6,
          freeBytesMin: 0,
          pinnedBytesMax: (cache.pinnedMb ?? cache.mb) * 1e6,
        };
        return nodes.use(await CacheNode.open({ ...settings, cache: { ...settings.cache, ...limits } }, options));
      },
      async putList(version, keep) {
        await putKeepList(join(studio.path, "origin"), "fx", sealedList(key, signedList("fx", version, keep)));
      },
    };
    await within(60_000, text, check(scene));
  });
}

rule(
  "a fetch takes the place of what is idle, and never of what is leased or was used just now (P4, P5)",
  async (scene) => {
    const node = await scene.open({ mb: 10 });
    const { path: one } = await node.fetch(thing("one"));
    const { path: two } = await node.fetch(thing("two"));
    const refused = await failureOf(node.fetch(thing("three")));
    assert.equal([refused.code, refused.exit], ["NO_SPACE", 7]);
    for (const path of [one, two]) age(path!, 3);
    const lease = await node.keeping.leaseFor({
      variants: [node.hashOf(thing("one"))],
      name: "test",
      process: undefined,
    });
    await node.fetch(thing("three"));
    assert.equal([existsSync(one!), existsSync(two!)], [true, false]);
    await lease.leave();
  },
);

rule("what a program runs from without a lease, as rez-env starts it, stays while it runs (P5)", async (scene) => {
  const node = await scene.open({ mb: 10 });
  const { path: one } = await node.fetch(thing("one"));
  const { path: two } = await node.fetch(thing("two"));
  for (const path of [one, two]) age(path!, 3);
  const program = spawn("sleep", ["600"], { env: { ...process.env, REZ_ONE_ROOT: one! } });
  try {
    await once(program, "spawn");
    assert.match((await node.keeping.explain(thing("one"))).reason, `kept: sleep (${program.pid}) runs from it`);
    await node.fetch(thing("three"));
    assert.equal([existsSync(one!), existsSync(two!)], [true, false]);
  } finally {
    program.kill();
    await once(program, "exit");
  }
});

rule("what a list names is not evicted for what none names, and is for what is more important (P5)", async (scene) => {
  await scene.putList(1, ["studio:three", "studio:one"]);
  const node = await scene.open({ mb: 9 });
  await node.keeping.lists({ refresh: true });
  const { path: one } = await node.fetch(thing("one"));
  age(one!, 100);
  assert.is((await node.fetch(thing("two"))).outcome, "fetched");
  const { path: two } = node.holdings().find(({ name }) => name === "two")!;
  age(two, 2);
  // There is room for two: the one that no list names goes, however young it is.
  await node.fetch(thing("three"));
  assert.equal(
    node
      .holdings()
      .map(({ name }) => name)
      .sort(),
    ["one", "three"],
  );
  const { path: three } = node.holdings().find(({ name }) => name === "three")!;
  age(three, 50);
  assert.is((await failureOf(node.fetch(thing("two")))).code, "NO_SPACE");
  assert.match(
    (await node.keeping.explain(thing("one"))).reason,
    /^kept: toolset fx, version 1, rank 2, signed by pipeline$/,
  );
});

rule("what a list wants here is fetched by itself, and once", async (scene) => {
  await scene.putList(1, [
    { package: "studio:two-1+", prefetch: true },
    { package: "studio:none", prefetch: true },
    "studio:one",
  ]);
  const fetched: string[] = [];
  const log: Log = (_level, event, facts) => {
    if (event === "variant-placed") fetched.push(String(facts?.variant));
  };
  const node = await scene.open({ mb: 40 }, { log, keeping: { periodMs: 50, spreadMs: 50 } });
  await until("it is here", () => fetched.length > 0);
  await node.keeping.lists({ refresh: true });
  assert.is(node.holdings().length, 1);
  assert.equal(fetched, ["studio:two-1.0.0"]);
});

rule("what lists want here beforehand does not fill the disk, and the failure is told", async (scene) => {
  await scene.putList(
    1,
    ["one", "two", "three"].map((name) => ({ package: `studio:${name}`, prefetch: true })),
  );
  const failed = Promise.withResolvers<unknown>();
  const log: Log = (_level, event, facts) => {
    if (event === "prefetch-failed") failed.resolve(facts?.variant);
  };
  const node = await scene.open({ mb: 9 }, { log, keeping: { periodMs: 50, spreadMs: 1 } });
  assert.is(await failed.promise, "studio:three-1.0.0");
  assert.equal(
    node
      .holdings()
      .map(({ name }) => name)
      .sort(),
    ["one", "two"],
  );
  assert.ok(node.status("1").cache.bytes <= 9_000_000);
});

rule("what lists want here beforehand stops at pinned_bytes_max, what is pinned included", async (scene) => {
  const failed: unknown[] = [];
  const placed: unknown[] = [];
  const log: Log = (_level, event, facts) => {
    if (event === "prefetch-failed") failed.push(facts?.variant);
    if (event === "variant-placed") placed.push(facts?.variant);
  };
  const first = await scene.open({ mb: 40, pinnedMb: 9 });
  await first.fetch(thing("three"));
  await first.keeping.pin(thing("three"));
  await first[Symbol.asyncDispose]();
  await scene.putList(
    1,
    ["one", "two"].map((name) => ({ package: `studio:${name}`, prefetch: true })),
  );
  await scene.open({ mb: 40, pinnedMb: 9 }, { log, keeping: { periodMs: 50, spreadMs: 1 } });
  await until("it was tried twice", () => failed.length > 1);
  assert.equal([placed, [...new Set(failed)]], [["studio:one-1.0.0"], ["studio:two-1.0.0"]]);
});

rule("what must stay is touched, so that Rez spares it, and was used when it was used", async (scene) => {
  await scene.putList(1, ["studio:one"]);
  const node = await scene.open({ mb: 40 }, { keeping: { periodMs: 50 } });
  const { path: one } = await node.fetch(thing("one"));
  const { path: two } = await node.fetch(thing("two"));
  for (const path of [one, two]) age(path!, 20);
  await node[Symbol.asyncDispose]();
  const again = await scene.open({ mb: 40 }, { keeping: { periodMs: 50 } });
  const ageOf = (path: string) => Math.round((Date.now() - statSync(`${path}.json`).mtimeMs) / dayMs);
  await until("the one that a list names is touched", () => ageOf(one!) === 0);
  assert.is(ageOf(two!), 20);
  const ages = again.holdings().map(({ lastUsed }) => Math.round((Date.now() - Date.parse(lastUsed!)) / dayMs));
  assert.equal(ages, [20, 20]);
});

rule("past the high watermark a node cleans by itself", async (scene) => {
  const evicted = Promise.withResolvers<unknown>();
  const log: Log = (_level, event, facts) => {
    if (event === "variant-evicted") evicted.resolve(facts?.handle);
  };
  const node = await scene.open({ mb: 13 }, { log, keeping: { periodMs: 1e9 } });
  const { path } = await node.fetch(thing("one"));
  await node.fetch(thing("two"));
  age(path!, 9);
  await node.fetch(thing("three"));
  assert.is(await evicted.promise, "studio:one-1.0.0");
});

rule("a node that waits for Rez's lock, to make room for a fetch, stops soon all the same", async (scene) => {
  await using peers = new AsyncDisposableStack();
  const node = await scene.open({ mb: 9 });
  const bootstrap = node.status("1").addresses;
  const peer = peers.use(
    await CacheNode.open(scene.studio.settings(scene.studio.configure("peer", { bootstrap, originPolicy: "never" }))),
  );
  const paths = [await node.fetch(thing("one")), await node.fetch(thing("two"))].map(({ path }) => path!);
  for (const path of paths) age(path, 3);
  const known = () => peer.peers().find((each) => each.peer === node.id)?.holdings;
  await until("the peer knows what is held", () => known() === 2);
  writeFileSync(join(scene.studio.path, "machine", "cache", ".sys", ".lock.lock"), "");
  const refused = failureOf(node.fetch(thing("three")));
  await until("the peer knows that one goes", () => known() === 1);
  const startMs = performance.now();
  await node[Symbol.asyncDispose]();
  // The lock alone is waited for ten seconds.
  assert.ok(performance.now() - startMs < 7_000);
  assert.is((await refused).code, "STOPPED");
  assert.ok(paths.every((path) => existsSync(path)));
});

rule("a node that is opened for a question cleans nothing by itself", async (scene) => {
  const node = await scene.open({ mb: 40 });
  const { path } = await node.fetch(thing("one"));
  age(path!, 9);
  await node[Symbol.asyncDispose]();
  const again = await scene.open({ mb: 4 });
  assert.is(again.holdings().length, 1);
  const { lines, missing } = await again.keeping.gc({ dryRun: true });
  assert.equal([lines[0]!.outcome, missing], ["goes", undefined]);
});

rule("what is pinned counts against pinned_bytes_max", async (scene) => {
  const node = await scene.open({ mb: 9, pinnedMb: 8 });
  await node.fetch(thing("one"));
  await node.fetch(thing("two"));
  await node.keeping.pin(thing("one"));
  await node.keeping.pin(thing("one"));
  assert.is((await failureOf(node.keeping.pin(thing("two")))).code, "NO_SPACE");
});

function age(path: string, days: number): void {
  const at = new Date(Date.now() - days * dayMs);
  utimesSync(`${path}.json`, at, at);
}

test.run();
