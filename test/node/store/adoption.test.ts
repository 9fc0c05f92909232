import * as fs from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { PayloadStore } from "../../../node/store/payload-store.ts";
import { type NotAdoptedError, P2pCacheError } from "../../../protocol/errors.ts";
import { describe, type Payload, release } from "../../support/payloads.ts";
import { copyLikeRez, type RezCopy } from "../../support/rez-copies.ts";
import { fetch, flipByte, location, modeOf, rejects, type StoreContext, storeSuite } from "./store-fixture.ts";

const test = storeSuite("adopting what Rez has copied");

function copyOf({ cachePath, payload, source }: StoreContext, options?: Parameters<typeof copyLikeRez>[4]): RezCopy {
  const copy = copyLikeRez(cachePath, location, payload.record.variant, source, options);
  // Rez's "last used" is long ago.
  fs.utimesSync(copy.indexPath, 1_700_000_000, 1_700_000_000);
  return copy;
}

/** As the fetcher does it. */
async function adopt(store: PayloadStore, payload: Payload, signal?: AbortSignal) {
  const copy = await store.adoption.open(payload.hash, payload.record, payload.envelope);
  try {
    const description = await describe(copy, payload, signal);
    assert.is(description.stored.length, copy.index.items - copy.index.segments);
    return await store.adoption.adopt(payload.hash, copy, signal);
  } finally {
    store.adoption.leave(copy);
  }
}

/** All that can be seen of a tree without reading it. */
function facts(path: string): string[] {
  return fs
    .readdirSync(path, { recursive: true, encoding: "utf8" })
    .sort()
    .map((name) => {
      const { mode, mtimeMs, size, ino } = fs.lstatSync(join(path, name));
      return `${name} ${mode.toString(8)} ${mtimeMs} ${size} ${ino}`;
    });
}

async function refused(store: PayloadStore, payload: Payload, reason: RegExp): Promise<void> {
  const error = (await rejects(adopt(store, payload), "NOT_ADOPTED")) as NotAdoptedError;
  assert.match(error.message, reason);
  assert.equal([store.holdings(), store.announced()], [[], []]);
}

test("an equal copy is held, announced and served, and its tree stays as it was", async (context) => {
  const { open, payload } = context;
  const copy = copyOf(context);
  const before = facts(copy.path);
  const store = await open();
  assert.equal((await adopt(store, payload)).path, copy.path);
  assert.equal(facts(copy.path), before);
  assert.is(store.holding(payload.hash)?.path, copy.path);
  assert.equal(store.announced(), [[payload.hash, payload.record.payload]]);
  const served = (await store.serve(payload.record.payload))!;
  for (let item = 0; item < served.index.items; item++) await served.load(item);
  assert.is(store.foreign(payload.record.variant), undefined);
  assert.equal((await store.check()).faults, []);
});

test("its index file keeps all that Rez reads, and its last use", async (context) => {
  const { open, payload } = context;
  const { indexPath } = copyOf(context);
  const before = JSON.parse(fs.readFileSync(indexPath, "utf8"));
  await adopt(await open(), payload);
  const { p2pcache, ...rest } = JSON.parse(fs.readFileSync(indexPath, "utf8"));
  assert.equal(rest, before);
  assert.equal(p2pcache, { payload: payload.record.payload, variant: payload.hash, adopted: true });
  assert.equal([fs.statSync(indexPath).mtimeMs, modeOf(indexPath)], [1_700_000_000_000, 0o666]);
});

