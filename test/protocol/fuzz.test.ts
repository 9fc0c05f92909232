// deadline: 300 s

import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { decodeAnnouncement, encodeAnnouncement } from "../../protocol/announcement.ts";
import { Bitmap } from "../../protocol/bitmap.ts";
import { decodeCanonical, encodeCanonical } from "../../protocol/cbor.ts";
import { decodeNumbers, encodeNumbers } from "../../protocol/directory-reader.ts";
import { P2pCacheError } from "../../protocol/errors.ts";
import { parseHandleText, parseRxt } from "../../protocol/handle-text.ts";
import { KIB, MIB, recordBytesMax, segmentBytesMax } from "../../protocol/limits.ts";
import { decodeRoot, encodeRoot, payloadId } from "../../protocol/manifest.ts";
import {
  decodeCatalog,
  decodeDirectoryAnswer,
  decodeDirectoryAsk,
  decodeHello,
  decodeSwarm,
  encodeMessage,
  type Message,
} from "../../protocol/messages.ts";
import { seededRandom } from "../../protocol/random.ts";
import {
  decodeEnvelope,
  decodeRecord,
  defaultAttributes,
  encodeEnvelope,
  encodeRecord,
} from "../../protocol/record.ts";
import {
  decodeRegisterQuestion,
  decodeRegisterReply,
  encodeRegisterQuestion,
  encodeRegisterReply,
} from "../../protocol/register-wire.ts";
import { decodeSegment, encodeSegment } from "../../protocol/segments.ts";
import { parseVariant, variantFields, variantText } from "../../protocol/variant.ts";
import { encodeFrameHead, FrameDecoder } from "../../protocol/wire.ts";
import * as arbitrary from "../support/arbitrary-messages.ts";
import { build, directory, file, hash, link } from "../support/manifests.ts";
import { allocatedBytes } from "../support/memory.ts";
import { mutated } from "../support/mutations.ts";

/** A decoder of bytes from outside, and what it is tried on. */
interface Door {
  readonly name: string;
  readonly valid: readonly Uint8Array[];
  /** Takes bytes in; throws for refusal where that is its contract. */
  readonly read: (bytes: Uint8Array) => unknown;
  /** The bytes of what was read, where its format has one form only. */
  readonly again?: (value: never) => Uint8Array;
  /** Whether a refusal is `undefined`; else it is a P2pCacheError. */
  readonly answersUndefined?: true;
}

const inputs = process.env.P2PCACHE_LONG === undefined ? 10_000 : 300_000;
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
const utf8 = (from: string) => new Uint8Array(Buffer.from(from));
const samples = (messages: fc.Arbitrary<Message>) => fc.sample(messages, { numRuns: 40, seed: 1 });
const repositories = new Map([["studio", "/srv/rez"]]);

const small = build([
  ...[directory("d"), file("d/a", 10), file("d/b", 20), file("empty", 0), link("l", "d/a")],
  { kind: "large", path: "z", sizeBytes: 2 * MIB },
]);
const variants = [
  { kind: "rez", repository: "studio", name: "foo", version: "1.0.0", index: 0 },
  { kind: "rez", repository: "studio", name: "nover" },
] as const;
const record = {
  ...{ variant: variants[0], revision: 1, rootBytes: small.rootBytes, attributes: defaultAttributes },
  ...{ inPlaceRoot: "foo/1.0.0", releasedAt: "2026-01-02T03:04:05Z", supersedes: payloadId(small.rootBytes, hash) },
};
const body = encodeRecord(record, small.root);
const envelope = { body, signatures: [{ keyid: "ab".repeat(32), sig: new Uint8Array(64) }] };
const handle = (name: string) => ({
  key: "filesystem.variant",
  variables: { location: "/srv/rez", name, version: "1.0.0", index: 0, repository_type: "filesystem" },
});

const deep = (depth: number) => JSON.parse(`${"[".repeat(depth)}${"]".repeat(depth)}`) as unknown;
const hiding = { toString: 1, valueOf: 1, constructor: 1, toJSON: 1, length: -1 };
/** What decodes and is dangerous to touch; tried at all doors. */
const hostile: readonly Uint8Array[] = [
  ...[
    hiding,
    [2, hiding],
    { version: hiding },
    { payloadType: hiding },
    { kind: hiding },
    { kind: "hello", name: hiding },
  ],
  ...[
    deep(3000),
    [2, deep(2000)],
    { version: deep(2000) },
    { payloadType: deep(2000) },
    { kind: "rez", name: deep(2000) },
  ],
  ...[null, -1, 1.5, "", [], {}, [1, null], { resolved_packages: [hiding, null, [], { variables: hiding }] }],
].flatMap((value) => [encodeCanonical(value), utf8(JSON.stringify(value))]);

