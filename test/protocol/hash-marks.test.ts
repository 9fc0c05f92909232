import { test } from "uvu";
import * as assert from "uvu/assert";
import { HashMarks } from "../../protocol/hash-marks.ts";
import { noise } from "../support/noise.ts";

const digest = (seed: number) => new Uint8Array(noise(seed, 32));

test("a hash that was added is there, through all growth, and others are not", () => {
  const marks = new HashMarks();
  for (let i = 0; i < 50_000; i++) marks.add(digest(i));
  for (let i = 0; i < 50_000; i++) assert.ok(marks.has(digest(i)), `${i}`);
  for (let i = 50_000; i < 60_000; i++) assert.not(marks.has(digest(i)), `${i}`);
  assert.is(marks.size, 50_000);
});

test("a hash that is added twice is there once; one of zeros is one like others", () => {
  const marks = new HashMarks();
  const zeros = new Uint8Array(32);
  assert.not(marks.has(zeros));
  for (let i = 0; i < 3; i++) marks.add(zeros);
  assert.equal([marks.size, marks.has(zeros)], [1, true]);
});

test("hashes that end alike do not hide each other", () => {
  const marks = new HashMarks();
  const all = Array.from({ length: 3000 }, (_, i) => {
    const bytes = new Uint8Array(32);
    new DataView(bytes.buffer).setUint32(0, i + 1);
    return bytes;
  });
  for (const each of all) marks.add(each);
  assert.ok(all.every((each) => marks.has(each)));
  assert.is(marks.size, 3000);
});

test.run();
