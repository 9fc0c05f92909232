import { createPrivateKey, sign as signWith } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { keyId, verifySignature } from "../../node/keys.ts";
import { NotTrustedError, type P2pCacheError, VersionError } from "../../protocol/errors.ts";
import { recordBytesMax, rootBytesMax } from "../../protocol/limits.ts";
import {
  decodeEnvelope,
  decodeRecord,
  defaultAttributes,
  type Envelope,
  encodeEnvelope,
  encodeRecord,
  newerRecord,
  type ReleaseRecord,
  signedBytes,
  trustedRecord,
} from "../../protocol/record.ts";
import { build, directory, file, hash, refuses } from "../support/manifests.ts";

/** RFC 8032, section 7.1, tests 1 and 2: secret and public key. */
const keys = [
  [
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
  ],
  [
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
  ],
] as const;
const publicKeys = keys.map(([, text]) => new Uint8Array(Buffer.from(text, "hex")));
const keyIds = publicKeys.map(keyId);
const trusted = new Map([[keyIds[0]!, publicKeys[0]!]]);

const tree = build([directory("bin"), file("bin/tool", 100), file("empty", 0)]);
const otherTree = build([file("bin", 1)]);
const record: ReleaseRecord = {
  variant: { kind: "rez", repository: "studio", name: "foo", version: "1.0.0", index: 0 },
  revision: 1,
  payload: payloadOf(tree.rootBytes),
  root: tree.root,
  rootBytes: tree.rootBytes,
  attributes: { ...defaultAttributes, variantRequires: ["python-3.11"], nonLocalisableBeside: ["big"] },
  inPlaceRoot: "foo/1.0.0/python-3.11",
  releasedAt: "2026-01-02T03:04:05Z",
  supersedes: payloadOf(otherTree.rootBytes),
};
const body = encodeRecord(record, tree.root);
const utf8 = (text: string) => new Uint8Array(Buffer.from(text));
const textOf = (bytes: Uint8Array) => Buffer.from(bytes).toString();
const verify = verifySignature;

function payloadOf(rootBytes: Uint8Array): ReleaseRecord["payload"] {
  return Buffer.from(hash(rootBytes)).toString("hex") as ReleaseRecord["payload"];
}

function signed(bytes: Uint8Array, ...by: number[]): Envelope {
  const signatures = by.map((i) => {
    const der = Buffer.from(`302e020100300506032b657004220420${keys[i]![0]}`, "hex");
    const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    return { keyid: keyIds[i]!, sig: new Uint8Array(signWith(null, signedBytes(bytes), privateKey)) };
  });
  return { body: bytes, signatures };
}

function distrusts(work: () => unknown, code: string): void {
  assert.throws(work, (error: P2pCacheError) => error instanceof NotTrustedError && error.code === code);
}

/** The record's JSON with some fields changed; undefined takes one away. */
function changed(fields: Readonly<Record<string, unknown>>): Uint8Array {
  return utf8(JSON.stringify({ ...JSON.parse(textOf(body)), ...fields }));
}

test("what is signed is DSSE's pre-authentication encoding of type and body", () => {
  const type = "application/vnd.p2pcache.release+json;version=1";
  assert.is(textOf(signedBytes(utf8('{"ü":1}'))), `DSSEv1 47 ${type} 8 {"ü":1}`);
  assert.is(textOf(signedBytes(new Uint8Array(0))), `DSSEv1 47 ${type} 0 `);
});

test("a record and its envelope come back from their bytes", () => {
  assert.equal(decodeRecord(body, hash), record);
  const { inPlaceRoot: _, supersedes: __, ...first } = { ...record, revision: 0 };
  assert.equal(decodeRecord(encodeRecord(first, tree.root), hash), first);
  const envelope = signed(body, 0, 1);
  assert.equal(decodeEnvelope(encodeEnvelope(envelope)), envelope);
});

test("a record that a trusted publisher signed is trusted, whoever else signed it", () => {
  for (const by of [[0], [1, 0]]) {
    const envelope = decodeEnvelope(encodeEnvelope(signed(body, ...by)));
    assert.equal(trustedRecord(envelope, trusted, verify, hash), record);
  }
});

test("a record that nobody whom we trust has signed is refused, also one that nobody signed", () => {
  distrusts(() => trustedRecord(signed(body, 1), trusted, verify, hash), "NOT_TRUSTED");
  distrusts(() => trustedRecord(signed(body), trusted, verify, hash), "NOT_TRUSTED");
  distrusts(() => trustedRecord(signed(body, 0), new Map(), verify, hash), "NOT_TRUSTED");
});