const doors: readonly Door[] = [
  { name: "a manifest root", valid: [small.rootBytes], read: decodeRoot, again: encodeRoot },
  { name: "a manifest segment", valid: small.segments, read: decodeSegment, again: encodeSegment },
  { name: "an envelope", valid: [encodeEnvelope(envelope)], read: decodeEnvelope },
  { name: "a record", valid: [body], read: (bytes) => decodeRecord(bytes, hash) },
  messages("a hello", arbitrary.hello, decodeHello),
  {
    name: "an announcement",
    valid: fc.sample(arbitrary.announcement, { numRuns: 40, seed: 1 }).map(encodeAnnouncement),
    read: decodeAnnouncement,
    answersUndefined: true,
  },
  messages("an ask for the directory", arbitrary.directoryAsk, decodeDirectoryAsk),
  messages("an answer of the directory", arbitrary.directoryAnswer, decodeDirectoryAnswer),
  {
    name: "the numbers of a part",
    valid: [[], [0], [1, 2, 3], [5, 300, 70_000]].map((numbers) => encodeNumbers(Uint32Array.from(numbers))),
    read: (bytes) => decodeNumbers(bytes, 100_000),
    again: encodeNumbers,
    answersUndefined: true,
  },
  messages("a catalog message", arbitrary.catalog, decodeCatalog),
  messages("a swarm message", arbitrary.swarm, decodeSwarm),
  {
    name: "a question to a registrar",
    valid: fc.sample(arbitrary.registerQuestion, { numRuns: 40, seed: 1 }).map(([payload, question]) => {
      return encodeRegisterQuestion(payload, question);
    }),
    read: decodeRegisterQuestion,
    answersUndefined: true,
  },
  {
    name: "a registrar's reply",
    valid: fc.sample(arbitrary.registerReply, { numRuns: 40, seed: 1 }).map(encodeRegisterReply),
    read: decodeRegisterReply,
    answersUndefined: true,
  },
  {
    name: "canonical CBOR",
    valid: [small.rootBytes, ...small.segments, ...variants.map(encodeCanonical)],
    read: (bytes) => decodeCanonical(bytes, MIB, "this"),
    again: encodeCanonical,
  },
  {
    name: "a variant",
    valid: variants.map((variant) => encodeCanonical(variant)),
    read: (bytes) => parseVariant(decodeCanonical(bytes, KIB, "this")),
    again: (variant) => encodeCanonical(variantFields(variant)),
  },
  {
    name: "a variant in JSON",
    valid: variants.map((variant) => utf8(JSON.stringify(variant))),
    read: (bytes) => withJson(bytes, (json) => variantText(parseVariant(json))),
  },
  {
    name: "a handle",
    valid: ["studio:foo-1.0.0[0]", "/srv/rez/foo/1.0.0/package.py[0]", `variant:${"0a".repeat(32)}`, "foo"]
      .concat(JSON.stringify(handle("foo")))
      .map(utf8),
    read: (bytes) => parseHandleText(text(bytes), repositories),
  },
  {
    name: "a context",
    valid: [utf8(JSON.stringify({ resolved_packages: [handle("foo"), handle("bar"), {}], package_caching: true }))],
    read: (bytes) => withJson(bytes, (json) => parseRxt(json, repositories)),
  },
  {
    name: "a bitmap",
    valid: [Uint8Array.of(1, 2, 3), Uint8Array.of(255, 255, 7)],
    read: (bytes) => Bitmap.parse(bytes, 19),
    again: (bitmap: Bitmap) => bitmap.bytes,
    answersUndefined: true,
  },
  {
    name: "a stream of frames",
    valid: [[...encodeFrameHead(utf8("header"), 4), 1, 2, 3, 4, ...encodeFrameHead(utf8("h"), 0)]].map((bytes) =>
      Uint8Array.from(bytes),
    ),
    read: readFrames,
  },
];

for (const door of doors) {
  test(`whatever bytes come for ${door.name}: a value or a refusal, soon`, () => {
    for (const bytes of door.valid) assert.ok(take(door, bytes) !== undefined, "what is valid is taken");
    for (const bytes of hostile) take(door, bytes);
    const random = seededRandom(7);
    let taken = 0;
    let slowestMs = 0;
    for (let i = 0; i < inputs; i++) {
      const bytes = mutated(i % 4 === 0 ? hostile : door.valid, random);
      const startedMs = performance.now();
      if (take(door, bytes) !== undefined) taken++;
      slowestMs = Math.max(slowestMs, performance.now() - startedMs);
    }
    // None of these inputs is over 20 KB; a second leaves room for a machine that does something else.
    assert.ok(slowestMs < 1000, `${slowestMs} ms`);
    assert.ok(taken < inputs, "some are refused");
  });
}

