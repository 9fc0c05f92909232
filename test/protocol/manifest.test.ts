import { readFileSync } from "node:fs";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { bytesToHex, hashFromBytes, hexToBytes } from "../../protocol/hash.ts";
import { chunkLayouts } from "../../protocol/layout.ts";
import { KIB, MIB, segmentBytesMax } from "../../protocol/limits.ts";
import { decodeRoot, encodeRoot, ItemIndex, type ManifestRoot, payloadId } from "../../protocol/manifest.ts";
import { type ChunkRef, decodeSegment, encodeSegment, type SegmentPart } from "../../protocol/segments.ts";
import { build, check, directory, file, hash, honestRoot, link, type Planned, sorted } from "../support/manifests.ts";

test("whatever tree is built comes back from its bytes, and is accepted", () => {
  fc.assert(
    fc.property(randomTree, (entries) => {
      const built = build(entries);
      assert.equal(decodeRoot(built.rootBytes), built.root);
      const parts = built.segments.flatMap((bytes) => decodeSegment(bytes));
      check(built.root, built.segments.map(decodeSegment));
      const paths = parts.flatMap((part) => (part.kind === "run" || part.kind === "continuation" ? [] : [part.path]));
      assert.equal(
        paths,
        entries.map(({ path }) => path),
      );
      const covered = chunkLayouts(parts).reduce((total, { chunk }) => total + chunk.sizeBytes, 0);
      assert.is(covered, built.root.bytes);
    }),
    { numRuns: 200, seed: 1 },
  );
});

test("a file whose chunks do not fit one segment goes on in the next ones, and its ranges cover it once", () => {
  const sizeBytes = 20_000 * 512 * KIB + 5;
  const built = build([
    { kind: "directory", path: "d" },
    { kind: "large", path: "d/huge", sizeBytes },
  ]);
  assert.ok(built.segments.length >= 3);
  for (const bytes of built.segments) assert.ok(bytes.length <= segmentBytesMax);
  const decoded = built.segments.map(decodeSegment);
  check(built.root, decoded);
  let end = 0;
  for (const { chunk, ranges } of decoded.flatMap(chunkLayouts)) {
    assert.equal([ranges.length, ranges[0]!.path, ranges[0]!.offsetBytes], [1, "d/huge", end]);
    end += chunk.sizeBytes;
  }
  assert.is(end, sizeBytes);
  const index = new ItemIndex(built.root);
  assert.is(index.items, built.root.segments.length + built.root.chunks);
  assert.equal(index.locate(index.segments), { segment: 0, chunk: 0 });
  assert.equal(index.locate(index.firstChunkItem(1)), { segment: 1, chunk: 0 });
  assert.equal(index.locate(index.firstChunkItem(1) - 1).segment, 0);
});

test("one changed file changes one segment of many", () => {
  const files = Array.from({ length: 60_000 }, (_, i) => file(`f${String(i).padStart(6, "0")}`, 3000));
  const before = build(files);
  const after = build(files.map((entry, i) => (i === 27_000 ? { ...entry, sizeBytes: 3001 } : entry)));
  const known = new Set(before.root.segments.map((segment) => segment.hash));
  const fresh = after.root.segments.filter((segment) => !known.has(segment.hash));
  assert.ok(before.root.segments.length > 10);
  assert.ok(fresh.length >= 1 && fresh.length <= 3, `${fresh.length} of ${known.size} segments`);
});

test("names that differ by case or Unicode form only set caseSensitive, and hiding that is refused", () => {
  assert.is(build([file("A", 1), file("a", 1)]).root.caseSensitive, true);
  assert.is(build([file("e\u0301", 1), file("\u00e9", 1)]).root.caseSensitive, true);
  assert.is(build([file("a", 1), file("b", 1)]).root.caseSensitive, false);
  const { root, segments } = build([file("A", 1), file("a", 1)]);
  assert.throws(() => check({ ...root, caseSensitive: false }, segments.map(decodeSegment)), /caseSensitive/);
});

