import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Catalogue, type CatalogueEntry } from "../../../node/store/catalogue.ts";
import { parsePayloadId, parseVariantHash } from "../../../protocol/hash.ts";
import { variantOf } from "../../support/payloads.ts";
import { rejects } from "./store-fixture.ts";

const test = suite<{ path: string; folder: string }>("catalogue");
test.before.each((context) => {
  context.folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-catalogue-"));
  context.path = join(context.folder, "index");
});
test.after.each(({ folder }) => fs.rmSync(folder, { recursive: true }));

function entry(digit: string, more: Partial<CatalogueEntry> = {}): CatalogueEntry {
  return {
    variant: variantOf(`foo${digit}`, 3),
    hash: parseVariantHash(digit.repeat(64)),
    payload: parsePayloadId("c".repeat(64)),
    revision: 2,
    directory: "/cache/foo/1.0.0/abcd",
    suffix: "a",
    bytes: 100,
    files: 5,
    ...more,
  };
}

test("what was put is there at the next opening, as it was", async ({ path }) => {
  const entries = [entry("1"), entry("2", { unsureSinceBoot: "boot", isDamaged: true })];
  {
    await using catalogue = await Catalogue.open(path);
    for (const each of entries) await catalogue.put(each);
    assert.is(catalogue.bytes, 200);
  }
  await using catalogue = await Catalogue.open(path);
  assert.equal(catalogue.all(), entries);
  assert.is(catalogue.bytes, 200);
  assert.equal(catalogue.get(entries[0]!.hash), entries[0]);
});

test("an entry that is put again replaces the old one; one that is removed is gone", async ({ path }) => {
  const [one, payload] = [entry("1"), parsePayloadId("d".repeat(64))];
  {
    await using catalogue = await Catalogue.open(path);
    await catalogue.put(one);
    await catalogue.put({ ...one, payload, bytes: 7 });
    assert.is(catalogue.bytes, 7);
    assert.equal(catalogue.byPayload(one.payload), []);
    assert.is(catalogue.byPayload(payload).length, 1);
    await catalogue.put(entry("2"));
    await catalogue.remove(one.hash);
    await catalogue.remove(one.hash);
    assert.is(catalogue.bytes, 100);
    assert.equal(catalogue.byPayload(payload), []);
  }
  await using catalogue = await Catalogue.open(path);
  assert.equal(catalogue.all(), [entry("2")]);
});

test("a payload that is held as two variants is found until both are removed", async ({ path }) => {
  await using catalogue = await Catalogue.open(path);
  const [one, two] = [entry("1"), entry("2")];
  await catalogue.put(one);
  await catalogue.put(two);
  assert.equal(catalogue.byPayload(one.payload), [one, two]);
  await catalogue.remove(two.hash);
  assert.equal(catalogue.byPayload(one.payload), [one]);
  await catalogue.remove(one.hash);
  assert.equal(catalogue.byPayload(one.payload), []);
});

test("an epoch is greater at every start, also when the clock went back", async ({ path }) => {
  {
    await using catalogue = await Catalogue.open(path);
    assert.is(await catalogue.nextEpoch(1000.7), 1000);
    assert.is(await catalogue.nextEpoch(5), 1001);
  }
  await using catalogue = await Catalogue.open(path);
  assert.is(await catalogue.nextEpoch(5), 1002);
  assert.is(await catalogue.nextEpoch(5000), 5000);
});

test("a database that another has open is left alone", async ({ path, folder }) => {
  await using _first = await Catalogue.open(path);
  await rejects(Catalogue.open(path), "CACHE_IN_USE");
  assert.equal(fs.readdirSync(folder), ["index"]);
});

test("a database that cannot be made is said to be so", async ({ path, folder }) => {
  fs.chmodSync(folder, 0o500);
  try {
    const error = await rejects(Catalogue.open(path), "UNUSABLE");
    assert.match(error.message, new RegExp(folder));
    assert.ok(error.hint);
  } finally {
    fs.chmodSync(folder, 0o700);
  }
});

test.run();
