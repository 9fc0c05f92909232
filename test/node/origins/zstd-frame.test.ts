import { promisify } from "node:util";
import { constants, zstdCompress } from "node:zlib";
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { isWholeFrame } from "../../../node/origins/zstd-frame.ts";
import { noise } from "../../support/noise.ts";

const compress = promisify(zstdCompress);
const contents = {
  "one letter": Buffer.from("a"),
  "300 bytes": Buffer.alloc(300, "ab"),
  lines: Buffer.alloc(300_000, "a line of a text that is there many times\n"),
  zeros: Buffer.alloc(1 << 20),
  noise: Buffer.from(noise(1, 300_000)),
  both: Buffer.concat([noise(2, 200_000), Buffer.alloc(200_000)]),
};

for (const [name, bytes] of Object.entries(contents)) {
  for (const checksum of [0, 1]) {
    test(`a frame of ${name}${checksum ? " with a checksum" : ""} is whole at its own end only`, async () => {
      const frame = await framed(bytes, { [constants.ZSTD_c_checksumFlag]: checksum });
      assert.ok(await isWhole(frame, bytes.length));
      const ends = [0, 3, 5, 6, 17, 18, frame.length >> 1, frame.length - 4, frame.length - 1];
      for (const end of ends.filter((each) => each < frame.length)) {
        assert.not(await isWhole(frame.subarray(0, end), bytes.length), `${end} of ${frame.length}`);
      }
      assert.not(await isWhole(Buffer.concat([frame, Buffer.alloc(1)]), bytes.length));
      assert.not(await isWhole(frame, bytes.length + 1));
    });
  }
}

test("the name of a dictionary is passed over, however long", async () => {
  for (const [flag, length] of [
    [0, 0],
    [1, 1],
    [2, 2],
    [3, 4],
  ] as const) {
    // One segment, its size in one byte, and one last block of two bytes as they are.
    const header = Buffer.concat([Buffer.from("28b52ffd", "hex"), Buffer.of(32 | flag), Buffer.alloc(length, 7)]);
    const frame = Buffer.concat([header, Buffer.of(2), Buffer.from("110000", "hex"), Buffer.from("ab")]);
    assert.ok(await isWhole(frame, 2), `${flag}`);
    assert.not(await isWhole(frame.subarray(0, -1), 2), `${flag}`);
  }
});

test("a frame that does not say how much it holds is not taken for whole", async () => {
  const frame = await promisify(zstdCompress)(contents.lines, {
    params: { [constants.ZSTD_c_contentSizeFlag]: 0 },
  });
  assert.not(await isWhole(frame, contents.lines.length));
});

test("a frame of blocks without end is not read to its end", async () => {
  const frame = Buffer.concat([Buffer.from("28b52ffda000002000", "hex"), Buffer.alloc(2 << 20)]);
  let reads = 0;
  const read = async (at: number, length: number) => {
    reads++;
    return frame.subarray(at, at + length);
  };
  assert.not(await isWholeFrame(read, frame.length, 2 << 20));
  assert.ok(reads > 1_000 && reads < 1_100, `${reads}`);
});

test("whatever lies there gets an answer", async () => {
  const frame = await framed(contents.both, {});
  const any = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.tuple(fc.nat(40), fc.nat(255)).map(([at, value]) => Buffer.from(frame).fill(value, at, at + 1)),
  );
  await fc.assert(
    fc.asyncProperty(any, fc.nat(), async (bytes, size) => {
      assert.type(await isWhole(bytes, size), "boolean");
    }),
  );
});

test.run();

function framed(bytes: Uint8Array, params: Record<number, number>): Promise<Buffer> {
  return compress(bytes, { pledgedSrcSize: bytes.length, params });
}

function isWhole(file: Uint8Array, sizeBytes: number): Promise<boolean> {
  return isWholeFrame(async (at, length) => file.subarray(at, at + length), file.length, sizeBytes);
}
