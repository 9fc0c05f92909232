import { test } from "uvu";
import * as assert from "uvu/assert";
import { KIB, MIB } from "../../protocol/limits.ts";
import { type BudgetAnswer, BudgetShare, type SiteBudget, shareOfBudget } from "../../protocol/site-budget.ts";

const members = Array.from({ length: 50 }, (_, i) => `m${i}`);
const budget = { slots: 4, bytesPerMs: 1000 };
const unlimited = Number.POSITIVE_INFINITY;
const share = (slots: number, bytesPerMs: number, self: string, among: readonly string[], wallMs = 0) =>
  shareOfBudget({ slots, bytesPerMs }, "filer", { self, members: among }, wallMs);
const holders = (wallMs: number, origin = "filer") =>
  members.filter((self) => shareOfBudget(budget, origin, { self, members }, wallMs) > 0);

test("as many nodes as there are slots may read, each a part of the rate", () => {
  assert.is(holders(0).length, 4);
  const shares = members.map((self) => share(4, 1000, self, members));
  assert.is(
    shares.reduce((sum, one) => sum + one, 0),
    budget.bytesPerMs,
  );
});

test("slots go round with time, and every origin has its own", () => {
  assert.equal(holders(0), holders(29_999));
  const seen = new Set(Array.from({ length: 100 }, (_, epoch) => holders(30_000 * epoch)).flat());
  assert.is(seen.size, members.length);
  assert.is.not(holders(0).join(), holders(0, "mirror").join());
});

test("where there are more slots than members everybody has one, and they share all of the rate", () => {
  assert.is(share(100, 100, "m1", ["m1", "m2"]), 50);
  assert.is(share(100, 100, "m1", ["m2", "m3", "m4"]), 25);
  assert.is(share(4, 100, "alone", []), 100);
  assert.is(share(0, 100, "m1", ["m1", "m2"]), 0);
});

test("without slots everybody reads a part of the rate, and without a rate the slots alone count", () => {
  assert.is(share(unlimited, 100, "m7", members), 2);
  assert.is(share(2, unlimited, holders(0)[0]!, [holders(0)[0]!]), unlimited);
  assert.equal([...new Set(members.map((self) => share(4, unlimited, self, members)))].sort(), [0, unlimited]);
});

/** The part of one node; what it answers at a time, by clocks of which one is an hour ahead. */
function part(slots: number, bytesPerMs: number, self = "m1", among: readonly string[] = []) {
  const node = new BudgetShare({ slots, bytesPerMs }, "filer", () => ({ self, members: among }));
  return (bytes: number, nowMs: number) => node.ask(bytes, { nowMs, wallMs: nowMs + 3_600_000 });
}
const go = (waitMs: number): BudgetAnswer => ({ kind: "go", waitMs });
const later = (why: "slots" | "rate", retryAfterMs: number): BudgetAnswer => ({ kind: "later", why, retryAfterMs });

test("what is read is paid for before: a node that has just started waits for its first chunk", () => {
  const ask = part(1, 1024);
  assert.equal(ask(512 * KIB, 0), go(512));
  assert.equal(ask(256 * KIB, 0), go(768), "those who wait go one after the other");
  assert.equal(ask(512 * KIB, 0), later("rate", 1280), "what would wait for more than a second is refused");
  assert.equal(ask(512 * KIB, 768), go(512), "and what was refused has cost nothing");
});

test("without a rate nobody waits who has a slot", () => {
  const ask = part(unlimited, unlimited, "m1", members);
  for (let i = 0; i < 100; i++) assert.equal(ask(2 * MIB, i), go(0));
});

test("who has no slot is told when turns change, and saves nothing meanwhile", () => {
  const [turns, self] = [Array.from({ length: 200 }, (_, i) => holders(3_600_000 + 30_000 * i)), "m1"];
  const ask = part(4, 4096, self, members);
  const first = turns.findIndex((names) => names.includes(self));
  assert.ok(first > 0, "this one waits for its turn");
  assert.equal(ask(KIB, 0), later("slots", 30_000));
  assert.equal(ask(KIB, 30_000 * first - 1), later("slots", 1));
  assert.equal(ask(512 * KIB, 30_000 * first), go(512));
});

test("what one turn does not pay for is paid for by the next", () => {
  const turns = Array.from({ length: 2_000 }, (_, i) => holders(3_600_000 + 30_000 * i));
  const own = turns.flatMap((names, turn) => (names.includes("m1") ? [turn] : []));
  // 30 s at 20 bytes a millisecond are 600,000 bytes.
  const ask = part(4, 80, "m1", members);
  ask(KIB, 0);
  const alone = own.filter((turn) => !own.includes(turn + 1) && !own.includes(turn - 1));
  const passed: number[] = [];
  for (const turn of alone.slice(0, 12)) {
    for (let ms = 0; ms < 29_000; ms += 500) {
      if (ask(MIB, 30_000 * turn + ms).kind === "go") passed.push(turn);
    }
  }
  assert.ok(passed.length >= 5 && passed.length <= 7, `${passed.length} of 12 turns of 600,000 bytes`);
});

test("nothing begins in the last second of a turn, unless the next one is this node's too", () => {
  const turns = Array.from({ length: 2_000 }, (_, i) => holders(3_600_000 + 30_000 * i).includes("m1"));
  const ends = turns.findIndex((has, turn) => has && !turns[turn + 1]);
  const goesOn = turns.findIndex((has, turn) => has && turns[turn + 1]);
  for (const [turn, answer] of [
    [ends, "later"],
    [goesOn, "go"],
  ] as const) {
    const ask = part(4, unlimited, "m1", members);
    assert.is(ask(1, 30_000 * turn + 28_999).kind, "go");
    assert.is(ask(1, 30_000 * turn + 29_000).kind, answer);
    assert.is(ask(1, 30_000 * turn + 29_999).kind, answer);
  }
});

test("all nodes of a site together keep to its budget, and everybody has turns", () => {
  const few = members.slice(0, 12);
  const bound: SiteBudget = { slots: 3, bytesPerMs: 3000 };
  const nodes = few.map((self) => ({ self, share: new BudgetShare(bound, "filer", () => ({ self, members: few })) }));
  const totals = new Map<string, number>();
  const perSecond: number[] = [];
  for (let nowMs = 0; nowMs < 1_800_000; nowMs += 50) {
    const readers = new Set<string>();
    for (const { self, share: own } of nodes) {
      // As a transfer does: several at once, again and again.
      for (let i = 0; i < 4; i++) {
        if (own.ask(512 * KIB, { nowMs, wallMs: nowMs }).kind === "later") continue;
        readers.add(self);
        totals.set(self, (totals.get(self) ?? 0) + 512 * KIB);
        perSecond[Math.floor(nowMs / 1000)] = (perSecond[Math.floor(nowMs / 1000)] ?? 0) + 512 * KIB;
      }
    }
    assert.ok(readers.size <= 3, `${readers.size} read at a time`);
  }
  const read = [...totals.values()].reduce((sum, bytes) => sum + bytes, 0);
  assert.ok(read <= 3000 * 1_800_000 + 3 * 4 * MIB, "the rate holds over a long time");
  assert.ok(read >= 0.95 * 3000 * 1_800_000, `and is used: ${read / 1_800_000}`);
  assert.is(totals.size, few.length);
  for (let at = 0; at + 10 < perSecond.length; at++) {
    const bytes = perSecond.slice(at, at + 10).reduce((sum, one) => sum + (one ?? 0), 0);
    assert.ok(bytes <= 10 * 3_000_000 + 3 * 4 * MIB, `and in any ten seconds: ${bytes}`);
  }
});

test.run();
