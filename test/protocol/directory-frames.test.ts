import { readFileSync } from "node:fs";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Head, packHoldings } from "../../protocol/announcement.ts";
import { DirectoryReader, decodeNumbers, encodeNumbers } from "../../protocol/directory-reader.ts";
import { writeHeads, writeParts } from "../../protocol/directory-writer.ts";
import { FormatError } from "../../protocol/errors.ts";
import { bytesToHex } from "../../protocol/hash.ts";
import {
  directoryBodyBytesMax,
  frameHeaderBytesMax,
  holdingsPerPeerMax,
  pairsPerFrameMax,
  partsPerAskMax,
} from "../../protocol/limits.ts";
import { type DirectoryFrame, encodeMessage } from "../../protocol/messages.ts";
import { seededRandom } from "../../protocol/random.ts";
import { headOf, holdings, numbers, signedBy } from "../support/announcements.ts";

const empty = new Uint8Array(0);
const part = (peer: string, ...held: readonly number[]) => {
  const whole = packHoldings(holdings(...held));
  return { head: headOf(signedBy(peer, holdings(...held))), whole };
};
const envelopeOnly = ({ signed, remainingMs }: Head) => ({ envelope: signed.envelope, remainingMs });

function readAll(frames: Iterable<DirectoryFrame>) {
  const reader = new DirectoryReader();
  return Array.from(frames, ({ message, body }) => reader.read(message, body));
}

test("lists come out of their frames as they went in, each pair sent once", () => {
  const held = fc.uniqueArray(fc.nat(40), { maxLength: 30 });
  fc.assert(
    fc.property(fc.array(held, { maxLength: 8 }), (lists) => {
      const parts = lists.map((list, index) => part(`p${index}`, ...list));
      const frames = [...writeParts(parts, seededRandom(1))];
      const read = readAll(frames).filter((each) => each.kind === "part");
      assert.equal(
        read.map(({ head, whole }) => ({ head, whole })),
        parts.map(({ head, whole }) => ({ head: envelopeOnly(head), whole })),
      );
      const pairs = frames.filter(({ message }) => message.kind === "pairs");
      const sent = pairs.reduce((sum, { body }) => sum + body.length / 64, 0);
      assert.is(sent, new Set(lists.flat()).size);
      assert.is(frames.at(-1)?.message.kind, "end");
    }),
  );
});

test("frames of the largest directory keep within their limits", () => {
  const parts = [part("a", ...numbers(holdingsPerPeerMax)), part("b", ...numbers(100, 19_950))];
  for (const { message, body } of writeParts(parts, seededRandom(1))) {
    assert.ok(encodeMessage(message).length <= frameHeaderBytesMax);
    assert.ok(body.length <= directoryBodyBytesMax);
  }
  const heads = numbers(1_000).map((number) => part(`p${number}`).head);
  const frames = [...writeHeads(heads)];
  for (const { message } of frames) assert.ok(encodeMessage(message).length <= frameHeaderBytesMax);
  const read = readAll(frames).flatMap((each) => (each.kind === "heads" ? each.heads : []));
  assert.equal(read, heads.map(envelopeOnly));
});

test("numbers are ascending gaps in as few bytes as they need, in one form", () => {
  assert.equal([...encodeNumbers(Uint32Array.of(0, 1, 129, 300_000))], [0, 0, 127, 222, 166, 18]);
  const list = fc.uniqueArray(fc.nat(999_999), { maxLength: 200 }).map((all) => Uint32Array.from(all).sort());
  fc.assert(fc.property(list, (all) => assert.equal(decodeNumbers(encodeNumbers(all), 1_000_000), all)));
  for (const bytes of [[0x80], [0x80, 0], [0xff, 0xff, 0xff, 1], [0x80, 0x80, 0x80, 0x80, 1], [5], [4, 0]]) {
    assert.is(decodeNumbers(Uint8Array.from(bytes), 5), undefined, String(bytes));
  }
  assert.is(decodeNumbers(new Uint8Array(holdingsPerPeerMax + 1), 1_000_000), undefined);
});

