import { readFileSync } from "node:fs";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  type Announcement,
  decodeAnnouncement,
  digestHoldings,
  encodeAnnouncement,
  packHoldings,
  unpackHoldings,
} from "../../protocol/announcement.ts";
import { type CborMap, decodeAgain, encodeCanonical } from "../../protocol/cbor.ts";
import { bytesToHex, hexToBytes } from "../../protocol/hash.ts";
import {
  addressBytesMax,
  addressesMax,
  announcementBytesMax,
  changesMax,
  holdingsPerPeerMax,
  lifetimeMsMax,
} from "../../protocol/limits.ts";
import { announcementOf, hash, holdings, numbers, payload, variant } from "../support/announcements.ts";
import * as arbitrary from "../support/arbitrary-messages.ts";

const whole = announcementOf(
  "12D3KooWabc",
  holdings(1, 2, 3),
  { epoch: 1_700_000_000_000, sequence: 7 },
  holdings(1, 9),
);

test("an announcement is read as it was written", () => {
  fc.assert(
    fc.property(arbitrary.announcement, (announcement) => {
      assert.equal(decodeAnnouncement(encodeAnnouncement(announcement)), announcement);
    }),
  );
});

test("the frozen announcements are read and written byte for byte", () => {
  const path = new URL("../fixtures/announcement-vectors.json", import.meta.url);
  const vectors = JSON.parse(readFileSync(path, "utf8")) as {
    name: string;
    hex: string;
    packed: string;
    digest: string;
  }[];
  for (const { name, hex, packed, digest } of vectors) {
    const announcement = decodeAnnouncement(hexToBytes(hex));
    assert.ok(announcement !== undefined, name);
    assert.is(bytesToHex(encodeAnnouncement(announcement)), hex, name);
    assert.is(digestHoldings(hexToBytes(packed), hash), digest, name);
    assert.is(announcement.digest, digest, name);
    assert.is(bytesToHex(packHoldings(unpackHoldings(hexToBytes(packed)))), packed, name);
  }
  assert.ok(vectors.length >= 3);
});

test("holdings have one packed form, whatever order they come in, and the last word on a variant counts", () => {
  assert.equal(packHoldings(holdings(1, 2, 3)), packHoldings(holdings(3, 1, 2)));
  assert.equal(packHoldings([[variant(1), payload(5)], ...holdings(1)]), packHoldings(holdings(1)));
  assert.equal(new Map(unpackHoldings(packHoldings(holdings(1, 2)))), new Map(holdings(1, 2)));
  assert.is(packHoldings([]).length, 0);
});

test("the largest announcement that may be made fits in its limit", () => {
  const text = "é".repeat(127);
  const largest: Announcement = {
    ...announcementOf("1".repeat(64), holdings(...numbers(changesMax)), {}, []),
    ...{ network: text, name: text, site: text, rack: text, lifetimeMs: lifetimeMsMax, count: holdingsPerPeerMax },
    ...{ epoch: Number.MAX_SAFE_INTEGER, sequence: Number.MAX_SAFE_INTEGER },
    addresses: numbers(addressesMax).map(() => "a".repeat(addressBytesMax)),
  };
  const bytes = encodeAnnouncement(largest);
  assert.ok(bytes.length <= announcementBytesMax, `${bytes.length} bytes`);
  assert.equal(decodeAnnouncement(bytes), largest);
});

const changes = (decodeAgain(encodeAnnouncement(whole)) as { changes: CborMap }).changes;
const pairs = packHoldings(holdings(1, 2));
const strangers: readonly [what: string, change: CborMap][] = [
  ["one of another version", { version: 2 }],
  ["one without a network", { network: undefined }],
  ["one of a peer with a strange name", { peer: "../etc" }],
  ["one of a peer without a name", { peer: "" }],
  ["one with too many addresses", { addresses: numbers(addressesMax + 1).map(String) }],
  ["one with too long an address", { addresses: ["a".repeat(addressBytesMax + 1)] }],
  ["one with an address that moves the cursor", { addresses: ["\u001b[2J"] }],
  ["one whose name is no text", { name: 7 }],
  ["one with a negative epoch", { epoch: -1 }],
  ["one with half a sequence", { sequence: 1.5 }],
  ["one with an epoch of 2^53", { epoch: 2 ** 53 }],
  ["one that counts for years", { lifetimeMs: lifetimeMsMax + 1 }],
  ["one of a million variants", { count: 1_000_000 }],
  ["one with a short digest", { digest: new Uint8Array(31) }],
  ["one with a digest in hex", { digest: "00".repeat(32) }],
  ["one whose changes are a list", { changes: [] }],
  ["one whose changes are null", { changes: null }],
  ["one whose changes go out from nothing", { changes: { ...changes, from: undefined } }],
  ["one with half a pair", { changes: { ...changes, added: pairs.subarray(0, 100) } }],
  ["one with half a variant", { changes: { ...changes, removed: pairs.subarray(0, 31) } }],
  [
    "one with unsorted pairs",
    { changes: { ...changes, added: Buffer.concat([pairs.subarray(64), pairs.subarray(0, 64)]) } },
  ],
  [
    "one that adds a variant twice",
    { changes: { ...changes, added: Buffer.concat([pairs.subarray(0, 64), pairs.subarray(0, 64)]) } },
  ],
  ["one that adds and removes a variant", { changes: { ...changes, added: pairs, removed: pairs.subarray(64, 96) } }],
  ["one with too many changes", { changes: { ...changes, added: packHoldings(holdings(...numbers(changesMax))) } }],
];
for (const [what, change] of strangers) {
  test(`${what} is no announcement`, () => {
    const value = { ...(decodeAgain(encodeAnnouncement(whole)) as CborMap), ...change };
    const present = Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined));
    const { changes: inner } = present;
    if (change.changes !== undefined && typeof inner === "object" && inner !== null && !Array.isArray(inner)) {
      present.changes = Object.fromEntries(
        Object.entries(inner)
          .filter(([, each]) => each !== undefined)
          .map(([key, each]) => [key, each instanceof Uint8Array ? Uint8Array.from(each) : each]),
      );
    }
    assert.is(decodeAnnouncement(encodeCanonical(present)), undefined);
  });
}

test("what a newer version added does not matter", () => {
  const value = decodeAgain(encodeAnnouncement(whole)) as CborMap;
  assert.equal(decodeAnnouncement(encodeCanonical({ ...value, lanes: 4 })), whole);
});

test("bytes that are not canonical are no announcement", () => {
  const bytes = encodeAnnouncement(whole);
  assert.is(decodeAnnouncement(Uint8Array.from([...bytes, 0])), undefined);
  assert.is(decodeAnnouncement(bytes.subarray(1)), undefined);
  assert.is(decodeAnnouncement(new Uint8Array(announcementBytesMax + 1)), undefined);
});

test.run();
