// runs unprivileged
import { existsSync, mkdirSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Log } from "../../node/log.ts";
import { CacheNode } from "../../node/node.ts";
import { unpublish } from "../../node/publish.ts";
import { seededRandom } from "../../protocol/random.ts";
import { until } from "../support/child-processes.ts";
import { Studio } from "../support/studio.ts";
import { failureOf, within } from "../support/swarm-member.ts";
import { makeTree } from "../support/trees.ts";

const test = suite("a node and what was withdrawn");
const variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" } as const;
const thing = { kind: "variant", variant } as const;

function rule(text: string, check: (studio: Studio, nodes: AsyncDisposableStack) => Promise<void>): void {
  test(text, async () => {
    await using studio = await Studio.open();
    await using nodes = new AsyncDisposableStack();
    const tree = join(studio.path, "packages", "foo");
    mkdirSync(tree, { mode: 0o755 });
    makeTree(tree, seededRandom(1), { smallFiles: 20, largeMib: 1 });
    await studio.publish(variant, tree);
    await within(30_000, text, check(studio, nodes));
  });
}

rule("a look that nobody asked for finds the withdrawal, and the tree and its index file go", async (studio, nodes) => {
  const dropped = Promise.withResolvers<void>();
  const log: Log = (_level, event) => {
    if (event === "variant-withdrawn") dropped.resolve();
  };
  const settings = studio.settings(studio.configure("machine"));
  const node = nodes.use(await CacheNode.open(settings, { log, recordPeriodMs: 1 }));
  const { path } = await node.fetch(thing);
  await unpublish(settings, { variant, reason: "broken" });
  await dropped.promise;
  assert.equal([existsSync(path!), existsSync(`${path}.json`), node.holdings()], [false, false, []]);
});

rule("a peer hears of it from a peer, also with no origin to ask", async (studio, nodes) => {
  const first = studio.settings(studio.configure("first"));
  const told = nodes.use(await CacheNode.open(first));
  const bootstrap = told.status("1").addresses;
  const second = studio.settings(studio.configure("second", { bootstrap, originPolicy: "never" }));
  const hears = nodes.use(await CacheNode.open(second));
  await told.fetch(thing);
  assert.is((await hears.fetch(thing)).outcome, "fetched");
  await unpublish(first, { variant, reason: "broken" });
  assert.is((await failureOf(told.fetch(thing))).code, "WITHDRAWN");
  const error = await failureOf(hears.fetch(thing));
  assert.equal([error.code, error.exit, hears.holdings()], ["WITHDRAWN", 3, []]);
});

rule("peers hear that it goes before its tree does", async (studio, nodes) => {
  const first = studio.settings(studio.configure("first"));
  const drops = nodes.use(await CacheNode.open(first));
  const bootstrap = drops.status("1").addresses;
  const second = studio.settings(studio.configure("second", { bootstrap, originPolicy: "never" }));
  const hears = nodes.use(await CacheNode.open(second));
  const { path } = await drops.fetch(thing);
  const known = () => hears.peers().find(({ peer }) => peer === drops.id)?.holdings;
  await until("the peer knows what is held", () => known() === 1);
  // Whoever removes from Rez's cache waits for Rez's lock.
  const lock = join(first.cache.path, ".sys", ".lock.lock");
  writeFileSync(lock, "");
  await unpublish(first, { variant, reason: "broken" });
  const refused = failureOf(drops.fetch(thing));
  await until("the peer knows that it goes", () => known() === 0);
  assert.is(existsSync(path!), true);
  unlinkSync(lock);
  assert.is((await refused).code, "WITHDRAWN");
  assert.is(existsSync(path!), false);
});

test.run();
