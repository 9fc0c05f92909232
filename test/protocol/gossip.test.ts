import { test } from "uvu";
import * as assert from "uvu/assert";
import { packHoldings } from "../../protocol/announcement.ts";
import { partsPerAskMax } from "../../protocol/limits.ts";
import { seededRandom } from "../../protocol/random.ts";
import { headOf, holdings, numbers, signedBy, variant } from "../support/announcements.ts";
import { announced, joined, received, sleep, started } from "../support/gossip-scene.ts";

test("the first two neighbours are asked for heads, others only while they are not known", () => {
  const scene = started();
  const first = scene.step({ kind: "joined", peer: "a" }, 0);
  assert.equal(first, [{ kind: "askHeads", peer: "a", known: new Uint8Array(0) }]);
  assert.is(scene.step({ kind: "joined", peer: "b" }, 1)[0]?.kind, "askHeads");
  for (const peer of ["c", "d"]) assert.equal(scene.step({ kind: "joined", peer }, 2), []);
  scene.step({ kind: "heads", from: "a", heads: [headOf(signedBy("c", []))] }, 3);
  const next = scene.step({ kind: "answered", from: "a" }, 4);
  assert.equal(
    next.map((action) => action.kind === "askHeads" && action.peer),
    ["d"],
  );
});

test("a joiner asks two neighbours for half of the lists each", () => {
  const scene = started();
  const heads = numbers(10).map((number) => headOf(signedBy(`p${number}`, holdings(number))));
  for (const peer of ["a", "b"]) scene.step({ kind: "joined", peer }, 0);
  scene.step({ kind: "heads", from: "a", heads }, 10);
  assert.equal(scene.step({ kind: "answered", from: "a" }, 11), [], "it waits for the other");
  scene.step({ kind: "heads", from: "b", heads }, 20);
  const asks = scene.step({ kind: "answered", from: "b" }, 21);
  const parts = asks.map((action) => (action.kind === "askParts" ? [action.peer, action.parts.length] : action));
  assert.equal(parts, [
    ["a", 5],
    ["b", 5],
  ]);
  for (const number of numbers(10)) {
    const head = heads[number]!;
    const peer = `p${number}`;
    const learnt = scene.step({ kind: "part", from: "a", head, whole: packHoldings(holdings(number)) }, 30);
    assert.equal(learnt, [{ kind: "learnt", peer, added: "many" }]);
  }
  for (const from of ["a", "b"]) assert.equal(scene.step({ kind: "answered", from }, 40), []);
  assert.is(scene.directory.holdingsOf("p7"), 1);
});

test("a slow neighbour is waited for half a second only, and no ask names more peers than it may", () => {
  const scene = started();
  for (const peer of ["a", "b"]) scene.step({ kind: "joined", peer }, 0);
  const heads = numbers(partsPerAskMax + 5).map((number) => headOf(signedBy(`p${number}`, holdings(1))));
  scene.step({ kind: "heads", from: "a", heads }, 10);
  scene.step({ kind: "answered", from: "a" }, 11);
  const [asks, atMs] = sleep(scene, 1_000);
  assert.equal(
    [atMs, asks.map((action) => action.kind === "askParts" && action.parts.length)],
    [500, [partsPerAskMax]],
  );
});

test("what gossip brings is learnt, and whoever waits for it hears of it", () => {
  const scene = joined();
  assert.equal(scene.step(received("n", "a", holdings(1), {}, []), 5_000), [
    { kind: "learnt", peer: "a", added: holdings(1) },
  ]);
  const changed = scene.step(received("n", "a", holdings(1, 2), { sequence: 1 }, holdings(1)), 5_001);
  assert.equal(changed, [{ kind: "learnt", peer: "a", added: holdings(2) }]);
  assert.equal(scene.step(received("n", "a", holdings(1, 2), { sequence: 2 }), 5_002), []);
  assert.equal(scene.step(received("n", "a", holdings(3), { sequence: 1 }, []), 5_003), []);
  assert.equal([...scene.directory.holders(variant(2)).keys()], ["a"]);
});

