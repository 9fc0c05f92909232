import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { Leases } from "../../../node/leases.ts";
import { processMark } from "../../../node/store/owner.ts";
import type { PayloadStore } from "../../../node/store/payload-store.ts";
import { systemTiming } from "../../../node/store/rez-lock.ts";
import { fill, type Payload, release, variantOf, writeSampleTree } from "../../support/payloads.ts";
import { fetch, rejects, type StoreContext, stage, storeSuite } from "./store-fixture.ts";

const test = storeSuite("removing from the store");

/** Every record and segment that lies under `objects/`. */
function objects({ cachePath }: StoreContext): string[] {
  const path = join(cachePath, ".sys/p2pcache/objects");
  if (!fs.existsSync(path)) return [];
  return fs
    .readdirSync(path)
    .flatMap((name) => fs.readdirSync(join(path, name)))
    .sort();
}

function namesOf({ hash, record }: Payload): string[] {
  return [`${hash}.dsse.json`, ...record.root.segments.map((segment) => segment.hash)].sort();
}

async function otherPayload({ folder }: StoreContext, seed = 2): Promise<Payload> {
  const path = join(folder, `source${seed}`);
  writeSampleTree(path, seed);
  return await release(path, { variant: variantOf(`other${seed}`) });
}

test("from its first step nobody is served from what is removed, and then nothing of it is left", async (context) => {
  const { open, payload, cachePath } = context;
  const store = await open();
  const path = await fetch(store, payload);
  const served = (await store.serve(payload.record.payload))!;
  let seen = 0;
  const onHidden = () => {
    seen++;
    assert.equal(store.announced(), []);
    assert.is(store.holding(payload.hash), undefined);
    assert.ok(fs.existsSync(path));
  };
  assert.is((await store.remove(payload.hash, { onHidden }))?.path, path);
  assert.is(seen, 1);
  await rejects(served.load(0), "CHUNK_MISSING");
  assert.equal(store.holdings(), []);
  assert.equal(objects(context), []);
  assert.equal(
    fs.readdirSync(cachePath).filter((name) => name !== ".sys"),
    [],
  );
  assert.equal(fs.readdirSync(join(cachePath, ".sys/to_delete")), []);
  assert.is(await store.remove(payload.hash), undefined);
});

test("what cannot be removed stays held, and is served again", async ({ open, payload, cachePath }) => {
  const store = await open();
  const path = await fetch(store, payload);
  fs.writeFileSync(join(cachePath, ".sys/.lock.lock"), "");
  await rejects(store.remove(payload.hash), "REZ_LOCK_HELD");
  assert.is(store.holding(payload.hash)?.path, path);
  assert.is(store.announced().length, 1);
  assert.ok((await (await store.serve(payload.record.payload))!.load(0)).length > 0);
  fs.unlinkSync(join(cachePath, ".sys/.lock.lock"));
});

test("what has a rotten index file is removed like all else", async ({ open, payload, cachePath }) => {
  const store = await open();
  const path = await fetch(store, payload);
  fs.writeFileSync(`${path}.json`, "{");
  assert.is((await store.remove(payload.hash))?.path, path);
  assert.equal(
    fs.readdirSync(cachePath).filter((name) => name !== ".sys"),
    [],
  );
});

test("what a program runs from is not replaced by a newer revision until it has ended (P5)", async (context) => {
  const { open, payload, source } = context;
  const store = await open();
  const path = await fetch(store, payload);
  const newer = await release(source, { revision: 1, supersedes: payload.record });
  const staged = await stage(store, newer);
  await fill(staged, newer);
  const [leases, child] = [await Leases.open(store.retention, assert.unreachable), spawn("sleep", ["60"])];
  await once(child, "spawn");
  const lease = await leases.hold({ variants: [payload.hash], name: "maya", process: processMark(child.pid!) });
  await lease.leave();
  // `run` takes one before it fetches.
  await leases.hold({ variants: [payload.hash], name: "run" });
  const isRefused = async (work: Promise<unknown>) => {
    assert.match((await rejects(work, "LEASED")).message, `leased by pid ${child.pid} (maya)`);
    assert.equal([store.holding(payload.hash)?.path, await store.verify(payload.hash)], [path, []]);
  };
  try {
    await isRefused(store.commit(newer.hash, staged));
    await store.leave(staged);
    await isRefused(stage(store, newer));
  } finally {
    child.kill();
    await once(child, "exit");
  }
  assert.not.equal(await fetch(store, newer), path);
  assert.not(fs.existsSync(path));
});

test("segments that another variant names stay", async (context) => {
  const { open, payload, source } = context;
  const store = await open();
  const twin = await release(source, { variant: variantOf("twin") });
  await fetch(store, payload);
  await fetch(store, twin);
  await store.remove(payload.hash);
  assert.equal(objects(context), namesOf(twin));
  assert.equal(await store.verify(twin.hash), []);
});

