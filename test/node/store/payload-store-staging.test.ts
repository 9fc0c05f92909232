import * as fs from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { systemTiming } from "../../../node/store/rez-lock.ts";
import { FormatError } from "../../../protocol/errors.ts";
import { bytesToHex } from "../../../protocol/hash.ts";
import { ManifestBuilder } from "../../../protocol/manifest-builder.ts";
import { utf8Bytes } from "../../../protocol/paths.ts";
import {
  describe,
  engine,
  fill,
  itemBytes,
  missingChunks,
  type Payload,
  release,
  releaseOf,
  treeDifferences,
  variantOf,
  writeSampleTree,
} from "../../support/payloads.ts";
import { fetch, flipByte, modeOf, rejects, type StoreContext, stage, stagedPath, storeSuite } from "./store-fixture.ts";

const test = storeSuite("staging");

test("a sliced file is its owner's alone until the tree is finished; small files are final at once", async (context) => {
  const { open, payload } = context;
  const store = await open();
  const staged = await stage(store, payload);
  await fill(staged, payload);
  const tree = join(stagedPath(context, payload.record.payload), "tree");
  assert.is(modeOf(join(tree, "big/one")), 0o600);
  assert.is(modeOf(join(tree, "bin/tool")), 0o555);
  assert.is(modeOf(join(tree, "lib/deep/3.py")), 0o444);
  assert.is(modeOf(stagedPath(context, payload.record.payload)), 0o700);
  assert.is(modeOf(join(tree, "lib")), 0o700);
  assert.equal(fs.readdirSync(store.cachePath), [".sys"]);
  assert.not(fs.existsSync(join(tree, "bin/link")));
});

test("what is placed is equal to its source, with read-only modes and whole-second times", async ({
  open,
  payload,
  source,
}) => {
  const store = await open();
  const path = await fetch(store, payload);
  assert.equal(treeDifferences(source, path), []);
  assert.is(modeOf(path), 0o555);
  assert.is(modeOf(join(path, "empty")), 0o555);
  assert.is(fs.readlinkSync(join(path, "dangling")), "nowhere");
  assert.is.not(fs.statSync(join(path, "bin/tool")).ino, fs.statSync(join(path, "bin/same-tool")).ino);
});

test("the index file is Rez's, with our key, and everybody may touch it", async ({ open, payload }) => {
  const store = await open();
  const path = await fetch(store, payload);
  const index = JSON.parse(fs.readFileSync(`${path}.json`, "utf8"));
  assert.equal(index, {
    handle: {
      key: "filesystem.variant",
      variables: {
        repository_type: "filesystem",
        location: "/mnt/sw/packages",
        name: "foo",
        version: "1.0.0",
        index: null,
      },
    },
    p2pcache: { payload: payload.record.payload, variant: payload.hash },
  });
  assert.is(modeOf(`${path}.json`), 0o666);
});

test("cache.index_mode is the mode of the index file, and a variant's requires stand in it", async ({
  open,
  source,
}) => {
  const store = await open({ indexMode: 0o660 });
  const payload = await release(source, { variant: variantOf("foo", 2) });
  const path = await fetch(store, payload);
  assert.is(modeOf(`${path}.json`), 0o660);
  assert.equal(JSON.parse(fs.readFileSync(`${path}.json`, "utf8")).data, ["python-3.11"]);
});

test("nothing is left in staging after a commit, and nothing of a tree that was not wanted", async (context) => {
  const { open, payload } = context;
  const store = await open();
  const path = await fetch(store, payload);
  assert.equal(fs.readdirSync(context.stagingPath), []);
  // What lies there without our key is somebody else's from now on.
  await store.remove(payload.hash);
  fs.mkdirSync(path, { recursive: true, mode: 0o755 });
  const { handle } = {
    handle: {
      key: "filesystem.variant",
      variables: {
        repository_type: "filesystem",
        location: "/mnt/sw/packages",
        name: "foo",
        version: "1.0.0",
        index: null,
      },
    },
  };
  fs.writeFileSync(`${path}.json`, JSON.stringify({ handle }));
  const staged = await stage(store, payload);
  await fill(staged, payload);
  assert.equal(await store.commit(payload.hash, staged), { kind: "taken", path });
  assert.equal(fs.readdirSync(context.stagingPath), []);
});

