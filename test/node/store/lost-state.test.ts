import * as fs from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { Catalogue } from "../../../node/store/catalogue.ts";
import { UnusableError } from "../../../protocol/errors.ts";
import { release, treeDifferences, variantOf } from "../../support/payloads.ts";
import { fetch, flipByte, rejects, storeSuite } from "./store-fixture.ts";

const test = storeSuite("lost state");

test("with its state lost a node finds its holdings again, and announces them once they were checked", async (context) => {
  const { open, payload, statePath } = context;
  const first = await open();
  const path = await fetch(first, payload);
  await first[Symbol.asyncDispose]();
  fs.rmSync(statePath, { recursive: true });
  const second = await open();
  assert.is(second.holding(payload.hash)?.path, path);
  assert.is(second.bytes, payload.record.root.bytes);
  assert.equal((await second.check()).faults, []);
  assert.equal(second.announced(), []);
  assert.is(await second.serve(payload.record.payload), undefined);
  await second.verifyUnsure();
  assert.equal(second.announced(), [[payload.hash, payload.record.payload]]);
});

test("an index file with our key is not believed where no record of ours agrees", async (context) => {
  const { open, payload, statePath, cachePath } = context;
  const first = await open();
  const path = await fetch(first, payload);
  await first[Symbol.asyncDispose]();
  fs.rmSync(statePath, { recursive: true });
  const index = JSON.parse(fs.readFileSync(`${path}.json`, "utf8"));
  const lies = [
    { ...index, p2pcache: { ...index.p2pcache, payload: "ab".repeat(32) } },
    { ...index, p2pcache: { ...index.p2pcache, variant: "ab".repeat(32) } },
    { ...index, p2pcache: {} },
    { ...index, handle: { ...index.handle, variables: { ...index.handle.variables, version: "2.0.0" } } },
  ];
  for (const lie of lies) {
    fs.writeFileSync(`${path}.json`, JSON.stringify(lie));
    const store = await open();
    assert.equal(store.holdings(), [], JSON.stringify(lie));
    await store[Symbol.asyncDispose]();
  }
  fs.writeFileSync(`${path}.json`, JSON.stringify(index));
  const record = join(cachePath, ".sys/p2pcache/objects", payload.hash.slice(0, 2), `${payload.hash}.dsse.json`);
  fs.renameSync(record, `${record}.away`);
  const store = await open();
  assert.equal(store.holdings(), []);
  await store[Symbol.asyncDispose]();
  fs.renameSync(`${record}.away`, record);
  assert.is((await open()).holdings().length, 1);
});

test("what has gone from the cache, or is another's now, is dropped from the catalogue", async (context) => {
  const { open, payload, source } = context;
  const spoil: readonly ((path: string) => void)[] = [
    (path) => fs.rmSync(`${path}.json`),
    (path) => {
      fs.chmodSync(path, 0o755);
      fs.renameSync(path, join(context.folder, `${performance.now()}`));
    },
    (path) => {
      const { handle } = JSON.parse(fs.readFileSync(`${path}.json`, "utf8"));
      fs.writeFileSync(`${path}.json`, JSON.stringify({ handle }));
    },
  ];
  for (const change of spoil) {
    const variant = variantOf(`foo${spoil.indexOf(change)}`);
    const each = await release(source, { variant });
    const first = await open();
    const path = await fetch(first, each);
    await first[Symbol.asyncDispose]();
    change(path);
    const second = await open();
    assert.equal(second.holdings(), [], String(change));
    assert.equal((await second.check()).faults, []);
    await second[Symbol.asyncDispose]();
  }
  assert.equal(treeDifferences(source, await fetch(await open(), payload)), []);
});

