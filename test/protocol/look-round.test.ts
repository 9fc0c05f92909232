import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseVariantHash } from "../../protocol/hash.ts";
import { LookRound } from "../../protocol/look-round.ts";
import { seededRandom } from "../../protocol/random.ts";

const hour = 3_600_000;
const variants = ["1", "2", "3", "4"].map((digit) => parseVariantHash(digit.repeat(64)));

/** The next variants whose turn it is. */
function turns(round: LookRound, held: typeof variants, count: number): string[] {
  return Array.from({ length: count }, () => {
    const step = round.step(held, 1);
    return step.kind === "look" ? step.variant[0]! : "-";
  });
}

test("each held variant has its turn, the one looked at longest ago first", () => {
  const round = new LookRound(hour, () => 0.5);
  assert.equal(turns(round, variants, 9), ["1", "2", "3", "4", "1", "2", "3", "4", "1"]);
});

test("one that came has its turn soon, one that went has none", () => {
  const round = new LookRound(hour, () => 0.5);
  turns(round, variants.slice(0, 3), 4);
  assert.equal(turns(round, variants, 2), ["4", "2"]);
  assert.equal(turns(round, variants.slice(2), 3), ["3", "4", "3"]);
  assert.equal(turns(round, [], 1), ["-"]);
});

test("what is held is gone through when it has changed, and not at every look", () => {
  const round = new LookRound(hour, () => 0.5);
  let times = 0;
  const counted = (held: typeof variants) => {
    const filter: typeof held.filter = (...call: [never]) => {
      times++;
      return held.filter(...call);
    };
    return Object.assign([...held], { filter });
  };
  const held = counted(variants);
  turns(round, held, 100);
  assert.is(times, 1);
  const [first, ...rest] = variants as [(typeof variants)[0], ...typeof variants];
  const other = parseVariantHash("9".repeat(64));
  assert.equal(turns(round, counted([...rest, other]), 1), ["9"], "as many, and one of them another");
  assert.is(times, 2);
  assert.not(turns(round, counted([...rest, other]), 8).includes(first[0]!));
});

test("a round takes about a period, spread by chance, and never more than a look a second", () => {
  const round = new LookRound(hour, seededRandom(1));
  const waits = Array.from({ length: 400 }, () => round.step(variants, 1).waitMs);
  const sum = waits.reduce((a, b) => a + b, 0);
  assert.ok(Math.abs(sum / 100 / hour - 1) < 0.05, `${sum}`);
  assert.ok(waits.every((waitMs) => waitMs >= hour / 8 && waitMs <= (hour * 3) / 8));
  assert.is(new LookRound(1, () => 0).step(variants, 1).waitMs, 1_000);
});

test("all machines together look 20 times a second at most, however many they are and hold", () => {
  const many = Array.from({ length: 3_000 }, (_, i) => parseVariantHash(i.toString(16).padStart(64, "0")));
  const waitMs = (held: typeof variants, machines: number) =>
    new LookRound(hour, () => 0.5).step(held, machines).waitMs;
  for (const machines of [100, 1_000, 10_000]) {
    assert.ok((machines / waitMs(many, machines)) * 1_000 <= 20, `${machines}`);
  }
  assert.equal([waitMs(many, 1_000), waitMs(many, 1), waitMs(variants, 1_000)], [50_000, 1_200, hour / 4]);
});

test.run();
