import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { seededRandom } from "../../protocol/random.ts";
import { WantedItems } from "../../protocol/wanted-items.ts";

const items = 12;

test("of what some sources have the rarest comes first, and what nobody has never", () => {
  const wanted = new WantedItems(4, seededRandom(1));
  for (const [item, copies] of [3, 1, 2, 0].entries()) wanted.add(item, copies);
  const masks = Uint32Array.from([0b111, 0b100, 0b110, 0]);
  assert.is(wanted.rarest(masks, 0b100), 1);
  assert.is(wanted.rarest(masks, 0b010), 2);
  assert.is(wanted.rarest(masks, 0b001), 0);
  assert.is(wanted.rarest(masks, 0b1000), undefined);
  wanted.remove(1, 1);
  assert.is(wanted.rarest(masks, 0b100), 2);
  assert.equal([wanted.has(1), wanted.has(3), wanted.length], [false, true, 3]);
});

test("ties are broken at random: everyone of a class has its turn", () => {
  const wanted = new WantedItems(8, seededRandom(2));
  for (let item = 0; item < 8; item++) wanted.add(item, 1);
  const masks = new Uint32Array(8).fill(1);
  const seen = new Set(Array.from({ length: 200 }, () => wanted.rarest(masks, 1)));
  assert.is(seen.size, 8);
});

test("an item that changes class moves, whether wanted or not, and however many have it", () => {
  const steps = fc.array(fc.tuple(fc.nat(items - 1), fc.constantFrom("add", "remove", "raise", "lower")), {
    maxLength: 300,
  });
  fc.assert(
    fc.property(steps, fc.integer({ min: 0, max: 40 }), (all, before) => {
      const wanted = new WantedItems(items, seededRandom(3));
      const copies = new Array<number>(items).fill(before);
      const here = new Set<number>();
      const masks = new Uint32Array(items).fill(1);
      for (const [item, step] of all) {
        if (step === "add" && !here.has(item)) wanted.add(item, copies[item]!);
        if (step === "add") here.add(item);
        if (step === "remove") wanted.remove(item, copies[item]!);
        if (step === "remove") here.delete(item);
        if (step === "raise") wanted.raise(item, ++copies[item]!);
        if (step === "lower" && copies[item]! > 0) wanted.lower(item, --copies[item]!);
        assert.is(wanted.length, here.size);
        const had = [...here].filter((one) => copies[one]! > 0);
        const least = Math.min(...had.map((one) => Math.min(31, copies[one]!)));
        const rarest = wanted.rarest(masks, 1);
        assert.is(rarest === undefined, had.length === 0);
        if (rarest !== undefined) assert.is(Math.min(31, copies[rarest]!), least);
        const nobodys = wanted.find("nobody's", () => true);
        assert.is(
          nobodys !== undefined,
          [...here].some((one) => copies[one] === 0),
        );
      }
    }),
    { seed: 4 },
  );
});

test.run();
