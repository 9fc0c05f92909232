import * as fs from "node:fs";
import { dirname, join } from "node:path";
import * as assert from "uvu/assert";
import type { VariantHash } from "../../../protocol/hash.ts";
import {
  describe,
  fill,
  itemBytes,
  missingChunks,
  release,
  treeDifferences,
  variantOf,
  writeSampleTree,
} from "../../support/payloads.ts";
import { fetch, flipByte, rejects, stage, storeSuite, within } from "./store-fixture.ts";

const test = storeSuite("holdings");

test("an item is served while the commit moves its tree", async ({ open, payload }) => {
  const store = await open();
  const staged = await stage(store, payload);
  await fill(staged, payload);
  const served = (await store.serve(payload.record.payload))!;
  let isDone = false;
  const commit = store.commit(payload.hash, staged).finally(() => {
    isDone = true;
  });
  let loads = 0;
  const loadAll = async () => {
    for (let item = 0; !isDone; item = (item + 1) % served.index.items, loads++) {
      const bytes = await served.load(item);
      assert.ok(Buffer.from(bytes).equals(itemBytes(payload, staged.hashOf(item))));
    }
  };
  await Promise.all(Array.from({ length: 32 }, loadAll));
  await commit;
  assert.ok(loads > 0);
});

test("a changed file is never served, said once to be lost, and not announced any more", async ({ open, payload }) => {
  const store = await open();
  const path = await fetch(store, payload);
  const lost: VariantHash[] = [];
  store.onLost = (variant) => void lost.push(variant);
  flipByte(join(path, "big/one"), 10);
  const served = (await store.serve(payload.record.payload))!;
  const loads = Array.from({ length: served.index.items }, (_, item) => served.load(item));
  const failures = (await Promise.allSettled(loads)).filter((result) => result.status === "rejected");
  assert.ok(failures.length >= 1);
  assert.is(failures[0]!.reason.code, "ITEM_DAMAGED");
  assert.equal(lost, [payload.hash]);
  assert.equal(store.announced(), []);
  assert.is(await store.serve(payload.record.payload), undefined);
});

test("a deleted file is missing, and its holding lost", async ({ open, payload }) => {
  const store = await open();
  const path = await fetch(store, payload);
  let lost = 0;
  store.onLost = () => void lost++;
  within(join(path, "big"), () => fs.rmSync(join(path, "big/one")));
  const served = (await store.serve(payload.record.payload))!;
  const items = Array.from({ length: served.index.items }, (_, item) => item);
  const results = await Promise.allSettled(items.map((item) => served.load(item)));
  const failures = results.filter((result) => result.status === "rejected");
  assert.ok(failures.length > 0);
  assert.is(failures[0]!.reason.code, "CHUNK_MISSING");
  assert.is(lost, 1);
  assert.is(store.isDamaged(payload.hash), true);
});

test("damage is still known after a new start, until a check finds nothing wrong", async ({ open, payload }) => {
  const first = await open();
  const path = await fetch(first, payload);
  flipByte(join(path, "bin/tool"));
  assert.is.not((await first.verify(payload.hash)).length, 0);
  await first[Symbol.asyncDispose]();
  const second = await open();
  assert.is(second.isDamaged(payload.hash), true);
  assert.equal(second.announced(), []);
  flipByte(join(path, "bin/tool"));
  assert.equal(await second.verify(payload.hash), []);
  assert.is(second.isDamaged(payload.hash), false);
  assert.is(second.announced().length, 1);
});

test("a payload whose tree, or whose index file, has gone is no longer held", async ({ open, payload }) => {
  const store = await open();
  const path = await fetch(store, payload);
  let lost = 0;
  store.onLost = () => void lost++;
  fs.renameSync(`${path}.json`, `${path}.gone`);
  assert.is(store.holding(payload.hash), undefined);
  assert.is(store.holding(payload.hash), undefined);
  assert.is(lost, 1);
  assert.equal(store.announced(), []);
  const again = await fetch(store, payload);
  assert.is(store.holding(payload.hash)?.path, again);
  fs.chmodSync(again, 0o755);
  fs.renameSync(again, join(store.cachePath, "moved"));
  assert.is(store.holding(payload.hash), undefined);
  const third = await fetch(store, payload);
  assert.ok(store.holding(payload.hash));
  assert.ok(fs.existsSync(third));
});

test("without its record a payload is neither served nor announced, and the check says so", async ({
  open,
  payload,
}) => {
  const store = await open();
  await fetch(store, payload);
  const { hash } = payload;
  fs.rmSync(join(store.cachePath, ".sys/p2pcache/objects", hash.slice(0, 2), `${hash}.dsse.json`));
  assert.match((await store.check()).faults[0]!, /record has gone/);
  assert.is(await store.record(hash), undefined);
  assert.is(await store.serve(payload.record.payload), undefined);
  assert.equal(store.announced(), []);
  assert.match((await store.verify(hash))[0]!.fault, /record has gone/);
  await fetch(store, payload);
  assert.equal((await store.check()).faults, []);
  assert.is(store.announced().length, 1);
});

