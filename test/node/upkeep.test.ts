// runs unprivileged
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Log } from "../../node/log.ts";
import { CacheNode } from "../../node/node.ts";
import { seededRandom } from "../../protocol/random.ts";
import type { Variant } from "../../protocol/variant.ts";
import { removeTree } from "../support/payloads.ts";
import { Studio } from "../support/studio.ts";
import { Events, within } from "../support/swarm-member.ts";
import { listTree, makeTree } from "../support/trees.ts";
import { flipByte, within as inDirectory } from "./store/store-fixture.ts";

const test = suite("upkeep");
const variant: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };
const thing = { kind: "variant", variant } as const;

interface LogLine {
  readonly event: string;
  readonly facts: Readonly<Record<string, unknown>>;
}

interface Scene {
  readonly studio: Studio;
  readonly tree: string;
  readonly log: Events<LogLine>;
  readonly open: (
    machine: string,
    more: Parameters<Studio["configure"]>[1],
    repairDelayMs?: number,
  ) => Promise<CacheNode>;
}

/** A release that a first node has; other nodes know that one only. */
function rule(text: string, check: (scene: Scene, first: CacheNode) => Promise<void>): void {
  test(text, async () => {
    await using studio = await Studio.open();
    await using nodes = new AsyncDisposableStack();
    const tree = join(studio.path, "packages", "foo");
    mkdirSync(tree, { mode: 0o755 });
    makeTree(tree, seededRandom(1), { smallFiles: 20, largeMib: 8 });
    await studio.publish(variant, tree);
    const log = new Events<LogLine>();
    const noted: Log = (_level, event, facts = {}) => log.add({ event, facts });
    const open: Scene["open"] = async (machine, more, repairDelayMs = 10) => {
      const settings = studio.settings(studio.configure(machine, more));
      return nodes.use(await CacheNode.open(settings, { log: noted, repairDelayMs }));
    };
    const first = await open("first", {});
    await first.fetch(thing);
    await within(30_000, text, check({ studio, tree, log, open }, first));
  });
}

rule("what rots is found by the scrub and repaired from a peer, and nothing else is touched", async (scene, first) => {
  const { open, log, tree } = scene;
  const bootstrap = [first.status("1").addresses[0]!];
  const second = await open("second", { bootstrap, originPolicy: "never", cache: 'scrub_period = "2 s"' });
  const { path } = await second.fetch(thing);
  const other = statSync(join(path!, "library0.so")).ino;
  flipByte(join(path!, "library1.so"), 3_000_000);
  await log.until("its damage", ({ event }) => event === "holding-damaged");
  const { facts } = await log.until("its repair", ({ event }) => event === "variant-repaired");
  const { peers, origin } = facts.bytes as { peers: number; origin: number };
  assert.is(origin, 0);
  assert.ok(peers > 0 && peers <= 2 * 1024 * 1024, `${peers} bytes for one chunk`);
  assert.is(facts.path, path);
  assert.equal(listTree(path!), listTree(tree));
  assert.is(statSync(join(path!, "library0.so")).ino, other);
  assert.is(second.holdings()[0]!.state, "whole");
});

rule("with scrub_period 0 nothing is looked at", async ({ open, log, studio }, first) => {
  const bootstrap = [first.status("1").addresses[0]!];
  const second = await open("second", { bootstrap, originPolicy: "never", cache: 'scrub_period = "0 s"' });
  const { path } = await second.fetch(thing);
  flipByte(join(path!, "library1.so"), 3_000_000);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  assert.is(
    log.count(({ event }) => event === "holding-damaged"),
    0,
  );
  assert.not(existsSync(join(studio.path, "second", "state", "scrub.json")));
});

rule("how far the scrub came outlives the node", async ({ open, studio, log }, first) => {
  const bootstrap = [first.status("1").addresses[0]!];
  const file = join(studio.path, "second", "state", "scrub.json");
  const options = { bootstrap, cache: 'scrub_period = "1 h"' };
  const positions = [];
  for (let run = 0; run < 2; run++) {
    await using node = await open("second", options);
    await node.fetch(thing);
    // The first step of a round comes as soon as something is held, and nothing else goes on.
    await node[Symbol.asyncDispose]();
    if (existsSync(file)) positions.push(JSON.parse(readFileSync(file, "utf8")));
  }
  await using third = await open("second", options);
  await third[Symbol.asyncDispose]();
  const last = JSON.parse(readFileSync(file, "utf8"));
  for (const { startedMs } of positions) assert.is(last.startedMs, startedMs);
  assert.ok(last.step > 0);
  assert.is(
    log.count(({ event }) => event === "scrub-failed"),
    0,
  );
});

rule("damage that a peer came upon is repaired, also where nobody scrubs", async ({ open, log, tree }, first) => {
  const { path } = first.holdings()[0]!;
  for (const name of readdirSync(path).filter((each) => each.startsWith("library"))) flipByte(join(path, name), 9);
  const bootstrap = [first.status("1").addresses[0]!];
  const second = await open("second", { bootstrap });
  await log.until("that they met", ({ event, facts }) => event === "peer-joined" && facts.peer === first.id);
  const fetched = await second.fetch(thing);
  assert.equal(listTree(fetched.path!), listTree(tree));
  await log.until("its repair", ({ event }) => event === "variant-repaired");
  assert.equal(listTree(path), listTree(tree));
});

rule("a tree that somebody took away is not brought back", async ({ open, log }, first) => {
  const bootstrap = [first.status("1").addresses[0]!];
  const second = await open("second", { bootstrap, cache: 'scrub_period = "1 s"' });
  const { path } = await second.fetch(thing);
  inDirectory(join(path!, ".."), () => removeTree(path!));
  await log.until("that it has gone", ({ event }) => event === "holding-damaged");
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.not(existsSync(path!));
  assert.is(
    log.count(({ event }) => event === "variant-repaired" || event === "repair-failed"),
    0,
  );
});

rule("a repair without a source is said to have failed, and succeeds once there is one", async (scene, first) => {
  const { open, log, studio, tree } = scene;
  const bootstrap = [first.status("1").addresses[0]!];
  const second = await open("second", { bootstrap });
  const { path } = await second.fetch(thing);
  await second[Symbol.asyncDispose]();
  await first[Symbol.asyncDispose]();
  flipByte(join(path!, "library1.so"), 3_000_000);
  const alone = await open("second", { originPolicy: "never" });
  assert.is((await alone.verify([])).damaged.length, 1);
  await log.until("that it failed", ({ event }) => event === "repair-failed");
  assert.is(alone.holdings()[0]!.state, "damaged");
  await alone[Symbol.asyncDispose]();
  const again = await open("second", {});
  await log.until("its repair", ({ event }) => event === "variant-repaired");
  assert.equal(listTree(path!), listTree(tree));
  assert.is(again.holdings()[0]!.path, path);
  await again[Symbol.asyncDispose]();
  assert.equal(readdirSync(join(studio.path, "second", "cache", ".sys", "p2pcache", "repairs")), []);
});

test.run();