test("nothing is written through a link, whatever lies in the staging tree", async (context) => {
  const { open, payload, folder, source } = context;
  const store = await open();
  const staged = await stage(store, payload);
  const tree = join(stagedPath(context, payload.record.payload), "tree");
  const victim = join(folder, "victim");
  fs.writeFileSync(victim, "mine");
  fs.mkdirSync(join(tree, "big"), { recursive: true });
  fs.symlinkSync(victim, join(tree, "big/one"));
  fs.symlinkSync(folder, join(tree, "lib"));
  const missing = missingChunks(staged, await describe(staged, payload));
  fs.symlinkSync(victim, join(tree, "lib/deep/3.py"));
  fs.symlinkSync(victim, join(tree, "extra"));
  for (const item of missing) await staged.put(item, itemBytes(payload, staged.hashOf(item)));
  const result = await store.commit(payload.hash, staged);
  assert.is(fs.readFileSync(victim, "utf8"), "mine");
  assert.equal(treeDifferences(source, result.kind === "placed" ? result.holding.path : ""), []);
});

test("a manifest whose link leaves the tree is refused before anything but segments is written", async (context) => {
  const store = await context.open();
  const payload = linkPayload("../../outside");
  const staged = await stage(store, payload);
  await staged.put(0, itemBytes(payload, staged.hashOf(0)));
  const error = await rejects(staged.describe(), "LINK_LEAVES_TREE");
  assert.instance(error, FormatError);
  assert.equal(fs.readdirSync(stagedPath(context, payload.record.payload)), ["have"]);
});

test("a link that leaves the tree is placed where the record says that it may", async (context) => {
  const store = await context.open();
  const path = await fetch(store, linkPayload("../../outside", true));
  assert.is(fs.readlinkSync(join(path, "link")), "../../outside");
});

test("a tree without entries is placed as an empty directory", async ({ open, folder }) => {
  fs.mkdirSync(join(folder, "nothing"));
  const store = await open();
  const payload = await release(join(folder, "nothing"));
  const path = await fetch(store, payload);
  assert.equal(fs.readdirSync(path), []);
  assert.equal(await store.verify(payload.hash), []);
});

test("marked items are hashed again: a changed byte is fetched once more", async (context) => {
  const { open, payload, source } = context;
  const store = await open();
  const staged = await stage(store, payload);
  await fill(staged, payload);
  await store.leave(staged);
  const tree = join(stagedPath(context, payload.record.payload), "tree");
  flipByte(join(tree, "big/two"), 1_599_999);
  flipByte(join(tree, "lib/deep/3.py"), 100);
  const again = await stage(store, payload);
  const refetched = await fill(again, payload);
  assert.ok(refetched.length >= 2 && refetched.length < payload.record.root.chunks);
  const result = await store.commit(payload.hash, again);
  assert.equal(treeDifferences(source, result.kind === "placed" ? result.holding.path : ""), []);
});

test("a tree that was finished and could not be committed is mended by an unprivileged user", async (context) => {
  const { open, payload, source } = context;
  const store = await open();
  const lock = join(store.cachePath, ".sys/.lock.lock");
  fs.writeFileSync(lock, "");
  const staged = await stage(store, payload);
  await fill(staged, payload);
  await rejects(store.commit(payload.hash, staged), "REZ_LOCK_HELD");
  await store.leave(staged);
  fs.unlinkSync(lock);
  const tree = join(stagedPath(context, payload.record.payload), "tree");
  flipByte(join(tree, "big/one"), 7);
  flipByte(join(tree, "lib/deep/9.py"), 7);
  const again = await stage(store, payload);
  assert.ok((await fill(again, payload)).length >= 2);
  const result = await store.commit(payload.hash, again);
  assert.equal(treeDifferences(source, result.kind === "placed" ? result.holding.path : ""), []);
});

