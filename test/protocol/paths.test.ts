import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  compareUtf8,
  foldedPath,
  linkLeavesTree,
  parentPath,
  parseLinkTarget,
  parseTreePath,
  shown,
  utf8Bytes,
} from "../../protocol/paths.ts";
import { refuses } from "../support/manifests.ts";

const unit = fc.constantFrom(
  "a",
  "b",
  "/",
  "\u007f",
  "\u0080",
  "é",
  "\ud7ff",
  "\ue000",
  "\uffff",
  "\u{10000}",
  "\u{10ffff}",
);

test("texts are ordered as their UTF-8 bytes are", () => {
  const text = fc.oneof(fc.string({ unit, maxLength: 6 }), fc.string({ unit: "binary", maxLength: 6 }));
  fc.assert(
    fc.property(text, text, (a, b) => {
      const expected = Buffer.compare(Buffer.from(a), Buffer.from(b));
      assert.is(Math.sign(compareUtf8(a, b)), expected);
    }),
    { numRuns: 20_000, seed: 1 },
  );
});

test("a link leaves its tree exactly where a walk from part to part leaves it", () => {
  const name = fc.constantFrom("a", "b", "c", "l", "m");
  const part = fc.oneof(name, fc.constantFrom("..", "..", ".", "l", "m", ""));
  const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
  const target = fc
    .tuple(fc.integer({ min: 0, max: 30 }), fc.array(part, { minLength: 1, maxLength: 5 }))
    .map(([die, parts]) => (die === 0 ? "/" : "") + (parts.join("/") || "."));
  let leaving = 0;
  fc.assert(
    fc.property(fc.array(fc.tuple(path, target), { minLength: 1, maxLength: 6 }), (entries) => {
      const links = new Map(entries.filter(([at], i) => entries.findIndex(([other]) => other === at) === i));
      for (const at of links.keys()) {
        const expected = walkLeaves(at, links);
        assert.is(linkLeavesTree(at, links), expected, `${at} of ${JSON.stringify([...links])}`);
        if (expected) leaving++;
      }
    }),
    { numRuns: 10_000, seed: 2 },
  );
  assert.ok(leaving > 1000);
});

test("links in a circle stay in the tree, and a long chain of them is no work", () => {
  assert.not(linkLeavesTree("a", new Map([["a", "a"]])));
  assert.not(
    linkLeavesTree(
      "a",
      new Map([
        ["a", "b/x"],
        ["b", "a/y"],
      ]),
    ),
  );
  const doubling = new Map(Array.from({ length: 60 }, (_, i) => [`l${i}`, `l${i + 1}/../l${i + 1}`]));
  assert.not(linkLeavesTree("l0", doubling));
  const long = new Map([["l", `${"x/".repeat(2000)}x`]]);
  assert.not(linkLeavesTree("l", long));
});

test("the parent of a path is what stands before its last slash", () => {
  assert.equal(["a", "a/b", "a/b/c"].map(parentPath), ["", "a", "a/b"]);
});

test("a path is taken or refused by its bytes, and comes back as them", () => {
  const bytes = fc.oneof(fc.uint8Array({ maxLength: 12 }), fc.string({ unit, maxLength: 8 }).map(utf8Bytes));
  fc.assert(
    fc.property(bytes, (raw) => {
      const text = Buffer.from(raw).toString();
      const parts = text.split("/");
      const isFine =
        Buffer.from(text).equals(raw) &&
        !/[\0\n]/.test(text) &&
        parts.every((each) => each !== "" && each !== "." && each !== "..");
      if (isFine) assert.equal(Buffer.from(parseTreePath(raw)), Buffer.from(raw));
      else refuses(() => parseTreePath(raw), "BAD_PATH");
    }),
    { numRuns: 10_000, seed: 3 },
  );
});

test("a link's target may be nearly anything, but not empty, nor with a NUL, nor longer than Linux takes", () => {
  for (const target of ["", "a\0b", "x".repeat(4096)]) refuses(() => parseLinkTarget(utf8Bytes(target)), "BAD_PATH");
  refuses(() => parseLinkTarget(Uint8Array.of(0xc3)), "BAD_PATH");
  for (const target of ["/", "..", "a\nb", "x".repeat(4095)]) assert.is(parseLinkTarget(utf8Bytes(target)), target);
});

test("names that a case-insensitive target takes for one have one folded form", () => {
  for (const [a, b] of [
    ["A", "a"],
    ["É", "e\u0301"],
    ["ς", "Σ"],
    ["Maße", "MASSE"],
  ] as const) {
    assert.is(foldedPath(a), foldedPath(b));
  }
  for (const [a, b] of [
    ["a", "b"],
    ["e", "é"],
  ] as const) {
    assert.is.not(foldedPath(a), foldedPath(b));
  }
});

test("a path is shown on one short line, without controls", () => {
  assert.is(shown("a\n\u001b[2J"), '"a\\n\\u001b[2J"');
  assert.ok(shown("x".repeat(5000)).length < 130);
});

/** The same by brute force, recursively: where a text leads from a directory, or "out"; a loop ends after 40 links. */
function walkLeaves(path: string, links: ReadonlyMap<string, string>): boolean {
  let hops = 0;
  const walk = (from: readonly string[], text: string): readonly string[] | "out" | "loop" => {
    if (text.startsWith("/")) return "out";
    let at = from;
    for (const part of text.split("/")) {
      if (part === "" || part === ".") continue;
      if (part === "..") {
        if (at.length === 0) return "out";
        at = at.slice(0, -1);
        continue;
      }
      const target = links.get([...at, part].join("/"));
      if (target === undefined) {
        at = [...at, part];
        continue;
      }
      if (++hops > 40) return "loop";
      const led = walk(at, target);
      if (typeof led === "string") return led;
      at = led;
    }
    return at;
  };
  const parent = parentPath(path);
  return walk(parent === "" ? [] : parent.split("/"), links.get(path)!) === "out";
}

test.run();
