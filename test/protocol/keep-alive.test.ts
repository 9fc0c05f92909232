import { readFileSync } from "node:fs";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { keyId, parsePublicKey, verifySignature } from "../../node/keys.ts";
import { P2pCacheError } from "../../protocol/errors.ts";
import {
  checkNewer,
  decodeKeepList,
  encodeKeepList,
  isExpired,
  isForPlace,
  isToolset,
  keepListForm,
  parseKeepList,
  type SignedKeepList,
  trustedKeepList,
} from "../../protocol/keep-alive.ts";
import { utf8Bytes } from "../../protocol/paths.ts";
import { decodeEnvelope, encodeEnvelope } from "../../protocol/record.ts";
import { signedList } from "../support/keep-lists.ts";

const vectors = JSON.parse(readFileSync(new URL("../fixtures/keep-alive-vectors.json", import.meta.url), "utf8")) as {
  readonly publicKey: string;
  readonly body: string;
  readonly envelope: object;
};
const written = {
  toolset: "fx",
  scope: { site: "london", host: ["ws-*", "render-0?"] },
  keep: [{ package: "studio:maya-2026.1[0]", prefetch: true }, { package: "studio:houdini-20+<21" }],
};

test("a list is read in its order, with what each line means", () => {
  const list = parseKeepList(written);
  assert.is(list.toolset, "fx");
  assert.equal(list.scope, { site: ["london"], host: ["ws-*", "render-0?"] });
  assert.equal(
    list.keep.map(({ prefetch }) => prefetch),
    [true, false],
  );
  assert.equal(list.keep[0]!.means, {
    kind: "variant",
    variant: { kind: "rez", repository: "studio", name: "maya", version: "2026.1", index: 0 },
  });
  const { means } = list.keep[1]!;
  assert.ok(means.kind === "range" && means.name === "houdini");
});

test("what breaks a rule is refused with the line that does", () => {
  const bad: [unknown, RegExp][] = [
    [5, /a table/],
    [{ ...written, toolset: "../fx" }, /toolset/],
    [{ ...written, toolset: undefined }, /toolset/],
    [{ ...written, keeps: [] }, /no "?keeps"?; it may have toolset, scope, keep/],
    [{ ...written, keep: "maya" }, /\[\[keep\]\]/],
    [{ ...written, keep: [{ package: "studio:maya" }, { prefetch: true }] }, /number 2 has no package/],
    [{ ...written, keep: [{ package: "studio:maya", prefetch: "yes" }] }, /prefetch/],
    [{ ...written, keep: [{ package: "studio:maya", pin: true }] }, /number 1 has no "?pin"?/],
    [{ ...written, keep: [{ package: "maya-2026" }] }, /number 1: .*is no package/],
    [{ ...written, keep: [{ package: "studio:maya-3+<2" }] }, /number 1: no version can lie in/],
    [{ ...written, keep: [{ package: "studio:maya-1+<2[0]" }] }, /index, which goes with one version/],
    [{ ...written, keep: [{ package: "studio:maya-..[0]" }] }, /number 1/],
    [{ ...written, scope: "london" }, /scope is a table/],
    [{ ...written, scope: { city: "london" } }, /city/],
    [{ ...written, scope: { site: [] } }, /scope.site/],
    [{ ...written, scope: { site: [5] } }, /scope.site/],
    [{ ...written, keep: Array.from({ length: 10_001 }, () => ({ package: "a:b" })) }, /up to 10000/],
  ];
  for (const [value, message] of bad) refuses(() => parseKeepList(value), "BAD_FORMAT", message);
});

test("what was signed is read back as it was", () => {
  const list = signedList("fx", 42, written.keep, { scope: written.scope });
  assert.equal(decodeKeepList(encodeKeepList(list)), list);
  const plain = signedList("fx", 1, []);
  assert.equal(decodeKeepList(encodeKeepList(plain)), plain);
});

test("lists and their envelopes are encoded, and signed, as they always were", () => {
  const { publicKey, body, envelope } = vectors;
  const bytes = utf8Bytes(JSON.stringify(envelope));
  const key = parsePublicKey(publicKey);
  const keys = new Map([["fx", { key, keyid: keyId(key) }]]);
  const list = trustedKeepList(decodeEnvelope(bytes, keepListForm), keys, verifySignature);
  assert.is(new TextDecoder().decode(encodeKeepList(list)), body);
  assert.equal([list.version, list.signer, list.keep.length], [42, "pipeline", 2]);
  assert.equal(encodeEnvelope(decodeEnvelope(bytes, keepListForm), keepListForm), bytes);
});

