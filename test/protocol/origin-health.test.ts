import { test } from "uvu";
import * as assert from "uvu/assert";
import { OriginHealth } from "../../protocol/origin-health.ts";

const away = { reason: "it is away", isLasting: false };

test("an origin is untried, then ok, unsteady after one trouble and down after two", () => {
  const health = new OriginHealth();
  assert.is(health.state, "untried");
  health.answered();
  assert.equal([health.state, health.reason], ["ok", undefined]);
  health.failed(away, 0, 10);
  assert.equal([health.state, health.reason], ["unsteady", "it is away"]);
  health.failed(away, 20, 30);
  assert.is(health.state, "down");
  health.answered();
  assert.equal([health.state, health.reason], ["ok", undefined]);
});

test("what was asked together and fails together is one trouble", () => {
  const health = new OriginHealth();
  for (let i = 0; i < 8; i++) health.failed(away, 0, 10 + i);
  assert.is(health.state, "unsteady");
});

test("what lasts is down at once", () => {
  const health = new OriginHealth();
  health.failed({ reason: "forbidden", isLasting: true }, 0, 10);
  assert.is(health.state, "down");
});

test("one that is down is asked once in a while, and rests longer each time that this fails", () => {
  const health = new OriginHealth();
  health.failed(away, 0, 1);
  health.failed(away, 2, 3);
  assert.equal([health.ask(3), health.ask(1_002), health.ask(1_003), health.ask(1_004)], [false, false, true, false]);
  health.failed(away, 1_003, 1_100);
  assert.equal([health.ask(3_099), health.ask(3_100)], [false, true]);
  health.failed(away, 3_100, 3_200);
  assert.equal([health.ask(7_199), health.ask(7_200)], [false, true]);
  for (let i = 0; i < 20; i++) health.failed(away, 100_000 * i, 100_000 * i + 1);
  assert.equal([health.ask(1_930_000), health.ask(1_930_001)], [false, true]);
});

test("a probe of which nothing comes is followed by another one", () => {
  const health = new OriginHealth();
  health.failed({ reason: "forbidden", isLasting: true }, 0, 0);
  assert.equal([health.ask(1_000), health.ask(5_999), health.ask(6_000)], [true, false, true]);
});

test("one that wants to be left alone is left alone for so long", () => {
  const health = new OriginHealth();
  health.failed({ ...away, retryAfterMs: 20_000 }, 0, 1);
  health.failed({ ...away, retryAfterMs: 20_000 }, 2, 3);
  assert.equal([health.ask(20_002), health.ask(20_003)], [false, true]);
});

test.run();