test("its index file is written anew where it rotted, and not where Rez has its own again", async (context) => {
  const { open, payload } = context;
  const { indexPath } = copyOf(context);
  const rez = fs.readFileSync(indexPath, "utf8");
  const store = await open();
  const { path } = await adopt(store, payload);
  const marked = fs.readFileSync(indexPath, "utf8");
  fs.writeFileSync(indexPath, marked.replace('"handle"', '"handlf"'));
  assert.equal((await store.check()).faults, [`${indexPath}: the index file is damaged`]);
  await store.bookkeeping.mend();
  assert.equal(JSON.parse(fs.readFileSync(indexPath, "utf8")).p2pcache, JSON.parse(marked).p2pcache);
  assert.equal([store.holding(payload.hash)?.path, (await store.check()).faults], [path, []]);

  fs.writeFileSync(indexPath, rez);
  await store.bookkeeping.mend();
  assert.equal([fs.readFileSync(indexPath, "utf8"), store.holdings()], [rez, []]);
});

test("verify finds other content in what was adopted, and not modes, times and what programs wrote beside", async (context) => {
  const { open, payload } = context;
  const { path } = copyOf(context);
  const store = await open();
  await adopt(store, payload);
  fs.mkdirSync(join(path, "lib/deep/__pycache__"));
  fs.chmodSync(join(path, "lib/deep/3.py"), 0o600);
  fs.utimesSync(join(path, "lib/deep/4.py"), 1, 1);
  assert.equal(await store.verify(payload.hash), []);
  flipByte(join(path, "lib/deep/3.py"));
  const faults = await store.verify(payload.hash);
  assert.equal(
    faults.map((fault) => [fault.path, fault.fault]),
    [["lib/deep/3.py", "has other content"]],
  );
  assert.equal(store.announced(), []);
  // A fetch puts our own tree beside it, and the copy goes.
  const placed = await fetch(store, payload);
  assert.equal([fs.existsSync(path), modeOf(placed), await store.verify(payload.hash)], [false, 0o555, []]);
});

const differences: readonly [string, (path: string) => void, RegExp][] = [
  ["other content", (path) => flipByte(join(path, "big/two"), 1_000_000), /^big\/two has other content$/],
  ["a missing file", (path) => fs.unlinkSync(join(path, "lib/deep/5.py")), /^lib\/deep\/5\.py is missing$/],
  ["a further file", (path) => fs.writeFileSync(join(path, "lib/x"), ""), /^lib\/x is not in the manifest$/],
  ["another length", (path) => fs.appendFileSync(join(path, "bin/tool"), "x"), /^bin\/tool has \d+ bytes, not \d+$/],
  [
    "another type",
    (path) => {
      fs.unlinkSync(join(path, "lib/nothing"));
      fs.mkdirSync(join(path, "lib/nothing"));
    },
    /regular/,
  ],
  [
    "a link elsewhere",
    (path) => {
      fs.unlinkSync(join(path, "bin/link"));
      fs.symlinkSync("x", join(path, "bin/link"));
    },
    /^bin\/link points elsewhere$/,
  ],
  [
    "a file that cannot be read",
    (path) => fs.chmodSync(join(path, "lib/deep/7.py"), 0),
    /^lib\/deep\/7\.py cannot be read/,
  ],
  ["a top that others may write", (path) => fs.chmodSync(path, 0o777), /everybody may write there/],
];
for (const [what, change, reason] of differences) {
  test(`a copy with ${what} is left alone, and the first difference is named`, async (context) => {
    const { open, payload } = context;
    const copy = copyOf(context);
    change(copy.path);
    const before = [facts(copy.directory), fs.readFileSync(copy.indexPath, "utf8")];
    const store = await open();
    await refused(store, payload, reason);
    assert.equal([facts(copy.directory), fs.readFileSync(copy.indexPath, "utf8")], before);
    fs.chmodSync(copy.path, 0o755);
  });
}

test("links that Rez has followed are a difference", async (context) => {
  const { open, payload, source } = context;
  const tree = join(context.folder, "without-dangling");
  fs.cpSync(source, tree, { recursive: true, verbatimSymlinks: true });
  fs.unlinkSync(join(tree, "dangling"));
  const other = await release(tree, { variant: payload.record.variant });
  copyLikeRez(context.cachePath, location, payload.record.variant, tree, { followLinks: true });
  await refused(await open(), other, /^bin\/link is not a link$/);
});

