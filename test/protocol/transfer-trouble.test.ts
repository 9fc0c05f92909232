import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  asks,
  busy,
  corrupt,
  failed,
  halves,
  has,
  joined,
  joining,
  left,
  limits,
  missing,
  rest,
  stage,
  started,
  stored,
  wakeAt,
  woke,
} from "../support/transfers.ts";

test("what a peer that gives nothing claims is asked of others soon, and it is struck if it gives nothing until late", () => {
  for (const others of [{ origins: ["origin"] }, { origins: [], friend: "b" }]) {
    const { at, wake, nowMs, described } = stage({ chunks: halves(4), origins: others.origins });
    at(0, joined("a"), started, described);
    if (others.friend !== undefined) at(1, joined("b", []));
    const doubtful = wake();
    assert.is(nowMs(), 700);
    const from = others.friend ?? "origin";
    const [cancelled] = rest(doubtful);
    assert.equal(rest(doubtful).length, 1, "one item may still come from it");
    const kept = 3 - Number(cancelled!.slice("cancel a ".length));
    if (others.friend !== undefined) at(1_001, has("b", 1, 2, 3, 4));
    else assert.ok(asks(doubtful).origin?.includes(kept));
    // It may be slow: it is not told to stop, nor struck, because another one was faster.
    assert.equal(rest(at(1_010, stored(from, kept))), []);
    let late = rest(wake());
    while (!late.some((text) => text.startsWith("strike"))) late = rest(wake());
    assert.equal(late.slice(late.indexOf("strike a claim")).slice(0, 3), [
      "strike a claim",
      `cancel a ${kept}`,
      "drop a",
    ]);
    assert.ok(nowMs() > 2_000 && nowMs() < 7_000);
  }
});

test("how long a peer is believed that gives nothing goes by how long the others take", () => {
  for (const [tookMs, doubtMs] of [
    [20, 400],
    [400, 2_400],
  ] as const) {
    const { at, wake, nowMs, described } = stage({ chunks: [10, 10, ...halves(2)], origins: [] });
    at(0, joined("b", [1]), started, described);
    at(tookMs, stored("b", 1));
    at(tookMs, joined("a", [3, 4]));
    assert.match(rest(wake()).join(), /^cancel a \d$/);
    assert.is(nowMs(), tookMs + doubtMs);
  }
});

test("who was doubted and gives the item after all, when it is here already, is trusted again, and not struck", () => {
  const { at, wake, nowMs, described, transfer } = stage({ chunks: halves(16) });
  at(0, joined("a"), started, described);
  const [cancelled] = rest(wake());
  const kept = 3 - Number(cancelled!.slice("cancel a ".length));
  at(1_010, stored("origin", kept));
  assert.equal([...transfer.owing.keys()], ["a"], "it is named, should the transfer end now");
  assert.ok(transfer.owing.get("a")! >= 2_000, "it may give it until its deadline");
  const again = at(1_500, stored("a", kept));
  assert.is(transfer.owing.size, 0);
  assert.equal(rest(again), []);
  assert.ok(nowMs() === 1_500 && asks(again).a !== undefined);
});

test("who gives something of another payload meanwhile is busy, and dropped without a strike", () => {
  const hasGivenSince = (_peer: string, sinceMs: number) => sinceMs === 0;
  const { at, wake, described } = stage({ chunks: halves(4), hasGivenSince });
  at(0, joined("a"), started, described);
  const [cancelled] = rest(wake());
  const kept = 3 - Number(cancelled!.slice("cancel a ".length));
  at(1_010, stored("origin", kept));
  let late = rest(wake());
  while (!late.includes("drop a")) late = rest(wake());
  assert.equal(
    late.filter((text) => text.startsWith("strike")),
    [],
  );
});

test("who says busy for long is doubted, and owes nothing", () => {
  const { at, described, transfer } = stage({ chunks: halves(4) });
  at(0, joined("a"), started, described);
  at(10, busy("a", 20_000, 1, 2));
  assert.is(transfer.owing.size, 0);
});

