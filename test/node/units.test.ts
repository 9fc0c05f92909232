import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  formatBytes,
  formatDuration,
  formatRate,
  parseDuration,
  parseRate,
  parseSize,
  readDuration,
  readRate,
  readSize,
} from "../../node/settings/units.ts";
import { UsageError } from "../../protocol/errors.ts";

test("sizes are decimal or binary, and a bare number is bytes", () => {
  assert.is(parseSize("k", "500 GB"), 500e9);
  assert.is(parseSize("k", "64 MiB"), 64 * 1024 * 1024);
  assert.is(parseSize("k", "1.5TB"), 1.5e12);
  assert.is(parseSize("k", "10 kb"), 10_000);
  assert.is(parseSize("k", "4096"), 4096);
  assert.is(parseSize("k", 4096), 4096);
  assert.is(parseSize("k", "0"), 0);
});

test("times are milliseconds, and a text needs its unit", () => {
  assert.is(parseDuration("k", "250 ms"), 250);
  assert.is(parseDuration("k", "30 s"), 30_000);
  assert.is(parseDuration("k", "30 min"), 1_800_000);
  assert.is(parseDuration("k", "24 h"), 86_400_000);
  assert.is(parseDuration("k", "41 d"), 41 * 86_400_000);
  assert.is(parseDuration("k", 250), 250);
  assert.is(readDuration("30"), undefined);
});

test("rates are bytes per second, whether written in bits or bytes", () => {
  assert.is(parseRate("k", "2 Gbit/s"), 250e6);
  assert.is(parseRate("k", "200 MB/s"), 200e6);
  assert.is(parseRate("k", "1 MiB/s"), 1024 * 1024);
  assert.is(parseRate("k", 1000), 1000);
});

test("a rate that may mean bits or bytes is refused", () => {
  assert.is(readRate("200 Mb/s"), undefined);
  assert.is(readRate("200 MB"), undefined);
  assert.is(readRate("200"), undefined);
});

test("a bad text is a usage error that names the key, the text and an example", () => {
  for (const [parse, text, example] of [
    [parseSize, "500 XB", "500 GB"],
    [parseDuration, "soon", "30 s"],
    [parseRate, "fast", "2 Gbit/s"],
  ] as const) {
    assert.throws(
      () => parse("cache.max_bytes", text),
      (error: UsageError) =>
        error instanceof UsageError &&
        error.exit === 2 &&
        error.message.startsWith(`cache.max_bytes: "${text}"`) &&
        error.hint?.includes(example),
    );
  }
});

test("no text and no number is read as anything but a whole number that is safe", () => {
  for (const bad of [
    "",
    " ",
    "-1 GB",
    "1e3",
    "1 2 GB",
    "9999999999999999 PB",
    "NaN",
    "Infinity s",
    "1..5 GB",
    ".5 GB",
  ]) {
    for (const read of [readSize, readDuration, readRate]) assert.is(read(bad), undefined, bad);
  }
  for (const bad of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60]) assert.is(readSize(bad), undefined);
  fc.assert(
    fc.property(fc.string(), (text) => {
      for (const read of [readSize, readDuration, readRate]) {
        const value = read(text);
        if (value !== undefined && !(Number.isSafeInteger(value) && value >= 0)) return false;
      }
      return true;
    }),
  );
});

test("what people are shown is rounded and carries into the next unit", () => {
  assert.is(formatBytes(0), "0 B");
  assert.is(formatBytes(999), "999 B");
  assert.is(formatBytes(1500), "1.5 kB");
  assert.is(formatBytes(999_999), "1 MB");
  assert.is(formatBytes(500e9), "500 GB");
  assert.is(formatRate(250e6), "250 MB/s");
  assert.is(formatDuration(850), "850 ms");
  assert.is(formatDuration(1234), "1.2 s");
  assert.is(formatDuration(59_990), "1 min");
  assert.is(formatDuration(125_000), "2 min 5 s");
  assert.is(formatDuration(3_599_900), "1 h");
  assert.is(formatDuration(5_400_000), "1 h 30 min");
  assert.is(formatDuration(76 * 3_600_000), "3 d 4 h");
});

test.run();
