// runs unprivileged
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { decodeCanonical, encodeCanonical } from "../../protocol/cbor.ts";
import { FormatError, VersionError } from "../../protocol/errors.ts";
import { chunkBytesMin, MIB, rootBytesMax, segmentBytesMax } from "../../protocol/limits.ts";
import { decodeRoot, encodeRoot } from "../../protocol/manifest.ts";
import { ManifestChecker } from "../../protocol/manifest-checker.ts";
import { utf8Bytes } from "../../protocol/paths.ts";
import { decodeSegment, encodeSegment, type SegmentPart } from "../../protocol/segments.ts";
import {
  build,
  check,
  chunk,
  directory,
  facts,
  file,
  honestRoot,
  link,
  refuses,
  sorted,
} from "../support/manifests.ts";

for (const [what, path] of [
  ["a part ..", "d/../x"],
  ["a leading ..", "../x"],
  ["a part .", "d/./x"],
  ["an absolute path", "/etc/passwd"],
  ["an empty part", "d//x"],
  ["a trailing slash", "d/"],
  ["an empty path", ""],
  ["a NUL", "a\0b"],
  ["a newline", "a\nb"],
  ["a part of 256 bytes", "é".repeat(128)],
  ["a path of 4096 bytes", `${"x".repeat(200)}/`.repeat(20) + "y".repeat(76)],
] as const) {
  test(`a path with ${what} is refused`, () => {
    for (const code of [0, 5]) {
      const rest = code === 5 ? [utf8Bytes("target")] : [];
      refuses(() => decodeSegment(encodeCanonical([1, [[code, utf8Bytes(path), ...rest]]])), "BAD_PATH");
    }
  });
}

test("names that are not UTF-8, and overlong or surrogate forms of them, are refused", () => {
  for (const bytes of [[0xff], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xc3]]) {
    refuses(() => decodeSegment(encodeCanonical([1, [[0, Uint8Array.from(bytes)]]])), "BAD_PATH");
  }
});

for (const [target, links] of [
  ["/etc", []],
  ["../..", []],
  ["..", []],
  ["a/b/../../../..", []],
  ["e/../..", [["d/e", ".."]]],
  ["../up", [["up", ".."]]],
  [
    "e",
    [
      ["d/e", "f"],
      ["d/f", "../.."],
    ],
  ],
] as const) {
  test(`the link d/x -> ${target} leaves the tree${links.length > 0 ? " by another link" : ""} and is refused`, () => {
    const entries = [...links.map(([path, to]) => link(path, to)), link("d/x", target), directory("d")];
    const { root, segments } = build(sorted(entries));
    const run = (externalLinks: boolean) => () => check(root, segments.map(decodeSegment), externalLinks);
    if (target === "..") return run(false)(); // That one is the tree's top.
    refuses(run(false), "LINK_LEAVES_TREE");
    run(true)();
  });
}

test("a link's target may dangle or loop inside the tree, but not be empty or hold a NUL", () => {
  const { root, segments } = build(sorted([link("a", "b"), link("b", "a"), link("c", "none/x")]));
  check(root, segments.map(decodeSegment));
  for (const target of ["", "a\0b"]) {
    refuses(() => decodeSegment(encodeCanonical([1, [[5, utf8Bytes("x"), utf8Bytes(target)]]])), "BAD_PATH");
  }
});

const runOf = (sizeBytes: number, files: number): SegmentPart => ({ kind: "run", chunk: chunk(sizeBytes), files });
const large = (path: string, sizeBytes: number, sizes: readonly number[]): SegmentPart => {
  return { kind: "large", ...facts(path, sizeBytes), chunks: sizes.map((size) => chunk(size)) };
};
const goesOn = (path: string, offsetBytes: number, sizes: readonly number[]): SegmentPart => {
  return { kind: "continuation", path, offsetBytes, chunks: sizes.map((size) => chunk(size)) };
};
const half = MIB / 2;

