import { test } from "uvu";
import * as assert from "uvu/assert";
import { Namings } from "../../node/namings.ts";
import { KeepIndex } from "../../protocol/keep-index.ts";
import { variantHash } from "../../protocol/variant.ts";
import { signedList } from "../support/keep-lists.ts";
import { engine, variantOf } from "../support/payloads.ts";

const nowMs = Date.parse("2026-11-21T08:00:00Z");
const held = Array.from({ length: 2_000 }, (_, i) => {
  const variant = variantOf(`tool${i}`);
  return { hash: variantHash(variant, engine.hash), variant };
});
const [first, second] = held as [(typeof held)[0], (typeof held)[0]];

/** Lists that name one variant, and how often they were asked. */
function lists(name: string, version: number) {
  const index = new KeepIndex([signedList("fx", version, [`studio:${name}`])], { host: "", site: "", rack: "" }, nowMs);
  const asked = { times: 0 };
  const best = index.best.bind(index);
  index.best = (variant) => {
    asked.times++;
    return best(variant);
  };
  return { index, asked };
}

/** Lists that may change, and what is held. */
function scene(count = held.length) {
  const first = lists("tool0", 1);
  const stop = new AbortController();
  const world = { index: first.index, asked: first.asked, all: held.slice(0, count), warmed: 0, stop };
  const namings = new Namings({
    keeps: () => world.index,
    held: () => world.all,
    onWarm: () => world.warmed++,
    signal: stop.signal,
  });
  const change = (name: string, version: number) => Object.assign(world, lists(name, version));
  return { world, namings, change };
}

test("a list is asked once about each variant, named or not", async () => {
  const { world, namings } = scene();
  await namings.warm();
  await namings.warm();
  for (const each of held) namings.of(each);
  assert.equal([world.asked.times, world.warmed], [held.length, 1]);
  assert.equal([namings.of(first)?.version, namings.of(second)], [1, undefined]);
});

test("once the lists have changed, one is known anew at once and the others as they were, until all are, by itself", async () => {
  const { world, namings, change } = scene();
  await namings.warm();
  change("tool1", 2);
  assert.equal([namings.of(second)?.version, namings.late(first)?.version], [2, 1]);
  await namings.settled();
  assert.equal([namings.late(first), namings.late(second)?.version, world.warmed], [undefined, 2, 2]);
});

test("lists that change again while they are looked up leave what was known of all, and the last ones count in the end", async () => {
  const { namings, change } = scene();
  await namings.warm();
  for (const version of [2, 3]) {
    change("tool1", version);
    namings.of(second);
  }
  assert.is(namings.late(first)?.version, 1);
  await namings.warm();
  assert.equal([namings.late(first), namings.late(second)?.version], [undefined, 3]);
});

test("what was known when more was held is not believed after that", async () => {
  const { world, namings, change } = scene();
  await namings.warm();
  world.all = held.slice(0, 20);
  for (const version of [2, 3, 4]) {
    change("tool0", version);
    await namings.warm();
  }
  change("tool0", 5);
  assert.is(namings.late(first)?.version, 4);
  world.all = held.slice(0, 30);
  await namings.warm();
  assert.is(namings.late(held[25]!), undefined);
});

test("right after a start all is looked up before anything is said, and others have their turn meanwhile", async () => {
  const { world, namings } = scene();
  const seen: number[] = [];
  const look = setImmediate(function again() {
    seen.push(world.asked.times);
    if (world.asked.times < held.length) setImmediate(again);
  });
  await namings.warmIfCold();
  clearImmediate(look);
  assert.is(world.asked.times, held.length);
  assert.ok(seen.filter((times) => times > 0 && times < held.length).length >= 3, `${seen}`);
});

test("once it stops nothing more is looked up", async () => {
  const { world, namings } = scene();
  const warm = namings.warm();
  world.stop.abort();
  await warm;
  assert.ok(world.asked.times < held.length);
});

test.run();
