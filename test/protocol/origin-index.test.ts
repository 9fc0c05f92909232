import { test } from "uvu";
import * as assert from "uvu/assert";
import { VersionError } from "../../protocol/errors.ts";
import { matchesGlob } from "../../protocol/glob.ts";
import { originIndexBytesMax } from "../../protocol/limits.ts";
import { encodeIndex, type IndexEntry, parseIndex } from "../../protocol/origin-index.ts";
import { refuses } from "../support/manifests.ts";

const entry = (name: string, revision = 0, isWithdrawn = false): IndexEntry => ({
  variant: { kind: "rez", repository: "studio", name, version: "1.0" },
  revision,
  isWithdrawn,
});
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();

test("an index comes back from its bytes, in the order of its variants", () => {
  const entries = [entry("b", 2), entry("a", 1, true)];
  assert.equal(parseIndex(encodeIndex(entries)), [entries[1], entries[0]]);
  assert.equal(parseIndex(encodeIndex([])), []);
  assert.is(text(encodeIndex([])), '{"formatVersion":1}\n');
});

test("an index that breaks a rule is refused", () => {
  const whole = text(encodeIndex([entry("a")]));
  for (const wrong of [
    "",
    "\n",
    whole.slice(0, -1),
    whole.slice(0, -5),
    `${whole}{}\n`,
    `${whole}null\n`,
    `${whole}\n`,
    whole.replace('"revision":0', '"revision":-1'),
    whole.replace('"name":"a"', '"name":"../a"'),
    `${whole}{"variant":${"[".repeat(100)}${"]".repeat(100)}}\n`,
  ]) {
    refuses(() => parseIndex(Buffer.from(wrong)), wrong === `${whole.slice(0, 0)}\n` ? "BAD_FORMAT" : "BAD_FORMAT");
  }
  refuses(() => parseIndex(new Uint8Array(originIndexBytesMax + 1)), "BAD_FORMAT");
  const newer = Buffer.from(whole.replace('"formatVersion":1', '"formatVersion":2'));
  assert.throws(
    () => parseIndex(newer),
    (error: Error) => error instanceof VersionError,
  );
});

test("a pattern's stars and question marks stand for letters, its brackets for themselves", () => {
  for (const [name, pattern, matches] of [
    ["studio:foo-1.0[0]", "studio:foo-1.0[0]", true],
    ["studio:foo-1.0[0]", "*[0]", true],
    ["studio:foo-1.0[0]", "*[1]", false],
    ["studio:foo-1.0", "*:foo-?.?", true],
    ["studio:foo-1.0", "foo*", false],
    ["abcabc", "*abc", true],
    ["abcabd", "*abc", false],
    ["abc", "***", true],
    ["", "*", true],
    ["", "?", false],
    ["a", "", false],
  ] as const) {
    assert.is(matchesGlob(name, pattern), matches, `${name} ${pattern}`);
  }
  assert.not(matchesGlob("a".repeat(10_000), `${"*a".repeat(5_000)}b`));
});

test.run();