const lies: readonly (readonly [string, RegExp, readonly (readonly SegmentPart[])[]])[] = [
  ["an entry that stands twice", /stands twice/, [[directory("a"), directory("a")]]],
  ["an entry that stands in two segments", /stands twice/, [[directory("a")], [directory("a")]]],
  ["entries out of order", /out of order/, [[directory("b"), directory("a")]]],
  ["entries in the order of directories", /out of order/, [[directory("a"), directory("a/x"), directory("a-b")]]],
  ["an entry whose parent is missing", /not in a directory/, [[directory("a/b")]]],
  ["an entry in a file", /not in a directory/, [[file("a", 0), directory("a/b")]]],
  ["an entry in a link", /not in a directory/, [[link("a", "b"), directory("a/b")]]],
  ["an empty file with another hash", /not that of nothing/, [[{ kind: "small", ...facts("a", 1), sizeBytes: 0 }]]],
  ["a file in no run", /is in no run/, [[file("a", 1)]]],
  ["a run that is too short for its files", /does not fit its run/, [[runOf(3, 2), file("a", 2), file("b", 2)]]],
  ["a run that is too long for its files", /does not fit its run/, [[runOf(5, 2), file("a", 2), file("b", 2)]]],
  ["a run of fewer files than it says", /does not end/, [[runOf(4, 3), file("a", 2), file("b", 1)]]],
  ["a run that is full before its files are in", /does not fit/, [[runOf(4, 3), file("a", 2), file("b", 2)]]],
  ["a run in a run", /in another run/, [[runOf(4, 2), file("a", 2), runOf(2, 1), file("b", 2)]]],
  ["a run across segments", /does not end/, [[runOf(4, 2), file("a", 2)], [file("b", 2)]]],
  ["a large file in a run", /stands in a run/, [[runOf(4, 2), file("a", 2), large("b", MIB, [MIB])]]],
  ["a large file with too many chunks", /do not fit its size/, [[large("a", MIB, [MIB, MIB])]]],
  ["a large file with a short chunk in its middle", /do not fit/, [[large("a", MIB, [chunkBytesMin - 1, MIB])]]],
  ["a large file that stops", /are cut off/, [[large("a", MIB, [half])]]],
  ["a large file that stops before another entry", /are cut off/, [[large("a", MIB, [half]), directory("b")]]],
  ["a large file that does not go on", /do not go on/, [[large("a", MIB, [half])], [directory("b")]]],
  ["another file that goes on", /goes on where/, [[large("a", MIB, [half])], [goesOn("b", half, [half])]]],
  ["a file that goes on elsewhere", /goes on where/, [[large("a", MIB, [half])], [goesOn("a", half + 1, [half])]]],
  ["a file that goes on with nothing", /with nothing/, [[large("a", MIB, [half])], [goesOn("a", half, [])]]],
  ["a file that goes on past its end", /do not fit/, [[large("a", MIB, [half])], [goesOn("a", half, [half + 1])]]],
  ["a file that goes on and has ended", /goes on where/, [[large("a", MIB, [MIB])], [goesOn("a", MIB, [half])]]],
  ["a file that goes on out of nowhere", /goes on where/, [[goesOn("a", 0, [half])]]],
  ["a file that goes on late", /cut off|goes on/, [[large("a", MIB, [half]), goesOn("a", half, [half])]]],
];
for (const [what, fault, segments] of lies) {
  test(`${what} is refused`, () => {
    const decoded = segments.map((parts) => decodeSegment(encodeSegment(parts)));
    assert.throws(
      () => check(honestRoot(decoded), decoded),
      (error: Error) => {
        return error instanceof FormatError && fault.test(error.message);
      },
    );
  });
}

test("a root whose totals are not its segments' is refused", () => {
  const { root, segments } = build([file("a", 10), file("b", 20)]);
  const decoded = segments.map(decodeSegment);
  check(root, decoded);
  for (const wrong of [{ files: 1 }, { bytes: 29 }, { bytes: 31 }]) {
    refuses(() => check(decodeRoot(encodeRoot({ ...root, ...wrong })), decoded), "BAD_FORMAT");
  }
  for (const wrong of [{ entries: 3 }, { chunks: 2 }, { files: 3 }]) {
    refuses(() => decodeRoot(encodeRoot({ ...root, ...wrong })), "BAD_FORMAT");
  }
  const [ref] = root.segments;
  for (const wrong of [{ entries: 1 }, { chunks: 0 }]) {
    const lying = new ManifestChecker(root, { externalLinks: false });
    refuses(() => lying.add(decoded[0]!, { ...ref!, ...wrong }), "BAD_FORMAT");
  }
});

