import { test } from "uvu";
import * as assert from "uvu/assert";
import { type EvictionInput, type HeldFacts, planEviction } from "../../protocol/eviction.ts";
import { reasonText } from "../../protocol/eviction-text.ts";
import { goneOf, heldNumber, inputFor, naming, nowMs, roomFor } from "../support/eviction-cases.ts";

const days = (count: number) => nowMs - count * 86_400_000;

test("what fits stays, each for its reason", () => {
  const held = [
    heldNumber(1, { naming: naming("fx", 3) }),
    heldNumber(2, { lastUsedMs: days(41), replicas: 12 }),
    heldNumber(3, { hold: { kind: "pinned" } }),
    heldNumber(4, { hold: { kind: "leased", by: "pid 4711 (nuke)" } }),
    heldNumber(5, { lastUsedMs: nowMs - 3 * 3_600_000 }),
    heldNumber(6, { naming: naming("old", 2, { isExpired: true }), replicas: 1 }),
    heldNumber(7, { hold: { kind: "busy" } }),
    heldNumber(8, { lastUsedMs: nowMs - 40 * 60_000, naming: naming("fx", 9) }),
  ];
  assert.equal(reasons(inputFor(held, { maxBytes: 10_000 })), [
    [1, "kept: toolset fx, version 42, rank 3, signed by pipeline"],
    [2, "kept: no room is needed, last used 41 days ago, 12 replicas"],
    [3, "kept: pinned on this machine"],
    [4, "kept: leased by pid 4711 (nuke)"],
    [5, "kept: last used 3 hours ago, which is within min_idle"],
    [
      6,
      "kept: toolset old, version 42 (expired), rank 2, signed by pipeline; no room is needed, last used 30 days ago, 1 replica",
    ],
    [7, "kept: being fetched just now"],
    [8, "kept: last used 40 minutes ago, which is within min_idle; toolset fx, version 42, rank 9, signed by pipeline"],
  ]);
});

test("past the high watermark what no list names goes down to the low one, the longest unused first", () => {
  const held = [2, 60, 10, 30, 5, 20, 4, 40, 3, 50].map((age, i) => heldNumber(i, { lastUsedMs: days(age) }));
  // 1,000 of 1,000 bytes are used; 900 are the low watermark.
  const plan = planEviction(inputFor(held, { maxBytes: 1000 }));
  assert.equal(goneOf(plan), [1]);
  assert.is(plan.freedBytes, 100);
  assert.is(plan.missing, undefined);
  assert.is(reasonText(plan.lines[0]!, nowMs), "goes: last used 60 days ago, 0 replicas");
  assert.equal(goneOf(planEviction(inputFor(held, { maxBytes: 1100 }))), [], "below the high one nothing does");
  assert.equal(
    goneOf(planEviction(inputFor(held, { maxBytes: 1100, toLow: true }))),
    [1],
    "but when an admin asks for it",
  );
});

test("what five peers hold goes before what nobody else holds", () => {
  const held = [heldNumber(0, { lastUsedMs: days(80) }), heldNumber(1, { lastUsedMs: days(2), replicas: 5 })];
  assert.equal(goneOf(planEviction(inputFor(held, { maxBytes: 199 }))), [1]);
});

test("of what is about as long unused, that with more copies goes first", () => {
  const held = [
    heldNumber(0, { lastUsedMs: days(15), replicas: 1 }),
    heldNumber(1, { lastUsedMs: days(9), replicas: 12 }),
    heldNumber(2, { lastUsedMs: days(33), replicas: 1 }),
  ];
  assert.equal(goneOf(planEviction(inputFor(held, { maxBytes: 120 }))), [2, 1]);
});

test("what was not used for longer than max_age goes, unless a list names it or has named it", () => {
  const aged = { lastUsedMs: days(41), replicas: 12 };
  const held = [
    heldNumber(0, aged),
    heldNumber(1, { ...aged, lastUsedMs: days(29) }),
    heldNumber(2, { ...aged, naming: naming("fx", 1) }),
    heldNumber(3, { ...aged, naming: naming("old", 1, { isExpired: true }) }),
    heldNumber(4, { ...aged, hold: { kind: "pinned" } }),
  ];
  const plan = planEviction(inputFor(held, { maxBytes: 10_000, maxAgeMs: 30 * 86_400_000 }));
  assert.equal(goneOf(plan), [0]);
  assert.is(reasonText(plan.lines[0]!, nowMs), "goes: last used 41 days ago, 12 replicas, longer than max_age");
});

