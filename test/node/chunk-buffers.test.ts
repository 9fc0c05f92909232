import { test } from "uvu";
import * as assert from "uvu/assert";
import { giveBuffer, isOwnBuffer, takeBuffer } from "../../node/chunk-buffers.ts";
import { chunkBytesMax, MIB } from "../../protocol/limits.ts";

test("a buffer that was given back is taken again, and never by two", () => {
  const first = takeBuffer(MIB);
  const second = takeBuffer(MIB);
  assert.is.not(first.buffer, second.buffer);
  giveBuffer(first.buffer);
  const third = takeBuffer(MIB / 2);
  assert.is(third.buffer, first.buffer);
  assert.is(third.length, MIB / 2);
  assert.is.not(takeBuffer(MIB).buffer, second.buffer);
});

test("what was taken may be given to a thread, and what stands among other bytes may not", () => {
  assert.ok(isOwnBuffer(takeBuffer(MIB)));
  assert.ok(isOwnBuffer(new Uint8Array(10)));
  assert.not.ok(isOwnBuffer(new Uint8Array(10).subarray(1)));
  assert.not.ok(isOwnBuffer(new Uint8Array(chunkBytesMax).subarray(1)));
});

test("a buffer that went to a thread, or is of another size, is not kept", () => {
  const gone = takeBuffer(MIB);
  structuredClone(gone, { transfer: [gone.buffer] });
  giveBuffer(gone.buffer);
  const small = takeBuffer(10);
  giveBuffer(small.buffer);
  assert.is(takeBuffer(MIB).byteOffset, 0);
  assert.is(small.length, 10);
});

test.run();