test("a segment that has gone, or was damaged, is a fault of its holding", async ({ open, payload }) => {
  const store = await open();
  await fetch(store, payload);
  const { hash } = payload.record.root.segments[0]!;
  flipByte(join(store.cachePath, ".sys/p2pcache/objects", hash.slice(0, 2), hash), 4);
  assert.match((await store.verify(payload.hash))[0]!.fault, /damaged on this disk/);
  assert.equal(store.announced(), []);
});

test("what is removed is gone from the disk and from what is said", async ({ open, payload }) => {
  const store = await open();
  const path = await fetch(store, payload);
  assert.is(store.bytes, payload.record.root.bytes);
  await store.remove(payload.hash);
  await store.remove(payload.hash);
  assert.not(fs.existsSync(path));
  assert.not(fs.existsSync(`${path}.json`));
  assert.equal(fs.readdirSync(join(store.cachePath, ".sys/to_delete")), []);
  assert.equal(store.holdings(), []);
  assert.is(store.holding(payload.hash), undefined);
  assert.is(await store.serve(payload.record.payload), undefined);
  assert.equal(store.announced(), []);
  assert.is(store.bytes, 0);
  assert.is(store.retention.lastUsedMs(payload.hash), undefined);
  assert.equal((await store.check()).faults, []);
});

test("what somebody writes beside just now is not removed", async ({ open, payload }) => {
  const store = await open();
  const path = await fetch(store, payload);
  fs.writeFileSync(join(path, "../.copying-a"), "");
  await rejects(store.remove(payload.hash), "BUSY");
  assert.is(store.holdings().length, 1);
  assert.ok(fs.existsSync(path));
});

test("a payload in a repository that is not configured any more can be removed", async ({ open, payload }) => {
  const first = await open();
  const path = await fetch(first, payload);
  await first[Symbol.asyncDispose]();
  const second = await open({ repositories: new Map() });
  assert.ok(second.holding(payload.hash));
  await second.remove(payload.hash);
  assert.not(fs.existsSync(path));
  assert.equal((await second.check()).faults, []);
});

test("a superseding payload takes the place of the old one, which goes the Rez way", async ({
  open,
  payload,
  folder,
}) => {
  const store = await open();
  const old = await fetch(store, payload);
  writeSampleTree(join(folder, "newer"), 7);
  const newer = await release(join(folder, "newer"), { revision: 1, supersedes: payload.record });
  const staged = await stage(store, newer);
  const missing = missingChunks(staged, await describe(staged, newer));
  // Until the new one is whole, the old one stays what it was.
  assert.equal((await store.check()).faults, []);
  assert.equal(await store.verify(payload.hash), []);
  assert.ok((await store.serve(payload.record.payload))?.have() === "all");
  assert.equal([...(await store.record(payload.hash))!], [...newer.envelope]);
  for (const item of missing) await staged.put(item, itemBytes(newer, staged.hashOf(item)));
  const result = await store.commit(newer.hash, staged);
  const path = result.kind === "placed" ? result.holding.path : "";
  assert.equal(treeDifferences(join(folder, "newer"), path), []);
  assert.is(store.holdings().length, 1);
  assert.equal(store.announced(), [[newer.hash, newer.record.payload]]);
  assert.is(await store.serve(payload.record.payload), undefined);
  assert.is.not(path, old);
  assert.not(fs.existsSync(old));
  assert.equal(fs.readdirSync(join(store.cachePath, ".sys/to_delete")), []);
  assert.equal((await store.check()).faults, []);
});

test("one tree that is two variants is served as long as one of them is sound", async ({ open, payload, source }) => {
  const store = await open();
  const twin = await release(source, { variant: variantOf("twin") });
  const [first, second] = [await fetch(store, payload), await fetch(store, twin)];
  assert.is.not(first, second);
  flipByte(join(second, "big/one"));
  await store.verify(twin.hash);
  assert.equal(store.announced(), [[payload.hash, payload.record.payload]]);
  const served = (await store.serve(payload.record.payload))!;
  for (let item = 0; item < served.index.items; item++) await served.load(item);
  await store.remove(payload.hash);
  assert.is(await store.serve(payload.record.payload), undefined);
  await fetch(store, twin);
  assert.ok(await store.serve(payload.record.payload));
});

test("an entry with our key that is not in the catalogue is replaced, not believed", async ({
  open,
  payload,
  source,
}) => {
  const store = await open();
  const path = await fetch(store, payload);
  const index = fs.readFileSync(`${path}.json`);
  await store.remove(payload.hash);
  fs.mkdirSync(path, { recursive: true, mode: 0o755 });
  fs.writeFileSync(join(path, "lie"), "not released by anybody");
  fs.writeFileSync(`${path}.json`, index);
  assert.equal(treeDifferences(source, await fetch(store, payload)), []);
  assert.equal((await store.check()).faults, []);
});

test("last use is the time of Rez's index file", async ({ open, payload }) => {
  const store = await open();
  const path = await fetch(store, payload);
  fs.utimesSync(`${path}.json`, 1_700_000_000, 1_700_000_000);
  assert.is(store.retention.lastUsedMs(payload.hash), 1_700_000_000_000);
  fs.rmSync(`${path}.json`);
  assert.is(store.retention.lastUsedMs(payload.hash), undefined);
});

