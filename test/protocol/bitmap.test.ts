import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Bitmap } from "../../protocol/bitmap.ts";

test("a bitmap is a set of small numbers, and counts them", () => {
  const change = fc.record({ bit: fc.integer({ min: -9, max: 90 }), add: fc.boolean() });
  fc.assert(
    fc.property(fc.nat(70), fc.array(change), (length, changes) => {
      const bitmap = new Bitmap(length);
      const model = new Set<number>();
      for (const { bit, add } of changes) {
        const isNew = bit >= 0 && bit < length && !model.has(bit);
        if (add) assert.is(bitmap.add(bit), isNew);
        else bitmap.remove(bit);
        if (add && isNew) model.add(bit);
        if (!add) model.delete(bit);
        assert.is(bitmap.count, model.size);
      }
      for (let bit = -9; bit < 90; bit++) assert.is(bitmap.has(bit), model.has(bit));
      const again = Bitmap.parse(bitmap.bytes, length);
      assert.equal([again?.bytes, again?.count], [bitmap.bytes, bitmap.count]);
    }),
    { numRuns: 1000, seed: 1 },
  );
});

test("bits are packed lowest first", () => {
  const bitmap = new Bitmap(10);
  for (const bit of [0, 3, 9]) bitmap.add(bit);
  assert.equal([...bitmap.bytes], [0b1001, 0b10]);
});

test("bytes of another length, or with a bit past the end, are refused", () => {
  assert.is(Bitmap.parse(new Uint8Array(1), 9), undefined);
  assert.is(Bitmap.parse(new Uint8Array(3), 9), undefined);
  assert.is(Bitmap.parse(new Uint8Array(1), 0), undefined);
  assert.is(Bitmap.parse(Uint8Array.of(0, 2), 9), undefined);
  assert.is(Bitmap.parse(Uint8Array.of(0, 1), 9)?.count, 1);
  assert.is(Bitmap.parse(new Uint8Array(0), 0)?.count, 0);
});

test("what is parsed is a copy", () => {
  const bytes = Uint8Array.of(1);
  const bitmap = Bitmap.parse(bytes, 8)!;
  bytes[0] = 255;
  assert.equal([bitmap.count, bitmap.has(1)], [1, false]);
});

test.run();