test("a signature counts for lists only, by the toolset's key only", () => {
  const { publicKey, envelope } = vectors;
  const key = parsePublicKey(publicKey);
  const trusted = (keys: [string, { key: Uint8Array; keyid: string }][], change: object = {}) =>
    trustedKeepList(
      decodeEnvelope(utf8Bytes(JSON.stringify({ ...envelope, ...change })), keepListForm),
      new Map(keys),
      verifySignature,
    );
  refuses(() => trusted([]), "NOT_TRUSTED", /no key of the toolset fx/);
  refuses(() => trusted([["fx", { key: new Uint8Array(32), keyid: keyId(key) }]]), "BAD_SIGNATURE");
  refuses(() => trusted([["fx", { key, keyid: "another" }]]), "BAD_SIGNATURE");
  refuses(() => trusted([["fx", { key, keyid: keyId(key) }]], { signatures: [] }), "BAD_SIGNATURE");
  const asRecord = { payloadType: "application/vnd.p2pcache.release+json;version=1" };
  refuses(() => trusted([["fx", { key, keyid: keyId(key) }]], asRecord), "UNKNOWN_VERSION");
  refuses(() => decodeEnvelope(utf8Bytes(JSON.stringify(envelope))), "UNKNOWN_VERSION");
});

test("a signed list without version, signer or times, or of another format, is refused", () => {
  const good = JSON.parse(new TextDecoder().decode(encodeKeepList(signedList("fx", 42, written.keep)))) as object;
  const decode = (change: object) => decodeKeepList(utf8Bytes(JSON.stringify({ ...good, ...change })));
  decode({});
  for (const change of [
    ...[{ listVersion: 0 }, { listVersion: -1 }, { listVersion: 1.5 }, { listVersion: "1" }, { listVersion: 1e12 }],
    ...[
      { signer: "" },
      { signer: 5 },
      { signer: "a\u001b[2J" },
      { expires: "tomorrow" },
      { signedAt: undefined },
      { more: 1 },
    ],
  ]) {
    refuses(() => decode(change), "BAD_FORMAT");
  }
  refuses(() => decode({ version: 2 }), "UNKNOWN_VERSION");
  refuses(() => decodeKeepList(utf8Bytes("{")), "BAD_FORMAT");
  refuses(() => decodeKeepList(new Uint8Array(3 * 1024 * 1024)), "BAD_FORMAT");
});

test("any JSON at all is a list, or is refused", () => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      try {
        decodeKeepList(utf8Bytes(text));
      } catch (error) {
        assert.match(String((error as { code?: string }).code), /BAD_FORMAT|UNKNOWN_VERSION/);
      }
    }),
  );
});

test("a list is for the machines that fit every part of its scope", () => {
  const list = parseKeepList(written);
  const place = { site: "london", rack: "a1", host: "ws-17" };
  assert.ok(isForPlace(list, place));
  assert.ok(isForPlace(list, { ...place, host: "render-03" }));
  assert.not(isForPlace(list, { ...place, host: "render-13" }));
  assert.not(isForPlace(list, { ...place, site: "paris" }));
  assert.ok(isForPlace(parseKeepList({ toolset: "all", keep: [] }), { site: "", rack: "", host: "" }));
});

test("a list is in force until the second at which it expires", () => {
  const list = signedList("fx", 1, [], { expires: "2026-11-21T08:00:00Z" });
  const atMs = Date.parse("2026-11-21T08:00:00Z");
  assert.not(isExpired(list, atMs - 1));
  assert.ok(isExpired(list, atMs));
});

test("a higher version takes the place of a lower one, never the other way round (P6)", () => {
  const bytes = (version: number, change: Partial<SignedKeepList> = {}) =>
    encodeKeepList({ ...signedList("fx", version, written.keep), ...change });
  assert.ok(checkNewer(undefined, bytes(1)));
  assert.ok(checkNewer(bytes(1), bytes(2)));
  assert.not(checkNewer(bytes(2), bytes(2)));
  refuses(() => checkNewer(bytes(2), bytes(1)), "LIST_OUTDATED");
  refuses(() => checkNewer(bytes(2), bytes(2, { signer: "somebody" })), "LIST_CONFLICT");
});

test("a toolset's name can be a part of a path and of a role", () => {
  for (const good of ["fx", "fx.lighting-2", "3d_a"]) assert.ok(isToolset(good), good);
  for (const bad of ["", ".fx", "-fx", "FX", "a/b", "a b", "a".repeat(65), 5]) assert.not(isToolset(bad), String(bad));
});

function refuses(work: () => unknown, code: string, message = /./): void {
  assert.throws(work, (error: P2pCacheError) => {
    assert.ok(error instanceof P2pCacheError);
    assert.is(error.code, code);
    assert.match(error.message, message);
    return true;
  });
}

test.run();