const breaks: readonly (readonly [what: string, spoil: (index: string) => void | Promise<void>])[] = [
  ["CURRENT is garbage", (index) => fs.writeFileSync(join(index, "CURRENT"), "garbage")],
  [
    "the manifest has gone",
    (index) => fs.rmSync(join(index, fs.readdirSync(index).find((name) => name.startsWith("MANIFEST"))!)),
  ],
  [
    "it is a file",
    (index) => {
      fs.rmSync(index, { recursive: true });
      fs.writeFileSync(index, "");
    },
  ],
  ["its mark is strange", (index) => putRaw(index, "format", 5)],
];
for (const [what, spoil] of breaks) {
  test(`a database of which ${what} is moved aside and made anew from the cache`, async ({
    open,
    payload,
    statePath,
    problems,
  }) => {
    const index = join(statePath, "index");
    for (let i = 0; i < 2; i++) {
      const store = await open();
      if (i === 0) await fetch(store, payload);
      await store[Symbol.asyncDispose]();
      await spoil(index);
    }
    const store = await open();
    assert.is(problems.length, 2);
    assert.match(problems[0]!, /index\.broken-\d+/);
    assert.is(fs.readdirSync(statePath).filter((name) => name.startsWith("index.broken-")).length, 1);
    assert.is(store.holdings().length, 1);
    assert.equal((await store.check()).faults, []);
    assert.equal(store.announced(), []);
    await store.verifyUnsure();
    assert.is(store.announced().length, 1);
  });
}

test("an entry of the database that rotted is told and made anew, and no other is in doubt", async (context) => {
  const { open, payload, source, statePath, problems } = context;
  const other = await release(source, { variant: variantOf("other") });
  const first = await open();
  for (const each of [payload, other]) await fetch(first, each);
  await first[Symbol.asyncDispose]();
  const index = join(statePath, "index");
  const entry = await getRaw(index, `holding!${payload.hash}`);
  await putRaw(index, `holding!${payload.hash}`, JSON.parse(JSON.stringify(entry).replace('"files":', '"fines":')));
  await putRaw(index, "holding!x", { variant: 5 });
  const second = await open();
  assert.is(problems.length, 2);
  assert.is(second.holdings().length, 2);
  assert.equal(second.announced(), [[other.hash, other.record.payload]]);
  assert.equal((await second.check()).faults, []);
  await second.verifyUnsure();
  assert.is(second.announced().length, 2);
});

test("a release record that rotted is given to nobody, and is found by a check", async (context) => {
  const { open, payload, cachePath } = context;
  const store = await open();
  await fetch(store, payload);
  const record = join(cachePath, ".sys/p2pcache/objects", payload.hash.slice(0, 2), `${payload.hash}.dsse.json`);
  const { size } = fs.statSync(record);
  for (const at of [0, 100, size - 20, size - 1]) {
    flipByte(record, at);
    assert.is(await store.record(payload.hash), undefined, `${at}`);
    assert.is((await store.check()).faults.length, 1);
    flipByte(record, at);
    assert.ok(await store.record(payload.hash));
  }
});

test("records and entries of before there were checksums count", async (context) => {
  const { open, payload, statePath, cachePath } = context;
  const first = await open();
  await fetch(first, payload);
  const envelope = (await first.record(payload.hash))!;
  await first[Symbol.asyncDispose]();
  const index = join(statePath, "index");
  const { value } = (await getRaw(index, `holding!${payload.hash}`)) as { value: unknown };
  await putRaw(index, `holding!${payload.hash}`, value);
  fs.writeFileSync(
    join(cachePath, ".sys/p2pcache/objects", payload.hash.slice(0, 2), `${payload.hash}.dsse.json`),
    envelope,
  );
  const second = await open();
  assert.equal(second.announced(), [[payload.hash, payload.record.payload]]);
  assert.equal((await second.check()).faults, []);
  assert.equal(context.problems, []);
});

test("with its record rotted an older release is refused all the same", async (context) => {
  const { open, payload, source, cachePath } = context;
  const store = await open();
  const newer = await release(source, { revision: 2, supersedes: payload.record });
  await fetch(store, newer);
  flipByte(join(cachePath, ".sys/p2pcache/objects", newer.hash.slice(0, 2), `${newer.hash}.dsse.json`), 30);
  await rejects(store.noteRecord(payload.hash, payload.envelope), "RECORD_OUTDATED");
  await store.noteRecord(newer.hash, newer.envelope);
  assert.equal((await store.check()).faults, []);
});

test("state and database are closed to others, also where they were open", async ({ open, statePath }) => {
  const paths = [statePath, join(statePath, "index")];
  for (const loosen of [false, true]) {
    if (loosen) for (const path of paths) fs.chmodSync(path, 0o777);
    await (await open())[Symbol.asyncDispose]();
    assert.equal(
      paths.map((path) => fs.statSync(path).mode & 0o777),
      [0o700, 0o700],
    );
  }
});

