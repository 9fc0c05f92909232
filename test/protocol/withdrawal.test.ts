import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { keyId, verifySignature } from "../../node/keys.ts";
import { NotTrustedError, type P2pCacheError } from "../../protocol/errors.ts";
import {
  decodeEnvelope,
  decodeRecord,
  decodeRelease,
  defaultAttributes,
  encodeEnvelope,
  encodeRecord,
  newerRecord,
  type SignedRecord,
  trustedRecord,
} from "../../protocol/record.ts";
import { encodeWithdrawal, isReason, type Withdrawal, withdrawnError } from "../../protocol/withdrawal.ts";
import { build, file, hash, refuses } from "../support/manifests.ts";

const tree = build([file("tool", 100)]);
const variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0", index: 0 } as const;
const payload = Buffer.from(hash(tree.rootBytes)).toString("hex") as Withdrawal["supersedes"];
const releasedAt = "2026-01-02T03:04:05Z";
const withdrawal: Withdrawal = {
  withdrawn: true,
  variant,
  revision: 1,
  reason: "it crashes on Tuesdays",
  releasedAt,
  supersedes: payload,
};
const body = encodeWithdrawal(withdrawal);

function release(revision: number): SignedRecord {
  const facts = { variant, revision, rootBytes: tree.rootBytes, attributes: defaultAttributes, releasedAt };
  return decodeRecord(encodeRecord({ ...facts, supersedes: payload }, tree.root), hash);
}

function changed(fields: Readonly<Record<string, unknown>>): Uint8Array {
  return Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(body).toString()), ...fields }));
}

test("a withdrawal comes back from its bytes, and is no release", () => {
  assert.equal(decodeRecord(body, hash), withdrawal);
  refuses(() => decodeRelease(body, hash), "BAD_FORMAT");
});

test("the highest revision counts, whatever it says", () => {
  const [first, third] = [release(0), release(2)];
  for (const [a, b, counts] of [
    [first, withdrawal, withdrawal],
    [withdrawal, third, third],
  ] as const) {
    assert.is(newerRecord<SignedRecord>(a, b), counts);
    assert.is(newerRecord<SignedRecord>(b, a), counts);
  }
});

test("a release and a withdrawal of one revision are a conflict; two withdrawals are not, and one of them counts", () => {
  const conflict = (error: P2pCacheError) => error instanceof NotTrustedError && error.code === "RECORD_CONFLICT";
  assert.throws(() => newerRecord<SignedRecord>(release(1), withdrawal), conflict);
  assert.throws(() => newerRecord<SignedRecord>(withdrawal, release(1)), conflict);
  const later = { ...withdrawal, releasedAt: "2026-01-03T03:04:05Z", supersedes: "ab".repeat(32) as typeof payload };
  assert.is(newerRecord(withdrawal, later), later);
  assert.is(newerRecord(later, withdrawal), later);
});

for (const [what, fields] of [
  ["that says no", { withdrawn: false }],
  ["that says it in words", { withdrawn: "true" }],
  ["without a reason", { reason: undefined }],
  ["with a reason of two lines", { reason: "a\nb" }],
  ["with an escape sequence for a reason", { reason: "\u001b[2J" }],
  ["with a reason of more than 1000 bytes", { reason: "ü".repeat(501) }],
  ["of nothing", { supersedes: undefined }],
  ["of nothing, as the first revision", { supersedes: undefined, revision: 0 }],
  ["with a tree", { root: "AAAA" }],
  ["with attributes", { attributes: {} }],
  ["without a time", { releasedAt: undefined }],
  ["of no variant", { variant: {} }],
  ["with a negative revision", { revision: -1 }],
] as const) {
  test(`a withdrawal ${what} is refused`, () => refuses(() => decodeRecord(changed(fields), hash), "BAD_FORMAT"));
}

test("a reason of 1000 bytes is one, and none at all too", () => {
  assert.ok(isReason("ü".repeat(500)) && isReason(""));
});

test("who, when and why are told", () => {
  const error = withdrawnError(withdrawal, "ab".repeat(32));
  assert.equal([error.code, error.exit], ["WITHDRAWN", 3]);
  assert.match(
    error.message,
    "studio:foo-1.0.0[0] was withdrawn by abababababababab on 2026-01-02T03:04:05Z: it crashes",
  );
  assert.match(withdrawnError({ ...withdrawal, reason: "" }, undefined).message, /withdrawn on 2026-01-02T03:04:05Z$/);
});

test("a withdrawal is signed and written as it always was", () => {
  const vectors = JSON.parse(readFileSync(new URL("../fixtures/withdrawal-vectors.json", import.meta.url), "utf8"));
  const publicKey = new Uint8Array(Buffer.from(vectors.publicKey, "hex"));
  const publishers = new Map([[keyId(publicKey), publicKey]]);
  const envelope = decodeEnvelope(Buffer.from(vectors.envelope));
  const read = trustedRecord(envelope, publishers, verifySignature, hash) as Withdrawal;
  assert.is(Buffer.from(encodeWithdrawal(read)).toString(), vectors.body);
  assert.is(Buffer.from(encodeEnvelope(envelope)).toString(), vectors.envelope);
});

test.run();