test("a wrong signature is refused, and so is a right one of another key under a trusted name", () => {
  const [right] = signed(body, 0).signatures;
  const [foreign] = signed(body, 1).signatures;
  const flipped = right!.sig.with(5, right!.sig[5]! ^ 1);
  for (const sig of [flipped, foreign!.sig, new Uint8Array(64), new Uint8Array(0), right!.sig.subarray(1)]) {
    const envelope = { body, signatures: [{ keyid: keyIds[0]!, sig }] };
    distrusts(() => trustedRecord(envelope, trusted, verify, hash), "BAD_SIGNATURE");
  }
  const turned = { ...signed(body, 0), body: changed({ revision: 2 }) };
  distrusts(() => trustedRecord(turned, trusted, verify, hash), "BAD_SIGNATURE");
});

test("one right signature is enough beside a wrong one under the same name", () => {
  const [right] = signed(body, 0).signatures;
  const envelope = { body, signatures: [{ keyid: keyIds[0]!, sig: new Uint8Array(64) }, right!] };
  assert.equal(trustedRecord(envelope, trusted, verify, hash), record);
});

test("without publishers the hashes are trusted alone, and what breaks a rule is refused all the same", () => {
  assert.equal(trustedRecord(signed(body), undefined, verify, hash), record);
  refuses(() => trustedRecord(signed(changed({ revision: -1 })), undefined, verify, hash), "BAD_FORMAT");
});

test("a signed record that breaks a rule is refused for that", () => {
  refuses(() => trustedRecord(signed(changed({ totals: {} }), 0), trusted, verify, hash), "BAD_FORMAT");
});

test("the higher revision counts, in either order", () => {
  const newer = { ...record, revision: 2, payload: payloadOf(otherTree.rootBytes) };
  assert.is(newerRecord(record, newer), newer);
  assert.is(newerRecord(newer, record), newer);
  assert.is(newerRecord(record, { ...record }).payload, record.payload);
  const later = {
    ...record,
    releasedAt: "2999-01-01T00:00:00Z",
    attributes: { ...record.attributes, cachable: false },
  };
  assert.is(newerRecord(record, later), later);
  assert.is(newerRecord(later, record), later);
});

test("two records of one revision with different trees are a conflict that names both", () => {
  const rival = { ...record, payload: payloadOf(otherTree.rootBytes) };
  distrusts(() => newerRecord(record, rival), "RECORD_CONFLICT");
  assert.throws(
    () => newerRecord(record, rival),
    (error: Error) => [record.payload, rival.payload].every((payload) => error.message.includes(payload)),
  );
});

const tooLarge = Buffer.alloc(rootBytesMax + 3).toString("base64");
for (const [what, fields] of [
  ["no variant", { variant: undefined }],
  ["a variant that leaves its directory", { variant: { ...record.variant, name: "../foo" } }],
  ["a negative revision", { revision: -1 }],
  ["a revision that is no number", { revision: "1" }],
  ["an impossible revision", { revision: 1_000_001 }],
  ["no root", { root: undefined }],
  ["a root that is not base64", { root: "a-_=" }],
  ["a root that is none", { root: "AAAA" }],
  ["a root that is too large", { root: tooLarge }],
  ["no totals", { totals: undefined }],
  ["totals that are a list", { totals: [] }],
  ["fewer entries than its root", { totals: { ...totals(), entries: 2 } }],
  ["more files than its root", { totals: { ...totals(), files: 3 } }],
  ["other bytes than its root", { totals: { ...totals(), bytes: 101 } }],
  ["no chunks", { totals: { ...totals(), chunks: undefined } }],
  ["no attributes", { attributes: null }],
  ["a flag that is no flag", { attributes: { ...record.attributes, cachable: 1 } }],
  ["a missing flag", { attributes: { ...record.attributes, externalLinks: undefined } }],
  ["requirements that are no list", { attributes: { ...record.attributes, variantRequires: "python" } }],
  ["a requirement that is no text", { attributes: { ...record.attributes, variantRequires: [1] } }],
  ["too many requirements", { attributes: { ...record.attributes, variantRequires: Array(1001).fill("a") } }],
  ["an absolute inPlaceRoot", { inPlaceRoot: "/etc" }],
  ["an inPlaceRoot outside", { inPlaceRoot: "a/../../b" }],
  ["an inPlaceRoot that is no text", { inPlaceRoot: null }],
  ["no time of release", { releasedAt: undefined }],
  ["a time without zone", { releasedAt: "2026-01-02T03:04:05" }],
  ["a month of thirteen", { releasedAt: "2026-13-02T03:04:05Z" }],
  ["an hour of 24", { releasedAt: "2026-12-02T24:04:05Z" }],
  ["a time with a line after it", { releasedAt: "2026-01-02T03:04:05Z\n" }],
  ["nothing that it supersedes", { supersedes: undefined }],
  ["half a payload that it supersedes", { supersedes: record.payload.slice(1) }],
  ["a number that it supersedes", { supersedes: 7 }],
] as const) {
  test(`a record with ${what} is refused`, () => {
    refuses(() => decodeRecord(changed(fields), hash), "BAD_FORMAT");
  });
}