test("a byte order mark at the start of a name survives", () => {
  const { segments } = build([file("\ufeffa", 1)]);
  assert.ok(decodeSegment(segments[0]!).some((part) => part.kind === "small" && part.path === "\ufeffa"));
});

test("a root and its segments encode as they always did", () => {
  const vectors = JSON.parse(readFileSync(new URL("../fixtures/manifest-vectors.json", import.meta.url), "utf8"));
  const segments = [vectorParts, vectorNextParts].map(encodeSegment);
  const root = encodeRoot(vectorRoot(segments));
  const now = { root: bytesToHex(root), segments: segments.map(bytesToHex), payload: payloadId(root, hash) };
  assert.equal(now, vectors);
  const decoded = segments.map(decodeSegment);
  assert.equal(decoded, [vectorParts, vectorNextParts]);
  check(decodeRoot(root), decoded);
});

function vectorRoot(segments: readonly Uint8Array[]): ManifestRoot {
  const root = honestRoot([vectorParts, vectorNextParts]);
  const refs = root.segments.map((ref, i) => {
    return { ...ref, hash: hashFromBytes<"chunk">(hash(segments[i]!)), sizeBytes: segments[i]!.length };
  });
  return { ...root, segments: refs };
}

/** Directories, links and files of all sizes under a few short names, parents first. */
const randomTree: fc.Arbitrary<Planned[]> = fc
  .array(
    fc.record({
      parts: fc.array(fc.constantFrom("a", "b", "a-", "a.b", "A", "é", "\u{10000}", "\uffff"), {
        minLength: 1,
        maxLength: 4,
      }),
      kind: fc.constantFrom("directory", "link", "small", "small", "small", "large"),
      sizeBytes: fc.oneof(fc.nat(10), fc.nat(MIB - 1)),
    }),
    { maxLength: 60 },
  )
  .map((wishes) => {
    const entries = new Map<string, Planned>();
    for (const { parts, kind, sizeBytes } of wishes) {
      const path = parts.join("/");
      const above = parts.map((_, i) => parts.slice(0, i).join("/")).slice(1);
      if (entries.has(path) || above.some((parent) => (entries.get(parent)?.kind ?? "directory") !== "directory"))
        continue;
      for (const parent of above) entries.set(parent, directory(parent));
      if (kind === "small") entries.set(path, file(path, sizeBytes));
      else if (kind === "large") entries.set(path, { kind: "large", path, sizeBytes: sizeBytes * 3 + MIB });
      else entries.set(path, kind === "link" ? link(path, "dangling") : directory(path));
    }
    return sorted([...entries.values()]);
  });

const vectorDigest = Uint8Array.from({ length: 32 }, (_, i) => i);
const vectorChunk = (sizeBytes: number): ChunkRef => ({ digest: vectorDigest, sizeBytes });
const digestOfNothing = hexToBytes("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
const vectorFacts = { mtimeSeconds: 1_700_000_000, digest: vectorDigest };
/** One of each kind but a continuation, which stands first in its segment: the second file of the vectors has it. */
const vectorParts: readonly SegmentPart[] = [
  { kind: "directory", path: "bin" },
  { kind: "run", chunk: vectorChunk(300), files: 2 },
  { kind: "small", path: "bin/tool", executable: true, sizeBytes: 200, ...vectorFacts },
  { kind: "small", path: "empty", executable: false, sizeBytes: 0, mtimeSeconds: -1, digest: digestOfNothing },
  { kind: "small", path: "ü", executable: false, sizeBytes: 100, ...vectorFacts },
  { kind: "link", path: "ünk", target: "bin/tool" },
  {
    kind: "large",
    path: "\u{1f600}",
    executable: false,
    sizeBytes: MIB + 1,
    ...vectorFacts,
    chunks: [vectorChunk(MIB)],
  },
];
const vectorNextParts: readonly SegmentPart[] = [
  { kind: "continuation", path: "\u{1f600}", offsetBytes: MIB, chunks: [vectorChunk(1)] },
];

test.run();