test("a peer that was doubted and gives something after all is asked again as before", () => {
  const { at, wake, described, transfer } = stage({ chunks: halves(4), origins: [] });
  at(0, joined("a"), started, described);
  const [cancel] = rest(wake());
  assert.is(transfer.lacks(1, 5), true);
  const kept = 3 - Number(cancel!.slice("cancel a ".length));
  at(500, stored("a", kept));
  assert.is(transfer.lacks(1, 5), false);
});

test("a peer that gives nothing until its deadline is dropped, and not struck where nobody else gave anything: it may be us", () => {
  const { at, wake, nowMs, described } = stage({ chunks: halves(2), origins: [] });
  at(0, joined("a"), started, described);
  assert.match(rest(wake()).join(), /^cancel a \d$/);
  const late = wake();
  assert.match(rest(late).join(), /^cancel a \d,drop a$/);
  assert.ok(nowMs() < 7_000);
});

test("a peer that gave something and stalls is asked once more, then dropped without a strike", () => {
  const { at, wake, nowMs, described } = stage({ chunks: halves(4), limits: { patienceMs: 60_000 } });
  at(0, joined("a"), started);
  const flying = asks(at(0, described)).a!;
  const more = asks(at(10, stored("a", flying[0]!))).a!;
  const first = wake();
  assert.equal(rest(first), [`cancel a ${[flying[1], ...more].sort().join()}`]);
  assert.equal(asks(first), {}, "it has what is missing, and will be asked again");
  const again = wake();
  assert.is(asks(again).a?.length, 1);
  assert.ok(nowMs() > 10);
  const second = wake();
  assert.equal(rest(second), [`cancel a ${asks(again).a!.join()}`, "drop a"]);
  assert.is(asks(second).origin?.length, 2);
});

test("a peer that could not be reached for what it was asked is dropped, and may join again later", () => {
  const { at, described } = stage({ chunks: halves(2) });
  at(0, joined("a"), started, described);
  const actions = at(5, failed("a", 1));
  assert.equal(rest(actions), ["cancel a 2", "drop a"]);
  assert.equal(asks(actions), { origin: [1, 2] });
  const drop = actions.find((action) => action.kind === "drop");
  assert.equal(drop, { kind: "drop", source: "a", retryAtMs: 505 });
});

test("a failure of what is no longer awaited is no trouble", () => {
  const { at, described } = stage({ chunks: [10] });
  at(0, joined("a"), started, described);
  at(1, stored("a", 1));
  assert.equal(at(2, failed("a", 1), failed("origin", 1)), []);
});

test("what a peer says to be gone is a strike, once, and is asked elsewhere", () => {
  const { at, described } = stage({ chunks: [10, 10] });
  at(0, joined("a"), started, described);
  const actions = at(5, missing("a", 1, 2));
  assert.equal(rest(actions), ["strike a claim"]);
  assert.equal(asks(actions), { origin: [1, 2] });
  assert.equal(at(6, missing("a", 1, 2)), []);
});

test("a peer that has the payload no more has nothing, and is not struck for it", () => {
  const { at, described } = stage({ chunks: [10, 10] });
  at(0, joined("a"), started, described);
  const actions = at(5, missing("a"));
  assert.equal(rest(actions), []);
  assert.equal(asks(actions), { origin: [1, 2] });
});

test("what an origin does not have is asked of the next one, without a strike", () => {
  const { at, described } = stage({ chunks: [10, 10], origins: ["first", "second"] });
  at(0, started);
  assert.equal(asks(at(0, described)), { first: [1, 2] });
  const actions = at(1, missing("first", 1));
  assert.equal([rest(actions), asks(actions)], [[], { second: [1] }]);
});

test("a source is never asked again for what it gave wrongly, whatever it says and however often it joins", () => {
  const { at, described } = stage({ chunks: [10] });
  at(0, joined("liar"), started, described);
  const actions = at(5, corrupt("liar", 1));
  assert.equal(rest(actions), ["strike liar corrupt"]);
  assert.equal(asks(actions), { origin: [1] });
  at(6, failed("origin", 1));
  assert.equal(asks(at(7, has("liar", 1))), {});
  assert.equal(asks(at(8, left("liar"))), {});
  assert.equal(asks(at(9, joining("liar"), joined("liar"))), {});
  assert.equal(asks(at(2000, woke)), { origin: [1] });
});

