import { test } from "uvu";
import * as assert from "uvu/assert";
import { Standing, type Strike } from "../../protocol/standing.ts";

const tenMinutesMs = 600_000;

test("a stranger is good, and nothing is known of it", () => {
  const standing = new Standing();
  assert.is(standing.level("a", 0), "good");
  assert.equal(standing.summary("a"), { strikes: 0, bytesFrom: 0, bytesTo: 0 });
  assert.equal([...standing.peers()], []);
});

test("three corrupt items quarantine a peer for ten minutes, and three more do so again", () => {
  const standing = new Standing();
  assert.equal([1, 2, 3].map((ms) => standing.strike("a", "corrupt", ms)).join(), "good,good,quarantined");
  assert.is(standing.level("a", 3 + tenMinutesMs - 1), "quarantined");
  assert.is(standing.level("a", 3 + tenMinutesMs), "good");
  const again = 4 + tenMinutesMs;
  assert.equal([0, 1, 2].map((ms) => standing.strike("a", "corrupt", again + ms)).join(), "good,good,quarantined");
});

test("broken protocol and corrupt items count together, and each strike is told of", () => {
  const told: Strike[] = [];
  const standing = new Standing((strike) => told.push(strike));
  standing.strike("a", "corrupt", 0);
  standing.strike("a", "broken", 1, "it sends nonsense");
  assert.is(standing.strike("a", "broken", 2, "it sends nonsense"), "quarantined");
  assert.is(standing.summary("a").strikes, 3);
  assert.equal(told[0], { peer: "a", fault: "corrupt", reason: undefined, level: "good" });
  assert.equal(told[2], { peer: "a", fault: "broken", reason: "it sends nonsense", level: "quarantined" });
});

test("right items do not make up for corrupt ones", () => {
  const standing = new Standing();
  standing.strike("a", "corrupt", 0);
  standing.strike("a", "corrupt", 0);
  standing.served("a", 1000, 0);
  assert.is(standing.strike("a", "corrupt", 0), "quarantined");
});

test("three claims that it cannot keep make a peer count as empty for half a minute, and twice as long each time", () => {
  const standing = new Standing();
  let nowMs = 0;
  for (const emptyMs of [30_000, 60_000, 120_000, 240_000, 480_000, tenMinutesMs, tenMinutesMs]) {
    const levels = [-10_000, -5_000, 0].map((ms) => standing.strike("a", "claim", nowMs + ms));
    assert.equal(levels.join(), "good,good,empty");
    assert.is(standing.level("a", nowMs + emptyMs - 1), "empty");
    assert.is(standing.level("a", nowMs + emptyMs), "good");
    nowMs += emptyMs + 20_000;
  }
  standing.served("a", 1, 0);
  for (const ms of [-10_000, -5_000, 0]) standing.strike("a", "claim", nowMs + ms);
  assert.is(standing.level("a", nowMs + 30_000), "good");
});

test("a right item makes what a peer claims count again", () => {
  const standing = new Standing();
  for (const ms of [0, 5_000, 10_000]) standing.strike("a", "claim", ms);
  assert.is(standing.level("a", 10_000), "empty");
  standing.served("a", 10, 0);
  assert.is(standing.level("a", 10_001), "good");
  standing.strike("a", "claim", 20_000);
  assert.is(standing.strike("a", "claim", 30_000), "good");
});

test("one pause is one strike, however much was asked before it and in how many ways it fails", () => {
  const told: Strike[] = [];
  const standing = new Standing((strike) => told.push(strike));
  for (const fault of ["silent", "claim", "silent", "claim"] as const) standing.strike("a", fault, 1_000);
  standing.strike("a", "silent", 5_999);
  assert.equal([standing.summary("a").strikes, told.length, standing.level("a", 5_999)], [1, 1, "good"]);
  assert.is(standing.strike("b", "silent", 1_000), "good");
  assert.equal([6_000, 11_000].map((ms) => standing.strike("a", "silent", ms)).join(), "good,empty");
});

test("what is corrupt or broken counts each time, also during a pause", () => {
  const standing = new Standing();
  standing.strike("a", "silent", 0);
  assert.equal([1, 2, 3].map((ms) => standing.strike("a", "corrupt", ms)).join(), "good,good,quarantined");
});

test("who answers is not silent any more, but what it claimed in vain is not made good by that", () => {
  const standing = new Standing();
  for (const ms of [0, 5_000]) standing.strike("a", "silent", ms);
  for (const ms of [0, 5_000]) standing.strike("b", "claim", ms);
  for (const peer of ["a", "b", "nobody"]) standing.answered(peer);
  assert.is(standing.strike("a", "silent", 10_000), "good");
  assert.is(standing.strike("b", "claim", 10_000), "empty");
  assert.equal([...standing.peers()], ["a", "b"]);
});

test("both kinds of strikes are shown, but only their own kind counts against the three", () => {
  const standing = new Standing();
  for (const [turn, fault] of (["claim", "corrupt", "claim", "corrupt"] as const).entries()) {
    assert.is(standing.strike("a", fault, turn * 5_000), "good");
  }
  assert.is(standing.summary("a").strikes, 4);
});

test("bytes are counted in both directions, and one peer's faults are not another's", () => {
  const standing = new Standing();
  standing.served("a", 10, 0);
  standing.served("a", 5, 0);
  standing.gave("a", 7);
  for (let i = 0; i < 3; i++) standing.strike("b", "corrupt", 0);
  assert.equal(standing.summary("a"), { strikes: 0, bytesFrom: 15, bytesTo: 7 });
  assert.is(standing.level("a", 0), "good");
  assert.equal([...standing.peers()], ["a", "b"]);
});

test("strangers who come and go do not fill the memory: who was met longest ago is forgotten first", () => {
  const standing = new Standing();
  for (let i = 0; i < 10_000; i++) standing.gave(`p${i}`, 1);
  standing.gave("p0", 1);
  standing.gave("one more", 1);
  const known = new Set(standing.peers());
  assert.is(known.size, 10_000);
  assert.equal([known.has("p0"), known.has("p1")], [true, false]);
});

test.run();
