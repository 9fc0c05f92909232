import { test } from "uvu";
import * as assert from "uvu/assert";
import type { VariantHash } from "../../protocol/hash.ts";
import { MIB } from "../../protocol/limits.ts";
import { type ScrubCandidate, type ScrubPosition, ScrubRound } from "../../protocol/scrub-round.ts";

const dayMs = 24 * 60 * 60 * 1000;
const variantOf = (i: number) => `${i}`.padStart(64, "0") as VariantHash;
const cache = (count: number, steps: number): ScrubCandidate[] =>
  Array.from({ length: count }, (_, i) => ({ variant: variantOf(i), bytes: steps * 16 * MIB, steps }));

/** Steps a round until a time; what was looked at, and when. */
function run(round: ScrubRound, held: readonly ScrubCandidate[], fromMs: number, untilMs: number, busy = false) {
  const looks: { readonly key: string; readonly atMs: number }[] = [];
  for (let nowMs = fromMs; nowMs < untilMs; ) {
    const action = round.step(held, busy, nowMs);
    if (action.kind === "look") looks.push({ key: `${Number(action.variant)}.${action.step}`, atMs: nowMs });
    else nowMs = Math.max(nowMs, action.untilMs);
  }
  return looks;
}

test("each step of all that is held is looked at once a period, evenly", () => {
  const looks = run(new ScrubRound(30 * dayMs, 0), cache(20, 30), 0, 30 * dayMs);
  assert.is(looks.length, 600);
  assert.is(new Set(looks.map(({ key }) => key)).size, 600);
  for (const [i, { atMs }] of looks.entries()) {
    assert.ok(Math.abs(atMs - (i * 30 * dayMs) / 600) < 0.02 * 30 * dayMs, `${i} at ${atMs / dayMs} days`);
  }
});

test("the next round begins when the period is over", () => {
  const looks = run(new ScrubRound(dayMs, 0), cache(3, 2), 0, 3 * dayMs - 1);
  assert.is(looks.length, 18);
  assert.equal(
    looks.slice(6, 12).map(({ key }) => key),
    looks.slice(0, 6).map(({ key }) => key),
  );
});

test("a round goes on where an earlier process left it, and makes good what was lost meanwhile", () => {
  const held = cache(10, 100);
  const first = new ScrubRound(10 * dayMs, 0);
  const before = run(first, held, 0, 2 * dayMs);
  const position: ScrubPosition = JSON.parse(JSON.stringify(first.position));
  const after = run(new ScrubRound(10 * dayMs, 6 * dayMs, position), held, 6 * dayMs, 10 * dayMs);
  assert.is(before.length + after.length, 1000);
  assert.is(new Set([...before, ...after].map(({ key }) => key)).size, 1000);
});

test("however late it is, it reads at most four times as fast as usual", () => {
  const held = cache(50, 400);
  const late = new ScrubRound(10 * dayMs, 20 * dayMs, { startedMs: 0, variant: "", step: 0 });
  const looks = run(late, held, 20 * dayMs, 21 * dayMs);
  assert.ok(looks.length > 0 && looks.length <= 4 * 2_000 + 1, `${looks.length} in a day`);
});

test("while the node is busy it waits, for up to an hour", () => {
  const looks = run(new ScrubRound(dayMs, 0), cache(1, 1_000), 0, dayMs, true);
  assert.ok(looks.length >= 22 && looks.length <= 24, `${looks.length} steps in a busy day`);
});

test("what comes during a round and is skipped by its place waits for the next; what goes is not asked for", () => {
  const round = new ScrubRound(dayMs, 0);
  const all = cache(4, 1);
  assert.equal(
    run(round, all.slice(2), 0, dayMs - 1).map(({ key }) => key),
    ["2.0", "3.0"],
  );
  assert.equal(
    run(round, all.slice(0, 3), dayMs, 2 * dayMs - 1).map(({ key }) => key),
    ["0.0", "1.0", "2.0"],
  );
});

test("the rest of a variant that is skipped is not looked at in this round", () => {
  const round = new ScrubRound(dayMs, 0);
  const held = cache(2, 5);
  assert.equal(round.step(held, false, 0), { kind: "look", variant: variantOf(0), step: 0 });
  round.skip(variantOf(0));
  const looks = run(round, held, 0, dayMs - 1);
  assert.equal(looks[0]?.key, "1.0");
  assert.is(looks.length, 5);
});

test("with nothing held, and with a clock that was set back, it waits and begins anew", () => {
  assert.is(new ScrubRound(dayMs, 0).step([], false, 0).kind, "wait");
  const round = new ScrubRound(dayMs, 100, { startedMs: dayMs, variant: variantOf(9), step: 3 });
  assert.equal(round.position, { startedMs: 100, variant: "", step: 0 });
});

test.run();
