import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ItemGroups } from "../../protocol/item-groups.ts";
import type { OriginPlanEvent } from "../../protocol/origin-plan.ts";
import { answer, groups, lease, questionOf, registrars, scene, told, woke } from "../support/plan-scene.ts";

test("groups are the segments, then stretches of 16 MiB, cut the same way by everybody", () => {
  const stretches = Array.from({ length: groups.count }, (_, group) => [groups.first(group), groups.end(group)]);
  assert.equal(stretches, [
    [0, 1],
    [1, 17],
    [17, 33],
    [33, 49],
    [49, 65],
  ]);
  for (let item = 0; item < 65; item++) {
    const group = groups.of(item);
    assert.ok(item >= groups.first(group) && item < groups.end(group));
  }
  assert.is(new ItemGroups({ segments: 1, items: 1, bytes: 0 }).count, 1);
});

test("the first registrar is asked at once, and what it leases may be fetched", () => {
  const { at } = scene();
  assert.equal(told(at(0, registrars("a", "b"))), ["ask a"]);
  assert.equal(told(at(1, answer("a", { leases: [lease(0), lease(2, "far")], peers: ["p"] }))), [
    "peers p",
    "leased 0-1",
    "far 17-33",
  ]);
  assert.equal(told(at(2, answer("a", { leases: [lease(1)] }))), [], "nothing was asked");
});

test("a question says what is here, what was leased, and how much of that has come", () => {
  const { at } = scene();
  at(0, registrars("a"));
  at(1, answer("a", { leases: [lease(0), lease(1)] }));
  const asked = questionOf(at(30, { kind: "stored", items: [0] }));
  assert.equal([asked.groups, [...asked.held], asked.leases, asked.wants], [5, [1], [{ group: 1, arrived: 0 }], 1]);
  at(31, answer("a", { leases: [lease(1), lease(3)] }));
  for (let item = 1; item < 5; item++) assert.equal(told(at(60, { kind: "stored", items: [item] })), []);
  const later = questionOf(at(700, woke));
  assert.equal(later.leases, [
    { group: 1, arrived: 4 },
    { group: 3, arrived: 0 },
  ]);
  assert.equal(later.wants, 0);
});

test("a lease that its registrar does not name any more is over", () => {
  const { at } = scene();
  at(0, registrars("a"));
  at(1, answer("a", { leases: [lease(1), lease(2)] }));
  at(700, woke);
  assert.equal(told(at(701, answer("a", { leases: [lease(2)] }))), ["lapsed 1-17"]);
});

test("after 250 ms of silence the next registrar is asked, and the silent one is left alone for a while", () => {
  const { at } = scene();
  at(0, registrars("a", "b"));
  assert.equal(told(at(249, woke)), []);
  assert.ok(told(at(250, woke)).includes("ask b"));
  at(251, answer("b"));
  assert.ok(told(at(800, woke)).includes("ask b"));
  at(801, answer("b"));
  assert.ok(told(at(5_300, woke)).includes("ask a"));
});

test("a registrar that cannot be reached costs no waiting", () => {
  const { at } = scene();
  at(0, registrars("a", "b"));
  assert.ok(told(at(1, { kind: "unreachable", from: "a" })).includes("ask b"));
});

test("where few are there the registrar is asked for more of them ever more seldom", () => {
  const { at } = scene();
  at(0, registrars("a"));
  const askedMs: number[] = [];
  for (let nowMs = 1; nowMs < 3_000; nowMs++) {
    const actions = at(nowMs, { kind: "seek" }, answer("a", { peers: ["p"], retryAfterMs: 5_000 }), woke);
    if (actions.some(({ kind }) => kind === "register")) askedMs.push(nowMs);
  }
  assert.equal(askedMs, [40, 120, 280, 600, 1_240, 1_880, 2_520]);
});

test("when none answers, turns are taken by rank, after a random wait, two groups at a time", () => {
  const { at } = scene();
  at(0, registrars("a"));
  const first = told(at(250, woke));
  assert.equal(first, ["searchNeighbours"]);
  const taken: string[] = [];
  for (let nowMs = 300; nowMs < 8_000; nowMs += 250)
    taken.push(...told(at(nowMs, woke)).filter((text) => text.startsWith("leased")));
  assert.ok(taken.length >= 2);
});