test("a copy that is not whole, or goes or changes meanwhile, is left alone", async (context) => {
  const { open, payload } = context;
  const copy = copyOf(context);
  const store = await open();
  const copying = join(copy.directory, ".copying-a");
  fs.writeFileSync(copying, "");
  await refused(store, payload, /^it is copying$/);
  fs.utimesSync(copying, 1, 1);
  await refused(store, payload, /^it is stalled$/);
  fs.unlinkSync(copying);
  const opened = await store.adoption.open(payload.hash, payload.record, payload.envelope);
  await describe(opened, payload);
  fs.renameSync(copy.indexPath, `${copy.indexPath}.gone`);
  await rejects(store.adoption.adopt(payload.hash, opened), "NOT_ADOPTED");
  store.adoption.leave(opened);
  await refused(store, payload, /^it has gone$/);
});

test("one that would take the cache past its limit is left alone", async (context) => {
  const { open, payload } = context;
  copyOf(context);
  await refused(await open({ limits: { maxBytes: 1_000_000, freeBytesMin: 0 } }), payload, /past its max_bytes/);
});

test("a deadline ends the comparison, and nothing is adopted", async (context) => {
  const { open, payload } = context;
  copyOf(context);
  const store = await open();
  const late = new P2pCacheError("DEADLINE", 6, "too late");
  await rejects(adopt(store, payload, AbortSignal.abort(late)), "DEADLINE");
  assert.equal(store.holdings(), []);
  assert.is((await adopt(store, payload)).files, payload.record.root.files);
});

test("with Rez's lock held it is not adopted, and not lost", async (context) => {
  const { open, payload, cachePath } = context;
  copyOf(context);
  const store = await open();
  const lock = join(cachePath, ".sys/.lock.lock");
  fs.writeFileSync(lock, "");
  await rejects(adopt(store, payload), "REZ_LOCK_HELD");
  assert.equal(store.foreign(payload.record.variant)?.state, "cached");
  fs.unlinkSync(lock);
  await adopt(store, payload);
});

test("after a crash between index file and catalogue it is taken up, checked, and only then announced", async (context) => {
  const { open, payload, statePath } = context;
  const { path } = copyOf(context);
  const first = await open();
  await adopt(first, payload);
  await first[Symbol.asyncDispose]();
  fs.rmSync(statePath, { recursive: true });
  fs.mkdirSync(join(path, "later"));
  const second = await open();
  assert.equal([second.holdings().length, second.announced()], [1, []]);
  await second.verifyUnsure();
  assert.is(second.announced().length, 1);
});

test("what was adopted is removed, replaced by a newer revision, and missed when Rez cleans it, like all that is held", async (context) => {
  const { open, payload, folder, source } = context;
  const store = await open();
  const copy = copyOf(context);
  await adopt(store, payload);
  assert.is((await store.remove(payload.hash))?.path, copy.path);
  assert.equal([copy.path, copy.indexPath].filter(fs.existsSync), []);

  copyOf(context);
  await adopt(store, payload);
  const newer = join(folder, "newer");
  fs.cpSync(source, newer, { recursive: true, verbatimSymlinks: true });
  fs.writeFileSync(join(newer, "new"), "");
  const next = await release(newer, { revision: 1, supersedes: payload.record });
  const placed = await fetch(store, next);
  assert.equal([fs.existsSync(copy.path), fs.existsSync(placed)], [false, true]);
  await store.remove(payload.hash);

  copyOf(context);
  await adopt(store, await release(source, { revision: 2, supersedes: next.record }));
  const lost: string[] = [];
  store.onLost = (_variant, fault) => lost.push(fault);
  fs.unlinkSync(copy.indexPath);
  assert.is(store.holding(payload.hash), undefined);
  assert.equal(lost, [`${copy.path} has gone`]);
});

test.run();
