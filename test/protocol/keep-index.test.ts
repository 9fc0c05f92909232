import { test } from "uvu";
import * as assert from "uvu/assert";
import { KeepIndex, namingText } from "../../protocol/keep-index.ts";
import type { Variant } from "../../protocol/variant.ts";
import { signedList } from "../support/keep-lists.ts";

const nowMs = Date.parse("2026-11-21T08:00:00Z");
const place = { site: "london", rack: "a1", host: "ws-17" };

test("one index is one variant, a range is every variant of its versions", () => {
  const index = indexOf(
    signedList("fx", 1, ["studio:maya-2026.1[0]", "studio:maya-2026", "studio:nuke", "studio:bare[1]"]),
  );
  assert.is(rankOf(index, maya("2026.1", 0)), 1);
  assert.is(rankOf(index, maya("2026.1", 1)), 2);
  assert.is(rankOf(index, maya("2026.1.3")), 2);
  assert.is(rankOf(index, maya("2027", 0)), undefined);
  assert.is(rankOf(index, { ...maya("2026.1", 0), repository: "other" }), undefined);
  assert.is(rankOf(index, { kind: "rez", repository: "studio", name: "nuke" }), 3);
  assert.is(rankOf(index, { kind: "rez", repository: "studio", name: "bare", index: 1 }), 4);
  assert.is(rankOf(index, { kind: "rez", repository: "studio", name: "bare", version: "1", index: 1 }), undefined);
});

test("of several toolsets the one counts that ranks a variant best, and by name where two agree", () => {
  const lists = [
    signedList("fx", 42, ["studio:nuke", "studio:houdini", "studio:maya-2026"]),
    signedList("anim", 7, ["studio:maya-2026.1[0]", "studio:nuke"]),
    signedList("comp", 3, ["studio:nuke"]),
  ];
  for (const order of [lists, [...lists].reverse()]) {
    const index = indexOf(...order);
    assert.is(namingText(index.best(maya("2026.1", 0))!), "toolset anim, version 7, rank 1, signed by pipeline");
    assert.is(namingText(index.best(maya("2026.2", 0))!), "toolset fx, version 42, rank 3, signed by pipeline");
    assert.is(index.best({ ...maya("14"), name: "nuke" })!.toolset, "comp");
  }
});

test("the same line twice counts where it stands first", () => {
  const index = indexOf(signedList("fx", 1, ["studio:nuke", "studio:maya", "studio:nuke", "studio:maya"]));
  assert.is(rankOf(index, { ...maya("14"), name: "nuke" }), 1);
  assert.is(rankOf(index, maya("2026")), 2);
});

test("a list that has expired counts after all that are in force, and says so", () => {
  const old = signedList("old", 9, ["studio:maya", "studio:nuke"], { expires: "2026-11-21T08:00:00Z" });
  const index = indexOf(old, signedList("fx", 1, ["studio:a", "studio:b", "studio:maya"]));
  assert.equal([index.best(maya("1"))!.toolset, index.best(maya("1"))!.isExpired], ["fx", false]);
  const nuke = index.best({ ...maya("1"), name: "nuke" })!;
  assert.ok(nuke.isExpired);
  assert.is(namingText(nuke), "toolset old, version 9 (expired), rank 2, signed by pipeline");
});

test("lists for other machines count for nothing", () => {
  const index = indexOf(
    signedList("paris", 1, [{ package: "studio:maya", prefetch: true }], { scope: { site: "paris" } }),
    signedList("hosts", 1, ["studio:nuke"], { scope: { host: "ws-*" } }),
  );
  assert.is(index.best(maya("1")), undefined);
  assert.equal(index.prefetches, []);
  assert.is(rankOf(index, { ...maya("1"), name: "nuke" }), 1);
});

test("a version that is none to Rez is in no range", () => {
  const index = indexOf(signedList("fx", 1, ["studio:maya-2026", "studio:maya"]));
  assert.is(rankOf(index, maya("ü..2")), undefined);
});

test("what is to be fetched beforehand comes in order of importance, of lists in force only", () => {
  const fetched = (name: string) => ({ package: `studio:${name}`, prefetch: true });
  const index = indexOf(
    signedList("fx", 1, ["studio:a", fetched("b"), fetched("c")]),
    signedList("anim", 1, [fetched("d"), fetched("e")]),
    signedList("old", 1, [fetched("f")], { expires: "2026-01-01T00:00:00Z" }),
  );
  assert.equal(
    index.prefetches.map(({ naming }) => naming.package),
    ["studio:d", "studio:e", "studio:b", "studio:c"],
  );
});

function indexOf(...lists: ReturnType<typeof signedList>[]): KeepIndex {
  return new KeepIndex(lists, place, nowMs);
}

function rankOf(index: KeepIndex, variant: Variant): number | undefined {
  return index.best(variant)?.rank;
}

function maya(version: string, index?: number): Variant {
  return { kind: "rez", repository: "studio", name: "maya", version, ...(index === undefined ? {} : { index }) };
}

test.run();
