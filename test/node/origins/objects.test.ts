import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompressSync } from "node:zlib";
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  checkDescription,
  chunkPath,
  describeRepository,
  packChunk,
  recordPath,
  unpackChunk,
} from "../../../node/origins/objects.ts";
import { parseChunkHash, parseVariantHash } from "../../../protocol/hash.ts";
import { chunkBytesMax } from "../../../protocol/limits.ts";
import { noise } from "../../support/noise.ts";
import { failureOf } from "../../support/swarm-member.ts";

const hash = parseChunkHash("ab".repeat(32));
const text = Buffer.alloc(300_000, "a line of a text that is there many times\n");
const compress = promisify(zstdCompress);

test("objects lie where docs/formats.md says", () => {
  assert.is(chunkPath(hash), `chunks/ab/${hash}`);
  assert.is(chunkPath(hash, "zst"), `chunks/ab/${hash}.zst`);
  assert.is(recordPath(parseVariantHash("cd".repeat(32)), 7), `variants/cd/${"cd".repeat(32)}/7.dsse.json`);
});

test("a chunk is compressed where that saves a tenth, and is plain otherwise", async () => {
  const packed = await packChunk(text);
  assert.is(packed.form, "zst");
  assert.ok(packed.bytes.length <= 0.9 * text.length);
  for (const plain of [noise(1, 300_000), noise(1, 10), Buffer.from("short")]) {
    const kept = await packChunk(plain);
    assert.equal([kept.form, kept.bytes], ["plain", plain]);
  }
});

test("a chunk that is noise but for a few bytes stays plain", async () => {
  const bytes = Buffer.concat([noise(1, 100_000), Buffer.alloc(8_000)]);
  assert.is((await packChunk(bytes)).form, "plain");
});

test("what was packed unpacks to the same bytes, in a buffer that may be given away", async () => {
  const shapes = fc.record({
    unit: fc.uint8Array({ minLength: 1, maxLength: 64 }),
    times: fc.integer({ min: 1, max: 4000 }),
  });
  await fc.assert(
    fc.asyncProperty(shapes, async ({ unit, times }) => {
      const bytes = Buffer.alloc(unit.length * times, unit);
      const { form, bytes: packed } = await packChunk(bytes);
      const unpacked = form === "plain" ? packed : await unpackChunk(packed, bytes.length, "it");
      assert.ok(bytes.equals(unpacked));
    }),
    { numRuns: 50 },
  );
  const whole = await unpackChunk((await packChunk(text)).bytes, text.length, "it");
  assert.is(whole.buffer.byteLength, text.length);
});

test("what other programs read as zstd is what a .zst object holds", async () => {
  assert.ok(zstdDecompressSync((await packChunk(text)).bytes).equals(text));
});

test("a .zst object that holds more or less than its chunk is corrupt, and no more than the chunk is written out", async () => {
  const bomb = await compress(Buffer.alloc(64 << 20));
  for (const [bytes, sizeBytes, fault] of [
    [bomb, chunkBytesMax, /holds more than the 2097152 bytes/],
    [await compress(text), text.length + 1, /holds 300000 bytes, and its chunk has 300001/],
    [await compress(text), text.length - 1, /holds more than/],
    [(await compress(text)).subarray(0, -3), text.length, /not a whole zstd frame/],
    [Buffer.from("<html>log in</html>"), 100, /not a whole zstd frame/],
    [Buffer.alloc(0), 100, /not a whole zstd frame/],
  ] as const) {
    const error = await failureOf(unpackChunk(bytes, sizeBytes, "the object"));
    assert.is(error.code, "CHUNK_CORRUPT");
    assert.match(error.message, fault);
  }
});

test("a frame that asks for a huge window is refused before it gets its memory", async () => {
  const greedy = await compress(text, { params: { [constants.ZSTD_c_windowLog]: 27 } });
  assert.is((await failureOf(unpackChunk(greedy, text.length, "it"))).code, "CHUNK_CORRUPT");
});

test("a description says the network and the format version, and all others are refused by name", async () => {
  checkDescription(describeRepository("studio"), "it", "studio");
  for (const [json, code] of [
    ['{"formatVersion":1,"network":"other"}', "OTHER_NETWORK"],
    ['{"formatVersion":2,"network":"studio"}', "UNKNOWN_VERSION"],
    ["null", "UNKNOWN_VERSION"],
    ["<html>", "BAD_FORMAT"],
  ]) {
    const check = async () => checkDescription(Buffer.from(json!), "the file", "studio");
    const error = await failureOf(check());
    assert.is(error.code, code);
    assert.match(error.message, /^the file /);
  }
});

test.run();