test("who gave wrong bytes and left before they were looked at is struck all the same", () => {
  const { at, described } = stage({ chunks: [10] });
  at(0, joined("liar"), started, described, left("liar"));
  assert.equal(rest(at(5, corrupt("liar", 1))), ["strike liar corrupt"]);
});

test("an item that is wrong at the only origin is given up as corrupt", () => {
  const { at, wake, nowMs, described } = stage({ chunks: [10, 10] });
  at(0, started, described, stored("origin", 1));
  assert.equal(rest(at(5, corrupt("origin", 2))), ["strike origin corrupt"]);
  assert.equal(rest(wake()), ["gaveUp corrupt 2 of 1"]);
  assert.is(nowMs(), 5 + limits.hopelessMs);
});

test("an item that is wrong at the only origin ends a transfer also while others are still coming", () => {
  const { at, wake, nowMs, described } = stage({ chunks: [10, 10] });
  at(0, joined("slow", [1]), started, described);
  at(5, corrupt("origin", 2));
  assert.equal(rest(wake()), ["gaveUp corrupt 2 of 2"]);
  assert.is(nowMs(), 5 + limits.hopelessMs);
  // Somebody may still join who has it.
  const other = stage({ chunks: [10, 10] });
  other.at(0, joined("slow", [1]), started, other.described);
  other.at(5, corrupt("origin", 2));
  assert.equal(asks(other.at(100, joined("holder", [2]))), { holder: [2] });
});

test("an item that nobody has is given up as missing, after a while in which somebody may join who has it", () => {
  const { at, wake, nowMs, described } = stage({ chunks: [10, 10] });
  at(0, joined("a", [1]), started);
  assert.equal(asks(at(0, described)), { a: [1], origin: [2] });
  at(5, missing("origin", 2));
  at(10, missing("origin", 1), stored("a", 1));
  assert.equal(rest(wake()), ["gaveUp missing 2 of 1"]);
  assert.is(nowMs(), 10 + limits.hopelessMs);
});

test("hope begins anew with a peer that has what was missing", () => {
  const { at, wake, nowMs, described } = stage({ chunks: [10] });
  at(0, started, described);
  at(5, missing("origin", 1));
  assert.equal(asks(at(200, joined("a"))), { a: [1] });
  assert.equal(rest(at(400, missing("a", 1))), ["strike a claim"]);
  assert.equal(rest(wake()), ["gaveUp missing 1 of 1"]);
  assert.is(nowMs(), 400 + limits.hopelessMs);
});

test("what only a peer had that cannot be reached any more is awaited with patience, and not called missing", () => {
  const { at, wake, nowMs, described } = stage({ chunks: [10], origins: [] });
  at(0, joined("a"), started, described);
  assert.equal(rest(at(1, failed("a", 1))), ["drop a"]);
  assert.equal(rest(wake()), ["gaveUp unreachable 1 of 1"]);
  assert.is(nowMs(), limits.patienceMs);
});

test("where there is no origin to ask, a peer that is fetching itself is hope, until patience ends", () => {
  const { at, wake, nowMs, described } = stage({ chunks: [10, 10], origins: [] });
  at(0, joined("fetching", [0, 1]), started, described);
  at(5, stored("fetching", 1));
  assert.equal(rest(wake()), ["gaveUp unreachable 2 of 1"]);
  assert.is(nowMs(), 5 + limits.patienceMs);
  const other = stage({ chunks: [10, 10], origins: [] });
  other.at(0, joined("fetching", [0, 1]), started, other.described);
  other.at(5, stored("fetching", 1));
  assert.equal(asks(other.at(limits.patienceMs, has("fetching", 2))), { fetching: [2] });
});

