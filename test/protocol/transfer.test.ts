import { test } from "uvu";
import * as assert from "uvu/assert";
import { MIB } from "../../protocol/limits.ts";
import {
  asks,
  busy,
  failed,
  half,
  halves,
  has,
  joined,
  joining,
  left,
  missing,
  rest,
  stage,
  started,
  stored,
  wakeAt,
  woke,
} from "../support/transfers.ts";

test("nothing is done before it has started, and a peer that joined before counts", () => {
  const { at } = stage({ segments: [10], storedSegments: [], chunks: [] });
  assert.equal(at(1e9, joining("a"), joined("a")), []);
  assert.equal(asks(at(1e9, started)), { a: [0] });
});

test("segments come first, and of the chunks nothing is asked before they are described", () => {
  const { at, described } = stage({ segments: [10, 20], storedSegments: [], chunks: [30, 40] });
  at(0, joined("a"));
  assert.equal(asks(at(0, started)), { a: [0, 1] });
  assert.equal(at(1, stored("a", 0)), []);
  assert.equal(rest(at(2, stored("a", 1))), ["segmentsComplete"]);
  assert.equal(at(3, joined("b", []), has("a", 2, 3), woke), []);
  assert.equal(asks(at(4, described)), { a: [2, 3] });
  at(5, stored("a", 2));
  assert.equal(at(5, stored("a", 3)), [{ kind: "complete" }]);
});

test("a check of the manifest may take its time: nothing is given up meanwhile", () => {
  const { at, described } = stage({ chunks: [10] });
  assert.equal(rest(at(0, started)), ["segmentsComplete"]);
  assert.equal(at(1e9, woke), []);
  assert.equal(asks(at(1e9, described)), { origin: [1] });
});

test("an empty payload is complete at once", () => {
  const { at, described } = stage({ segments: [], storedSegments: [], chunks: [] });
  assert.equal(at(0, joining("a")), []);
  assert.equal(rest(at(0, started)), ["segmentsComplete"]);
  assert.equal(at(0, described), [{ kind: "complete" }]);
});

test("peers are asked for what they have, and the origin for what no peer has", () => {
  const { at, described } = stage({ chunks: [10, 10, 10, 10] });
  at(0, joined("a", [1, 2]), joined("b", [3]), started);
  assert.equal(asks(at(0, described)), { a: [1, 2], b: [3], origin: [4] });
});

test("the origin is left alone until peers have said what they have", () => {
  const { at, described } = stage({ chunks: [10, 10] });
  assert.is(wakeAt(at(0, joining("a"), joining("b"), started)), 100);
  assert.equal(asks(at(0, described)), {});
  assert.equal(asks(at(50, joined("a", [1]))), { a: [1] });
  assert.equal(asks(at(60, left("b"))), { origin: [2] });
});

test("the origin is asked once peers have had their time, whoever joins later", () => {
  const { at, described } = stage({ chunks: halves(10) });
  at(0, joining("silent"), started);
  at(0, described);
  assert.equal(asks(at(99, woke)), {});
  at(99.5, joining("another"));
  const asked = asks(at(100, woke));
  assert.is(asked.origin?.length, 2);
  assert.is(asks(at(150, joining("one more"), stored("origin", asked.origin![0]!))).origin?.length, 1);
});

test("a wake-up that came early is asked for again", () => {
  const { at, described } = stage({ chunks: [10] });
  at(0, joining("a"), started, described);
  assert.is(wakeAt(at(99.5, woke)), 100);
  assert.equal(asks(at(100, woke)), { origin: [1] });
});

test("a peer's window is 1 MiB at first, grows by steps to 3 MiB, and is halved by trouble", () => {
  const { at, wake, described } = stage({ chunks: halves(60), origins: [], limits: { patienceMs: 60_000 } });
  at(0, joined("a"), started);
  let flying = asks(at(0, described)).a!;
  assert.is(flying.length, 2);
  const widths = [flying.length];
  for (let i = 0; i < 12; i++) {
    const [first, ...others] = flying;
    flying = [...others, ...(asks(at(1 + i, stored("a", first!))).a ?? [])];
    widths.push(flying.length);
  }
  assert.equal(widths, [2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 6, 6]);
  assert.equal(rest(wake()), [`cancel a ${flying.sort((a, b) => a - b).join()}`]);
  assert.is(asks(wake()).a?.length, 3);
});