test("an answer ends turns by rank", () => {
  const { at } = scene({ wanters: () => [] });
  at(0, registrars("a"));
  at(250, woke);
  const taken = told(at(3_000, woke)).filter((text) => text.startsWith("leased"));
  assert.is(taken.length, 2);
  at(5_300, woke);
  const ended = told(at(5_301, answer("a", { leases: [] }))).filter((text) => text.startsWith("lapsed"));
  assert.is(ended.length, 2);
});

test("a node that knows nobody goes to the origin at once", () => {
  const { at } = scene({ wanters: () => [] });
  assert.ok(told(at(0, registrars())).includes("opened"));
});

test("a registrar that answers and leads nowhere is left for the next", () => {
  const { at } = scene();
  at(0, registrars("a", "b"));
  const asked: string[] = [];
  for (let nowMs = 1; nowMs < 8_000; nowMs += 100) {
    asked.push(...told(at(nowMs, answer("a"), answer("b"), woke)).filter((text) => text.startsWith("ask")));
  }
  assert.ok(asked.includes("ask b"));
});

test("never is never: whatever registrars lease and however long nobody answers", () => {
  for (const policy of ["never", "limited"] as const) {
    const { at } = scene({ policy, holdsSlot: () => false, wanters: () => [] });
    const actions = at(0, registrars("a"));
    assert.is(questionOf(actions).isFarOnly, true);
    actions.push(...at(1, answer("a", { leases: [lease(0), lease(1)] })));
    for (let nowMs = 100; nowMs < 60_000; nowMs += 100) actions.push(...at(nowMs, woke));
    actions.push(...at(60_001, registrars(), woke));
    assert.equal(
      told(actions).filter((text) => /leased|opened$/.test(text)),
      [],
    );
  }
});

test("who may not read the origin and knows nobody may ask far peers, and the origin from when it may", () => {
  let holdsSlot = false;
  const { at } = scene({ policy: "limited", holdsSlot: () => holdsSlot, wanters: () => [] });
  assert.ok(told(at(0, registrars())).includes("opened far"));
  holdsSlot = true;
  assert.ok(told(at(300, woke)).includes("opened"));
  holdsSlot = false;
  assert.ok(told(at(600, woke)).includes("opened far"));
});

test("a registrar that names nobody and gives nothing is left soon, by whoever may not read the origin as well", () => {
  for (const policy of ["auto", "never"] as const) {
    const { at } = scene({ policy });
    at(0, registrars("a", "b"));
    at(1, answer("a"));
    assert.ok(told(at(751, woke)).includes("ask b"));
    at(752, answer("b", { peers: ["p"] }));
    const asked: string[] = [];
    for (let nowMs = 800; nowMs < 60_000; nowMs += 250) {
      const item = Math.floor(nowMs / 250) % 65;
      asked.push(...told(at(nowMs, { kind: "stored", items: [item] }, woke, answer("b", { peers: ["p"] }))));
    }
    assert.is(asked.includes("ask a"), false, "it comes last from then on");
  }
});

test("before the first item peers without a lease are waited with for three seconds, and a lease for two turns", () => {
  for (const [leases, leftMs] of [
    [[], 3_001],
    [[lease(0)], 5_001],
  ] as const) {
    const { at } = scene();
    at(0, registrars("a", "b"));
    const given = answer("a", { peers: ["p"], leases });
    at(1, given);
    const asked: string[] = [];
    for (let nowMs = 501; nowMs < leftMs; nowMs += 100) asked.push(...told(at(nowMs, woke, given)));
    assert.is(asked.includes("ask b"), false);
    assert.ok(told(at(leftMs, woke)).includes("ask b"));
  }
});

test("where all registrars lead nowhere one group at a time is taken by rank, whatever they say, until something comes", () => {
  const { at } = scene();
  at(0, registrars("a", "b", "c"));
  const given = ["a", "b", "c"].map((from) => answer(from, { peers: ["p"] }));
  const heard: string[] = [];
  for (let nowMs = 1; nowMs < 20_000; nowMs += 100) heard.push(...told(at(nowMs, woke, ...given)));
  const changes = heard.filter((text) => /^(leased|lapsed)/.test(text));
  assert.match(changes[0]!, /^leased/);
  assert.ok(heard.includes("searchNeighbours"));
  for (const [i, text] of changes.entries()) assert.match(text, i % 2 === 0 ? /^leased/ : /^lapsed/);
});