function totals(): object {
  return (JSON.parse(textOf(body)) as { totals: object }).totals;
}

test("a record of a newer version is refused with what to upgrade, whatever its version looks like", () => {
  const versions = [2, "2", null, undefined, [], { major: 2 }];
  for (const version of versions) {
    assert.throws(
      () => decodeRecord(changed({ version }), hash),
      (error: Error) => error instanceof VersionError,
    );
  }
  for (const text of ['{"version":{"toString":1,"valueOf":1}}', `{"version":${"[".repeat(9999)}${"]".repeat(9999)}}`]) {
    refuses(() => decodeRecord(utf8(text), hash), "BAD_FORMAT");
  }
});

test("an envelope of another type is of a version that is not known", () => {
  const envelope = JSON.parse(textOf(encodeEnvelope(signed(body, 0))));
  for (const payloadType of ["application/vnd.in-toto+json", undefined, 7, {}]) {
    assert.throws(
      () => decodeEnvelope(utf8(JSON.stringify({ ...envelope, payloadType }))),
      (error: Error) => error instanceof VersionError,
    );
  }
  refuses(() => decodeEnvelope(utf8('{"payloadType":{"toString":1}}')), "BAD_FORMAT");
});

test("base64 has one form for the same bytes", () => {
  const text = (sig: string) => JSON.stringify({ ...written, signatures: [{ keyid: keyIds[0], sig }] });
  const written = JSON.parse(textOf(encodeEnvelope(signed(body))));
  for (const sig of ["", "QQ==", "QUI=", "QUJD"]) assert.is(decodeEnvelope(utf8(text(sig))).signatures.length, 1);
  for (const sig of ["QR==", "QUJ=", "QQ=", "QQ", "Q===", "QUJ-", " QUJD"]) {
    refuses(() => decodeEnvelope(utf8(text(sig))), "BAD_FORMAT");
  }
});

test("an envelope that breaks a rule is refused", () => {
  const envelope = JSON.parse(textOf(encodeEnvelope(signed(body, 0))));
  const [signature] = envelope.signatures;
  for (const wrong of [
    { payload: undefined },
    { payload: "=" },
    { payload: "ab" },
    { payload: [] },
    { signatures: undefined },
    { signatures: {} },
    { signatures: [7] },
    { signatures: [{ keyid: "a" }] },
    { signatures: [{ sig: "" }] },
    { signatures: [{ ...signature, sig: "a===" }] },
    { signatures: [{ ...signature, keyid: "\u001b[2J" }] },
    { signatures: [{ ...signature, keyid: "" }] },
    { signatures: Array(17).fill(signature) },
  ]) {
    refuses(() => decodeEnvelope(utf8(JSON.stringify({ ...envelope, ...wrong }))), "BAD_FORMAT");
  }
  for (const bytes of [utf8(""), utf8("{"), utf8("[]"), utf8("null"), Uint8Array.of(0xff), utf8("\ufeff{}")]) {
    refuses(() => decodeEnvelope(bytes), "BAD_FORMAT");
    refuses(() => decodeRecord(bytes, hash), "BAD_FORMAT");
  }
  refuses(() => decodeEnvelope(new Uint8Array(recordBytesMax + 1)), "BAD_FORMAT");
});

test("a record is signed and written as it always was", () => {
  const vectors = JSON.parse(readFileSync(new URL("../fixtures/record-vectors.json", import.meta.url), "utf8"));
  const envelope = decodeEnvelope(utf8(vectors.envelope));
  assert.is(textOf(envelope.body), vectors.body);
  const read = trustedRecord(envelope, new Map([[vectors.keyid, publicKeys[0]!]]), verify, hash) as ReleaseRecord;
  assert.equal(textOf(encodeRecord(read, read.root)), vectors.body);
  assert.equal(textOf(encodeEnvelope(signed(envelope.body, 0))), vectors.envelope, "Ed25519 is deterministic");
  assert.equal([keyIds[0], read.payload], [vectors.keyid, vectors.payload]);
});

test.run();
