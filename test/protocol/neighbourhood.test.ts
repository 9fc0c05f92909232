import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type NeighbourAction, Neighbourhood, type NeighbourLimits } from "../../protocol/neighbourhood.ts";
import { seededRandom } from "../../protocol/random.ts";

const test = suite("neighbourhood");

const few: NeighbourLimits = { goal: 2, most: 3 };

/** Sorts before all others: it never yields. */
const own = "!";

function hood(known: readonly string[] = [], limits: NeighbourLimits = few): Neighbourhood {
  return new Neighbourhood(own, () => known, seededRandom(1), limits);
}

function of(actions: readonly NeighbourAction[], kind: "dial" | "close"): string[] {
  return actions.flatMap((action) => (action.kind === kind ? [action.peer] : [])).sort();
}

function wakeAt(actions: readonly NeighbourAction[]): number | undefined {
  return actions.flatMap((action) => (action.kind === "wakeAt" ? [action.atMs] : [])).at(-1);
}

/** When a peer that always fails is dialled, from `fromMs` on. */
function dials(hoods: Neighbourhood, fromMs: number, untilMs: number): number[] {
  const at: number[] = [];
  let actions = hoods.step({ kind: "woke" }, fromMs);
  for (let nowMs = fromMs; nowMs < untilMs; ) {
    for (const peer of of(actions, "dial")) {
      at.push(nowMs);
      const more = hoods.step({ kind: "failed", peer }, nowMs);
      actions = more;
    }
    nowMs = Math.max(nowMs + 1, wakeAt(actions) ?? untilMs);
    actions = hoods.step({ kind: "woke" }, nowMs);
  }
  return at;
}

test("a peer that is found on the local network is dialled at once, unless there are enough", () => {
  const neighbours = hood();
  assert.equal(of(neighbours.step({ kind: "found", peer: "a" }, 0), "dial"), ["a"]);
  assert.equal(of(neighbours.step({ kind: "found", peer: "a" }, 1), "dial"), []);
  neighbours.step({ kind: "joined", peer: "a" }, 5);
  assert.equal(of(neighbours.step({ kind: "found", peer: "b" }, 10), "dial"), ["b"]);
  neighbours.step({ kind: "joined", peer: "b" }, 15);
  assert.equal(of(neighbours.step({ kind: "found", peer: "c" }, 20), "dial"), []);
});

test("of two that find each other the one with the smaller name dials first", () => {
  const neighbours = new Neighbourhood("m", () => [], seededRandom(1), few);
  assert.equal(of(neighbours.step({ kind: "found", peer: "z" }, 0), "dial"), ["z"]);
  const waiting = neighbours.step({ kind: "found", peer: "a" }, 0);
  assert.equal([of(waiting, "dial"), wakeAt(waiting)], [[], 250]);
  assert.equal(of(neighbours.step({ kind: "found", peer: "a" }, 100), "dial"), []);
  assert.equal(of(neighbours.step({ kind: "woke" }, 250), "dial"), ["a"]);
});

test("of a large directory just as many are dialled as are lacking, not always the same", () => {
  const known = Array.from({ length: 1_000 }, (_, i) => `p${i}`);
  const chosen = new Set<string>();
  for (let seed = 0; seed < 10; seed++) {
    const dialled = of(new Neighbourhood(own, () => known, seededRandom(seed)).step({ kind: "learnt" }, 0), "dial");
    assert.is(dialled.length, 8);
    for (const peer of dialled) chosen.add(peer);
  }
  assert.ok(chosen.size > 70, String(chosen.size));
});

test("another one takes the place of one that cannot be reached", () => {
  const neighbours = hood(["a", "b", "c"]);
  const [one, two] = of(neighbours.step({ kind: "learnt" }, 0), "dial");
  const [three] = of(neighbours.step({ kind: "failed", peer: one! }, 500), "dial");
  assert.equal([one, two, three].sort(), ["a", "b", "c"]);
});

