import { test } from "uvu";
import * as assert from "uvu/assert";
import { decodeSegment, type SegmentPart } from "../../protocol/segments.ts";
import { compareTrees } from "../../protocol/tree-difference.ts";
import { build, directory, file, link, type Planned } from "../support/manifests.ts";

function partsOf(entries: readonly Planned[]): SegmentPart[] {
  return build(entries).segments.flatMap((segment) => decodeSegment(segment));
}

const large = (path: string, sizeBytes: number): Planned => ({ kind: "large", path, sizeBytes });

async function changes(before: readonly Planned[], after: readonly Planned[], max = 100): Promise<string[]> {
  const difference = await compareTrees(partsOf(before), partsOf(after), max);
  assert.is(difference.changes.length, Math.min(max, difference.added + difference.removed + difference.changed));
  return difference.changes.map(({ kind, path }) => `${kind} ${path}`);
}

test("equal trees do not differ", async () => {
  const tree = [directory("a"), large("a/b", 3_000_000), link("a/c", "b"), file("d", 0)];
  assert.equal(await changes(tree, tree), []);
});

test("what came, what went and what changed is named in the order of the paths", async () => {
  const before = [directory("bin"), file("bin/a", 10), large("bin/b", 2_000_000), link("l", "bin"), file("z", 1)];
  const after = [directory("bin"), large("bin/b", 2_000_001), file("c", 5), link("l", "c"), file("z", 1)];
  assert.equal(await changes(before, after), ["removed bin/a", "changed bin/b", "added c", "changed l"]);
});

test("an entry of another kind has changed", async () => {
  for (const [a, b] of [
    [directory("x"), file("x", 1)],
    [file("x", 1), link("x", "y")],
    [link("x", "y"), directory("x")],
  ] as const) {
    assert.equal(await changes([a], [b]), ["changed x"]);
    assert.equal(await changes([b], [a]), ["changed x"]);
  }
  const [one] = partsOf([file("x", 1)]).filter(({ kind }) => kind === "small");
  for (const other of [
    { ...one!, executable: true },
    { ...one!, mtimeSeconds: 1 },
    { ...one!, digest: new Uint8Array(32) },
  ] as SegmentPart[]) {
    assert.is((await compareTrees([one!], [other], 1)).changed, 1);
  }
});

test("only so many are listed, and all are counted", async () => {
  const after = Array.from({ length: 50 }, (_, i) => file(`f${i + 10}`, 1));
  const { added, changes: listed } = await compareTrees([], partsOf(after), 20);
  assert.equal([added, listed.length, listed[19]!.path], [50, 20, "f29"]);
});

test.run();
