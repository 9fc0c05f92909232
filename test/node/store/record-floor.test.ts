import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { encodeEnvelope } from "../../../protocol/record.ts";
import { encodeWithdrawal } from "../../../protocol/withdrawal.ts";
import { type Payload, release } from "../../support/payloads.ts";
import { fetch, rejects, storeSuite } from "./store-fixture.ts";

const test = storeSuite("what was seen of a record");

function withdrawalOf({ record }: Payload): Uint8Array {
  const { variant, payload: supersedes, releasedAt } = record;
  const withdrawal = { withdrawn: true, variant, revision: 1, reason: "broken", releasedAt, supersedes } as const;
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

test("what nobody trusts any more is no floor", async ({ open, payload }) => {
  const trusted = Buffer.from(payload.envelope);
  const isTrusted = (envelope: Uint8Array) => (trusted.equals(envelope) ? payload.record : undefined);
  await using store = await open({ readRecord: isTrusted });
  await store.noteRecord(payload.hash, withdrawalOf(payload));
  await store.noteRecord(payload.hash, payload.envelope);
  assert.equal(new Uint8Array((await store.record(payload.hash))!), payload.envelope);
});

test.run();