test("a gap is healed by asking whoever sent the announcement, not all at once", () => {
  const scene = joined();
  for (const number of numbers(199)) scene.step(received("n", `p${number}`, []), 1);
  assert.equal(scene.step(received("n", "a", holdings(1, 2)), 2_000), []);
  assert.equal(sleep(scene, 5_000), [[{ kind: "askParts", peer: "n", parts: ["a"] }], 3_000]);
  const head = headOf(signedBy("a", holdings(1, 2)));
  const part = { kind: "part", from: "n", head, whole: packHoldings(holdings(1, 2)) } as const;
  assert.equal(scene.step(part, 3_010), [{ kind: "learnt", peer: "a", added: "many" }]);
  assert.equal(scene.step(part, 3_011), [], "the same again is no news");
});

test("what an ask does not bring is asked of another, later and later, and at last not until it is heard of again", () => {
  const scene = joined("n");
  scene.step({ kind: "joined", peer: "m" }, 0);
  scene.step({ kind: "answered", from: "m" }, 0);
  scene.step(received("n", "a", holdings(1)), 10);
  const asked: [string, number][] = [];
  for (let tries = 0; tries < 20; tries++) {
    const [actions, atMs] = sleep(scene, 150_000);
    for (const action of actions) {
      if (action.kind === "askHeads") scene.step({ kind: "answered", from: action.peer }, atMs);
      if (action.kind !== "askParts") continue;
      asked.push([action.peer, atMs]);
      scene.step({ kind: asked.length % 2 === 0 ? "answered" : "failed", from: action.peer }, atMs);
    }
  }
  assert.is(asked.length, 8);
  assert.is(asked[0]?.[0], "n");
  assert.ok(asked.some(([peer]) => peer === "m"));
  const waits = asked.slice(1).map(([, atMs], index) => atMs - asked[index]![1]);
  assert.equal(waits, [1_000, 1_000, 1_000, 1_000, 2_000, 4_000, 8_000]);
});

test("an ask that nobody ends has failed after a minute", () => {
  const scene = started();
  scene.step({ kind: "joined", peer: "n" }, 0);
  scene.step(received("n", "a", holdings(1)), 600);
  const kinds: string[] = [];
  while (scene.wakeAtMs() <= 62_000) {
    for (const action of scene.step({ kind: "woke" }, scene.wakeAtMs())) kinds.push(action.kind);
  }
  assert.ok(kinds.includes("askParts") || kinds.includes("askHeads"), String(kinds));
});

test("who gives a list that is nobody's is not asked for lists again, and is not believed", () => {
  const scene = joined("liar");
  scene.step(received("liar", "a", holdings(1)), 10);
  const [asks, atMs] = sleep(scene, 1_000);
  assert.is(asks[0]?.kind, "askParts");
  const head = headOf(signedBy("a", holdings(1)));
  const lie = { kind: "part", from: "liar", head, whole: packHoldings(holdings(6, 7)) } as const;
  assert.equal(scene.step(lie, atMs + 1), [{ kind: "lied", peer: "liar" }]);
  assert.is(scene.directory.holdingsOf("a"), 0);
  scene.step({ kind: "answered", from: "liar" }, atMs + 2);
  scene.step({ kind: "joined", peer: "n" }, atMs + 3);
  scene.step({ kind: "answered", from: "n" }, atMs + 4);
  const [next] = sleep(scene, 5_000);
  assert.equal(next, [{ kind: "askParts", peer: "n", parts: ["a"] }]);
});

test("a list of an older head is no lie, but not what was asked for", () => {
  const scene = joined();
  scene.step(received("n", "a", holdings(1, 2), { sequence: 5 }), 10);
  const head = headOf(signedBy("a", holdings(1), { sequence: 4 }));
  const asks = scene.step({ kind: "part", from: "n", head, whole: packHoldings(holdings(1)) }, 20);
  assert.not(scene.directory.isCurrent("a"));
  assert.equal(asks, [{ kind: "askParts", peer: "n", parts: ["a"] }]);
});