test("a lost neighbour is dialled again within a second, then ever less often, up to once a minute", () => {
  const neighbours = hood();
  for (const peer of ["a", "b"]) neighbours.step({ kind: "joined", peer }, 0);
  const lost = neighbours.step({ kind: "left", peer: "a" }, 10_000);
  assert.equal(of(lost, "dial"), []);
  assert.ok(wakeAt(lost)! >= 10_250 && wakeAt(lost)! <= 10_750);
  const at = dials(neighbours, wakeAt(lost)!, 400_000);
  const gaps = at.slice(1).map((atMs, i) => atMs - at[i]!);
  assert.equal(gaps.slice(0, 9), [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
});

test("whoever is alone dials those whom it lost every few seconds: its own link may be back", () => {
  const neighbours = hood(["a", "b", "c"]);
  for (const peer of ["a", "b", "c"]) neighbours.step({ kind: "joined", peer }, 0);
  for (const peer of ["a", "b", "c"]) neighbours.step({ kind: "left", peer }, 10_000);
  const at = dials(neighbours, 10_000, 130_000);
  const late = at.filter((atMs) => atMs > 60_000);
  const gaps = late.slice(1).map((atMs, i) => atMs - late[i]!);
  assert.ok(Math.max(...gaps) <= 4_000, String(gaps));
  assert.ok(late.length < 3 * (70_000 / 4_000) * 1.5, "and no more often than that");
});

test("once one is back the others are dialled at once: it was our own link", () => {
  const known = ["a", "b", "c"];
  const neighbours = hood(known, { goal: 3, most: 8 });
  for (const peer of known) neighbours.step({ kind: "joined", peer }, 0);
  for (const peer of known) neighbours.step({ kind: "left", peer }, 1_000);
  dials(neighbours, 1_000, 90_000);
  for (const peer of known) neighbours.step({ kind: "failed", peer }, 90_000);
  assert.equal(of(neighbours.step({ kind: "joined", peer: "b" }, 90_001), "dial"), ["a", "c"]);
});

test("an interface that comes makes up for all that failed without it", () => {
  const neighbours = hood(["a"]);
  for (let nowMs = 0; nowMs < 100_000; nowMs += 10_000) {
    neighbours.step({ kind: "woke" }, nowMs);
    neighbours.step({ kind: "failed", peer: "a" }, nowMs + 500);
  }
  assert.not.ok(neighbours.mayDial("a", 91_000));
  assert.equal(of(neighbours.step({ kind: "networkChanged" }, 91_000), "dial"), ["a"]);
});

test("a peer that refused us is left alone for ten minutes", () => {
  const neighbours = hood(["a"]);
  neighbours.step({ kind: "learnt" }, 0);
  neighbours.step({ kind: "refused", peer: "a" }, 100);
  assert.not.ok(neighbours.mayDial("a", 500_000));
  assert.equal(of(neighbours.step({ kind: "woke" }, 500_000), "dial"), []);
  assert.equal(of(neighbours.step({ kind: "woke" }, 600_100), "dial"), ["a"]);
});

test("one that was lost is looked for now and then, also by a node that has enough: a network must not stay in two", () => {
  const neighbours = hood();
  for (const peer of ["a", "b", "c"]) neighbours.step({ kind: "joined", peer }, 0);
  const lost = neighbours.step({ kind: "left", peer: "c" }, 100_000);
  const looked = neighbours.step({ kind: "woke" }, wakeAt(lost)!);
  const at = [...of(lost, "dial"), ...of(looked, "dial")];
  const later = neighbours.step({ kind: "woke" }, 135_000);
  assert.equal([...at, ...of(later, "dial")], ["c"]);
});

test("connections that nobody uses are let go when there are too many, and not dialled again soon", () => {
  const neighbours = hood();
  for (const peer of ["a", "b", "c", "d", "e"]) neighbours.step({ kind: "joined", peer }, 0);
  assert.equal(of(neighbours.step({ kind: "woke" }, 50_000), "close"), [], "they are new");
  for (const peer of ["a", "b", "c", "d"]) neighbours.used(peer, 40_000);
  assert.equal(of(neighbours.step({ kind: "woke" }, 70_000), "close"), ["e"]);
  neighbours.step({ kind: "left", peer: "e" }, 70_100);
  assert.equal(of(neighbours.step({ kind: "woke" }, 99_000), "close"), []);
  assert.is(of(neighbours.step({ kind: "woke" }, 110_000), "close").length, 1);
  assert.not.ok(neighbours.mayDial("e", 120_000));
});

test("a storm of failures is paced", () => {
  const known = Array.from({ length: 500 }, (_, i) => `p${i}`);
  const at = dials(new Neighbourhood(own, () => known, seededRandom(3), few), 0, 10_000);
  assert.ok(at.length < 16 + 4 * 10 + 4, String(at.length));
});

test.run();
