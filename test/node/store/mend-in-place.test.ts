import * as fs from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { PayloadStore } from "../../../node/store/payload-store.ts";
import { describe, itemBytes, missingChunks, type Payload, release, treeDifferences } from "../../support/payloads.ts";
import { copyLikeRez } from "../../support/rez-copies.ts";
import { fetch, flipByte, location, modeOf, rejects, storeSuite, within } from "./store-fixture.ts";

const test = storeSuite("repair in place");

/** Repairs as a fetch does. Answers the chunk items that had to come from elsewhere. */
async function repair(store: PayloadStore, payload: Payload): Promise<number[]> {
  await store.verify(payload.hash);
  assert.is(store.isDamaged(payload.hash), true);
  const tree = (await store.repairs.open(payload.hash, payload.record))!;
  try {
    const missing = missingChunks(tree, await describe(tree, payload));
    for (const item of missing) await tree.put(item, itemBytes(payload, tree.hashOf(item)));
    await store.repairs.mend(payload.hash, tree);
    return missing;
  } finally {
    await store.repairs.leave(tree);
  }
}

/** Inode, mode and times of every path but those that are named. */
function inodes(tree: string, except: readonly string[]): Record<string, number> {
  const paths = (fs.readdirSync(tree, { recursive: true }) as string[]).filter((path) => !except.includes(path));
  return Object.fromEntries(paths.sort().map((path) => [path, fs.lstatSync(join(tree, path)).ino]));
}

test("one changed byte costs one item, and no other file is touched", async ({ open, payload, source }) => {
  const store = await open();
  const tree = await fetch(store, payload);
  for (const [path, at] of [
    ["lib/deep/7.py", 100],
    ["big/two", 900_000],
  ] as const) {
    flipByte(join(tree, path), at);
    const before = inodes(tree, [path]);
    const running = fs.openSync(join(tree, path), "r");
    const old = fs.readFileSync(running);
    assert.is((await repair(store, payload)).length, 1);
    assert.equal(inodes(tree, [path]), before);
    // Whoever has it open keeps what it had.
    const again = Buffer.alloc(old.length);
    fs.readSync(running, again, 0, old.length, 0);
    fs.closeSync(running);
    assert.ok(again.equals(old));
    assert.equal(treeDifferences(source, tree), []);
    assert.is(store.isDamaged(payload.hash), false);
    assert.is(store.holding(payload.hash)?.path, tree);
  }
  assert.equal((await store.check()).faults, []);
  assert.equal(fs.readdirSync(join(store.cachePath, ".sys/p2pcache/repairs")), []);
});

test("whatever is wrong with a tree is made right where it lies", async ({ open, payload, source }) => {
  const store = await open();
  const tree = await fetch(store, payload);
  const outside = join(store.cachePath, "..", "outside");
  fs.mkdirSync(outside);
  within(join(tree, "lib/deep"), () => {
    fs.rmSync(join(tree, "lib/deep/1.py"));
    fs.symlinkSync("/etc/passwd", join(tree, "lib/deep/1.py"));
    fs.rmSync(join(tree, "lib/deep/2.py"));
    fs.mkdirSync(join(tree, "lib/deep/2.py/in"), { recursive: true });
    fs.writeFileSync(join(tree, "lib/deep/stranger"), "x");
    fs.mkdirSync(join(tree, "lib/deep/more/and"), { recursive: true });
  });
  within(join(tree, "lib"), () => {
    fs.rmSync(join(tree, "lib/nothing"));
    fs.mkdirSync(join(tree, "lib/nothing"));
  });
  within(tree, () => {
    fs.rmSync(join(tree, "dangling"));
    fs.writeFileSync(join(tree, "dangling"), "x");
    fs.chmodSync(join(tree, "bin"), 0o700);
    fs.rmSync(join(tree, "bin"), { recursive: true });
    fs.symlinkSync(outside, join(tree, "bin"));
    fs.rmdirSync(join(tree, "empty"));
  });
  fs.chmodSync(join(tree, "lib/deep/3.py"), 0o644);
  fs.utimesSync(join(tree, "lib/deep/4.py"), 1, 1);
  fs.chmodSync(join(tree, "big/one"), 0o600);
  fs.appendFileSync(join(tree, "big/one"), "more");
  fs.chmodSync(join(tree, "big/two"), 0o600);
  fs.truncateSync(join(tree, "big/two"), 10);
  fs.chmodSync(join(tree, "big"), 0o755);
  fs.chmodSync(tree, 0o755);
  await repair(store, payload);
  assert.equal(treeDifferences(source, tree), []);
  assert.equal(fs.readdirSync(outside), []);
  assert.is(modeOf(tree), 0o555);
});

test("a wrong manifest segment and a lost record are no reason to touch the tree", async (context) => {
  const { open, payload, cachePath } = context;
  const store = await open();
  const tree = await fetch(store, payload);
  const before = inodes(tree, []);
  const [segment] = payload.record.root.segments;
  flipByte(join(cachePath, ".sys/p2pcache/objects", segment!.hash.slice(0, 2), segment!.hash), 50);
  assert.equal(await repair(store, payload), []);
  assert.equal(inodes(tree, []), before);
});

test("a repair that is cut short leaves the tree damaged, and the next opening clears its drafts", async (context) => {
  const { open, payload, cachePath } = context;
  const store = await open();
  const tree = await fetch(store, payload);
  flipByte(join(tree, "big/two"), 900_000);
  await store.verify(payload.hash);
  const damaged = (await store.repairs.open(payload.hash, payload.record))!;
  await describe(damaged, payload);
  await rejects(store.repairs.mend(payload.hash, damaged), "TREE_DAMAGED");
  await store[Symbol.asyncDispose]();
  const again = await open();
  assert.is(again.isDamaged(payload.hash), true);
  await again.verify(payload.hash);
  await again.remove(payload.hash);
  assert.not(fs.existsSync(join(cachePath, ".sys/p2pcache/repairs")));
});

test("without room for what is made anew nothing is begun", async ({ open, payload }) => {
  const store = await open();
  const tree = await fetch(store, payload);
  flipByte(join(tree, "big/two"), 900_000);
  await store.verify(payload.hash);
  store.space.limits = { maxBytes: store.bytes + 1_000_000, freeBytesMin: 0 };
  const damaged = (await store.repairs.open(payload.hash, payload.record))!;
  await rejects(describe(damaged, payload), "NO_SPACE");
  await store.repairs.leave(damaged);
});

test("a copy that Rez made is repaired in its files, and else left as it is", async ({ open, payload, source }) => {
  const store = await open();
  const { path: tree } = copyLikeRez(store.cachePath, location, payload.record.variant, source);
  const copy = await store.adoption.open(payload.hash, payload.record, payload.envelope);
  await describe(copy, payload);
  await store.adoption.adopt(payload.hash, copy);
  store.adoption.leave(copy);
  fs.writeFileSync(join(tree, "lib/made.pyc"), "x");
  const mode = modeOf(join(tree, "lib"));
  flipByte(join(tree, "lib/deep/7.py"));
  assert.is((await repair(store, payload)).length, 1);
  assert.equal([fs.existsSync(join(tree, "lib/made.pyc")), modeOf(join(tree, "lib"))], [true, mode]);
});

test("what is held as another payload, or not at all, is not repaired", async ({ open, payload, source }) => {
  const store = await open();
  assert.is(await store.repairs.open(payload.hash, payload.record), undefined);
  await fetch(store, payload);
  const other = await release(join(source, "lib"), { revision: 1, supersedes: payload.record });
  assert.is(await store.repairs.open(payload.hash, other.record), undefined);
});

test.run();