test("an origin in trouble is asked again after rests that grow, and given up with patience", () => {
  const { at, wake, nowMs, described } = stage({ chunks: [10, 10] });
  at(0, started);
  let actions = at(0, described);
  const askedAtMs: number[] = [];
  while (asks(actions).origin !== undefined) {
    askedAtMs.push(nowMs());
    const items = asks(actions).origin!;
    assert.equal(items, [1, 2]);
    for (const item of items) at(nowMs() + 1, failed("origin", item));
    actions = wake();
  }
  assert.equal(askedAtMs, [0, 501, 1502, 3503, 7504]);
  assert.equal(rest(actions), ["gaveUp unreachable 1 of 2"]);
  assert.is(nowMs(), limits.patienceMs);
});

test("the second origin takes over from one in trouble, which is asked again when it has rested", () => {
  const { at, described } = stage({ chunks: halves(20), origins: ["first", "second"] });
  at(0, started);
  const flying = asks(at(0, described)).first!;
  assert.is(flying.length, 2);
  const over = flying.flatMap((item) => asks(at(1, failed("first", item))).second ?? []);
  assert.is(over.length, 2);
  const healed = asks(at(600, stored("second", over[0]!)));
  assert.equal([healed.first?.length, healed.second], [1, undefined], "its window was halved");
});

test("what two peers could not give is asked of the origin, whoever else claims it", () => {
  const { at, wake, nowMs, described } = stage({ chunks: [10] });
  at(0, joined("a"), joined("b"), joined("c"), started, described);
  // A second peer is asked before the first has used up its time.
  const second = wake();
  assert.equal([asks(second).origin, Object.values(asks(second)), nowMs()], [undefined, [[1]], 250]);
  let last = wake();
  while (asks(last).origin === undefined) last = wake();
  assert.equal(asks(last), { origin: [1] });
  assert.ok(nowMs() < 4_500);
});

test("an item that comes late, after it was asked elsewhere, counts, and the other is told to stop", () => {
  const { at, wake, nowMs, described } = stage({ chunks: [10] });
  at(0, joined("a"), started, described);
  assert.equal(asks(wake()), { origin: [1] });
  const late = at(nowMs() + 1, stored("a", 1));
  assert.equal(rest(late), ["cancel origin 1", "complete"]);
});

test("an item that comes late while nobody is asked for it counts", () => {
  const { at, wake, nowMs, described } = stage({ chunks: [10], origins: [] });
  at(0, joined("a"), started, described);
  assert.equal(rest(wake()), ["cancel a 1", "drop a"]);
  assert.equal(rest(at(nowMs() + 1, stored("a", 1))), ["complete"]);
});

test("joins that are never answered do not keep the origin from being asked", () => {
  const { at, described } = stage({ chunks: halves(40) });
  at(0, joining("p0"), started, described);
  assert.is(asks(at(100, joining("p1"))).origin?.length, 2);
  for (let i = 2; i < 30; i++) {
    at(100 * i, left(`p${i - 2}`), joining(`p${i}`));
    assert.is(rest(at(100 * i, woke)).length, 0);
  }
});

test("sources that take what they are asked for and never give it end the transfer, however many come", () => {
  const { at, described, nowMs } = stage({ chunks: [10], origins: [] });
  at(0, joined("p0"), started);
  at(0, described);
  const said: string[] = [];
  for (let i = 1; said.length === 0; i++) {
    assert.ok(nowMs() < limits.patienceMs + 61_000, `still going at ${nowMs()} ms`);
    said.push(...rest(at(nowMs(), joined(`p${i}`))), ...rest(at(nowMs() + 1500, left(`p${i - 1}`))));
  }
  assert.equal(said, ["gaveUp unreachable 1 of 1"]);
});

test("a busy peer that is the only source is borne with for long, but not for ever", () => {
  const { at, wake, nowMs, described } = stage({ chunks: [10], origins: [] });
  at(0, joined("a"), started);
  let actions = at(0, described);
  while (asks(actions).a !== undefined) {
    at(nowMs() + 1, busy("a", 100, 1));
    actions = wake();
  }
  assert.equal(rest(actions), ["gaveUp unreachable 1 of 1"]);
  assert.is(nowMs(), limits.patienceMs + 60_000);
  assert.is(wakeAt(actions), undefined);
});

test.run();