test("what was half written, is too long or is of another type is replaced", async (context) => {
  const { open, payload, source } = context;
  const store = await open();
  const staged = await stage(store, payload);
  await fill(staged, payload);
  await store.leave(staged);
  const tree = join(stagedPath(context, payload.record.payload), "tree");
  fs.rmSync(join(tree, "lib/deep/3.py"));
  fs.writeFileSync(join(tree, "lib/deep/3.py"), "half");
  fs.appendFileSync(join(tree, "big/one"), "more");
  fs.rmSync(join(tree, "big/two"));
  fs.mkdirSync(join(tree, "big/two/inside"), { recursive: true });
  fs.rmdirSync(join(tree, "empty"));
  fs.writeFileSync(join(tree, "empty"), "a file");
  fs.writeFileSync(join(tree, "lib/stranger"), "not in the manifest");
  fs.mkdirSync(join(tree, "bin/link"));
  const again = await stage(store, payload);
  await fill(again, payload);
  const result = await store.commit(payload.hash, again);
  assert.equal(treeDifferences(source, result.kind === "placed" ? result.holding.path : ""), []);
});

const haveFiles: readonly (readonly [what: string, spoil: (path: string) => void])[] = [
  ["truncated", (path) => fs.truncateSync(path, 0)],
  ["too long", (path) => fs.appendFileSync(path, Buffer.alloc(5))],
  ["full of bits that are none", (path) => fs.writeFileSync(path, Buffer.alloc(fs.statSync(path).size, 0xff))],
  [
    "a directory",
    (path) => {
      fs.rmSync(path);
      fs.mkdirSync(path);
    },
  ],
  [
    "a link",
    (path) => {
      fs.rmSync(path);
      fs.symlinkSync("/etc/passwd", path);
    },
  ],
  ["gone", (path) => fs.rmSync(path)],
];
for (const [what, spoil] of haveFiles) {
  test(`a bitmap that is ${what} costs bytes, and nothing else; the next one is good again`, async (context) => {
    const { open, payload, source } = context;
    const store = await open();
    const staged = await stage(store, payload);
    const [first, ...rest] = missingChunks(staged, await describe(staged, payload));
    for (const item of rest) await staged.put(item, itemBytes(payload, staged.hashOf(item)));
    await store.leave(staged);
    spoil(join(stagedPath(context, payload.record.payload), "have"));
    const again = await stage(store, payload);
    assert.equal((await again.describe()).stored, []);
    await again.put(first!, itemBytes(payload, again.hashOf(first!)));
    await store.leave(again);
    const third = await stage(store, payload);
    assert.equal((await third.describe()).stored, [...third.withCopies(first!)]);
    await fill(third, payload);
    const result = await store.commit(payload.hash, third);
    assert.equal(treeDifferences(source, result.kind === "placed" ? result.holding.path : ""), []);
  });
}

test("items with the same bytes are all asked for again when one of them is wrong", async (context) => {
  const { open, payload } = context;
  const store = await open();
  const staged = await stage(store, payload);
  await fill(staged, payload);
  const { copiesOf } = await staged.describe();
  await store.leave(staged);
  // The later of two equal files: its items are only ever brought by those of the earlier one.
  flipByte(join(stagedPath(context, payload.record.payload), "tree/big/two"), 0);
  const again = await stage(store, payload);
  const description = await again.describe();
  const missing = missingChunks(again, description);
  assert.is(missing.length, 1);
  assert.ok(copiesOf.has(missing[0]!));
  assert.not(description.stored.includes(missing[0]!));
});

test("a damaged segment on this disk is fetched again at once", async (context) => {
  const { open, payload } = context;
  const store = await open();
  const staged = await stage(store, payload);
  await fill(staged, payload);
  await store.leave(staged);
  const { hash } = payload.record.root.segments[0]!;
  flipByte(join(store.cachePath, ".sys/p2pcache/objects", hash.slice(0, 2), hash), 9);
  const again = await stage(store, payload);
  assert.equal(again.storedSegments(), []);
  await fill(again, payload);
  assert.is((await store.commit(payload.hash, again)).kind, "placed");
});

test("what is found damaged in staging is not committed; the next try mends it", async (context) => {
  const { open, payload, source } = context;
  const store = await open();
  const staged = await stage(store, payload);
  await fill(staged, payload);
  flipByte(join(stagedPath(context, payload.record.payload), "tree/big/one"), 3);
  const served = (await store.serve(payload.record.payload))!;
  const loads = Array.from({ length: served.index.items }, (_, item) => served.load(item));
  const failed = (await Promise.allSettled(loads)).filter(({ status }) => status === "rejected");
  assert.is(failed.length, 1);
  await rejects(store.commit(payload.hash, staged), "TREE_DAMAGED");
  await store.leave(staged);
  const path = await fetch(store, payload);
  assert.equal(treeDifferences(source, path), []);
});

