import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import * as assert from "uvu/assert";
import { Catalogue } from "../../../node/store/catalogue.ts";
import { ownerData } from "../../../node/store/owner.ts";
import { systemTiming } from "../../../node/store/rez-lock.ts";
import { Bitmap } from "../../../protocol/bitmap.ts";
import { ItemIndex } from "../../../protocol/manifest.ts";
import { rezHandle } from "../../../protocol/rez-handle.ts";
import { release, treeDifferences, variantOf } from "../../support/payloads.ts";
import { fetch, location, rejects, type StoreContext, stage, stagedPath, storeSuite } from "./store-fixture.ts";

const test = storeSuite("recovery");

/** How far a commit had come when the process died. */
type Step = "staged" | "intended" | "moved" | "indexed" | "catalogued";

/** Leaves a cache as a crash does. Answers where the tree would lie. */
async function crashAfter(context: StoreContext, step: Step): Promise<string> {
  const { open, payload, statePath } = context;
  const store = await open();
  const path = await fetch(store, payload);
  await store[Symbol.asyncDispose]();
  const staged = stagedPath(context, payload.record.payload);
  fs.mkdirSync(staged, { mode: 0o700 });
  const have = new Bitmap(new ItemIndex(payload.record.root).items);
  for (let item = 0; item < have.length; item++) have.add(item);
  fs.writeFileSync(join(staged, "have"), have.bytes);
  if (step !== "staged") fs.writeFileSync(join(staged, "intent.json"), JSON.stringify(intentOf(context, path)));
  if (step !== "catalogued") {
    await using catalogue = await Catalogue.open(join(statePath, "index"));
    await catalogue.remove(payload.hash);
  }
  if (step === "catalogued" || step === "indexed") return path;
  fs.rmSync(`${path}.json`);
  fs.chmodSync(path, 0o755);
  if (step !== "moved") fs.renameSync(path, join(staged, "tree"));
  return path;
}

function intentOf({ payload }: StoreContext, path: string) {
  const handle = rezHandle(payload.record.variant, location);
  const p2pcache = { payload: payload.record.payload, variant: payload.hash };
  const placement = { handle, variantRequires: [], p2pcache, indexMode: 0o666 };
  return { hash: payload.hash, spot: { directory: dirname(path), suffix: basename(path) }, placement };
}

for (const step of ["staged", "intended"] as const) {
  test(`a commit that died when it had ${step} is undone, and its tree is used by the next fetch`, async (context) => {
    const path = await crashAfter(context, step);
    const { open, payload, source } = context;
    const store = await open();
    assert.is(store.holding(payload.hash), undefined);
    assert.not(fs.existsSync(path));
    assert.equal((await store.check()).faults, []);
    assert.not(fs.existsSync(join(stagedPath(context, payload.record.payload), "intent.json")));
    const staged = await stage(store, payload);
    assert.is((await staged.describe()).stored.length, payload.record.root.chunks);
    const result = await store.commit(payload.hash, staged);
    assert.equal(treeDifferences(source, result.kind === "placed" ? result.holding.path : ""), []);
    assert.equal((await store.check()).faults, []);
    assert.equal(context.problems, []);
  });
}

for (const step of ["moved", "indexed", "catalogued"] as const) {
  test(`a commit that died when it had ${step} is finished`, async (context) => {
    const path = await crashAfter(context, step);
    const { open, payload, source, stagingPath } = context;
    const store = await open();
    assert.is(store.holding(payload.hash)?.path, path);
    assert.equal(store.announced(), [[payload.hash, payload.record.payload]]);
    assert.equal(treeDifferences(source, path), []);
    assert.is(fs.statSync(`${path}.json`).mode & 0o777, 0o666);
    assert.equal((await store.check()).faults, []);
    assert.equal(fs.readdirSync(stagingPath), []);
    assert.equal(await store.verify(payload.hash), []);
    assert.equal(treeDifferences(source, await fetch(store, payload)), []);
    assert.equal(context.problems, []);
  });
}

