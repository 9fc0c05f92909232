import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Discovery, type DiscoveryAction, type DiscoveryEvent } from "../../protocol/discovery.ts";
import { type Random, seededRandom } from "../../protocol/random.ts";

const test = suite("discovery");

/** Randomness that is none: delays are their least. */
const least: Random = () => 0;

/** Lets time pass until `untilMs`: wakes when it was told to, and says what was done and when. */
function run(discovery: Discovery, fromMs: number, untilMs: number, first: DiscoveryEvent): [string, number][] {
  const done: [string, number][] = [];
  let wakeAtMs = Number.POSITIVE_INFINITY;
  const take = (actions: readonly DiscoveryAction[], nowMs: number) => {
    for (const action of actions) {
      if (action.kind === "wakeAt") wakeAtMs = action.atMs;
      else done.push([action.kind, nowMs]);
    }
  };
  take(discovery.step(first, fromMs), fromMs);
  while (wakeAtMs <= untilMs) {
    const nowMs = wakeAtMs;
    wakeAtMs = Number.POSITIVE_INFINITY;
    take(discovery.step({ kind: "woke" }, nowMs), nowMs);
  }
  return done;
}

test("a node asks three times in its first second, then after a minute, then ever less often up to an hour", () => {
  const asked = run(new Discovery("me", least), 0, 20_000_000, { kind: "started" });
  const minutes = asked.slice(3).map(([, atMs], i) => (atMs - asked[i + 2]![1]) / 60_000);
  assert.equal(
    asked.slice(0, 3).map(([, atMs]) => atMs),
    [0, 250, 1_000],
  );
  assert.equal(minutes, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
});

test("nobody asks who has eight neighbours, and asks again when they are fewer", () => {
  const discovery = new Discovery("me", least);
  discovery.step({ kind: "started" }, 0);
  discovery.step({ kind: "neighbours", count: 8, members: 8 }, 100);
  assert.equal(run(discovery, 250, 60_000, { kind: "woke" }), []);
  discovery.step({ kind: "neighbours", count: 7, members: 8 }, 60_100);
  assert.equal(run(discovery, 61_000, 200_000, { kind: "woke" }), [
    ["ask", 61_000],
    ["ask", 181_000],
  ]);
});

test("whoever loses all neighbours, or gets an interface, begins anew, at most once in ten seconds", () => {
  const discovery = new Discovery("me", least);
  run(discovery, 0, 2_000, { kind: "started" });
  assert.equal(run(discovery, 20_000, 20_000, { kind: "neighbours", count: 3, members: 3 }), []);
  assert.equal(run(discovery, 30_000, 32_000, { kind: "neighbours", count: 0, members: 3 }), [
    ["ask", 30_000],
    ["ask", 30_250],
    ["ask", 31_000],
  ]);
  assert.equal(run(discovery, 33_000, 45_000, { kind: "networkChanged" }), [
    ["ask", 40_000],
    ["ask", 40_250],
    ["ask", 41_000],
  ]);
});

test("a timer that goes off a little early is set again", () => {
  const discovery = new Discovery("me", least);
  run(discovery, 0, 2_000, { kind: "started" });
  assert.equal(discovery.step({ kind: "asked", known: [] }, 10_000), [{ kind: "wakeAt", atMs: 10_020 }]);
  assert.equal(discovery.step({ kind: "woke" }, 10_019.7), [{ kind: "wakeAt", atMs: 10_020 }]);
});

test("a question is answered once, after 20 to 120 ms", () => {
  for (const seed of [1, 2, 3, 4]) {
    const discovery = new Discovery("me", seededRandom(seed));
    discovery.step({ kind: "started" }, 0);
    const answers = run(discovery, 10_000, 12_000, { kind: "asked", known: ["another"] });
    const [answer] = answers.filter(([kind]) => kind === "answer");
    assert.is(answers.filter(([kind]) => kind === "answer").length, 1);
    assert.ok(answer![1] >= 10_020 && answer![1] <= 10_120, String(answer));
  }
});

test("whoever is known to the one who asks stays silent", () => {
  const discovery = new Discovery("me", least);
  run(discovery, 0, 2_000, { kind: "started" });
  assert.equal(run(discovery, 10_000, 12_000, { kind: "asked", known: ["another", "me"] }), []);
});

test("a question that many others have answered is left alone", () => {
  const discovery = new Discovery("me", least);
  run(discovery, 0, 2_000, { kind: "started" });
  discovery.step({ kind: "asked", known: [] }, 10_000);
  for (let i = 0; i < 12; i++) discovery.step({ kind: "answered" }, 10_010);
  assert.equal(run(discovery, 10_020, 12_000, { kind: "woke" }), []);
});

test("a flood of questions brings four answers a second, and the last one is not forgotten", () => {
  const discovery = new Discovery("me", least);
  run(discovery, 0, 2_000, { kind: "started" });
  const answered: number[] = [];
  for (let nowMs = 10_000; nowMs < 11_000; nowMs += 10) {
    const actions = discovery.step({ kind: "asked", known: [] }, nowMs);
    if (actions.some(({ kind }) => kind === "answer")) answered.push(nowMs);
  }
  assert.equal(answered, [10_020, 10_270, 10_520, 10_770]);
  assert.equal(run(discovery, 11_020, 11_030, { kind: "woke" }), [["answer", 11_020]]);
});

test("many members spread their answers out, so that few of a thousand answer", () => {
  const members = Array.from({ length: 1_000 }, (_, i) => {
    const discovery = new Discovery(`m${i}`, seededRandom(i));
    run(discovery, 0, 2_000, { kind: "started" });
    discovery.step({ kind: "neighbours", count: 8, members: 1_000 }, 2_000);
    return discovery;
  });
  for (const member of members) member.step({ kind: "asked", known: [] }, 10_000);
  let answers = 0;
  // What is said in one millisecond is heard in the next but one.
  const said: number[] = [];
  for (let nowMs = 10_000; nowMs < 10_700; nowMs++) {
    const before = answers;
    for (const member of members) {
      if (member.step({ kind: "woke" }, nowMs).some(({ kind }) => kind === "answer")) answers++;
    }
    said.push(answers - before);
    for (let i = 0; i < (said.at(-3) ?? 0); i++) for (const member of members) member.step({ kind: "answered" }, nowMs);
  }
  assert.ok(answers >= 12 && answers < 40, String(answers));
});

test.run();
