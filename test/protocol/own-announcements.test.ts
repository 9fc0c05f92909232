import { test } from "uvu";
import * as assert from "uvu/assert";
import { decodeAnnouncement, packHoldings } from "../../protocol/announcement.ts";
import { changesMax } from "../../protocol/limits.ts";
import { announcementOf, holdings, newDirectory, numbers, sign, signedBy } from "../support/announcements.ts";
import { announced, joined, labels, newScene, received, sleep, started } from "../support/gossip-scene.ts";

test("a node announces itself at its start, and few holdings with it", () => {
  const { step } = newScene();
  const few = step({ kind: "started", labels, epoch: 100, whole: holdings(1, 2) }, 0);
  const expected = announcementOf("me", holdings(1, 2), { ...labels, epoch: 100, lifetimeMs: 105_000 }, []);
  assert.equal(announced(few), [expected]);
  const many = newScene().step({ kind: "started", labels, epoch: 100, whole: holdings(...numbers(33)) }, 0);
  assert.equal([announced(many)[0]?.count, announced(many)[0]?.changes], [33, undefined]);
});

test("nothing happens before the start, nor after the end", () => {
  const { step, gossip } = newScene();
  assert.equal(step({ kind: "holdings", whole: holdings(1) }, 0), []);
  assert.equal(step(received("n", "a", holdings(1)), 0), []);
  assert.equal(
    [...gossip.answerHeads(new Uint8Array(0), 0)].map(({ message }) => message.kind),
    ["end"],
  );
  assert.equal(step({ kind: "stopping" }, 0), []);
  assert.equal(step({ kind: "started", labels, epoch: 1, whole: [] }, 0), []);
});

test("a quiet node repeats itself each heartbeat, with the next sequence and no changes", () => {
  const scene = started(holdings(1));
  const [first, firstMs] = sleep(scene, 100_000);
  assert.is(firstMs, 30_000);
  assert.equal(announced(first), [
    announcementOf("me", holdings(1), { ...labels, epoch: 100, sequence: 1, lifetimeMs: 105_000 }),
  ]);
  const [second, secondMs] = sleep(scene, 100_000);
  assert.equal([secondMs, announced(second)[0]?.sequence], [60_000, 2]);
});

test("heartbeats are spread over a fifth of their span", () => {
  for (const [random, ms] of [
    [0, 27_000],
    [0.999, 32_994],
  ] as const) {
    assert.is(
      sleep(
        started([], () => random),
        100_000,
      )[1],
      ms,
    );
  }
});

test("in a network of thousands heartbeats are rarer, and announcements count longer", () => {
  const scene = started();
  for (const number of numbers(999)) scene.step(received("n", `p${number}`, []), 1);
  const [actions, atMs] = sleep(scene, 100_000);
  assert.equal([atMs, announced(actions)[0]?.lifetimeMs], [30_000, 3.5 * 60_000]);
  assert.is(sleep(scene, 100_000)[1], 90_000);
});

test("after quiet a change goes out in 50 ms, and those that follow together, a second later", () => {
  const scene = started(holdings(1));
  assert.equal(scene.step({ kind: "holdings", whole: holdings(1, 2) }, 5_000), []);
  scene.step({ kind: "holdings", whole: holdings(1, 2, 3) }, 5_020);
  const [first, firstMs] = sleep(scene, 10_000);
  const said = { ...labels, epoch: 100, sequence: 1, lifetimeMs: 105_000 };
  assert.is(firstMs, 5_050);
  assert.equal(announced(first), [announcementOf("me", holdings(1, 2, 3), said, holdings(1))]);
  scene.step({ kind: "holdings", whole: holdings(1, 2, 3, 4) }, 5_100);
  scene.step({ kind: "holdings", whole: holdings(2, 3, 4) }, 5_900);
  const [second, secondMs] = sleep(scene, 10_000);
  assert.is(secondMs, 6_050);
  assert.equal(announced(second), [
    announcementOf("me", holdings(2, 3, 4), { ...said, sequence: 2 }, holdings(1, 2, 3)),
  ]);
  assert.is(sleep(scene, 100_000)[1], 36_050, "the next heartbeat counts from the last announcement");
});

test("what is as it was is not announced", () => {
  const scene = started(holdings(1, 2));
  scene.step({ kind: "holdings", whole: holdings(2, 1) }, 5_000);
  assert.is(sleep(scene, 100_000)[1], 30_000);
});