test("a removal that died is finished behind the scenes", async (context) => {
  const { open, payload, cachePath } = context;
  const first = await open();
  const path = await fetch(first, payload);
  const other = await release(context.source, { variant: variantOf("bar") });
  const otherPath = await fetch(first, other);
  await first[Symbol.asyncDispose]();
  fs.renameSync(`${path}.json`, join(dirname(path), ".a.json.removing"));
  fs.rmSync(`${otherPath}.json`);
  fs.chmodSync(otherPath, 0o755);
  fs.renameSync(otherPath, join(cachePath, ".sys/to_delete", `bar-1.0.0-70327063${"0".repeat(24)}`));
  const second = await open();
  assert.equal(second.holdings(), []);
  assert.equal((await second.check()).faults, []);
  await fetch(second, payload);
  assert.equal(fs.readdirSync(join(cachePath, ".sys/to_delete")), []);
  assert.equal(fs.readdirSync(dirname(path)).sort(), ["a", "a.json"]);
});

test("a new start does not wait until old trees are deleted", async ({ open, cachePath }) => {
  const first = await open();
  await first[Symbol.asyncDispose]();
  const trash = join(cachePath, ".sys/to_delete", `bar-1.0.0-70327063${"0".repeat(24)}`);
  for (let i = 0; i < 60; i++) {
    fs.mkdirSync(join(trash, `${i}`), { recursive: true });
    for (let j = 0; j < 50; j++) fs.writeFileSync(join(trash, `${i}`, `${j}`), "");
  }
  const second = await open();
  assert.ok(fs.existsSync(trash));
  await second[Symbol.asyncDispose]();
  assert.not(fs.existsSync(trash));
});

test("what a dead process held is free; its lock is cleared", async ({ open, payload, cachePath, statePath }) => {
  await (await open())[Symbol.asyncDispose]();
  const { pid } = spawnSync("true");
  const dead = JSON.stringify({ ...ownerData(), pid, started: "1" });
  const held = [join(cachePath, ".sys/p2pcache/owner"), join(statePath, "owner"), join(cachePath, ".sys/.lock.lock")];
  for (const path of held) fs.writeFileSync(path, dead);
  const store = await open();
  await fetch(store, payload);
  assert.equal((await store.check()).faults, []);
});

test("one process opens a cache, and one opens a state; who fails holds nothing", async ({ open, folder }) => {
  await open();
  const error = await rejects(open(), "CACHE_IN_USE");
  assert.is(error.exit, 8);
  assert.match(error.message, new RegExp(`process ${process.pid}`));
  await rejects(open({ cachePath: join(folder, "other") }), "CACHE_IN_USE");
  await rejects(open({ statePath: join(folder, "other-state") }), "CACHE_IN_USE");
  await open({ cachePath: join(folder, "other"), statePath: join(folder, "other-state") });
});

test("with Rez's lock held a start answers within 2 s, and the next one finishes the commit", async (context) => {
  const path = await crashAfter(context, "moved");
  const { open, payload, cachePath } = context;
  for (let i = 0; i < 9; i++) {
    const more = join(context.stagingPath, `${i}`.repeat(64));
    fs.mkdirSync(more);
    fs.writeFileSync(join(more, "intent.json"), JSON.stringify(intentOf(context, path)));
  }
  fs.writeFileSync(join(dirname(path), ".b.json.tmp"), "");
  const lock = join(cachePath, ".sys/.lock.lock");
  fs.writeFileSync(lock, "");
  const startedMs = performance.now();
  const first = await open({ lock: systemTiming });
  assert.ok(performance.now() - startedMs < 2_000);
  assert.is(first.holding(payload.hash), undefined);
  assert.ok(context.problems.length > 0);
  fs.rmSync(lock);
  await first[Symbol.asyncDispose]();
  const second = await open();
  assert.is(second.holding(payload.hash)?.path, path);
  assert.equal((await second.check()).faults, []);
});