test("what has expired by age makes the room, where it does, and nothing else goes", () => {
  const held = [heldNumber(0, { lastUsedMs: days(20), replicas: 3 }), heldNumber(1, { lastUsedMs: days(50) })];
  assert.equal(goneOf(planEviction(inputFor(held, { maxBytes: 150, maxAgeMs: 30 * 86_400_000 }))), [1]);
});

test("what lists name stays at a watermark, and goes in reverse order of importance at a hard limit", () => {
  const held = [1, 2, 3, 4].map((rank) => heldNumber(rank, { naming: naming("fx", rank), replicas: 2 }));
  assert.equal(goneOf(planEviction(inputFor(held, { maxBytes: 401 }))), []);
  const plan = planEviction(inputFor(held, { maxBytes: 399 }));
  assert.equal(goneOf(plan), [4]);
  assert.is(
    reasonText(plan.lines[0]!, nowMs),
    "goes: toolset fx, version 42, rank 4, signed by pipeline, but room is needed",
  );
  assert.equal(goneOf(planEviction(inputFor(held, { maxBytes: 201 }))), [4, 3]);
});

test("a hard limit takes what no list names before anything that one names", () => {
  const held = [heldNumber(0, { lastUsedMs: days(2) }), heldNumber(1, { naming: naming("fx", 1000), replicas: 9 })];
  assert.equal(goneOf(planEviction(inputFor(held, { maxBytes: 150 }))), [0]);
});

test("the last copy on the network of what a list names goes last of all", () => {
  const held = [heldNumber(1, { naming: naming("fx", 1), replicas: 1 }), heldNumber(2, { naming: naming("fx", 99) })];
  assert.equal(goneOf(planEviction(inputFor(held, { maxBytes: 150 }))), [1]);
  assert.equal(goneOf(planEviction(inputFor(held, { maxBytes: 50 }))), [1, 2]);
});

test("lists keep pinned_bytes_max at most: what is less important goes like the rest", () => {
  const held = [1, 2, 3, 4].map((rank) => heldNumber(rank, { naming: naming("fx", rank), replicas: 1 }));
  // The watermark wants 40 of 400 bytes, and 250 are for lists: 3 and 4 are beyond.
  const plan = planEviction(inputFor(held, { maxBytes: 400, pinnedBytesMax: 250 }));
  assert.equal(goneOf(plan), [4]);
  assert.match(
    reasonText(plan.lines[0]!, nowMs),
    /^goes: toolset fx, .*, but beyond pinned_bytes_max; last used 30 days ago/,
  );
  const pinned = [...held, heldNumber(5, { hold: { kind: "pinned" } })];
  const kept = planEviction(inputFor(pinned, { maxBytes: 10_000, pinnedBytesMax: 250 })).lines;
  const beyond = kept.filter(({ reason }) => reason.kind === "beyondPinned").map(({ held: each }) => each.files);
  assert.equal(beyond.sort(), [2, 3, 4], "what is pinned here counts first");
});

test("for room enough goes, in order, and no more", () => {
  const held = [10, 40, 20, 30].map((age, i) => heldNumber(i, { lastUsedMs: days(age) }));
  const plan = planEviction(roomFor(held, { bytes: 150, maxBytes: 400 }));
  assert.equal(goneOf(plan), [1, 3]);
  assert.is(plan.freedBytes, 200);
  assert.equal(goneOf(planEviction(roomFor(held, { bytes: 150, maxBytes: 550 }))), [], "where there is room, nothing");
});

test("where not enough may go for room, nothing goes, and what is missing is said", () => {
  const held = [heldNumber(0), heldNumber(1, { hold: { kind: "leased", by: "a test" } })];
  const plan = planEviction(roomFor(held, { bytes: 150, maxBytes: 200 }));
  assert.equal(goneOf(plan), []);
  assert.is(plan.freedBytes, 0);
  assert.equal(plan.missing, { bytes: 50, diskBytes: 0, inodes: 0, variants: 0 });
});

