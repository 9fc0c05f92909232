import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { systemTiming } from "../../../node/store/rez-lock.ts";
import { encodeEnvelope } from "../../../protocol/record.ts";
import { encodeWithdrawal } from "../../../protocol/withdrawal.ts";
import { fill, type Payload, release, removeTree, variantOf, writeSampleTree } from "../../support/payloads.ts";
import { fetch, rejects, stage, storeSuite } from "./store-fixture.ts";

const test = storeSuite("what was seen of a record");

function withdrawalOf({ record }: Payload, revision = 1): Uint8Array {
  const { variant, payload: supersedes, releasedAt } = record;
  const withdrawal = { withdrawn: true, variant, revision, reason: "broken", releasedAt, supersedes } as const;
  return encodeEnvelope({ body: encodeWithdrawal(withdrawal), signatures: [] });
}

test("a withdrawal leaves a held tree servable until it is removed, and outlives that and a restart", async (context) => {
  const { open, payload, cachePath } = context;
  const envelope = withdrawalOf(payload);
  {
    await using store = await open();
    const path = await fetch(store, payload);
    await store.noteRecord(payload.hash, envelope);
    assert.equal(await store.verify(payload.hash), []);
    assert.ok(await store.serve(payload.record.payload));
    await store.remove(payload.hash);
    assert.not(existsSync(path));
    assert.equal(new Uint8Array((await store.record(payload.hash))!), envelope);
    await rejects(store.noteRecord(payload.hash, payload.envelope), "RECORD_OUTDATED");
  }
  await using store = await open();
  assert.equal(new Uint8Array((await store.record(payload.hash))!), envelope);
  await rejects(store.stage(payload.hash, payload.record, payload.envelope), "RECORD_OUTDATED");
  assert.equal(
    readdirSync(cachePath).filter((name) => name !== ".sys"),
    [],
  );
});

test("a newer release that is only known keeps the older one servable, and an older one is refused", async (context) => {
  const { open, payload, source } = context;
  await using store = await open();
  await fetch(store, payload);
  const newer = await release(join(source, "."), { revision: 1, supersedes: payload.record });
  await store.noteRecord(payload.hash, newer.envelope);
  assert.equal(await store.verify(payload.hash), []);
  await rejects(store.noteRecord(payload.hash, payload.envelope), "RECORD_OUTDATED");
  await store.remove(payload.hash);
  assert.equal(new Uint8Array((await store.record(payload.hash))!), newer.envelope);
});

test("what was withdrawn, or released anew, while it came in is not placed", async (context) => {
  const { open, payload, source, cachePath } = context;
  const newer = await release(join(source, "."), { revision: 1, supersedes: payload.record });
  for (const later of [newer.envelope, withdrawalOf(payload)]) {
    await using store = await open();
    const staged = await stage(store, payload);
    await fill(staged, payload);
    await store.noteRecord(payload.hash, later);
    await rejects(store.commit(payload.hash, staged), "RECORD_OUTDATED");
    await store.leave(staged);
    assert.equal([store.holdings(), readdirSync(cachePath)], [[], [".sys"]]);
    await store[Symbol.asyncDispose]();
    removeTree(join(cachePath, ".sys"));
  }
});

test("no room is made for a release that is outdated", async (context) => {
  const { open, payload, source } = context;
  const newer = await release(join(source, "."), { revision: 1, supersedes: payload.record });
  await using store = await open({ limits: { maxBytes: 1, freeBytesMin: 0 } });
  await rejects(store.stage(payload.hash, payload.record, payload.envelope), "NO_SPACE");
  await store.noteRecord(payload.hash, newer.envelope);
  await rejects(store.stage(payload.hash, payload.record, payload.envelope), "RECORD_OUTDATED");
});

test("a release that is seen while an older one is being placed leaves that one servable", async (context) => {
  const { open, payload, folder, cachePath } = context;
  writeSampleTree(join(folder, "newer"), 4);
  const newer = await release(join(folder, "newer"), { revision: 1, supersedes: payload.record });
  const lockPath = join(cachePath, ".sys", ".lock.lock");
  let noted: Promise<void> | undefined;
  const sleep = async () => {
    noted ??= store.noteRecord(payload.hash, newer.envelope);
    rmSync(lockPath, { force: true });
  };
  await using store = await open({ lock: { ...systemTiming, sleep } });
  const staged = await stage(store, payload);
  await fill(staged, payload);
  writeFileSync(lockPath, "");
  assert.is((await store.commit(payload.hash, staged)).kind, "placed");
  assert.ok(noted !== undefined, "the release was seen while Rez's lock was waited for");
  await noted;
  assert.equal(new Uint8Array((await store.record(payload.hash))!), newer.envelope);
  assert.equal(await store.verify(payload.hash), []);
  assert.ok(await store.serve(payload.record.payload));
});

test("two words of one revision that disagree are a conflict, whoever came first", async (context) => {
  const { open, payload, folder } = context;
  const other = join(folder, "other");
  writeSampleTree(other, 2);
  const rival = await release(other);
  await using store = await open();
  const path = await fetch(store, payload);
  await rejects(store.noteRecord(payload.hash, rival.envelope), "RECORD_CONFLICT");
  await rejects(store.noteRecord(payload.hash, withdrawalOf(payload, 0)), "RECORD_CONFLICT");
  assert.is(store.holding(payload.hash)?.path, path);
  assert.equal(new Uint8Array((await store.record(payload.hash))!), payload.envelope);
});

test("the segments of what comes in outlive a later record of its variant, and the removal of another", async (context) => {
  const { open, payload, source, folder } = context;
  const path = join(folder, "other");
  writeSampleTree(path, 2);
  const other = await release(path, { variant: variantOf("other") });
  const newer = await release(join(source, "."), { revision: 1, supersedes: payload.record });
  await using store = await open();
  await fetch(store, other);
  const staged = await stage(store, payload);
  await fill(staged, payload);
  await store.noteRecord(payload.hash, newer.envelope);
  await store.remove(other.hash);
  await Promise.all(payload.record.root.segments.map((_, segment) => staged.load(segment)));
  await store.leave(staged);
});

test("a withdrawal that is noted while something is removed is not taken for what was there", async (context) => {
  const { open, payload, folder } = context;
  const path = join(folder, "other");
  writeSampleTree(path, 2);
  const other = await release(path, { variant: variantOf("other") });
  for (let round = 0; round < 10; round++) {
    await using store = await open();
    await fetch(store, other);
    const staged = await stage(store, payload);
    await store.leave(staged);
    const noted: Promise<void>[] = [];
    await Promise.all([
      store.remove(other.hash, {
        onHidden: () => void noted.push(store.noteRecord(payload.hash, withdrawalOf(payload))),
      }),
    ]);
    await Promise.all(noted);
    assert.equal(new Uint8Array((await store.record(payload.hash))!), withdrawalOf(payload));
    await store[Symbol.asyncDispose]();
    removeTree(join(context.cachePath, ".sys"));
  }
});

test("what nobody trusts any more is no floor", async ({ open, payload }) => {
  const trusted = Buffer.from(payload.envelope);
  const isTrusted = (envelope: Uint8Array) => (trusted.equals(envelope) ? payload.record : undefined);
  await using store = await open({ readRecord: isTrusted });
  await store.noteRecord(payload.hash, withdrawalOf(payload));
  await store.noteRecord(payload.hash, payload.envelope);
  assert.equal(new Uint8Array((await store.record(payload.hash))!), payload.envelope);
});

test.run();