test("a state directory of somebody else is refused", async ({ open, statePath }) => {
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) {
    fs.mkdirSync(statePath);
    fs.chownSync(statePath, 4242, 0);
  }
  const error = await rejects(open(isRoot ? {} : { statePath: "/" }), "UNUSABLE");
  assert.match(error.message, /belongs to user/);
  if (isRoot) assert.equal(fs.readdirSync(statePath), []);
});

test("a database that may not be read is said to be so, and left where it is", async ({ open, statePath }) => {
  await (await open())[Symbol.asyncDispose]();
  const index = join(statePath, "index");
  fs.chmodSync(index, 0);
  const error = await rejects(open(), "UNUSABLE");
  assert.instance(error, UnusableError);
  assert.match(`${error.message} ${error.hint}`, /index.*chmod u\+rwx/);
  fs.chmodSync(index, 0o700);
  assert.equal(fs.readdirSync(statePath), ["index"]);
  await open();
});

test("a database of a newer p2pcache is left alone", async ({ open, statePath }) => {
  await (await open())[Symbol.asyncDispose]();
  await putRaw(join(statePath, "index"), "format", { version: 2 });
  await rejects(open(), "UNKNOWN_VERSION");
  assert.equal(fs.readdirSync(statePath), ["index"]);
});

test("what was placed before an unclean boot is neither announced nor served until it was checked", async (context) => {
  const { open, payload, statePath, source } = context;
  const other = await release(source, { variant: variantOf("bar") });
  const first = await open();
  await fetch(first, payload);
  const otherPath = await fetch(first, other);
  await first[Symbol.asyncDispose]();
  await setBoot(statePath, "another boot");
  flipByte(join(otherPath, "big/one"));
  const second = await open();
  const lost: string[] = [];
  second.onLost = (variant) => void lost.push(variant);
  assert.equal(second.announced(), []);
  assert.is(await second.serve(payload.record.payload), undefined);
  assert.is(second.holdings().length, 2);
  await second.verifyUnsure();
  assert.equal(second.announced(), [[payload.hash, payload.record.payload]]);
  assert.equal(lost, [other.hash]);
  assert.is(second.isDamaged(other.hash), true);
  await second[Symbol.asyncDispose]();
  assert.equal((await open()).announced(), [[payload.hash, payload.record.payload]]);
});

test("a start with many holdings answers within 2 s", async (context) => {
  const { open, payload, statePath } = context;
  const first = await open();
  const path = await fetch(first, payload);
  await first[Symbol.asyncDispose]();
  const objects = join(
    context.cachePath,
    ".sys/p2pcache/objects",
    payload.hash.slice(0, 2),
    `${payload.hash}.dsse.json`,
  );
  assert.ok(fs.existsSync(objects));
  const index = fs.readFileSync(`${path}.json`, "utf8");
  for (let i = 0; i < 1000; i++) {
    const directory = join(context.cachePath, `pkg${i}`, "1.0.0", "abcd");
    fs.mkdirSync(join(directory, "a"), { recursive: true, mode: 0o755 });
    fs.writeFileSync(join(directory, "a.json"), index);
  }
  fs.rmSync(statePath, { recursive: true });
  const startedMs = performance.now();
  const second = await open();
  assert.ok(performance.now() - startedMs < 2_000);
  assert.is(second.holdings().length, 1);
});

async function setBoot(statePath: string, unsureSinceBoot: string): Promise<void> {
  await using catalogue = await Catalogue.open(join(statePath, "index"));
  for (const entry of catalogue.all()) await catalogue.put({ ...entry, unsureSinceBoot });
}

async function getRaw(index: string, key: string): Promise<unknown> {
  const { Level } = await import("level");
  const database = new Level<string, unknown>(index, { valueEncoding: "json" });
  const value = await database.get(key);
  await database.close();
  return value;
}

async function putRaw(index: string, key: string, value: unknown): Promise<void> {
  const { Level } = await import("level");
  const database = new Level<string, unknown>(index, { valueEncoding: "json" });
  await database.put(key, value);
  await database.close();
}

test.run();
