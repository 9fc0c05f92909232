import { test } from "uvu";
import * as assert from "uvu/assert";
import { openHashEngine } from "../../node/hasher.ts";
import { cutLength, RunCutter, segmentEndsAfter } from "../../protocol/chunker.ts";
import { bytesToHex } from "../../protocol/hash.ts";
import { chunkBytesMax, chunkBytesMin, chunkBytesTarget, KIB, MIB, segmentBytesMin } from "../../protocol/limits.ts";
import { noise } from "../support/noise.ts";

const { hash } = openHashEngine();
/** A digest that ends nothing, and one that ends everything that is long enough. */
const high = new Uint8Array(32).fill(0xff);
const low = new Uint8Array(32);

test("the cut points of seeded noise are frozen", () => {
  assert.equal(cutLengths(noise(1, 8 * MIB)), frozenLengths);
});

test("the cut points of a constant are frozen: it never cuts before the maximum", () => {
  assert.equal(cutLengths(new Uint8Array(5 * MIB)), [2 * MIB, 2 * MIB, MIB]);
});

test("a chunk has at least 256 KiB and at most 2 MiB, but for the last one, which may be short", () => {
  for (const seed of [1, 2, 3]) {
    const lengths = cutLengths(noise(seed, 16 * MIB + 12_345));
    for (const length of lengths) assert.ok(length <= chunkBytesMax);
    for (const length of lengths.slice(0, -1)) assert.ok(length >= chunkBytesMin);
  }
});

test("the mean chunk of 64 MiB is within 15 % of 512 KiB", () => {
  const bytes = noise(7, 64 * MIB);
  const mean = bytes.length / cutLengths(bytes).length;
  assert.ok(Math.abs(mean / chunkBytesTarget - 1) < 0.15, `mean ${Math.round(mean / KIB)} KiB`);
});

test("a chunk's end depends on no more than 2 MiB from its start", () => {
  const bytes = noise(3, 8 * MIB);
  assert.is(cutLength(bytes.subarray(0, chunkBytesMax)), cutLength(bytes));
});

test("a byte put into a file changes few chunks", () => {
  const bytes = noise(4, 32 * MIB);
  const changed = new Uint8Array(bytes.length + 1);
  const place = 10 * MIB + 17;
  changed.set(bytes.subarray(0, place));
  changed.set(bytes.subarray(place), place + 1);
  const before = new Set(contents(bytes));
  const fresh = contents(changed).filter((content) => !before.has(content));
  assert.ok(fresh.length <= 4, `${fresh.length} of ${before.size} chunks changed`);
});

test("a run ends after a file only when it weighs 256 KiB", () => {
  const cutter = new RunCutter();
  for (let i = 0; i < 3; i++) assert.is(cutter.add(80 * KIB, 100, low), false);
  assert.is(cutter.add(16 * KIB, 100, low), true);
});

test("a run of 256 KiB goes on while digests are high, and takes no file past 2 MiB", () => {
  const cutter = new RunCutter();
  for (let i = 0; i < 4; i++) {
    assert.ok(cutter.fits(500 * KIB, 100));
    assert.is(cutter.add(500 * KIB, 100, high), false);
  }
  assert.ok(cutter.fits(48 * KIB, 100));
  assert.not(cutter.fits(48 * KIB + 1, 100));
  cutter.reset();
  assert.ok(cutter.fits(500 * KIB, 100));
});

test("a file weighs at least 4 KiB, so that a run has at most 512 files", () => {
  const cutter = new RunCutter();
  let files = 0;
  for (; cutter.fits(3, 60); files++) cutter.add(3, 60, high);
  assert.is(files, 512);
});

test("larger files end a run more often: by size over 512 KiB", () => {
  const ends = (sizeBytes: number, digest: Uint8Array): boolean => {
    const cutter = new RunCutter();
    cutter.add(300 * KIB, 100, high);
    return cutter.add(sizeBytes, 100, digest);
  };
  const quarter = new Uint8Array(32).fill(0x3f, 0, 1); // A little less than a quarter of 2^64.
  assert.is(ends(128 * KIB, quarter), true);
  assert.is(ends(120 * KIB, quarter), false);
  assert.is(ends(512 * KIB, high), true);
});

test("a run's entries fit one segment, those between its files with them", () => {
  const cutter = new RunCutter();
  let entryBytes = 0;
  for (; cutter.fits(1, 4200); entryBytes += 4200) cutter.add(1, 4200, high);
  assert.ok(entryBytes > 240 * KIB && entryBytes <= 254 * KIB);
  const other = new RunCutter();
  other.add(1, 100, high);
  other.pass(253 * KIB);
  assert.not(other.fits(1, 4200));
});

test("a segment ends by the second 64 bits of a digest, once it has 64 KiB", () => {
  const ends = Uint8Array.from({ length: 32 }, (_, i) => (i < 8 ? 0xff : 0));
  assert.is(segmentEndsAfter(segmentBytesMin - 1, 1000, ends), false);
  assert.is(segmentEndsAfter(segmentBytesMin, 1000, ends), true);
  assert.is(segmentEndsAfter(segmentBytesMin, 1000, high), false);
});

const frozenLengths = [
  664315, 465134, 412802, 510684, 656163, 515263, 591058, 706199, 420219, 448546, 447209, 486601, 939541, 390279,
  503369, 231226,
];

function cutLengths(bytes: Uint8Array): number[] {
  const lengths: number[] = [];
  for (let at = 0; at < bytes.length; at += lengths.at(-1)!) lengths.push(cutLength(bytes.subarray(at)));
  return lengths;
}

function contents(bytes: Uint8Array): string[] {
  let end = 0;
  return cutLengths(bytes).map((length) => {
    end += length;
    return bytesToHex(hash(bytes.subarray(end - length, end)));
  });
}

test.run();