test("a peer that is silent for too long is forgotten; a neighbour is asked first", () => {
  const scene = joined();
  scene.step(received("n", "far", holdings(1), { lifetimeMs: 20_000 }, []), 1_000);
  scene.step(received("n", "n", holdings(2), { lifetimeMs: 20_000 }, []), 1_000);
  const seen: string[] = [];
  while (scene.wakeAtMs() <= 40_000) {
    const atMs = scene.wakeAtMs();
    for (const action of scene.step({ kind: "woke" }, atMs)) {
      if (action.kind === "forgot") seen.push(`forgot ${action.peer} ${atMs}`);
      if (action.kind === "askHeads" && atMs >= 21_000) seen.push(`asked ${action.peer} ${atMs}`);
    }
    if (atMs < 21_000) scene.step({ kind: "answered", from: "n" }, atMs);
  }
  assert.equal(seen, ["forgot far 21000", "asked n 21000", "forgot n 31000"]);
  assert.is(scene.directory.size, 0);
});

test("a neighbour that answers in time is kept", () => {
  const scene = joined();
  scene.step(received("n", "n", holdings(2), { lifetimeMs: 20_000 }, []), 1_000);
  scene.step({ kind: "woke" }, 21_000);
  const heads = [headOf(signedBy("n", holdings(2), { sequence: 3 }))];
  scene.step({ kind: "heads", from: "n", heads }, 21_010);
  scene.step({ kind: "answered", from: "n" }, 21_010);
  scene.step({ kind: "woke" }, 31_000);
  assert.equal([...scene.directory.holders(variant(2)).keys()], ["n"]);
});

test("a goodbye counts at once, and what came before it not any more", () => {
  const scene = joined();
  scene.step(received("n", "a", holdings(1), {}, []), 5_000);
  assert.equal(scene.step(received("n", "a", holdings(1), { sequence: 9, lifetimeMs: 0 }), 5_001), [
    { kind: "forgot", peer: "a" },
  ]);
  assert.equal(scene.step(received("n", "a", holdings(1), { sequence: 8 }, []), 5_002), []);
  assert.equal(scene.step(received("n", "stranger", [], { lifetimeMs: 0 }), 5_003), [], "nobody knew it");
  const goodbye = scene.step({ kind: "stopping" }, 5_004);
  assert.equal(announced(goodbye)[0]?.lifetimeMs, 0);
  assert.is(goodbye.length, 1);
});

test("of another network nothing is learnt", () => {
  const scene = joined();
  const other = { network: "other" };
  assert.equal(scene.step(received("n", "a", holdings(1), other, []), 5_000), []);
  const head = headOf(signedBy("b", holdings(1), other));
  scene.step({ kind: "heads", from: "n", heads: [head] }, 5_001);
  scene.step({ kind: "part", from: "n", head, whole: packHoldings(holdings(1)) }, 5_002);
  assert.is(scene.directory.size, 0);
});

test("now and then heads are compared with a neighbour, and soon again when that brought old news", () => {
  const scene = joined();
  const [first, firstMs] = sleep(scene, 20_000);
  assert.equal([first[0]?.kind, firstMs], ["askHeads", 8_700]);
  scene.step({ kind: "heads", from: "n", heads: [headOf(signedBy("a", []), 60_000)] }, 8_701);
  scene.step({ kind: "answered", from: "n" }, 8_702);
  assert.equal(sleep(scene, 20_000)[1], 10_702);
  scene.step({ kind: "heads", from: "n", heads: [headOf(signedBy("b", []), 99_000)] }, 10_703);
  scene.step({ kind: "answered", from: "n" }, 10_704);
  assert.equal(sleep(scene, 40_000)[1], 20_702);
});

test("a million variants, or false ones without end, push nobody out", () => {
  const scene = started([], seededRandom(1));
  scene.step({ kind: "joined", peer: "n" }, 0);
  scene.step(received("n", "honest", holdings(1), {}, []), 1);
  for (const sequence of numbers(300)) {
    const whole = holdings(...numbers(sequence === 0 ? 1 : 200, sequence * 200));
    scene.step(received("n", "flood", whole, { sequence }, []), 2 + sequence);
  }
  assert.equal([...scene.directory.holders(variant(1)).keys()], ["honest"]);
  assert.is(scene.directory.holdingsOf("flood"), 200);
});

test.run();

test.run();