test("what no list names never takes the place of what one names", () => {
  const held = [heldNumber(1, { naming: naming("fx", 900), replicas: 50, lastUsedMs: days(400) })];
  assert.is(planEviction(roomFor(held, { bytes: 100, maxBytes: 150 })).missing?.bytes, 50);
});

test("what a list names takes the place of less important things only", () => {
  const held = [5, 10, 20].map((rank) => heldNumber(rank, { naming: naming("fx", rank), replicas: 1 }));
  const room = (rank: number) =>
    planEviction(roomFor(held, { bytes: 100, maxBytes: 300, naming: naming("anim", rank) }));
  assert.equal(goneOf(room(7)), [20]);
  assert.is(room(20).missing, undefined, "of the same rank the first by name is more important");
  assert.is(room(21).missing?.bytes, 100);
});

test("what is beyond pinned_bytes_max when it comes counts as if no list named it", () => {
  const held = [5, 10, 20].map((rank) => heldNumber(rank, { naming: naming("fx", rank), replicas: 1 }));
  const limits = { bytes: 100, maxBytes: 300, pinnedBytesMax: 300 };
  assert.equal(goneOf(planEviction(roomFor(held, { ...limits, naming: naming("anim", 7) }))), [20]);
  assert.is(
    planEviction(roomFor(held, { ...limits, pinnedBytesMax: 150, naming: naming("anim", 7) })).missing,
    undefined,
  );
  const alone = [heldNumber(5, { naming: naming("fx", 5), replicas: 1 }), heldNumber(20, { naming: naming("fx", 20) })];
  const tight = { bytes: 100, maxBytes: 200, pinnedBytesMax: 199, naming: naming("anim", 7) };
  assert.is(planEviction(roomFor(alone, tight)).missing?.bytes, 100, "the last copy is safe from it");
});

test("a disk that somebody else has filled is freed, too", () => {
  const held = [heldNumber(0, { lastUsedMs: days(9) }), heldNumber(1, { lastUsedMs: days(80) })];
  // The disk's watermarks are 125 and 150 of 100 bytes.
  assert.equal(goneOf(planEviction(inputFor(held, { freeBytes: 130, freeBytesMin: 100 }))), []);
  assert.equal(goneOf(planEviction(inputFor(held, { freeBytes: 120, freeBytesMin: 100 }))), [1]);
  assert.equal(goneOf(planEviction(inputFor(held, { freeBytes: 0, freeBytesMin: 100 }))), [1, 0]);
});

test("inodes and the number of variants have limits of their own", () => {
  const held = [heldNumber(7, { lastUsedMs: days(80) }), heldNumber(8, { lastUsedMs: days(90) })];
  assert.equal(goneOf(planEviction(inputFor(held, { freeInodes: 999 }))), [8]);
  assert.equal(goneOf(planEviction(inputFor(held, { maxVariants: 1 }))), [8]);
  assert.equal(goneOf(planEviction(roomFor(held, { bytes: 1, maxVariants: 2 }))), [8]);
  assert.equal(goneOf(planEviction(roomFor(held, { bytes: 1, maxVariants: 2, variants: 0 }))), []);
});

test("what would bring nothing of what is missing stays", () => {
  const empty: HeldFacts = { ...heldNumber(0, { lastUsedMs: days(99) }), bytes: 0 };
  assert.equal(goneOf(planEviction(inputFor([empty, heldNumber(1)], { maxBytes: 50 }))), [1]);
});

test("a use in a future that a wrong clock made counts as just now, and nobody's use as the oldest", () => {
  const held = [heldNumber(0, { lastUsedMs: nowMs + 9e9 }), heldNumber(1, { lastUsedMs: undefined }), heldNumber(2)];
  const plan = planEviction(inputFor(held, { maxBytes: 250 }));
  assert.equal(goneOf(plan), [1]);
  assert.is(reasonText(plan.lines[0]!, nowMs), "goes: last use unknown, 0 replicas");
});

function reasons(input: EvictionInput): [number, string][] {
  const lines = planEviction(input).lines.map((line) => [line.held.files, reasonText(line, nowMs)] as [number, string]);
  return lines.sort(([a], [b]) => a - b);
}

test.run();