test("counts and sizes past all limits are refused at the door", () => {
  const root = build([file("a", 10)]).root;
  for (const wrong of [2 ** 53 - 1, 2 ** 53, 2 ** 63, -1, 1.5, 1e9]) {
    refuses(() => decodeRoot(encodeRoot({ ...root, entries: wrong })), "BAD_FORMAT");
    const [segment] = root.segments;
    refuses(() => decodeRoot(encodeRoot({ ...root, segments: [{ ...segment!, sizeBytes: wrong }] })), "BAD_FORMAT");
  }
  for (const sizeBytes of [2 ** 53 - 1, 2 ** 53, 2 ** 63, -1, 1.5, MIB]) {
    refuses(() => decodeSegment(encodeSegment([{ ...file("a", 1), sizeBytes }])), "BAD_FORMAT");
  }
  for (const mtimeSeconds of [2 ** 41, 2 ** 34 - 2 ** 31, -(2 ** 31) - 1]) {
    refuses(() => decodeSegment(encodeSegment([{ ...file("a", 1), mtimeSeconds }])), "BAD_FORMAT");
  }
  refuses(() => decodeSegment(encodeSegment([runOf(0, 1)])), "BAD_FORMAT");
  refuses(() => decodeSegment(encodeSegment([runOf(2 * MIB + 1, 1)])), "BAD_FORMAT");
  refuses(() => decodeSegment(encodeSegment([large("a", MIB - 1, [MIB - 1])])), "BAD_FORMAT");
});

test("a list that claims a billion entries is refused, and so are bytes past the limit", () => {
  const billion = [0x9a, 0x3b, 0x9a, 0xca, 0x00];
  refuses(() => decodeSegment(Uint8Array.from([0x82, 1, ...billion])), "BAD_FORMAT");
  refuses(() => decodeRoot(Uint8Array.from(billion)), "BAD_FORMAT");
  refuses(() => decodeSegment(new Uint8Array(segmentBytesMax + 1)), "BAD_FORMAT");
  refuses(() => decodeRoot(new Uint8Array(rootBytesMax + 1)), "BAD_FORMAT");
  refuses(() => decodeSegment(new Uint8Array(segmentBytesMax).fill(0x81)), "BAD_FORMAT");
});

test("a newer version is refused with what to upgrade, and unknown kinds and fields are refused", () => {
  const root = decodeCanonical(build([]).rootBytes, rootBytesMax, "a root") as object;
  assert.throws(
    () => decodeRoot(encodeCanonical({ ...root, version: 2 })),
    (error: Error) => error instanceof VersionError,
  );
  assert.throws(
    () => decodeSegment(encodeCanonical([2, []])),
    (error: Error) => error instanceof VersionError,
  );
  refuses(() => decodeRoot(encodeCanonical({ ...root, more: 1 })), "BAD_FORMAT");
  for (const part of [[6, utf8Bytes("a")], [0, utf8Bytes("a"), 1], [0], [0, "a"], 7, {}, []]) {
    refuses(() => decodeSegment(encodeCanonical([1, [part]])), "BAD_FORMAT");
  }
});

test("CBOR that says the same in other bytes is refused", () => {
  const bytes = encodeSegment([directory("a")]);
  assert.equal([...bytes], [0x82, 1, 0x81, 0x82, 0, 0x41, 0x61]);
  for (const other of [
    [0x82, 0x18, 1, 0x81, 0x82, 0, 0x41, 0x61],
    [0x9f, 1, 0x81, 0x82, 0, 0x41, 0x61, 0xff],
    [...bytes, 0],
    [...bytes.subarray(0, -1)],
  ]) {
    refuses(() => decodeSegment(Uint8Array.from(other)), "BAD_FORMAT");
  }
});

test("bytes turned at random are refused in a typed way or stay well-formed, but never crash", () => {
  const { segments } = build([directory("d"), file("d/a", 10), file("d/b", 20), link("l", "d/a")]);
  const flip = fc.record({ at: fc.nat(segments[0]!.length - 1), to: fc.nat(255) });
  fc.assert(
    fc.property(fc.array(flip, { minLength: 1, maxLength: 4 }), (flips) => {
      const bytes = segments[0]!.slice();
      for (const { at, to } of flips) bytes[at] = to;
      try {
        decodeSegment(bytes);
      } catch (error) {
        assert.ok(error instanceof FormatError || error instanceof VersionError, String(error));
      }
    }),
    { numRuns: 2000, seed: 2 },
  );
});

test.run();