test("what is on its way in, or was left in staging, keeps its record and segments", async (context) => {
  const { open, payload } = context;
  const store = await open();
  const [left, active] = [await otherPayload(context, 2), await otherPayload(context, 3)];
  const before = await stage(store, left);
  for (const { hash } of left.record.root.segments) {
    await before.put(before.index.segments - 1, new Uint8Array(left.items.get(hash)!));
  }
  await store.leave(before);
  const staged = await stage(store, active);
  await fetch(store, payload);
  await store.remove(payload.hash);
  assert.equal(objects(context).includes(`${active.hash}.dsse.json`), true);
  for (const name of namesOf(left)) assert.ok(objects(context).includes(name), name);
  await fill(staged, active);
  assert.is((await store.commit(active.hash, staged)).kind, "placed");
});

test("what earlier removals left under objects is gone after the next start, and what is no record stays", async (context) => {
  const { open, payload, cachePath } = context;
  const first = await open();
  await fetch(first, payload);
  const orphan = await otherPayload(context);
  const staged = await stage(first, orphan);
  await fill(staged, orphan);
  await first.leave(staged);
  await first[Symbol.asyncDispose]();
  // As a release before this one, and a crash while a segment was written, would have it.
  fs.rmSync(join(cachePath, ".sys/p2pcache/staging", orphan.record.payload), { recursive: true });
  const segment = orphan.record.root.segments[0]!.hash;
  const directory = join(cachePath, ".sys/p2pcache/objects", segment.slice(0, 2));
  fs.writeFileSync(join(directory, `${segment}.3-17`), "half");
  fs.writeFileSync(join(directory, `${"0".repeat(64)}.dsse.json`), "of another kind");
  const second = await open();
  await second.remove(orphan.hash);
  // Whatever waits for the tidying finds it done.
  await second[Symbol.asyncDispose]();
  const third = await open();
  await third.remove(orphan.hash);
  assert.equal(objects(context), [...namesOf(payload), `${"0".repeat(64)}.dsse.json`].sort());
  assert.equal(await third.verify(payload.hash), []);
});

test("while the database is made anew, removals take nothing of what is held", async ({ open, source }) => {
  const store = await open({ lock: systemTiming });
  const payloads: Payload[] = [];
  for (let i = 0; i < 30; i++) payloads.push(await release(source, { variant: variantOf(`held${i}`) }));
  for (const payload of payloads) await fetch(store, payload);
  const [first, second, third, ...others] = payloads;
  let rebuilt: Promise<void> | undefined;
  const onHidden = () => {
    rebuilt ??= store.bookkeeping.rebuild();
  };
  await Promise.all([first!, second!, third!].map(({ hash }) => store.remove(hash, { onHidden })));
  await rebuilt!;
  await store.remove(first!.hash);
  assert.equal((await store.check()).faults, []);
  const held = new Set(store.holdings().map(({ variant }) => variant));
  for (const { hash, record } of others) {
    assert.ok(held.has(hash), record.variant.name);
    assert.equal(await store.verify(hash), []);
  }
});

test("what lies in the cache and cannot be taken up just now keeps its record", async (context) => {
  const { open, payload, statePath } = context;
  const first = await open();
  await fetch(first, payload);
  await first[Symbol.asyncDispose]();
  fs.rmSync(statePath, { recursive: true });
  const second = await open({ repositories: new Map() });
  assert.equal(second.holdings(), []);
  await second.remove(payload.hash);
  await second[Symbol.asyncDispose]();
  const third = await open();
  assert.is(third.holdings().length, 1);
  assert.equal(await third.verify(payload.hash), []);
});

test("removals and commits of one variant come one after the other", async ({ open, payload }) => {
  const store = await open();
  const round = async (): Promise<void> => {
    const staged = await stage(store, payload);
    await fill(staged, payload);
    await store.commit(payload.hash, staged);
  };
  await round();
  for (let i = 0; i < 5; i++) await Promise.all([store.remove(payload.hash), round()]);
  await checkConsistent(store, payload);
});

test("a verification of what is removed meanwhile finds no fault", async ({ open, payload }) => {
  const store = await open();
  await fetch(store, payload);
  const verified = store.verify(payload.hash);
  await store.remove(payload.hash);
  assert.equal(await verified, []);
});

async function checkConsistent(store: PayloadStore, payload: Payload): Promise<void> {
  const held = store.holding(payload.hash);
  assert.equal((await store.check()).faults, []);
  if (held !== undefined) assert.equal(await store.verify(payload.hash), []);
}

test.run();