const changes: readonly (readonly [what: string, path: string, fault: RegExp, change: (tree: string) => void])[] = [
  [
    "a changed byte of a small file",
    "lib/deep/4.py",
    /other content/,
    (tree) => flipByte(join(tree, "lib/deep/4.py"), 9),
  ],
  ["a changed byte of a large file", "big/two", /other content/, (tree) => flipByte(join(tree, "big/two"), 1_500_000)],
  ["another mode of a file", "bin/tool", /mode 755/, (tree) => fs.chmodSync(join(tree, "bin/tool"), 0o755)],
  ["another mode of a directory", "lib", /mode 755/, (tree) => fs.chmodSync(join(tree, "lib"), 0o755)],
  ["another mode of the top", "", /mode 755/, (tree) => fs.chmodSync(tree, 0o755)],
  ["another time", "big/one", /another time/, (tree) => fs.utimesSync(join(tree, "big/one"), 1, 1)],
  [
    "a missing file",
    "lib/deep/4.py",
    /is missing/,
    (tree) => within(join(tree, "lib/deep"), () => fs.rmSync(join(tree, "lib/deep/4.py"))),
  ],
  [
    "a missing empty file",
    "lib/nothing",
    /is missing/,
    (tree) => within(join(tree, "lib"), () => fs.rmSync(join(tree, "lib/nothing"))),
  ],
  ["a missing directory", "empty", /is missing/, (tree) => within(tree, () => fs.rmdirSync(join(tree, "empty")))],
  [
    "an extra file",
    "empty/extra",
    /not in the manifest/,
    (tree) => within(join(tree, "empty"), () => fs.writeFileSync(join(tree, "empty/extra"), "")),
  ],
  [
    "an extra file at the top",
    "extra",
    /not in the manifest/,
    (tree) => within(tree, () => fs.writeFileSync(join(tree, "extra"), "")),
  ],
  [
    "another target of a link",
    "dangling",
    /points elsewhere/,
    (tree) => replace(join(tree, "dangling"), (path) => fs.symlinkSync("there", path)),
  ],
  [
    "a file in the place of a link",
    "dangling",
    /not a link/,
    (tree) => replace(join(tree, "dangling"), (path) => fs.writeFileSync(path, "")),
  ],
  [
    "a link in the place of a directory",
    "empty",
    /not a directory/,
    (tree) => replace(join(tree, "empty"), (path) => fs.symlinkSync("lib", path)),
  ],
  [
    "a link in the place of a file",
    "lib/deep/4.py",
    /not a regular file/,
    (tree) => replace(join(tree, "lib/deep/4.py"), (path) => fs.symlinkSync("5.py", path)),
  ],
  [
    "a directory in the place of a large file",
    "big/one",
    /not a regular file/,
    (tree) => replace(join(tree, "big/one"), (path) => fs.mkdirSync(path, { mode: 0o555 })),
  ],
  [
    "another length",
    "big/one",
    /bytes, not/,
    (tree) => replace(join(tree, "big/one"), (path) => fs.writeFileSync(path, "short", { mode: 0o444 })),
  ],
];
for (const [what, path, fault, change] of changes) {
  test(`a check finds ${what}, and names its path alone`, async ({ open, payload }) => {
    const store = await open();
    const tree = await fetch(store, payload);
    assert.equal(await store.verify(payload.hash), []);
    change(tree);
    const faults = await store.verify(payload.hash);
    assert.equal(
      faults.map((each) => each.path),
      [path],
    );
    assert.match(faults[0]!.fault, fault);
    assert.is(store.isDamaged(payload.hash), true);
  });
}

test("a check tells no more than 1000 faults", async ({ open, folder }) => {
  fs.mkdirSync(join(folder, "many"));
  for (let i = 0; i < 1100; i++) fs.writeFileSync(join(folder, "many", `${i}`), `${i}`);
  const store = await open();
  const payload = await release(join(folder, "many"));
  const tree = await fetch(store, payload);
  for (let i = 0; i < 1100; i++) fs.chmodSync(join(tree, `${i}`), 0o644);
  within(tree, () => fs.writeFileSync(join(tree, "extra"), ""));
  assert.is((await store.verify(payload.hash)).length, 1000);
});

test("a store that closes during a check does not call the payload damaged", async ({ open, payload }) => {
  const store = await open();
  await fetch(store, payload);
  let lost = 0;
  store.onLost = () => void lost++;
  const verified = store.verify(payload.hash).then(
    () => "checked",
    () => "ended",
  );
  await store[Symbol.asyncDispose]();
  assert.ok(["checked", "ended"].includes(await verified));
  assert.is(lost, 0);
  assert.is((await open()).announced().length, 1);
});

/** Puts something else in the place of an entry, in a directory that is read-only. */
function replace(path: string, make: (path: string) => void): void {
  within(dirname(path), () => {
    fs.rmSync(path, { recursive: true });
    make(path);
  });
}

test.run();
