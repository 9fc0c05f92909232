import { test } from "uvu";
import * as assert from "uvu/assert";
import { Conduct } from "../../../node/swarm/conduct.ts";

/** How somebody behaves, and what is told of it. */
function watched(): { conduct: Conduct; told: string[]; outlaws: string[] } {
  const told: string[] = [];
  const outlaws: string[] = [];
  const conduct = new Conduct({
    onFault: (peer, fault, reason) => told.push(`${peer} ${fault ?? "-"} ${reason}`),
    onOutlaw: (peer, reason) => outlaws.push(`${peer} ${reason}`),
  });
  return { conduct, told, outlaws };
}

test("who breaks the protocol is named each time, goes with the sixth, and is not let in for a while", () => {
  const { conduct, told, outlaws } = watched();
  for (let i = 0; i < 5; i++) conduct.broke("a", "nonsense");
  assert.equal([told.length, outlaws], [5, []]);
  assert.is(conduct.refusal("a"), undefined);
  conduct.broke("a", "nonsense");
  assert.equal(outlaws, ["a nonsense"]);
  for (let i = 0; i < 100; i++) conduct.broke("a", "nonsense");
  assert.equal([told.length, outlaws.length], [6, 1], "what it did before it went is not told again");
  assert.is(conduct.refusal("a"), "it broke the protocol a moment ago");
  assert.is(conduct.refusal("b"), undefined);
});

test("who does not read is silent, once for all its streams, and breaks nothing", () => {
  const { conduct, told, outlaws } = watched();
  for (let i = 0; i < 20; i++) conduct.unread("a", "it does not read");
  assert.equal([told, outlaws], [["a silent it does not read"], []]);
});

test("who comes and goes is named once, and let in for a while all the same", () => {
  const { conduct, told } = watched();
  for (let i = 0; i < 60; i++) assert.is(conduct.refusal("a"), undefined);
  assert.equal(told, ["a - it comes and goes"]);
  assert.is(conduct.refusal("a"), "it comes and goes");
  assert.equal(told.length, 1);
});

test("more streams at a time than a protocol has are reset, and who goes on with it is named", () => {
  const { conduct, told } = watched();
  assert.ok(conduct.mayOpen("a", 3, 4));
  for (let i = 0; i < 8; i++) assert.not(conduct.mayOpen("a", 4, 4));
  assert.equal(told, []);
  assert.not(conduct.mayOpen("a", 4, 4));
  assert.equal(told, ["a broken it opens more streams at a time than a protocol has"]);
});

test("streams without end are named, also where each is closed at once", () => {
  const { conduct, told } = watched();
  let opened = 0;
  while (conduct.mayOpen("a", 0, 4) && opened < 10_000) opened++;
  assert.ok(opened >= 1_000 && opened < 2_000, `${opened}`);
  assert.equal(told, ["a broken it opens streams without end"]);
});

test("what is known of peers does not grow without end", () => {
  const { conduct, told } = watched();
  for (let i = 0; i < 5; i++) conduct.broke("oldest", "nonsense");
  for (let i = 0; i < 10_000; i++) conduct.mayOpen(`peer${i}`, 0, 4);
  for (let i = 0; i < 5; i++) conduct.broke("oldest", "nonsense");
  assert.is(told.length, 10);
});

test.run();
