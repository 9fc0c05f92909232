import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodeCanonical } from "../../protocol/cbor.ts";
import { bytesToHex } from "../../protocol/hash.ts";
import {
  isPathPart,
  parseVariant,
  type Variant,
  variantFields,
  variantHash,
  variantText,
} from "../../protocol/variant.ts";
import { hash, refuses } from "../support/manifests.ts";

const foo: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0", index: 0 };

test("a variant is hashed as it always was", () => {
  const vectors = [
    [foo, "2363a8a69d2bc49536ebb1c917bc51132ea172d604bb61418e537c884437da47"],
    [
      { kind: "rez", repository: "studio", name: "nover" },
      "b47953995f0d0b8c7248d8e2d3ebf96e2afe33396d31006f2d472ddb7cce13a8",
    ],
    [
      { kind: "rez", repository: "beta", name: "maya_plugin", version: "2024.1-rc+ü", index: 12 },
      "87f4fcb49498a844184372145c24e68c6d3e48488e4c5020ae131204100037b0",
    ],
  ] as const;
  for (const [variant, expected] of vectors) assert.is(variantHash(variant, hash), expected);
  const bytes =
    "a5646b696e646372657a646e616d6563666f6f65696e646578006776657273696f6e65312e302e306a7265706f7369746f72796673747564696f";
  assert.is(bytesToHex(encodeCanonical(variantFields(foo))), bytes);
});

test("the order of fields does not matter, an absent field is not one that is null", () => {
  const turned = { index: 0, version: "1.0.0", name: "foo", repository: "studio", kind: "rez" };
  assert.is(variantHash(parseVariant(turned), hash), variantHash(foo, hash));
  refuses(() => parseVariant({ ...foo, index: null }), "BAD_FORMAT");
  refuses(() => parseVariant({ ...foo, version: null }), "BAD_FORMAT");
});

test("a variant is written as people type it", () => {
  const texts = [foo, { ...foo, index: undefined }, { kind: "rez", repository: "r", name: "n" }];
  assert.equal(
    texts.map((variant) => variantText(variant as Variant)),
    ["studio:foo-1.0.0[0]", "studio:foo-1.0.0", "r:n"],
  );
});

const bad = [
  "",
  ".",
  "..",
  ".hidden",
  "a/b",
  "/a",
  "a\\b",
  "c:",
  "a\0",
  "a\nb",
  "a\u007f",
  "\ud800",
  "a\udc00b",
  7,
  null,
];
for (const text of [...bad, "x".repeat(256), "é".repeat(128), ["foo"], {}]) {
  test(`${JSON.stringify(text).slice(0, 40)} is no name, no version and no repository`, () => {
    for (const field of ["repository", "name", "version"]) {
      refuses(() => parseVariant({ ...foo, [field]: text }), "BAD_FORMAT");
    }
  });
}

test("what Linux takes for a name passes, up to 255 bytes", () => {
  for (const text of ["a", "é".repeat(127), "\u{1f600}", "a.b", "1.0-beta+1", "-", "x".repeat(255)]) {
    assert.is(parseVariant({ ...foo, version: text }).version, text);
  }
});

for (const value of [null, 7, "foo", [], [foo], {}, { ...foo, kind: "pixi" }, { ...foo, more: 1 }]) {
  test(`${JSON.stringify(value).slice(0, 60)} is no variant`, () => {
    refuses(() => parseVariant(value), "BAD_FORMAT");
  });
}

test("an index is a whole number that is not too large", () => {
  for (const index of [-1, 0.5, 100_001, "0", true, [], Number.NaN]) {
    refuses(() => parseVariant({ ...foo, index }), "BAD_FORMAT");
  }
  assert.is(parseVariant({ ...foo, index: 100_000 }).index, 100_000);
});

test("a part of a path never leaves its directory", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      if (!isPathPart(text)) return;
      assert.not.match(text, /[/\\\0]/);
      assert.ok(text !== "." && text !== ".." && Buffer.byteLength(text) <= 255);
      assert.is(Buffer.from(text).toString(), text);
    }),
    { numRuns: 10_000, seed: 1 },
  );
});

test.run();
