import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { checkShape, decodeCanonical, encodeCanonical, isCount, isMap } from "../../protocol/cbor.ts";
import { hexToBytes } from "../../protocol/hash.ts";
import { refuses } from "../support/manifests.ts";
import { allocatedBytes } from "../support/memory.ts";

const decode = (hex: string) => decodeCanonical(hexToBytes(hex), 1000, "this");
const MIB = 1024 * 1024;

test("what is encoded comes back, and its bytes are the only ones for it", () => {
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.maxSafeInteger(),
      fc.boolean(),
      fc.constant(null),
      fc.string({ unit: "grapheme", maxLength: 8 }),
      fc.uint8Array({ maxLength: 8 }),
      fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => number + 0),
      fc.array(tie("value"), { maxLength: 4 }),
      fc.dictionary(
        fc.string({ maxLength: 5 }).filter((key) => !(key in {})),
        tie("value"),
        { maxKeys: 4, noNullPrototype: true },
      ),
    ),
  }));
  fc.assert(
    fc.property(value, (one) => {
      const bytes = encodeCanonical(one);
      const again = decodeCanonical(bytes, MIB, "this");
      assert.equal(again, one);
      assert.equal(encodeCanonical(again), bytes);
    }),
    { numRuns: 5000, seed: 1 },
  );
});

for (const [what, hex] of [
  ["nothing", ""],
  ["two values", "0101"],
  ["a value that is cut off", "8201"],
  ["a number in a longer form", "1801"],
  ["a length in a longer form", "580161"],
  ["a list without a length", "9f01ff"],
  ["a text without a length", "7f6161ff"],
  ["keys out of order", "a2616201616101"],
  ["a key that stands twice", "a2616101616102"],
  ["a key that is no text", "a10101"],
  ["a text that is not UTF-8", "61ff"],
  ["a float in a longer form", "fb3ff8000000000000"],
  ["a float that is whole", "f93c00"],
  ["minus zero", "f98000"],
  ["a number that is none", "f97e00"],
  ["infinity", "f97c00"],
  ["a number past 2^53", "1b0020000000000000"],
  ["undefined", "f7"],
  ["a tag", "c001"],
  ["a simple value", "e0"],
  ["a key that hides what every object has", "a168746f537472696e6701"],
  ["a prototype", "a1695f5f70726f746f5f5fa0"],
] as const) {
  test(`${what} is refused`, () => refuses(() => decode(hex), "BAD_FORMAT"));
}

test("bytes past the limit are refused, and one less is not", () => {
  const bytes = encodeCanonical(new Uint8Array(100));
  assert.equal(decodeCanonical(bytes, bytes.length, "this"), new Uint8Array(100));
  refuses(() => decodeCanonical(bytes, bytes.length - 1, "this"), "BAD_FORMAT");
});

test("values nested deeper than any format are refused, however deep", () => {
  const nested = (depth: number) => {
    const bytes = new Uint8Array(depth + 1).fill(0x81);
    bytes[depth] = 0x80;
    return bytes;
  };
  assert.ok(Array.isArray(decodeCanonical(nested(10), MIB, "this")));
  for (const depth of [16, 100, 4000, 100_000, 1_000_000]) {
    refuses(() => decodeCanonical(nested(depth), MIB, "this"), "BAD_FORMAT");
  }
});

test("a length that is only claimed allocates nothing", () => {
  for (const head of ["9a", "ba", "5a", "7a", "9b00000000", "bb00000000", "5b00000000", "7b00000000"]) {
    const bytes = hexToBytes(`${head}ffffffff00`);
    const allocated = allocatedBytes(() => refuses(() => decodeCanonical(bytes, MIB, "this"), "BAD_FORMAT"));
    assert.ok(allocated < 4 * MIB, `${head}: ${allocated} bytes`);
  }
});

test("a refusal's message is short and shows no controls of a stranger", () => {
  const key = `\u001b[2J${"x".repeat(500)}`;
  const twice = [...encodeCanonical({ [key]: 1 }).subarray(1)];
  try {
    decodeCanonical(Uint8Array.from([0xa2, ...twice, ...twice]), 5000, "this");
    assert.unreachable();
  } catch (error) {
    assert.not.match((error as Error).message, /\p{Control}/u);
    assert.ok((error as Error).message.length < 200);
  }
});

test("the shape of parsed JSON is checked alike", () => {
  checkShape({ a: [{ b: null }] }, "this");
  refuses(() => checkShape(JSON.parse(`${"[".repeat(99_999)}${"]".repeat(99_999)}`), "this"), "BAD_FORMAT");
  refuses(() => checkShape(JSON.parse('[{"valueOf":1}]'), "this"), "BAD_FORMAT");
});

test("a map is a plain object, a count a whole number within its bounds", () => {
  assert.equal([{}, { a: 1 }, [], new Uint8Array(1), null, "a", undefined].map(isMap), [
    ...[true, true],
    ...Array.from({ length: 5 }, () => false),
  ]);
  assert.equal(
    [0, 9].map((value) => isCount(value, 9)),
    [true, true],
  );
  for (const value of [-1, 10, 0.5, Number.NaN, "1", null, 2 ** 60, Number.POSITIVE_INFINITY]) {
    assert.not(isCount(value, 9));
    if (value !== 10) assert.not(isCount(value));
  }
});

test.run();
