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

test("a list is asked once about each variant, named or not", async () => {
  const { index, asked } = lists("tool0", 1);
  const namings = new Namings(() => index);
  await namings.warm(held);
  for (const each of held) namings.of(each);
  assert.is(asked.times, held.length);
  assert.equal([namings.of(first)?.version, namings.of(second)], [1, undefined]);
});

test("once the lists have changed, one is known anew at once and the others as they were, until all are looked up", async () => {
  const [old, young] = [lists("tool0", 1), lists("tool1", 2)];
  let { index } = old;
  const namings = new Namings(() => index);
  await namings.warm(held);
  index = young.index;
  assert.equal([namings.of(second)?.version, namings.late(first)?.version], [2, 1]);
  await namings.warmIfCold(held);
  assert.is(young.asked.times, 1, "what was known before is enough");
  await namings.warm(held);
  assert.equal([namings.late(first), namings.late(second)?.version], [undefined, 2]);
});

test("lists that change again while they are looked up leave what was known of all", async () => {
  let { index } = lists("tool0", 1);
  const namings = new Namings(() => index);
  await namings.warm(held);
  for (const version of [2, 3]) {
    ({ index } = lists("tool1", version));
    namings.of(second);
  }
  assert.is(namings.late(first)?.version, 1);
});

test("others have their turn while all is looked up, also right after a start", async () => {
  const { index, asked } = lists("tool0", 1);
  const namings = new Namings(() => index);
  const seen: number[] = [];
  const look = setImmediate(function again() {
    seen.push(asked.times);
    if (asked.times < held.length) setImmediate(again);
  });
  await namings.warmIfCold(held);
  clearImmediate(look);
  assert.ok(seen.filter((times) => times > 0 && times < held.length).length >= 3, `${seen}`);
});

test.run();