test("an origin's window grows to 4 MiB while its items come soon for where it is, and shrinks to one where they take over a second", () => {
  for (const [tookMs, widest] of [
    [() => 250, 8],
    // It is far away: what nobody waited for took as long.
    [() => 550, 8],
    [() => 1_100, 1],
    // It stays as it was after the first round.
    [(round: number) => (round === 0 ? 20 : 600), 3],
  ] as const) {
    const { at, described } = stage({ chunks: halves(400) });
    at(0, started);
    let flying = asks(at(0, described)).origin!;
    assert.is(flying.length, 2, "1 MiB at first");
    let nowMs = 0;
    for (let i = 0; i < 40; i++) {
      nowMs += tookMs(i);
      const came = flying;
      flying = came.flatMap((item) => asks(at(nowMs, stored("origin", item))).origin ?? []);
    }
    assert.is(flying.length, widest);
  }
});

test("an item that an origin does not give is asked of it again only when no other one is left", () => {
  const { at, wake, described } = stage({ chunks: halves(4) });
  at(0, started);
  const [bad, ...rest] = asks(at(0, described)).origin!;
  const got = new Set<number>();
  let next = [...rest, ...(asks(at(1, failed("origin", bad!))).origin ?? [])];
  for (let i = 0; got.size < 3 && i < 20; i++) {
    assert.is(next.includes(bad!), false);
    const come = next;
    for (const item of come) got.add(item);
    next = come.flatMap((item) => asks(at(10 + i, stored("origin", item))).origin ?? []);
    if (next.length === 0) next = asks(wake()).origin ?? [];
  }
  assert.equal([got.size, next], [3, [bad]]);
});

test("a small item that an origin does not give is not asked for in what others leave of the window", () => {
  const { at, described } = stage({ chunks: [10, ...Array<number>(8).fill(0.6 * MIB)] });
  at(0, started);
  let flying = asks(at(0, described)).origin!;
  assert.ok(flying.includes(1));
  at(1, failed("origin", 1));
  flying = flying.filter((item) => item !== 1);
  let nowMs = 600;
  for (let come = 0; come < 6; come++) {
    for (let i = 0; i < 5; i++)
      flying.push(...(asks(at(nowMs++, has("a"))).origin ?? []), ...(asks(at(nowMs++, woke)).origin ?? []));
    assert.is(flying.includes(1), false, `after ${come}`);
    flying.push(...(asks(at(nowMs++, stored("origin", flying.shift()!))).origin ?? []));
  }
});

test("one item is always allowed, however large", () => {
  const scene = { chunks: [2 * MIB, 2 * MIB], origins: [], limits: { inFlightBytesMax: MIB } };
  const { at, described } = stage(scene);
  at(0, joined("a"), joined("b"), started);
  const first = asks(at(0, described));
  assert.is(Object.values(first).flat().length, 1);
  const [item] = Object.values(first).flat();
  assert.is(Object.values(asks(at(1, stored(Object.keys(first)[0]!, item!)))).flat().length, 1);
});

test("what is in flight is bounded for the whole transfer, whatever its sources could give", () => {
  const { at, described } = stage({ chunks: halves(40), limits: { inFlightBytesMax: 3 * MIB } });
  at(0, ...["a", "b", "c", "d", "e"].map((name) => joined(name)), started);
  const asked = Object.values(asks(at(0, described))).flat();
  assert.is(asked.length * half, 3 * MIB);
  assert.is(new Set(asked).size, asked.length);
});

test("an item is in flight once, and asked for again only after it was given back", () => {
  const { at, described } = stage({ chunks: [10], origins: [] });
  at(0, joined("a"), joined("b"), started);
  const first = asks(at(0, described));
  assert.is(Object.keys(first).length, 1);
  assert.equal(asks(at(1, joined("c"), has("c", 1), woke)), {});
  const [name] = Object.keys(first);
  const second = asks(at(2, missing(name!, 1)));
  assert.is(Object.keys(second).length, 1);
  assert.is.not(Object.keys(second)[0], name);
});

test("items with the same bytes come with the first of them", () => {
  const copiesOf = new Map([[1, [2, 4]]]);
  const { at, described } = stage({ chunks: [10, 10, 20, 10], copiesOf });
  at(0, joined("a"), started);
  const asked = asks(at(0, described));
  assert.equal(Object.values(asked).flat().sort(), [1, 3]);
  at(1, stored("a", 3));
  assert.equal(at(1, stored("a", 1)), [{ kind: "complete" }]);
});

