import { readFileSync } from "node:fs";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  compareRezVersions,
  isInRezRange,
  parseRezRange,
  parseRezVersion,
  type RezVersion,
} from "../../protocol/rez-version.ts";
import { refuses } from "../support/manifests.ts";

/** Made by running Rez itself; the file says which. */
const vectors = JSON.parse(readFileSync(new URL("../fixtures/rez-versions.json", import.meta.url), "utf8")) as {
  readonly ascending: readonly (readonly string[])[];
  readonly refusedVersions: readonly string[];
  readonly ranges: readonly (readonly [string, readonly (readonly [number, number])[]])[];
  readonly refusedRanges: readonly string[];
};

test("versions are ordered as Rez orders them", () => {
  const all = vectors.ascending.flatMap((group, order) => group.map((text) => ({ text, order })));
  for (const a of all) {
    for (const b of all) {
      const order = Math.sign(compareRezVersions(parseRezVersion(a.text), parseRezVersion(b.text)));
      assert.is(order, Math.sign(a.order - b.order), `${a.text} and ${b.text}`);
    }
  }
});

test("the rules that Rez documents hold", () => {
  const rising = ["", "beta", "1", "1.0", "1.2", "1.10", "3", "4"];
  for (const [i, text] of rising.entries()) if (i > 0) assert.ok(isBefore(rising[i - 1]!, text), text);
  for (const [a, b] of [
    ["01", "1"],
    ["alpha3", "alpha4"],
    ["alpha", "alpha3"],
    ["gamma33", "33gamma"],
    ["A", "_"],
    ["_", "a"],
  ]) {
    assert.ok(isBefore(a!, b!), `${a} < ${b}`);
  }
  assert.is(compareRezVersions(parseRezVersion("1.0.0"), parseRezVersion("1-0-0")), 0);
});

test("ranges have in them what Rez finds in them", () => {
  const versions = vectors.ascending.map(([text]) => parseRezVersion(text!));
  for (const [text, runs] of vectors.ranges) {
    const range = parseRezRange(text);
    const isExpected = (i: number) => runs.some(([first, last]) => i >= first && i <= last);
    for (const [i, version] of versions.entries()) {
      assert.is(isInRezRange(version, range), isExpected(i), `${vectors.ascending[i]![0]} in ${text}`);
    }
  }
});

test("what Rez refuses as a version or a range is refused", () => {
  for (const text of vectors.refusedVersions) refuses(() => parseRezVersion(text), "BAD_FORMAT");
  for (const text of vectors.refusedRanges) refuses(() => parseRezRange(text), "BAD_FORMAT");
});

test("a text longer than any version is refused before it is looked at", () => {
  refuses(() => parseRezVersion("1".repeat(2000)), "BAD_FORMAT");
  refuses(() => parseRezRange("1|".repeat(2000)), "BAD_FORMAT");
});

test("any text at all is a range, or is refused", () => {
  const texts = fc.string({ unit: fc.constantFrom(..."0129abAZ_.-+<>=,|! \n"), maxLength: 40 });
  fc.assert(
    fc.property(texts, (text) => {
      try {
        isInRezRange(parseRezVersion("1.2"), parseRezRange(text));
      } catch (error) {
        assert.is((error as { code?: string }).code, "BAD_FORMAT");
      }
    }),
  );
});

test("comparing is an order: what is before and what is after never contradict each other", () => {
  const versions = fc
    .array(fc.string({ unit: fc.constantFrom(..."0129abAZ_"), minLength: 1, maxLength: 5 }), { maxLength: 4 })
    .map((tokens): RezVersion => parseRezVersion(tokens.join(".")));
  fc.assert(
    fc.property(versions, versions, versions, (a, b, c) => {
      assert.is(Math.sign(compareRezVersions(a, b)) + Math.sign(compareRezVersions(b, a)), 0);
      if (compareRezVersions(a, b) <= 0 && compareRezVersions(b, c) <= 0) assert.ok(compareRezVersions(a, c) <= 0);
    }),
  );
});

function isBefore(a: string, b: string): boolean {
  return compareRezVersions(parseRezVersion(a), parseRezVersion(b)) < 0;
}

test.run();
