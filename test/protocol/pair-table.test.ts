import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { packHoldings } from "../../protocol/announcement.ts";
import { IdLists } from "../../protocol/id-lists.ts";
import { PairTable } from "../../protocol/pair-table.ts";
import { seededRandom } from "../../protocol/random.ts";
import { holdings, numbers } from "../support/announcements.ts";

const pair = (number: number) => packHoldings(holdings(number));

test("each pair is kept once, and forgotten with its last reference", () => {
  const table = new PairTable(seededRandom(1));
  const one = table.intern(pair(1), 0);
  assert.is(table.intern(pair(1), 0), one);
  assert.is.not(table.intern(pair(2), 0), one);
  assert.is(table.size, 2);
  table.release(one);
  assert.ok(table.has(pair(1), 0));
  table.release(one);
  assert.equal([table.has(pair(1), 0), table.has(pair(2), 0), table.size], [false, true, 1]);
  assert.equal(table.withVariant(pair(1).subarray(0, 32)), []);
  assert.is(table.intern(pair(3), 0), one, "its number is used again");
});

test("a table of pairs is a map with counts, whatever happens and whatever its keys are", () => {
  const step = fc.record({ number: fc.nat(60), adds: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.boolean(), (steps, hasSmallKeys) => {
      const table = new PairTable(hasSmallKeys ? () => 0 : seededRandom(1));
      const model = new Map<number, { number: number; count: number }>();
      for (const { number, adds } of steps) {
        const known = model.get(number);
        if (adds) {
          const interned = table.intern(pair(number), 0);
          if (known !== undefined) assert.is(interned, known.number);
          model.set(number, { number: interned, count: (known?.count ?? 0) + 1 });
        } else if (known !== undefined) {
          table.release(known.number);
          if (known.count === 1) model.delete(number);
          else known.count--;
        }
      }
      assert.is(table.size, model.size);
      for (const number of numbers(61)) assert.is(table.has(pair(number), 0), model.has(number));
      assert.is(new Set([...model.values()].map((each) => each.number)).size, model.size);
    }),
  );
});

test("lists of numbers are what was set last, however often they move", () => {
  const step = fc.record({ list: fc.nat(20), numbers: fc.array(fc.nat(1_000), { maxLength: 60 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const lists = new IdLists();
      const model = new Map<number, number[]>();
      for (const { list, numbers: set } of steps) {
        if (set.length % 7 === 6) lists.clear(list);
        else lists.set(list, Uint32Array.from(set));
        model.set(list, set.length % 7 === 6 ? [] : set);
      }
      for (const list of numbers(21)) assert.equal([...lists.view(list)], model.get(list) ?? []);
      assert.is(lists.total, [...model.values()].flat().length);
    }),
  );
});

test.run();
