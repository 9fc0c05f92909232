import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseUtcTime, utcText } from "../../protocol/utc-time.ts";

test("times are read as the language reads them", () => {
  const seconds = fc.integer({ min: -62_135_596_800, max: 253_402_300_799 });
  fc.assert(
    fc.property(seconds, (second) => {
      const text = new Date(second * 1000).toISOString().replace(".000Z", "Z");
      assert.is(parseUtcTime(text), second * 1000, text);
      assert.is(utcText(second * 1000 + 999), text);
    }),
  );
});

test("days that do not exist, and texts of another form, are no times", () => {
  for (const text of [
    ...["2026-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-13-01T00:00:00Z"],
    ...["2026-01-01", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00+01:00", "", undefined, 5],
  ]) {
    assert.is(parseUtcTime(text), undefined, String(text));
  }
  assert.is(parseUtcTime("2024-02-29T00:00:00Z"), Date.UTC(2024, 1, 29));
});

test.run();