test("far peers may be asked where the origin never is", () => {
  const { at } = scene({ policy: "never" });
  at(0, registrars("a"));
  assert.equal(told(at(1, answer("a", { leases: [lease(2, "far")] }))), ["far 17-33"]);
});

test("an answer that comes late counts, unless one that comes before it has answered since", () => {
  const first = scene();
  first.at(0, registrars("a", "b"));
  assert.ok(told(first.at(250, woke)).includes("ask b"));
  assert.equal(told(first.at(400, answer("a", { leases: [lease(1)] }))), ["leased 1-17"]);
  assert.equal(told(first.at(410, answer("b", { leases: [lease(2)] }))), [], "a is the first that answers");
  const second = scene();
  second.at(0, registrars("a", "b"));
  second.at(250, woke);
  assert.equal(told(second.at(300, answer("b", { leases: [lease(2)] }))), ["leased 17-33"]);
  assert.equal(told(second.at(400, answer("a", { leases: [lease(1)] }))), ["leased 1-17"], "a does not know of b's");
  assert.equal(
    questionOf(second.at(420, { kind: "described", items: [] })).leases.map(({ group }) => group),
    [2, 1],
  );
});

test("a registrar that has answered is waited for a second, or longer if its answers take long", () => {
  for (const [tookMs, silentMs] of [
    [100, 1_000],
    [600, 1_800],
  ] as const) {
    const { at } = scene();
    at(0, registrars("a", "b"));
    if (tookMs > 250) at(250, woke);
    at(tookMs, answer("a", { leases: [lease(0)] }));
    const askedMs = tookMs + 500;
    assert.equal(told(at(askedMs, woke)), ["ask a"]);
    assert.equal(told(at(askedMs + silentMs - 1, woke)), []);
    assert.ok(told(at(askedMs + silentMs, woke)).includes("ask b"));
  }
});

test("whoever wakes late listens once more before it takes a registrar for silent", () => {
  const { at } = scene();
  at(0, registrars("a", "b"));
  assert.equal(told(at(400, woke)), []);
  assert.ok(told(at(800, woke)).includes("ask b"));
});

test("the first turn by rank comes a second after a registrar was silent at the soonest", () => {
  for (let seed = 0; seed < 50; seed++) {
    const { at } = scene({}, seed);
    const early = [...at(0, registrars("a")), ...at(250, woke)];
    for (let nowMs = 260; nowMs < 1_250; nowMs += 90) early.push(...at(nowMs, woke));
    assert.equal(
      told(early).filter((text) => text.startsWith("leased")),
      [],
    );
  }
});

test("whatever registrars answer, never reads nothing, and nobody has more than two leases at a time", () => {
  const event: fc.Arbitrary<OriginPlanEvent> = fc.oneof(
    fc.constant(woke),
    fc.record({ kind: fc.constant("stored" as const), items: fc.tuple(fc.nat(64)) }),
    fc.record({ kind: fc.constant("unreachable" as const), from: fc.constantFrom("a", "b") }),
    fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 3 }).map((members) => registrars(...members)),
    fc
      .tuple(fc.constantFrom("a", "b", "x"), fc.array(fc.nat(9), { maxLength: 6 }), fc.boolean(), fc.nat(9000))
      .map(([from, list, isFar, retryAfterMs]) =>
        answer(from, { leases: list.map((group) => lease(group, isFar ? "far" : "origin")), retryAfterMs }),
      ),
  );
  const policy = fc.constantFrom("auto" as const, "never" as const);
  fc.assert(
    fc.property(policy, fc.array(fc.tuple(event, fc.nat(1500)), { maxLength: 100 }), (how, events) => {
      const { at } = scene({ policy: how });
      let nowMs = 0;
      let held = 0;
      for (const [one, afterMs] of events) {
        nowMs += afterMs;
        for (const action of at(nowMs, one)) {
          if (action.kind === "leased") held++;
          if (action.kind === "lapsed") held--;
          if (how === "never" && action.kind === "leased") assert.ok(action.isFarOnly);
          if (how === "never" && action.kind === "opened") assert.ok(action.isFarOnly);
          if (action.kind === "wakeAt") assert.ok(action.atMs > nowMs, "a wake-up is in the future");
        }
        assert.ok(held >= 0 && held <= 2, `${held} leases`);
      }
    }),
    { seed: 7 },
  );
});

test.run();
