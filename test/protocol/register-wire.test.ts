import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodeCanonical } from "../../protocol/cbor.ts";
import type { PayloadId } from "../../protocol/hash.ts";
import type { RegisterAnswer, RegisterQuestion } from "../../protocol/register-messages.ts";
import {
  decodeRegisterAnswer,
  decodeRegisterQuestion,
  encodeRegisterAnswer,
  encodeRegisterQuestion,
} from "../../protocol/register-wire.ts";

const payload = "ab".repeat(32) as PayloadId;
/** Objects as they are decoded. */
const plain = { noNullPrototype: true } as const;
const group = fc.nat(65_536);
const question: fc.Arbitrary<RegisterQuestion> = fc.integer({ min: 1, max: 3000 }).chain((groups) =>
  fc.record(
    {
      groups: fc.constant(groups),
      site: fc.constantFrom("", "berlin", "münchen 2"),
      held: fc.uint8Array({ minLength: Math.ceil(groups / 8), maxLength: Math.ceil(groups / 8) }),
      leases: fc.array(fc.record({ group, arrived: fc.nat(1000) }, plain), { maxLength: 2 }),
      wants: fc.nat(2),
      isReady: fc.boolean(),
      lacking: fc.array(group, { maxLength: 8 }),
      seeks: fc.boolean(),
    },
    plain,
  ),
);
const answer: fc.Arbitrary<RegisterAnswer> = fc.record(
  {
    peers: fc.array(fc.stringMatching(/^[0-9A-Za-z]{1,64}$/), { maxLength: 50 }),
    leases: fc.array(fc.record({ group, from: fc.constantFrom("origin" as const, "far" as const) }, plain), {
      maxLength: 2,
    }),
    leaseMs: fc.nat(60_000),
    retryAfterMs: fc.nat(60_000),
  },
  plain,
);

test("what is encoded is decoded again", () => {
  fc.assert(
    fc.property(question, answer, (one, other) => {
      assert.equal(decodeRegisterQuestion(encodeRegisterQuestion(payload, one)), { payload, question: one });
      assert.equal(decodeRegisterAnswer(encodeRegisterAnswer(other)), other);
    }),
    { seed: 8 },
  );
});

test("any other bytes are refused, and none make it throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      assert.is(decodeRegisterQuestion(bytes), undefined);
      assert.is(decodeRegisterAnswer(bytes), undefined);
    }),
    { seed: 9 },
  );
});

test("a question or an answer with one field wrong is refused", () => {
  const want = { kind: "want", version: 1, payload: new Uint8Array(32), groups: 9, site: "", held: new Uint8Array(2) };
  const rest = { leases: [], wants: 2, isReady: true, lacking: [], seeks: true };
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
  const given = { kind: "leases", version: 1, peers: [], leases: [[3, "far"]], leaseMs: 1, retryAfterMs: 1 };
  assert.ok(decodeRegisterAnswer(encodeCanonical(given)));
  for (const wrong of [{ peers: ["../x"] }, { leases: [[3, "near"]] }, { leaseMs: 1e9 }, { kind: "want" }]) {
    assert.is(decodeRegisterAnswer(encodeCanonical({ ...given, ...wrong })), undefined, JSON.stringify(wrong));
  }
});

test.run();
