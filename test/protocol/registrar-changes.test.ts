import { test } from "uvu";
import * as assert from "uvu/assert";
import { answer, lease, questionOf, registrars, scene, told, woke } from "../support/plan-scene.ts";

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

test.run();
