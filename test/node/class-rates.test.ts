import { test } from "uvu";
import * as assert from "uvu/assert";
import { classRates } from "../../node/class-rates.ts";

test("rates go from bytes a second to bytes a millisecond, and a class without one has none", () => {
  const settings = { interactive: undefined, jobStart: 125_000_000, prefetch: 2_000, repair: 0 };
  assert.equal(classRates(settings), { jobStart: 125_000, prefetch: 2, repair: 0 });
});

test.run();