const full = packHoldings(holdings(...numbers(pairsPerFrameMax)));
const head = { envelope: empty, remainingMs: 0 };
const lies: readonly [what: string, frames: DirectoryFrame[]][] = [
  ["a part whose pairs did not come", [{ message: { kind: "part", ...head }, body: Uint8Array.of(0) }]],
  ["half a pair", [{ message: { kind: "pairs" }, body: full.subarray(0, 100) }]],
  ["no pairs", [{ message: { kind: "pairs" }, body: empty }]],
  ["too many pairs in a frame", [{ message: { kind: "pairs" }, body: Buffer.concat([full, full]) }]],
  ["heads with a body", [{ message: { kind: "heads", heads: [] }, body: Uint8Array.of(0) }]],
  [
    "frames after the end",
    [
      { message: { kind: "end" }, body: empty },
      { message: { kind: "end" }, body: empty },
    ],
  ],
  [
    "a variant twice in a part",
    [
      { message: { kind: "pairs" }, body: full.subarray(0, 64) },
      { message: { kind: "pairs" }, body: full.subarray(0, 64) },
      { message: { kind: "part", ...head }, body: Uint8Array.of(0, 0) },
    ],
  ],
  [
    "more parts than were asked for",
    numbers(partsPerAskMax + 1).map(() => ({ message: { kind: "part", ...head }, body: empty })),
  ],
  ["half a million pairs and more", numbers(489).map(() => ({ message: { kind: "pairs" }, body: full }))],
];
for (const [what, frames] of lies) {
  test(`${what} ends the reading of a directory`, () => {
    const reader = new DirectoryReader();
    const last = frames.at(-1)!;
    for (const { message, body } of frames.slice(0, -1)) reader.read(message, body);
    assert.throws(
      () => reader.read(last.message, last.body),
      (error: unknown) => error instanceof FormatError,
    );
  });
}

test("no more lists are read than were asked for, nor more pairs than these may have", () => {
  assert.throws(() => new DirectoryReader(0).read({ kind: "pairs" }, full), /more than 0 pairs/);
  const reader = new DirectoryReader(1);
  for (let frames = 0; frames < 19; frames++) reader.read({ kind: "pairs" }, full);
  assert.throws(() => reader.read({ kind: "pairs" }, full), /more than 20000 pairs/);
  const envelope = new Uint8Array(1);
  const part = { kind: "part", envelope, remainingMs: 1 } as const;
  const other = new DirectoryReader(1);
  other.read(part, new Uint8Array(0));
  assert.throws(() => other.read(part, new Uint8Array(0)), /more than 1 parts/);
});

test("what sorts alike at first sorts by the rest", () => {
  const whole = new Uint8Array(64 * 3);
  for (const [index, byte] of [1, 2, 3].entries()) whole[index * 64 + 20] = byte;
  const frames = [...writeParts([{ head: part("a").head, whole }], seededRandom(1))];
  const shuffled = frames.map((frame) => {
    if (frame.message.kind !== "pairs") return frame;
    return { ...frame, body: Buffer.concat([whole.subarray(128), whole.subarray(0, 128)]) };
  });
  const read = readAll(shuffled).find((each) => each.kind === "part");
  assert.equal(read?.whole, whole);
});

test("the frozen frames of a directory are written byte for byte", () => {
  const path = new URL("../fixtures/directory-vectors.json", import.meta.url);
  const frozen = JSON.parse(readFileSync(path, "utf8")) as { header: string; body: string }[];
  assert.equal(vectorFrames(), frozen);
});

/** One answer of each kind, in hex. */
function vectorFrames() {
  const peer = "12D3KooWGRUVh8LcbcKh7sDrbQ5pDg5NSPN1wZ7oZgQtKpXwUHyD";
  const said = { addresses: [], name: "ws", epoch: 1_790_000_000_000 };
  const one = { head: headOf(signedBy(peer, holdings(1, 2), said), 1_000), whole: packHoldings(holdings(1, 2)) };
  const two = { head: headOf(signedBy("b", holdings(2, 3), said), 2_000.5), whole: packHoldings(holdings(2, 3)) };
  const frames = [...writeHeads([one.head, two.head]), ...writeParts([one, two], seededRandom(1))];
  return frames.map(({ message, body }) => ({ header: bytesToHex(encodeMessage(message)), body: bytesToHex(body) }));
}

test.run();