test("many changes go out as several announcements, a second apart", () => {
  const scene = started(holdings(1));
  const whole = holdings(...numbers(600, 10));
  scene.step({ kind: "holdings", whole }, 1_000);
  const steps = numbers(3).map(() => sleep(scene, 10_000));
  assert.equal(
    steps.map(([, atMs]) => atMs),
    [1_050, 2_050, 3_050],
  );
  const sent = steps.flatMap(([actions]) => announced(actions));
  assert.equal(
    sent.map(({ count }) => count),
    [255, 511, 600],
  );
  const directory = newDirectory();
  directory.learn(signedBy("me", holdings(1), { epoch: 100 }, []), 1_000, 0);
  for (const each of sent) {
    assert.ok(each.changes!.added.length / 64 + each.changes!.removed.length / 32 <= changesMax);
    assert.ok(decodeAnnouncement(sign(each).envelope) !== undefined);
    assert.is(directory.learn(sign(each), 1_000, 0).kind, "current");
  }
  assert.equal(directory.holdings("me"), packHoldings(whole));
});

test("new addresses are announced as changes are", () => {
  const scene = started(holdings(1));
  scene.step({ kind: "labels", labels: { ...labels, addresses: ["/ip4/10.0.0.10/tcp/1"] } }, 5_000);
  const [actions, atMs] = sleep(scene, 10_000);
  assert.equal([atMs, announced(actions)[0]?.addresses], [5_050, ["/ip4/10.0.0.10/tcp/1"]]);
});

test("who was alone announces itself again to its first neighbour", () => {
  const scene = started(holdings(1));
  scene.step({ kind: "joined", peer: "n" }, 5_000);
  scene.step({ kind: "answered", from: "n" }, 5_010);
  const [actions, atMs] = sleep(scene, 10_000);
  assert.is(atMs, 6_205);
  const said = { ...labels, epoch: 100, sequence: 1, lifetimeMs: 105_000 };
  assert.equal(announced(actions), [announcementOf("me", holdings(1), said, [])]);
});

test("an own announcement of a later epoch raises ours above it, once at once", () => {
  const scene = joined();
  const raised = scene.step(received("n", "me", holdings(5), { epoch: 900, sequence: 3 }), 5_000);
  assert.equal(
    announced(raised).map(({ epoch, sequence }) => [epoch, sequence]),
    [[901, 0]],
  );
  assert.is(scene.directory.size, 0, "we are not in our own directory");
  assert.equal(scene.step(received("n", "me", [], { epoch: 901, sequence: 0 }), 5_001), [], "that was us");
  assert.equal(scene.step(received("n", "me", [], { epoch: 100, sequence: 0 }), 5_002), [], "and that");
  assert.equal(
    scene.step(received("n", "me", [], { epoch: 901, sequence: 7 }), 5_003),
    [],
    "two machines with one key",
  );
  const [actions, atMs] = sleep(scene, 40_000);
  const later = announced(actions).length > 0 ? [actions, atMs] : sleep(scene, 40_000);
  assert.ok((later[1] as number) >= 20_000);
});

test("after the last epoch of all, sequences go on", () => {
  const scene = joined();
  const last = Number.MAX_SAFE_INTEGER;
  const raised = scene.step(received("n", "me", [], { epoch: last, sequence: 3 }), 5_000);
  assert.equal(
    announced(raised).map(({ epoch, sequence }) => [epoch, sequence]),
    [[last, 4]],
  );
});

test("others get our head once it is signed, and our list with it", () => {
  const scene = newScene();
  const [announcement] = announced(scene.step({ kind: "started", labels, epoch: 100, whole: holdings(1) }, 0));
  const kinds = (frames: Iterable<{ message: { kind: string } }>) => Array.from(frames, ({ message }) => message.kind);
  assert.equal(kinds(scene.gossip.answerHeads(new Uint8Array(0), 0)), ["end"]);
  scene.step({ kind: "signed", signed: sign(announcement!) }, 1);
  scene.step(received("n", "a", holdings(1), {}, []), 2);
  scene.step(received("n", "b", holdings(1)), 2);
  const [heads] = [...scene.gossip.answerHeads(new Uint8Array(0), 10)];
  assert.ok(heads?.message.kind === "heads");
  assert.equal(
    heads.message.heads.map(({ remainingMs }) => remainingMs),
    [104_990, 99_992, 99_992],
  );
  const parts = scene.gossip.answerParts(["me", "a", "b", "nobody"], 10);
  assert.equal(kinds(parts), ["pairs", "part", "part", "end"], "b's list is not known here");
});

test.run();
