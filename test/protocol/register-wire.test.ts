import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodeCanonical } from "../../protocol/cbor.ts";
import type { PayloadId } from "../../protocol/hash.ts";
import { registerAnswerBytesMax, registerQuestionBytesMax } from "../../protocol/limits.ts";
import {
  decodeRegisterQuestion,
  decodeRegisterReply,
  encodeRegisterQuestion,
  encodeRegisterReply,
} from "../../protocol/register-wire.ts";
import { registerQuestion, registerReply } from "../support/arbitrary-messages.ts";

const payload = "ab".repeat(32) as PayloadId;
test("what is encoded is decoded again", () => {
  fc.assert(
    fc.property(registerQuestion, registerReply, ([about, question], reply) => {
      assert.equal(decodeRegisterQuestion(encodeRegisterQuestion(about, question)), { payload: about, question });
      assert.equal(decodeRegisterReply(encodeRegisterReply(reply)), reply);
    }),
    { seed: 8 },
  );
});

test("a registrar without an answer says so, and of which payload", () => {
  const reply = { payload, answer: undefined };
  const bytes = encodeRegisterReply(reply);
  assert.is(
    Buffer.from(bytes).toString("hex"),
    `a3646b696e64646e6f6e65677061796c6f61645820${payload}6776657273696f6e01`,
  );
  assert.equal(decodeRegisterReply(bytes), reply);
});

test("the largest question and the largest answer fit their frames, and no larger one is read", () => {
  const groups = 65_537;
  const held = new Uint8Array(Math.ceil(groups / 8)).fill(255);
  const leases = [1, 2].map((one) => ({ group: groups - one, arrived: 1_000_000 }));
  const lacking = Array.from({ length: 8 }, (_, i) => groups - 1 - i);
  const state = {
    groups,
    site: "s".repeat(256),
    held,
    leases,
    wants: 2,
    isFarOnly: false,
    isReady: true,
    lacking,
    seeks: true,
  };
  const bytes = encodeRegisterQuestion(payload, state);
  assert.ok(bytes.length <= registerQuestionBytesMax);
  assert.equal(decodeRegisterQuestion(bytes), { payload, question: state });
  const peers = Array.from({ length: 512 }, () => "P".repeat(64));
  const given = leases.map(({ group }) => ({ group, from: "origin" as const }));
  const answered = { payload, answer: { peers, leases: given, leaseMs: 60_000, retryAfterMs: 60_000 } };
  assert.ok(encodeRegisterReply(answered).length <= registerAnswerBytesMax);
  assert.equal(decodeRegisterReply(encodeRegisterReply(answered)), answered);
  const long = { kind: "none", version: 1, payload: new Uint8Array(32), more: "x".repeat(registerAnswerBytesMax) };
  assert.is(decodeRegisterReply(encodeCanonical(long)), undefined);
});

test("any other bytes are refused, and none make it throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      assert.is(decodeRegisterQuestion(bytes), undefined);
      assert.is(decodeRegisterReply(bytes), undefined);
    }),
    { seed: 9 },
  );
});

test("a question or an answer with one field wrong is refused", () => {
  const want = { kind: "want", version: 1, payload: new Uint8Array(32), groups: 9, site: "", held: new Uint8Array(2) };
  const rest = { leases: [], wants: 2, isFarOnly: false, isReady: true, lacking: [], seeks: true };
  assert.ok(decodeRegisterQuestion(encodeCanonical({ ...want, ...rest })));
  const wrongs = [
    { version: 2 },
    { payload: new Uint8Array(31) },
    { groups: 0 },
    { groups: 100_000 },
    { held: new Uint8Array(3) },
    { held: new Uint8Array(1) },
    { site: "a\nb" },
    { wants: 3 },
    { isFarOnly: undefined },
    { isFarOnly: 1 },
    { leases: [[1]] },
    {
      leases: [
        [1, 1],
        [2, 1],
        [3, 1],
      ],
    },
    { lacking: [1, 2, 3, 4, 5, 6, 7, 8, 9] },
    { seeks: 1 },
  ];
  for (const wrong of wrongs) {
    assert.is(
      decodeRegisterQuestion(encodeCanonical({ ...want, ...rest, ...wrong })),
      undefined,
      JSON.stringify(wrong),
    );
  }
  const given = {
    kind: "leases",
    version: 1,
    payload: new Uint8Array(32),
    peers: [],
    leases: [[3, "far"]],
    leaseMs: 1,
    retryAfterMs: 1,
  };
  assert.ok(decodeRegisterReply(encodeCanonical(given)));
  for (const wrong of [
    { peers: ["../x"] },
    { leases: [[3, "near"]] },
    { leaseMs: 1e9 },
    { kind: "want" },
    { payload: 1 },
  ]) {
    assert.is(decodeRegisterReply(encodeCanonical({ ...given, ...wrong })), undefined, JSON.stringify(wrong));
  }
});

test.run();
