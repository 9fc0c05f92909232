import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { FormatError } from "../../protocol/errors.ts";
import { encodeFrameHead, type Frame, FrameDecoder } from "../../protocol/wire.ts";
import { allocatedBytes } from "../support/memory.ts";

const limits = { headerBytesMax: 100, bodyBytesMax: 1000 };
const MIB = 1024 * 1024;

function encode(frames: readonly { header: Uint8Array; body: Uint8Array }[]): Uint8Array {
  return Buffer.concat(frames.flatMap(({ header, body }) => [encodeFrameHead(header, body.length), body]));
}

const plain = (frames: readonly Frame[]) => frames.map(({ header, body }) => [[...header], [...body]]);

test("frames that are cut anywhere, or come all at once, are the same frames", () => {
  const frame = fc.record({ header: fc.uint8Array({ maxLength: 40 }), body: fc.uint8Array({ maxLength: 60 }) });
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 5 }), fc.array(fc.nat(500)), (frames, cuts) => {
      const bytes = encode(frames);
      const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
      const decoder = new FrameDecoder(limits);
      const read = places.flatMap((place, i) => decoder.push(bytes.subarray(places[i - 1] ?? 0, place)));
      assert.equal(plain(read), plain(frames as readonly Frame[]));
      assert.ok(decoder.isBetweenFrames);
    }),
    { numRuns: 1000, seed: 1 },
  );
});

test("frames that come byte by byte are the same frames, and the end of the stream is clean only between them", () => {
  const frames = [
    { header: Uint8Array.of(1, 2), body: Uint8Array.of(3) },
    { header: Uint8Array.of(4), body: new Uint8Array(0) },
    { header: new Uint8Array(0), body: Uint8Array.of(5, 6) },
  ];
  const decoder = new FrameDecoder(limits);
  assert.ok(decoder.isBetweenFrames);
  const read: Frame[] = [];
  let clean = 0;
  for (const byte of encode(frames)) {
    read.push(...decoder.push(Uint8Array.of(byte)));
    if (decoder.isBetweenFrames) clean++;
  }
  assert.equal(plain(read), plain(frames as Frame[]));
  assert.is(clean, 3);
});

test("the head of a frame is two big-endian lengths and the header", () => {
  assert.equal([...encodeFrameHead(Uint8Array.of(9, 8), 258)], [0, 0, 0, 2, 0, 0, 1, 2, 9, 8]);
});

test("a length at its limit is taken, and one past it is refused before anything of it has come, for good", () => {
  assert.is(
    new FrameDecoder(limits).push(encode([{ header: new Uint8Array(100), body: new Uint8Array(1000) }])).length,
    1,
  );
  for (const [header, body] of [
    [101, 0],
    [0, 1001],
    [2 ** 32 - 1, 0],
    [0, 2 ** 32 - 1],
  ] as const) {
    const prefix = new Uint8Array(8);
    new DataView(prefix.buffer).setUint32(0, header);
    new DataView(prefix.buffer).setUint32(4, body);
    const decoder = new FrameDecoder(limits);
    for (const bytes of [prefix, new Uint8Array(0), new Uint8Array(2000)]) {
      assert.throws(
        () => decoder.push(bytes),
        (error: Error) => error instanceof FormatError && error.code === "FRAME_TOO_LARGE",
      );
    }
    assert.not(decoder.isBetweenFrames);
  }
});

test("a frame's bytes are its own: neither the stream's buffer nor another frame's, also where there are none", () => {
  const bytes = encode([
    { header: Uint8Array.of(1), body: Uint8Array.of(2) },
    { header: Uint8Array.of(1), body: new Uint8Array(0) },
    { header: Uint8Array.of(1), body: new Uint8Array(0) },
  ]);
  const frames = new FrameDecoder(limits).push(bytes);
  bytes.fill(99);
  assert.equal(plain(frames), [
    [[1], [2]],
    [[1], []],
    [[1], []],
  ]);
  for (const { body } of frames) {
    assert.is(body.buffer.byteLength, body.length);
    structuredClone(body, { transfer: [body.buffer] });
  }
});

test("a claimed length never allocates more than its limit, and many claims are not added up", () => {
  const large = { headerBytesMax: MIB, bodyBytesMax: 2 * MIB };
  const claim = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
  const refused = allocatedBytes(() => {
    for (let i = 0; i < 100; i++) assert.throws(() => new FrameDecoder(large).push(claim));
  });
  assert.ok(refused < MIB, `${refused} bytes`);
  const allowed = encodeFrameHead(new Uint8Array(0), 2 * MIB);
  const decoder = new FrameDecoder(large);
  const taken = allocatedBytes(() => decoder.push(allowed));
  assert.ok(taken < 4 * MIB, `${taken} bytes`);
});

test.run();
