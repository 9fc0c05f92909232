import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ItemGroups } from "../../protocol/item-groups.ts";
import { MIB } from "../../protocol/limits.ts";
import {
  defaultOriginPlanLimits,
  OriginPlan,
  type OriginPlanAction,
  type OriginPlanEvent,
  type OriginPlanParts,
} from "../../protocol/origin-plan.ts";
import { seededRandom } from "../../protocol/random.ts";
import type { RegisterAnswer } from "../../protocol/register-messages.ts";

/** One segment, and 64 chunks of 1 MiB: five groups. */
const groups = new ItemGroups({ segments: 1, items: 65, bytes: 64 * MIB });

function scene(more: Partial<OriginPlanParts> = {}, seed = 1) {
  const stored = new Set<number>();
  const parts: OriginPlanParts = {
    ...{ self: "me", key: "k", site: "s", groups, policy: "auto", holdsSlot: () => true, seeks: () => true },
    hasStored: (item) => stored.has(item),
    lacks: (first, end) => Array.from({ length: end - first }, (_, i) => first + i).some((item) => !stored.has(item)),
    wanters: () => ["other"],
    ...more,
  };
  const plan = new OriginPlan(parts, defaultOriginPlanLimits, seededRandom(seed));
  const at = (nowMs: number, ...events: readonly OriginPlanEvent[]) =>
    events.flatMap((event) => {
      if (event.kind === "stored") for (const item of event.items) stored.add(item);
      return plan.step(event, nowMs);
    });
  return { at, stored };
}

const registrars = (...members: string[]): OriginPlanEvent => ({ kind: "registrars", members });
const woke: OriginPlanEvent = { kind: "woke" };
const answer = (from: string, more: Partial<RegisterAnswer> = {}): OriginPlanEvent => {
  return { kind: "answer", from, answer: { peers: [], leases: [], leaseMs: 2500, retryAfterMs: 500, ...more } };
};
const lease = (group: number, from: "origin" | "far" = "origin") => ({ group, from });

function told(actions: readonly OriginPlanAction[]): string[] {
  return actions.map(textOf).filter((text) => text !== "");
}

function textOf(action: OriginPlanAction): string {
  switch (action.kind) {
    case "register":
      return `ask ${action.to}`;
    case "leased":
      return `${action.isFarOnly ? "far" : "leased"} ${action.first}-${action.end}`;
    case "lapsed":
      return `lapsed ${action.first}-${action.end}`;
    case "peers":
      return `peers ${action.peers.join()}`;
    case "opened":
      return action.isFarOnly ? "opened far" : "opened";
    case "closed":
    case "searchNeighbours":
      return action.kind;
    case "wakeAt":
      return "";
  }
}

const questionOf = (actions: readonly OriginPlanAction[]) => {
  for (const action of actions) if (action.kind === "register") return action.question;
  throw new Error("nothing was asked");
};

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

test("when a registrar goes, the next is told at once what is leased, and asked for more a little later", () => {
  for (const [lost, lostMs] of [
    [{ kind: "unreachable", from: "a" }, 560],
    [registrars("b"), 560],
    // Nothing is heard of it.
    [woke, 1_501],
  ] as const) {
    const { at } = scene();
    at(0, registrars("a", "b"));
    at(1, answer("a", { leases: [lease(0)] }));
    assert.is(questionOf(at(501, woke)).wants, 1);
    const question = questionOf(at(lostMs, lost));
    assert.equal([question.wants, question.leases], [0, [{ group: 0, arrived: 0 }]]);
    at(lostMs + 1, answer("b", { leases: [lease(0)], leaseMs: 20_000, retryAfterMs: 5_000 }));
    assert.equal(told(at(lostMs + 399, woke)), []);
    assert.is(questionOf(at(lostMs + 400, woke)).wants, 1);
  }
});

test("who waits for others to tell a registrar of their leases does not take it for useless meanwhile", () => {
  const { at } = scene();
  at(0, registrars("a", "b", "c"));
  const asked = [...at(250, woke), ...at(251, answer("b", { retryAfterMs: 5_000 })), ...at(649, woke)];
  assert.equal(told(asked), ["ask b", "searchNeighbours"]);
  assert.is(questionOf(at(650, woke)).wants, 2);
  at(651, answer("b", { retryAfterMs: 5_000 }));
  assert.equal(told(at(1_399, woke)), [], "its time begins then");
  assert.equal(told(at(1_400, woke)), ["ask c"]);
});

test("one registrar after the other goes: leases are asked for after the first wait", () => {
  const { at } = scene();
  at(0, registrars("a", "b", "c"));
  at(250, woke);
  at(500, woke);
  at(501, answer("c", { retryAfterMs: 5_000 }));
  assert.is(questionOf(at(650, woke)).wants, 2);
});

test("who is late itself, or hears late, waits longer for what the registrar before has leased", () => {
  const late = scene();
  late.at(0, registrars("a", "b"));
  late.at(450, woke);
  late.at(500, woke, answer("b", { retryAfterMs: 5_000 }));
  assert.equal(told(late.at(1_000, woke)), [], "eight times its 200 ms");
  assert.is(questionOf(late.at(2_101, woke)).wants, 2);
  const slow = scene();
  slow.at(0, registrars("a", "b"));
  slow.at(250, woke);
  slow.at(450, answer("b", { retryAfterMs: 5_000 }));
  assert.equal(told(slow.at(1_049, woke)), [], "three times the 200 ms of its answer");
  assert.is(questionOf(slow.at(1_050, woke)).wants, 2);
});

test("registrars that always take long, or are to be asked at once again, do not keep a wanter from leases for ever", () => {
  for (const [tookMs, retryAfterMs] of [
    [300, 500],
    [30, 0],
  ] as const) {
    const { at } = scene();
    const first = at(0, registrars("a", "b"));
    let asked = [...first, ...at(250, woke)].filter((action) => action.kind === "register").at(-1);
    let nowMs = 250;
    let wants = 0;
    while (wants === 0 && nowMs < 5_000) {
      nowMs += tookMs;
      const actions =
        asked === undefined ? at(nowMs, woke) : at(nowMs, answer(asked.to, { peers: ["p"], retryAfterMs }));
      asked = [...actions, ...at(nowMs, woke)].filter((action) => action.kind === "register").at(-1);
      wants = asked?.question.wants ?? 0;
    }
    assert.ok(nowMs < 2_500, `${nowMs} ms`);
  }
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
    questionOf(second.at(420, { kind: "described" })).leases.map(({ group }) => group),
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

test("a registrar that has answered is waited for a second also after another one was asked", () => {
  const { at } = scene();
  at(0, registrars("a", "b"));
  at(1, answer("a", { leases: [lease(0)] }));
  at(501, woke);
  at(1_501, woke);
  at(1_502, answer("b", { leases: [lease(0)], retryAfterMs: 5_000 }));
  at(6_400, { kind: "stored", items: [0] });
  at(6_421, answer("b", { retryAfterMs: 81 }));
  assert.ok(told(at(6_502, woke)).includes("ask a"));
  assert.equal(told(at(7_501, woke)), []);
  assert.ok(told(at(7_502, woke)).includes("ask b"));
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
