import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openNew, readChunk, writeChunk } from "../../../node/tree-file.ts";
import type { ChunkLayout } from "../../../protocol/layout.ts";
import { noise } from "../../support/noise.ts";
import { engine, removeTree } from "../../support/payloads.ts";
import { flipByte, modeOf, rejects } from "./store-fixture.ts";

const test = suite<{ tree: string }>("tree file");
test.before.each((context) => {
  context.tree = fs.mkdtempSync(join(tmpdir(), "p2pcache-tree-"));
});
test.after.each(({ tree }) => removeTree(tree));

const bytes = noise(1, 30);

/** A run of two files; `b` can be run. */
function runLayout(): ChunkLayout {
  const small = (path: string, sizeBytes: number, executable: boolean) => ({
    path,
    offsetBytes: 0,
    sizeBytes,
    whole: { executable, mtimeSeconds: 1_000_000 + sizeBytes },
  });
  return {
    chunk: { digest: engine.hash(bytes), sizeBytes: 30 },
    ranges: [small("a", 10, false), small("b", 20, true)],
    fileDigests: Buffer.concat([engine.hash(bytes.subarray(0, 10)), engine.hash(bytes.subarray(10))]),
  };
}

function sliceLayout(offsetBytes: number, path = "large"): ChunkLayout {
  const range = { path, offsetBytes, sizeBytes: 30, whole: undefined };
  return { chunk: { digest: engine.hash(bytes), sizeBytes: 30 }, ranges: [range], fileDigests: undefined };
}

test("the files of a run are there whole, with their modes and times", ({ tree }) => {
  writeChunk(tree, [runLayout()], bytes, engine.hash);
  assert.equal([modeOf(join(tree, "a")), modeOf(join(tree, "b"))], [0o444, 0o555]);
  assert.is(fs.statSync(join(tree, "b")).mtimeMs, 1_000_020_000);
  assert.equal([...fs.readFileSync(join(tree, "b"))], [...bytes.subarray(10)]);
  assert.equal([...readChunk(tree, runLayout(), engine.hash)], [...bytes]);
});

test("a manifest whose files have other hashes than their run's bytes is refused before anything is written", async ({
  tree,
}) => {
  const layout = runLayout();
  const lying = { ...layout, fileDigests: layout.fileDigests!.map((byte, i) => (i === 40 ? byte ^ 1 : byte)) };
  await rejects((async () => writeChunk(tree, [lying], bytes, engine.hash))(), "BAD_FORMAT");
  assert.equal(fs.readdirSync(tree), []);
});

test("slices go to their places, in any order, and to all places of a chunk", ({ tree }) => {
  writeChunk(tree, [sliceLayout(30), sliceLayout(60), sliceLayout(0, "other")], bytes, engine.hash);
  assert.is(modeOf(join(tree, "large")), 0o600);
  assert.is(fs.statSync(join(tree, "large")).size, 90);
  writeChunk(tree, [sliceLayout(0)], bytes, engine.hash);
  assert.equal([...fs.readFileSync(join(tree, "large"))], [...bytes, ...bytes, ...bytes]);
  assert.equal([...readChunk(tree, sliceLayout(0, "other"), engine.hash)], [...bytes]);
});

test("bytes that are not the chunk's are refused before anything is written", async ({ tree }) => {
  for (const wrong of [bytes.subarray(1), noise(2, 30), new Uint8Array(0), new Uint8Array(31)]) {
    await rejects((async () => writeChunk(tree, [runLayout(), sliceLayout(0)], wrong, engine.hash))(), "CHUNK_CORRUPT");
  }
  assert.equal(fs.readdirSync(tree), []);
});

test("a file is written anew over whatever a crash left there, and never through a link", ({ tree }) => {
  const target = join(tree, "target");
  fs.writeFileSync(target, "mine");
  const obstacles = [
    () => fs.writeFileSync(join(tree, "a"), "half", { mode: 0o444 }),
    () => fs.symlinkSync(target, join(tree, "a")),
    () => fs.symlinkSync("nowhere", join(tree, "a")),
    () => fs.mkdirSync(join(tree, "a", "b"), { recursive: true }),
  ];
  for (const obstacle of obstacles) {
    fs.rmSync(join(tree, "a"), { force: true, recursive: true });
    obstacle();
    writeChunk(tree, [runLayout()], bytes, engine.hash);
    assert.ok(fs.lstatSync(join(tree, "a")).isFile());
    assert.equal([...readChunk(tree, runLayout(), engine.hash)], [...bytes]);
  }
  assert.is(fs.readFileSync(target, "utf8"), "mine");
  assert.throws(() => openNew(join(tree, "no", "directory"), 0o444), /ENOENT/);
});

test("a slice is not written through a link, and is where its file was finished before", ({ tree }) => {
  fs.writeFileSync(join(tree, "target"), "mine");
  fs.symlinkSync(join(tree, "target"), join(tree, "linked"));
  assert.throws(() => writeChunk(tree, [sliceLayout(0, "linked")], bytes, engine.hash), /ELOOP/);
  assert.is(fs.readFileSync(join(tree, "target"), "utf8"), "mine");
  fs.writeFileSync(join(tree, "large"), Buffer.alloc(60), { mode: 0o444 });
  writeChunk(tree, [sliceLayout(30)], bytes, engine.hash);
  assert.equal([...readChunk(tree, sliceLayout(30), engine.hash)], [...bytes]);
});

const damages: readonly (readonly [what: string, code: string, spoil: (path: string) => void])[] = [
  ["has changed", "ITEM_DAMAGED", (path) => flipByte(path, 3)],
  ["is cut off", "ITEM_DAMAGED", (path) => fs.truncateSync(path, 5)],
  ["is gone", "CHUNK_MISSING", (path) => fs.rmSync(path)],
  ["is a link", "CHUNK_MISSING", (path) => fs.renameSync(path, `${path}.away`)],
  ["is a directory", "ITEM_DAMAGED", (path) => fs.renameSync(path, `${path}.away`)],
  ["may not be read", "CHUNK_MISSING", (path) => fs.chmodSync(path, 0)],
];
for (const [what, code, spoil] of damages) {
  test(`what ${what} is not read back`, async ({ tree }) => {
    for (const [layout, name] of [
      [runLayout(), "a"],
      [sliceLayout(0), "large"],
    ] as const) {
      const path = join(tree, name);
      writeChunk(tree, [layout], bytes, engine.hash);
      fs.chmodSync(path, 0o600);
      spoil(path);
      if (what === "is a link") fs.symlinkSync(`${path}.away`, path);
      if (what === "is a directory") fs.mkdirSync(path);
      await rejects((async () => readChunk(tree, layout, engine.hash))(), code);
    }
  });
}

test("a small file that has become longer is damaged, also where its first bytes are right", async ({ tree }) => {
  writeChunk(tree, [runLayout()], bytes, engine.hash);
  fs.chmodSync(join(tree, "a"), 0o600);
  fs.appendFileSync(join(tree, "a"), "x");
  await rejects((async () => readChunk(tree, runLayout(), engine.hash))(), "ITEM_DAMAGED");
});

test("a file that cannot be finished is not left half done", ({ tree }) => {
  const layout = runLayout();
  const [a] = layout.ranges;
  const whole = { executable: false, mtimeSeconds: "no time" as never };
  assert.throws(() => writeChunk(tree, [{ ...layout, ranges: [{ ...a!, whole }] }], bytes, engine.hash));
  assert.equal(fs.readdirSync(tree), []);
});

test.run();