test("what claims to be huge, or is, is refused without being made room for", () => {
  const lengths = [2 ** 32 - 1, 2 ** 31, 2 ** 24];
  for (const door of doors.filter(({ name }) => name !== "a stream of frames")) {
    const heads = [0x5a, 0x7a, 0x9a, 0xba].flatMap((head) => lengths.map((length) => uint32(head, length)));
    const claims = heads.flatMap((head) => door.valid.map((bytes) => Buffer.concat([head, bytes])));
    const allocated = allocatedBytes(() => {
      for (const claim of claims) take(door, claim);
    });
    assert.ok(allocated < 4 * MIB, `${door.name}: ${allocated} bytes`);
  }
  for (const length of lengths) {
    const prefix = Buffer.concat([uint32(0, 4).subarray(1), uint32(0, length).subarray(1)]);
    const allocated = allocatedBytes(() => {
      for (let i = 0; i < 100; i++) assert.throws(() => new FrameDecoder(frameLimits).push(prefix));
    });
    assert.ok(allocated < 4 * MIB, `a frame: ${allocated} bytes`);
  }
});

test("the largest inputs that a door takes in, made of the smallest values, are answered in time", () => {
  const nothing = [0x00, 0x60, 0x80, 0x81, 0xa0, 0xa1, 0xf6, 0x20, 0x5b, 0x7b, 0x9b].map((byte) => Uint8Array.of(byte));
  const tokens = [
    ...nothing,
    utf8("["),
    utf8("{"),
    utf8('{"":'),
    utf8("[],"),
    utf8("="),
    utf8("a/"),
    utf8("a."),
    utf8(" "),
  ];
  for (const door of doors) {
    for (const token of tokens) {
      for (const prefix of [[], [0x9a, 0, 3, 0xff, 0xfb], [0x82, 1, 0x9a, 0, 3, 0xff, 0xf9]]) {
        const bytes = new Uint8Array(segmentBytesMax);
        for (let at = prefix.length; at < bytes.length; at += token.length) {
          bytes.set(token.subarray(0, bytes.length - at), at);
        }
        bytes.set(prefix);
        const startedMs = performance.now();
        take(door, bytes);
        const ms = performance.now() - startedMs;
        assert.ok(ms < 2000, `${door.name}: ${ms} ms for ${text(token)}`);
      }
    }
  }
  for (const door of doors) take(door, new Uint8Array(recordBytesMax + 1));
});

/** Gives bytes to a door: what it answers, or undefined for a refusal of the kind that it promises. */
function take(door: Door, bytes: Uint8Array): unknown {
  const before = bytes.slice();
  let value: unknown;
  try {
    value = door.read(bytes);
  } catch (error) {
    const seen = `${door.name}: ${String(error)} for ${Buffer.from(before.subarray(0, 300)).toString("latin1")}`;
    assert.ok(error instanceof P2pCacheError && door.answersUndefined === undefined, seen);
    const { message } = error as P2pCacheError;
    assert.ok(message.length > 0 && message.length < 2000, `${door.name}: a message of ${message.length} characters`);
    return undefined;
  }
  assert.ok(value !== undefined || door.answersUndefined === true, `${door.name} answers undefined`);
  assert.ok(Buffer.from(before).equals(bytes), `${door.name} changed its input`);
  if (value !== undefined && door.again !== undefined) {
    const again = Buffer.from(door.again(value as never)).toString("hex");
    assert.is(again, Buffer.from(bytes).toString("hex"), `${door.name} has one form`);
  }
  return value;
}

/** Fields that it does not know are left out by a decoder of messages: what it took in is the same ever after. */
function messages<M extends Message>(
  name: string,
  messagesOf: fc.Arbitrary<M>,
  decode: (header: Uint8Array) => M | undefined,
): Door {
  const read = (bytes: Uint8Array) => {
    const message = decode(bytes);
    if (message !== undefined) assert.equal(decode(encodeMessage(message)), message);
    return message;
  };
  return { name, valid: samples(messagesOf).map(encodeMessage), read, answersUndefined: true };
}

/** Cuts the bytes at places that they name themselves. */
function readFrames(bytes: Uint8Array): unknown {
  const decoder = new FrameDecoder(frameLimits);
  const cut = bytes.length === 0 ? 0 : bytes[bytes.length - 1]! % bytes.length;
  const frames = [bytes.subarray(0, cut), bytes.subarray(cut)].flatMap((part) => decoder.push(part));
  const consumed = frames.reduce((sum, { header, body: raw }) => sum + 8 + header.length + raw.length, 0);
  assert.ok(consumed <= bytes.length);
  const again = frames.flatMap(({ header, body: raw }) => [encodeFrameHead(header, raw.length), raw]);
  assert.ok(Buffer.concat(again).equals(bytes.subarray(0, consumed)));
  return frames;
}

/** What is no JSON never comes to these doors. */
function withJson(bytes: Uint8Array, read: (json: unknown) => unknown): unknown {
  let json: unknown;
  try {
    json = JSON.parse(text(bytes));
  } catch (cause) {
    throw new P2pCacheError("NOT_JSON", 1, "not JSON", { cause });
  }
  return read(json);
}

function uint32(head: number, length: number): Uint8Array {
  return Uint8Array.of(head, length >>> 24, (length >>> 16) & 255, (length >>> 8) & 255, length & 255);
}

const frameLimits = { headerBytesMax: 128 * KIB, bodyBytesMax: 2 * MIB };

test.run();