test("a copy that is missing where its first is not is asked for by itself", () => {
  const copiesOf = new Map([[1, [2, 3]]]);
  const { at, described } = stage({ chunks: [10, 10, 10], copiesOf, storedChunks: [1, 3] });
  at(0, started);
  assert.equal(asks(at(0, described)), { origin: [2] });
  assert.equal(at(1, stored("origin", 2)), [{ kind: "complete" }]);
});

test("what lies here already is not asked for", () => {
  const { at, described } = stage({
    segments: [10, 10],
    storedSegments: [1],
    chunks: [10, 10, 10],
    storedChunks: [2, 4],
  });
  assert.equal(asks(at(0, started)), { origin: [0] });
  at(1, stored("origin", 0));
  assert.equal(asks(at(2, described)), { origin: [3] });
});

test("a payload that lies here whole is complete without a question", () => {
  const { at, described } = stage({ chunks: [10, 10], storedChunks: [1, 2] });
  assert.equal(rest(at(0, started)), ["segmentsComplete"]);
  assert.equal(at(0, described), [{ kind: "complete" }]);
  assert.equal(at(1, woke, stored("a", 1), joined("a")), []);
});

test("a peer that joins midway is asked for what nobody was asked for yet", () => {
  const { at, described } = stage({ chunks: halves(20) });
  at(0, started);
  const first = asks(at(0, described)).origin!;
  const asked = asks(at(5, joined("a"))).a!;
  assert.is(asked.length, 2);
  assert.equal(
    asked.filter((item) => first.includes(item)),
    [],
  );
  assert.equal(asks(at(6, stored("origin", first[0]!))), {}, "a peer has the rest");
});

test("what a peer that leaves was asked for is asked of others, at once", () => {
  const { at, described } = stage({ chunks: halves(2) });
  at(0, joined("a"), started);
  assert.equal(asks(at(0, described)), { a: [1, 2] });
  assert.equal(asks(at(1, left("a"))), { origin: [1, 2] });
});

test("an item that a peer says it has now is asked of it; items that do not exist are not heard", () => {
  const { at, described } = stage({ chunks: [10, 10], origins: [] });
  at(0, joined("a", []), started);
  assert.equal(asks(at(0, described)), {});
  assert.equal(asks(at(1, has("a", 3, 64, 1e6, -1))), {});
  assert.equal(asks(at(2, has("stranger", 1))), {});
  assert.equal(asks(at(3, has("a", 2, 3))), { a: [2] });
});

test("a peer that says busy rests, and does not send the transfer to the origin", () => {
  const { at, described } = stage({ chunks: halves(2) });
  at(0, joined("a"), started, described);
  const resting = at(10, busy("a", 50, 1, 2));
  assert.equal(asks(resting), {});
  assert.is(wakeAt(resting), 60);
  assert.equal(asks(at(60, woke)), { a: [1, 2] });
});

test("a peer that says nothing but busy for seconds no longer keeps the origin from being asked, and is not struck", () => {
  const { at, wake, nowMs, described, transfer } = stage({ chunks: [10, 10] });
  at(0, joined("a"), started, described);
  let said = at(1, busy("a", 1000, 1, 2));
  for (let asked = 0; asked < 4; asked++) {
    assert.equal([rest(said), asks(said)], [[], {}]);
    assert.equal(asks(wake()), { a: [1, 2] });
    said = at(nowMs(), busy("a", 1000, 1, 2));
  }
  assert.equal([rest(said), asks(said)], [[], { origin: [1, 2] }]);
  at(nowMs() + 10, stored("origin", 1), failed("origin", 2));
  assert.equal(asks(wake()), { origin: [2] });
  assert.ok(transfer.heldBy("a") === 3, "it has not been dropped");
});

test("what a peer will not give for seconds, by its own word, is asked elsewhere at once, and of it again later", () => {
  const { at, described } = stage({ chunks: [10] });
  at(0, joined("a"), started, described);
  const actions = at(1, busy("a", 8_000, 1));
  assert.equal([rest(actions), asks(actions)], [[], { origin: [1] }]);
  const alone = stage({ chunks: [10], origins: [] });
  alone.at(0, joined("a"), started, alone.described);
  alone.at(1, busy("a", 8_000, 1));
  assert.equal([asks(alone.wake()), alone.nowMs()], [{ a: [1] }, 8_001]);
});

test.run();
