import * as fs from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { fill, treeDifferences } from "../../support/payloads.ts";
import { fetch, flipByte, rejects, stage, storeSuite } from "./store-fixture.ts";

const test = storeSuite("repair");

test("a check tells what else is wrong with a changed file, and which item", async ({ open, payload }) => {
  const store = await open();
  const tree = await fetch(store, payload);
  flipByte(join(tree, "big/two"), 1_500_000);
  fs.chmodSync(join(tree, "big/two"), 0o644);
  fs.chmodSync(join(tree, "bin/tool"), 0o700);
  const faults = await store.verify(payload.hash);
  const [big, tool] = ["big/two", "bin/tool"].map((path) => faults.find((each) => each.path === path)!);
  assert.equal([faults.length, big!.fault], [2, "has mode 644, and has other content"]);
  assert.equal(tool, { path: "bin/tool", item: null, fault: "has mode 700" });
  assert.ok(big!.item! >= payload.record.root.segments.length);
});

test("a check that is given up changes nothing", async ({ open, payload }) => {
  const store = await open();
  const tree = await fetch(store, payload);
  flipByte(join(tree, "bin/tool"));
  const [gone, left] = [new Error("gone"), new AbortController()];
  const checks = [store.verify(payload.hash, AbortSignal.abort(gone)), store.verify(payload.hash, left.signal)];
  left.abort(gone);
  for (const { reason } of (await Promise.allSettled(checks)) as PromiseRejectedResult[]) assert.is(reason, gone);
  assert.is(store.isDamaged(payload.hash), false);
  await store.verify(payload.hash);
  await store.verify(payload.hash, AbortSignal.abort(gone)).catch(() => undefined);
  assert.is(store.isDamaged(payload.hash), true);
});

test("a damaged tree is brought anew under another name, and stays until then", async ({ open, payload, source }) => {
  const store = await open();
  const old = await fetch(store, payload);
  flipByte(join(old, "bin/tool"));
  await store.verify(payload.hash);
  const staged = await stage(store, payload);
  await fill(staged, payload);
  const lock = join(store.cachePath, ".sys/.lock.lock");
  fs.writeFileSync(lock, "");
  await rejects(store.commit(payload.hash, staged), "REZ_LOCK_HELD");
  assert.ok(fs.existsSync(join(old, "bin/tool")) && fs.existsSync(`${old}.json`));
  assert.is(store.holding(payload.hash)?.path, old);
  fs.rmSync(lock);
  await store.leave(staged);
  await fetch(store, payload);
  const path = store.holding(payload.hash)!.path;
  assert.is.not(path, old);
  assert.not(fs.existsSync(old));
  assert.equal(treeDifferences(source, path), []);
  assert.is(store.isDamaged(payload.hash), false);
  assert.equal((await store.check()).faults, []);
});

test.run();