test("a bit is set only after its bytes, so that what it says is true at every moment", async (context) => {
  const { open, payload } = context;
  const store = await open();
  const staged = await stage(store, payload);
  const missing = missingChunks(staged, await describe(staged, payload));
  const have = join(stagedPath(context, payload.record.payload), "have");
  for (const item of missing) {
    const wrong = itemBytes(payload, staged.hashOf(item));
    wrong[0]! ^= 1;
    await rejects(staged.put(item, wrong), "CHUNK_CORRUPT");
    const isMarked = () => ((fs.readFileSync(have)[item >> 3]! >> (item & 7)) & 1) === 1;
    assert.not(isMarked());
    await staged.put(item, itemBytes(payload, staged.hashOf(item)));
    assert.ok(isMarked());
  }
});

test("two payloads are fetched at once, and the same one by one after the other", async ({
  open,
  payload,
  source,
  folder,
}) => {
  writeSampleTree(join(folder, "other"), 2);
  const other = await release(join(folder, "other"), { variant: variantOf("bar") });
  const twin = await release(source, { variant: variantOf("twin") });
  const store = await open({ lock: systemTiming });
  const trees = [source, join(folder, "other"), source, source];
  const paths = await Promise.all([payload, other, twin, payload].map((each) => fetchAndLeave(store, each)));
  // The first and the last are one variant: whichever came later lies beside where the other was.
  const last = fs.existsSync(paths[0]!) ? paths[0]! : paths[3]!;
  assert.is.not(paths[0], paths[3]);
  for (const [i, path] of [last, paths[1]!, paths[2]!].entries()) assert.equal(treeDifferences(trees[i]!, path), []);
  assert.is(store.holdings().length, 3);
  assert.equal((await store.check()).faults, []);
});

test("who waits for a payload that another works on can leave", async ({ open, payload }) => {
  const store = await open();
  const staged = await stage(store, payload);
  const reason = new Error("enough");
  const controller = new AbortController();
  const waiting = store.stage(payload.hash, payload.record, payload.envelope, controller.signal);
  controller.abort(reason);
  assert.is(await waiting.catch((error: unknown) => error), reason);
  await store.leave(staged);
  await store.leave(await stage(store, payload));
});

test("leaving waits for what is being written", async (context) => {
  const { open, payload } = context;
  const store = await open();
  const staged = await stage(store, payload);
  const missing = missingChunks(staged, await describe(staged, payload));
  const puts = missing.map((item) => staged.put(item, itemBytes(payload, staged.hashOf(item))));
  await store.leave(staged);
  const ends = await Promise.allSettled(puts);
  assert.ok(ends.every(({ status }) => status === "fulfilled"));
  const again = await stage(store, payload);
  assert.equal(missingChunks(again, await again.describe()), []);
});

test("a machine whose sync knows no filesystems syncs each file", async ({ open, payload, source }) => {
  const { PATH } = process.env;
  process.env.PATH = "/nowhere";
  try {
    const path = await fetch(await open(), payload);
    assert.equal(treeDifferences(source, path), []);
  } finally {
    process.env.PATH = PATH;
  }
});

async function fetchAndLeave(store: Awaited<ReturnType<StoreContext["open"]>>, payload: Payload): Promise<string> {
  const staged = await stage(store, payload);
  try {
    await fill(staged, payload);
    const result = await store.commit(payload.hash, staged);
    return result.kind === "placed" ? result.holding.path : "";
  } finally {
    await store.leave(staged);
  }
}

/** A tree of one link. */
function linkPayload(target: string, externalLinks = false): Payload {
  const segments: Uint8Array[] = [];
  const builder = new ManifestBuilder(engine.hash, ({ bytes }) => segments.push(bytes));
  builder.byteless({ kind: "link", path: "link", target });
  const built = builder.finish();
  assert.is(utf8Bytes(target).length, target.length);
  const items = new Map(segments.map((bytes) => [bytesToHex(engine.hash(bytes)) as never, bytes]));
  return { ...releaseOf(built, { attributes: { externalLinks } }), items };
}

test.run();
