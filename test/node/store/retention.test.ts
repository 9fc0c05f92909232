import { readdirSync, statSync, utimesSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { VariantHash } from "../../../protocol/hash.ts";
import { fetch, rejects, storeSuite } from "./store-fixture.ts";

const test = storeSuite("what is known of held variants");
const used = 1_700_000_000_123;
const dayMs = 86_400_000;

test("a touch makes the index file young for Rez, and the last use stays what it was, through a restart", async ({
  open,
  payload,
}) => {
  const first = await open();
  const index = `${await fetch(first, payload)}.json`;
  utimesSync(index, used / 1000, used / 1000);
  const nowMs = used + 40 * dayMs;
  await first.retention.touch([payload.hash], nowMs);
  assert.is(Math.floor(statSync(index).mtimeMs / 1000), Math.floor(nowMs / 1000));
  assert.is(first.retention.lastUsedMs(payload.hash), used);
  await first[Symbol.asyncDispose]();
  const second = await open();
  assert.is(second.retention.lastUsedMs(payload.hash), used);
  await second.retention.touch([payload.hash], nowMs + dayMs);
  await second.retention.touch([payload.hash], nowMs + 2 * dayMs);
  assert.is(second.retention.lastUsedMs(payload.hash), used, "also day after day");
  assert.equal([...(await second.retention.lastUses()).values()], [used]);
});

test("a use after a touch counts", async ({ open, payload }) => {
  const store = await open();
  const index = `${await fetch(store, payload)}.json`;
  utimesSync(index, used / 1000, used / 1000);
  await store.retention.touch([payload.hash], used + dayMs);
  const again = used + 2 * dayMs + 456;
  utimesSync(index, again / 1000, again / 1000);
  assert.is(store.retention.lastUsedMs(payload.hash), again);
  await store.retention.touch([payload.hash], used + 3 * dayMs);
  assert.is(store.retention.lastUsedMs(payload.hash), again);
});

test("a crash between the note and the touch loses nothing: the file has the time of the touch before", async ({
  open,
  payload,
}) => {
  const first = await open();
  const index = `${await fetch(first, payload)}.json`;
  utimesSync(index, used / 1000, used / 1000);
  await first.retention.touch([payload.hash], used + dayMs);
  const before = statSync(index).mtime;
  await first.retention.touch([payload.hash], used + 2 * dayMs);
  utimesSync(index, before, before);
  await first[Symbol.asyncDispose]();
  assert.is((await open()).retention.lastUsedMs(payload.hash), used);
});

test("what is held no more is forgotten with its touches", async ({ open, payload }) => {
  const store = await open();
  const index = `${await fetch(store, payload)}.json`;
  utimesSync(index, used / 1000, used / 1000);
  await store.retention.touch([payload.hash], used + dayMs);
  await store.remove(payload.hash);
  await store.retention.touch([payload.hash], used + 2 * dayMs);
  await fetch(store, payload);
  utimesSync(index, (used + dayMs) / 1000, (used + dayMs) / 1000);
  assert.is(store.retention.lastUsedMs(payload.hash), used + dayMs);
});

test("pins are durable", async ({ open, payload }) => {
  const first = await open();
  await first.retention.pin(payload.hash, "2026-11-21T08:00:00Z");
  await first[Symbol.asyncDispose]();
  const second = await open();
  assert.ok(second.retention.isPinned(payload.hash));
  assert.ok(await second.retention.unpin(payload.hash));
  assert.not(await second.retention.unpin(payload.hash));
  await second[Symbol.asyncDispose]();
  assert.not((await open()).retention.isPinned(payload.hash));
});

test("one variant more than max_variants is refused before anything is written, another revision is not", async ({
  open,
  payload,
}) => {
  const store = await open({ limits: { maxBytes: 1e12, freeBytesMin: 0, maxVariants: 1 } });
  const staged = await store.stage(payload.hash, payload.record, payload.envelope);
  const other = { ...payload.record, payload: "f".repeat(64) as typeof payload.record.payload };
  await rejects(store.stage("e".repeat(64) as VariantHash, other, payload.envelope), "NO_SPACE");
  await store.leave(staged);
  await fetch(store, payload);
  await store.leave(await store.stage(payload.hash, payload.record, payload.envelope));
});

test("a fetch that finds no room asks for some, and goes on when it was made", async ({ open, payload }) => {
  const store = await open({ limits: { maxBytes: 1, freeBytesMin: 0 } });
  let asked = 0;
  store.makeRoom = async (record, need) => {
    asked++;
    assert.equal([record.payload, need.totalBytes], [payload.record.payload, payload.record.root.bytes]);
    store.space.limits = { maxBytes: 1e12, freeBytesMin: 0 };
    return true;
  };
  await fetch(store, payload);
  assert.is(asked, 1);
});

test("a fetch for which room is made in vain ends with an error, and not never", async ({ open, payload }) => {
  const store = await open({ limits: { maxBytes: 1, freeBytesMin: 0 } });
  store.makeRoom = async () => true;
  await rejects(fetch(store, payload), "NO_SPACE");
});

test("room for removals on a full disk is kept in the cache, and filled again", async ({
  open,
  payload,
  cachePath,
}) => {
  const store = await open();
  const ballast = join(cachePath, ".sys", "p2pcache", "ballast");
  await fetch(store, payload);
  const sizes = readdirSync(ballast).map((name) => statSync(join(ballast, name)).size);
  assert.equal(
    sizes,
    Array.from({ length: 8 }, () => 64 * 1024),
  );
  await store.remove(payload.hash);
  assert.is(readdirSync(ballast).length, 8);
});

test.run();
