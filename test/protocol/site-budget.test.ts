import { test } from "uvu";
import * as assert from "uvu/assert";
import { shareOfBudget } from "../../protocol/site-budget.ts";

const members = Array.from({ length: 50 }, (_, i) => `m${i}`);
const budget = { slots: 4, bytesPerMs: 1000 };
const holders = (wallMs: number, origin = "filer") =>
  members.filter((member) => shareOfBudget(budget, origin, member, members, wallMs) > 0);

test("as many nodes as there are slots may read, each a part of the rate", () => {
  assert.is(holders(0).length, 4);
  const shares = members.map((member) => shareOfBudget(budget, "filer", member, members, 0));
  assert.is(
    shares.reduce((sum, share) => sum + share, 0),
    budget.bytesPerMs,
  );
});

test("slots go round with time, and every origin has its own", () => {
  assert.equal(holders(0), holders(29_999));
  const seen = new Set(Array.from({ length: 100 }, (_, epoch) => holders(30_000 * epoch)).flat());
  assert.is(seen.size, members.length);
  assert.is.not(holders(0).join(), holders(0, "mirror").join());
});

test("where there are more slots than members everybody has one; where there are none, nobody", () => {
  assert.is(shareOfBudget({ slots: 100, bytesPerMs: 100 }, "o", "m1", ["m1", "m2"], 0), 1);
  assert.is(shareOfBudget({ slots: 0, bytesPerMs: 100 }, "o", "m1", ["m1", "m2"], 0), 0);
});

test.run();
