import { test } from "uvu";
import * as assert from "uvu/assert";
import { UnreachableError } from "../../protocol/errors.ts";
import { type RetryLimits, retryWaitMs } from "../../protocol/retry.ts";

const limits: RetryLimits = { triesMax: 4, waitMsMin: 100, waitMsMax: 1_000 };
const failure = new UnreachableError("gone");

test("waits double, half of each by chance", () => {
  assert.equal(
    [1, 2, 3].map((tries) => retryWaitMs(failure, tries, limits, () => 0)),
    [50, 100, 200],
  );
  assert.equal(
    [1, 2, 3].map((tries) => retryWaitMs(failure, tries, limits, () => 1)),
    [100, 200, 400],
  );
  assert.is(
    retryWaitMs(failure, 9, { ...limits, triesMax: 10 }, () => 1),
    1_000,
  );
});

test("after the last try, and of what lasts, there is no other one", () => {
  assert.is(
    retryWaitMs(failure, 4, limits, () => 0),
    undefined,
  );
  const lasting = new UnreachableError("forbidden", { isLasting: true });
  assert.is(
    retryWaitMs(lasting, 1, limits, () => 0),
    undefined,
  );
});

test("who wants to be left alone is not asked earlier, and not waited for if that is long", () => {
  const wait = (retryAfterMs: number) =>
    retryWaitMs(new UnreachableError("busy", { retryAfterMs }), 1, limits, () => 1);
  assert.equal([wait(10), wait(700), wait(1_000), wait(1_001)], [100, 700, 1_000, undefined]);
});

test.run();