test("a commit that could not be ended at the start is ended by the next fetch, and leaves nothing beside", async (context) => {
  const path = await crashAfter(context, "moved");
  const { open, payload, source } = context;
  const lock = join(context.cachePath, ".sys/.lock.lock");
  fs.writeFileSync(lock, "");
  const store = await open();
  await rejects(stage(store, payload), "REZ_LOCK_HELD");
  fs.rmSync(lock);
  const again = await fetch(store, payload);
  assert.equal(treeDifferences(source, again), []);
  assert.equal(fs.readdirSync(dirname(path)).sort(), [basename(again), `${basename(again)}.json`]);
  assert.equal((await store.check()).faults, []);
});

test("garbage in staging does no harm", async (context) => {
  const { open, payload, folder, source } = context;
  const first = await open();
  const path = await fetch(first, payload);
  await first.remove(payload.hash);
  await first[Symbol.asyncDispose]();
  const outside = join(folder, "outside");
  fs.mkdirSync(join(outside, "a"), { recursive: true, mode: 0o755 });
  const intent = intentOf(context, path);
  const handleAt = (name: string) => ({
    ...intent.placement.handle,
    variables: { ...intent.placement.handle.variables, name },
  });
  const texts = [
    "",
    "{",
    "null",
    "[]",
    "{}",
    JSON.stringify({ ...intent, spot: undefined }),
    JSON.stringify({ ...intent, spot: { directory: 5, suffix: {} } }),
    JSON.stringify({ ...intent, placement: undefined }),
    JSON.stringify({ ...intent, placement: { ...intent.placement, handle: {} } }),
    JSON.stringify({ ...intent, placement: { ...intent.placement, p2pcache: {} } }),
    JSON.stringify({ ...intent, placement: { ...intent.placement, indexMode: "x" } }),
    JSON.stringify({ ...intent, hash: "zz" }),
    JSON.stringify({ ...intent, spot: { directory: outside, suffix: "a" } }),
    JSON.stringify({ ...intent, spot: { directory: dirname(path), suffix: "../../../../../outside/a" } }),
    JSON.stringify({ ...intent, placement: { ...intent.placement, handle: handleAt("../../../outside") } }),
  ];
  for (const [i, text] of texts.entries()) {
    const staged = join(context.stagingPath, `${i % 10}${Math.floor(i / 10)}`.repeat(32));
    fs.mkdirSync(staged, { recursive: true });
    fs.writeFileSync(join(staged, "intent.json"), text);
  }
  fs.writeFileSync(join(context.stagingPath, "a-file"), "garbage");
  fs.mkdirSync(join(context.stagingPath, "not-a-payload", "intent.json"), { recursive: true });
  fs.symlinkSync(outside, join(context.stagingPath, "a-link"));
  fs.mkdirSync(stagedPath(context, payload.record.payload));
  fs.writeFileSync(join(stagedPath(context, payload.record.payload), "tree"), "a file");
  const store = await open();
  assert.equal((await store.check()).faults, []);
  assert.equal(treeDifferences(source, await fetch(store, payload)), []);
  assert.equal(fs.readdirSync(outside), ["a"]);
  assert.equal(context.problems, []);
  assert.is(fs.statSync(join(outside, "a")).mode & 0o777, 0o755);
});

test("what a process that died had placed since this boot is announced at once", async (context) => {
  await crashAfter(context, "catalogued");
  await using catalogue = await Catalogue.open(join(context.statePath, "index"));
  const [entry] = catalogue.all();
  await catalogue.put({ ...entry!, unsureSinceBoot: ownerData().bootId });
  await catalogue[Symbol.asyncDispose]();
  const store = await context.open();
  assert.is(store.announced().length, 1);
});

test.run();
