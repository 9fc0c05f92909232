import { test } from "uvu";
import * as assert from "uvu/assert";
import { type PayloadId, parsePayloadId, parseVariantHash, type VariantHash } from "../../protocol/hash.ts";
import { holdingsPerPeerMax } from "../../protocol/limits.ts";
import type { DirectoryMessage } from "../../protocol/messages.ts";
import { announcementParts, Directory } from "../../protocol/old-directory.ts";

const variant = (number: number): VariantHash => parseVariantHash(number.toString(16).padStart(64, "0"));
const payload = (number: number): PayloadId => parsePayloadId(number.toString(16).padStart(64, "a"));
const pairs = (...numbers: number[]) => numbers.map((number) => [variant(number), payload(number)] as const);

/** Takes in a whole announcement. */
function announce(directory: Directory, peer: string, epoch: number, sequence: number, ...numbers: number[]): boolean {
  return announcementParts(epoch, sequence, pairs(...numbers), 1000).every((part) => directory.learn(peer, part));
}

const holders = (directory: Directory, number: number) => [...directory.holders(variant(number)).keys()].sort();

test("what peers announce is known by variant, with the payload that each says it is", () => {
  const directory = new Directory();
  assert.ok(announce(directory, "a", 1, 1, 1, 2));
  assert.ok(announce(directory, "b", 1, 1, 2));
  assert.equal([holders(directory, 1), holders(directory, 2), holders(directory, 3)], [["a"], ["a", "b"], []]);
  assert.is(directory.holders(variant(1)).get("a"), payload(1));
  assert.equal([directory.holdingsOf("a"), directory.holdingsOf("b"), directory.holdingsOf("c")], [2, 1, 0]);
});

test("a later announcement replaces an earlier one; a stale or repeated one changes nothing", () => {
  const directory = new Directory();
  announce(directory, "a", 5, 7, 1);
  for (const [epoch, sequence] of [
    [5, 7],
    [5, 6],
    [4, 99],
  ] as const) {
    assert.not(announce(directory, "a", epoch, sequence, 2));
    assert.equal([holders(directory, 1), holders(directory, 2)], [["a"], []]);
  }
  assert.ok(announce(directory, "a", 5, 8, 2));
  assert.equal([holders(directory, 1), holders(directory, 2)], [[], ["a"]]);
  assert.ok(announce(directory, "a", 6, 0, 3));
  assert.equal([holders(directory, 2), holders(directory, 3)], [[], ["a"]]);
});

test("an announcement in parts counts once its last part is in, and only in order", () => {
  const directory = new Directory();
  announce(directory, "a", 1, 1, 9);
  const parts = announcementParts(1, 2, pairs(1, 2, 3), 1);
  assert.is(parts.length, 3);
  assert.not(directory.learn("a", parts[1]!));
  assert.ok(directory.learn("a", parts[0]!));
  assert.not(directory.learn("a", parts[2]!));
  assert.ok(directory.learn("a", parts[1]!));
  assert.equal([holders(directory, 9), holders(directory, 1)], [["a"], []]);
  assert.not(directory.learn("a", { ...parts[2]!, parts: 4 }));
  assert.not(directory.learn("a", { ...parts[2]!, sequence: 3 }));
  assert.not(directory.learn("a", { ...parts[2]!, epoch: 2 }));
  assert.ok(directory.learn("a", parts[2]!));
  assert.equal([holders(directory, 9), holders(directory, 1), holders(directory, 3)], [[], ["a"], ["a"]]);
});

test("an announcement that begins anew forgets the parts of the one before", () => {
  const directory = new Directory();
  directory.learn("a", announcementParts(1, 1, pairs(1, 2), 1)[0]!);
  const again = announcementParts(1, 2, pairs(3, 4), 1);
  assert.ok(again.every((part) => directory.learn("a", part)));
  assert.equal([holders(directory, 1), holders(directory, 3), holders(directory, 4)], [[], ["a"], ["a"]]);
});

test("more holdings than a peer may have are not remembered, and what was known stays", () => {
  const directory = new Directory();
  announce(directory, "a", 1, 1, 1);
  const many = pairs(...Array.from({ length: holdingsPerPeerMax + 1 }, (_, number) => number + 10));
  const parts = announcementParts(1, 2, many, 1000);
  assert.not(directory.learn("a", { ...parts.at(-1)!, part: 0, parts: 1, whole: many }));
  assert.equal(
    parts.map((part) => directory.learn("a", part)),
    parts.map((_, i) => i < parts.length - 1),
  );
  assert.equal([directory.holdingsOf("a"), holders(directory, 1)], [1, ["a"]]);
});

test("of a peer that has gone nothing counts any more, and it may begin again", () => {
  const directory = new Directory();
  announce(directory, "a", 9, 9, 1, 2);
  announce(directory, "b", 1, 1, 2);
  directory.forget("a");
  directory.forget("never met");
  assert.equal([holders(directory, 1), holders(directory, 2), directory.holdingsOf("a")], [[], ["b"], 0]);
  assert.ok(announce(directory, "a", 1, 0, 1));
});

test("the variants of a payload are found", () => {
  const directory = new Directory();
  directory.learn("a", {
    ...{ kind: "announce", version: 1, epoch: 1, sequence: 1, part: 0, parts: 1 },
    whole: [
      [variant(1), payload(7)],
      [variant(2), payload(7)],
      [variant(3), payload(8)],
    ],
  } satisfies DirectoryMessage);
  assert.equal(directory.variantsOf(payload(7)), [variant(1), variant(2)]);
  assert.equal(directory.variantsOf(payload(9)), []);
});

test("who holds nothing says so in one part", () => {
  assert.equal(announcementParts(3, 4, [], 10), [
    { kind: "announce", version: 1, epoch: 3, sequence: 4, part: 0, parts: 1, whole: [] },
  ]);
  const directory = new Directory();
  announce(directory, "a", 1, 1, 1);
  assert.ok(announce(directory, "a", 1, 2));
  assert.equal([directory.holdingsOf("a"), holders(directory, 1)], [0, []]);
});

test.run();
