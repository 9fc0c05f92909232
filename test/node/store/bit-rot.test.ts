// deadline: 300 s
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { MemoryRepository } from "../../../node/origins/memory-origin.ts";
import { PayloadStore } from "../../../node/store/payload-store.ts";
import { bytesToHex, type VariantHash } from "../../../protocol/hash.ts";
import { seededRandom } from "../../../protocol/random.ts";
import { type DiskNode, diskNode } from "../../support/disk-node.ts";
import { FetchWorld, publishSample } from "../../support/fetch-world.ts";
import { noise } from "../../support/noise.ts";
import { engine, removeTree } from "../../support/payloads.ts";
import { listTree } from "../../support/trees.ts";
import { flipByte, storeOptions } from "./store-fixture.ts";

const isLong = process.env.P2PCACHE_LONG !== undefined;
const seed = Number(process.env.P2PCACHE_SEED ?? Date.now() % 1_000_000);
/** Flips of each kind, as rounds and flips in each: 540 in the gate. */
const plan = { payload: 25 * 12, objects: 10 * 8, have: 8 * 5, level: 16 * 5, index: 20 * 2 };
const factor = isLong ? 10 : 1;

/** A machine with a release on its disk, whose only source is a peer that has it too. */
class Rotting implements AsyncDisposable {
  readonly folder: string = fs.mkdtempSync(join(tmpdir(), "p2pcache-rot-"));
  readonly random = seededRandom(seed);
  readonly world = new FetchWorld();
  hash!: VariantHash;
  expected: string[] = [];
  node!: DiskNode;
  /** How many bits were flipped. */
  flips = 0;
  #names = 0;

  static async open(): Promise<Rotting> {
    const rotting = new Rotting();
    const treePath = join(rotting.folder, "source");
    writeTree(treePath);
    rotting.expected = listTree(treePath);
    const repository = new MemoryRepository("server");
    rotting.hash = (await publishSample(repository, { treePath })).variant;
    await rotting.world.holder("peer", repository, rotting.hash);
    process.umask(0);
    await rotting.start();
    await rotting.node.fetcher.fetch(rotting.hash);
    return rotting;
  }

  async start(): Promise<void> {
    const store = await PayloadStore.open(storeOptions(this.folder));
    this.node = diskNode(this.world.network, `rotting${this.#names++}`, store);
  }

  async stop(): Promise<void> {
    await this.node.fetcher.close(new Error("the node stops"));
    await this.node.swarm[Symbol.asyncDispose]();
    await this.node.store[Symbol.asyncDispose]();
  }

  get tree(): string {
    return this.node.store.holding(this.hash)!.path;
  }

  get own(): string {
    return join(this.folder, "cache", ".sys", "p2pcache");
  }

  /** Flips a bit somewhere in one of these files. */
  flip(paths: readonly string[]): string {
    this.flips++;
    const path = paths[Math.floor(this.random() * paths.length)]!;
    const { mode, atime, mtime, size } = fs.statSync(path);
    fs.chmodSync(path, 0o600);
    const file = fs.openSync(path, "r+");
    const [at, byte] = [Math.floor(this.random() * size), Buffer.alloc(1)];
    fs.readSync(file, byte, 0, 1, at);
    byte[0]! ^= 1 << Math.floor(this.random() * 8);
    fs.writeSync(file, byte, 0, 1, at);
    fs.closeSync(file);
    fs.chmodSync(path, mode & 0o7777);
    fs.utimesSync(path, atime, mtime);
    return path;
  }

  /** Reads everything as a peer would: what comes is right, or nothing comes. */
  async readAsPeer(): Promise<void> {
    const { store } = this.node;
    const held = store.holding(this.hash)!;
    const served = await store.serve(held.payload);
    if (served === undefined) return;
    for (let item = 0; item < served.index.items; item++) {
      const bytes = await served.load(item).catch(() => undefined);
      if (bytes !== undefined) assert.ok(hashes.has(bytesToHex(engine.hash(bytes))), `item ${item} has wrong bytes`);
    }
  }

  async isWholeAgain(what: string): Promise<void> {
    const { store, fetcher } = this.node;
    if (store.isDamaged(this.hash)) await fetcher.fetch(this.hash);
    assert.equal(listTree(this.tree), this.expected, what);
    assert.is(store.isDamaged(this.hash), false, what);
    assert.equal((await store.check()).faults, [], what);
    assert.equal(store.announced().length, 1, what);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    removeTree(this.folder);
  }
}

/** Of all items of the release. */
const hashes = new Set<string>();

function writeTree(path: string): void {
  for (const directory of ["bin", "lib/deep"]) fs.mkdirSync(join(path, directory), { recursive: true, mode: 0o755 });
  for (let i = 0; i < 24; i++) fs.writeFileSync(join(path, "lib/deep", `${i}.py`), noise(i, 3_000 + 997 * i));
  for (const name of ["one", "two"]) fs.writeFileSync(join(path, "bin", name), noise(name.length + 50, 1_200_000));
  fs.writeFileSync(join(path, "bin/other"), noise(99, 1_500_000));
}

function filesIn(path: string): string[] {
  const names = fs.readdirSync(path, { recursive: true, encoding: "utf8" }).map((name) => join(path, name));
  return names.filter((name) => fs.lstatSync(name).isFile() && fs.lstatSync(name).size > 0).sort();
}

/** Until so many bits have been flipped: a round may find nothing to flip one in. */
async function inRounds(
  rotting: Rotting,
  count: number,
  each: number,
  round: (round: number, flips: number) => Promise<void>,
) {
  for (let i = 0; rotting.flips < count * factor; i++) {
    assert.ok(i * each < 10 * count * factor, `${rotting.flips} flips in ${i} rounds`);
    await round(i, each);
  }
}

test(`bits that flip in payload files are found by whoever looks, and repaired from a peer (seed ${seed})`, async () => {
  await using rotting = await Rotting.open();
  const { hash } = rotting;
  const served = (await rotting.node.store.serve(rotting.node.store.holding(hash)!.payload))!;
  for (let item = 0; item < served.index.items; item++) hashes.add(bytesToHex(engine.hash(await served.load(item))));
  const place = rotting.tree;
  await inRounds(rotting, plan.payload, 12, async (round, flips) => {
    const { store } = rotting.node;
    const flipped = new Set(Array.from({ length: flips }, () => rotting.flip(filesIn(rotting.tree))));
    const isSame = listTree(rotting.tree).join() === rotting.expected.join();
    await rotting.readAsPeer();
    if (round % 3 === 1) {
      const [candidate] = await store.scrub.candidates();
      for (let step = 0; step < (candidate?.steps ?? 0); step++) await store.scrub.look(hash, step);
    }
    // What was read a moment ago may come from memory, and is right then.
    if (round % 3 === 1) assert.is(store.isDamaged(hash), !isSame, `round ${round}`);
    const found = new Set((await store.verify(hash)).map(({ path }) => join(rotting.tree, path)));
    // Two flips of one bit cancel each other.
    const wrong = [...flipped].filter((path) => !rotting.expected.includes(lineOf(rotting.tree, path)));
    assert.equal([...found].sort(), wrong.sort(), `round ${round}`);
    await rotting.isWholeAgain(`round ${round}`);
    assert.is(rotting.tree, place);
  });
});

test(`bits that flip in records and segments are found by fsck, and reach no peer (seed ${seed})`, async () => {
  await using rotting = await Rotting.open();
  const envelope = Buffer.from((await rotting.node.store.record(rotting.hash))!);
  await inRounds(rotting, plan.objects, 8, async (round, flips) => {
    const { store } = rotting.node;
    const objects = join(rotting.own, "objects");
    const before = contentsOf(objects);
    for (let i = 0; i < flips; i++) rotting.flip(filesIn(objects));
    const isSame = JSON.stringify(contentsOf(objects)) === JSON.stringify(before);
    const record = await store.record(rotting.hash);
    assert.ok(record === undefined || envelope.equals(record), "a peer gets the right record, or none");
    assert.is((await store.check()).faults.length > 0, !isSame, `round ${round}`);
    await rotting.readAsPeer();
    await store.verify(rotting.hash);
    await rotting.isWholeAgain(`round ${round}`);
    assert.equal(contentsOf(objects), before);
  });
});

test(`bits that flip in Rez's index file are found, and mended from the record (seed ${seed})`, async () => {
  await using rotting = await Rotting.open();
  const index = `${rotting.tree}.json`;
  const before = fs.readFileSync(index, "utf8");
  const lastUse = fs.statSync(index).mtime;
  await inRounds(rotting, plan.index, 2, async (round, flips) => {
    for (let i = 0; i < flips; i++) rotting.flip([index]);
    const isSame = fs.readFileSync(index, "utf8") === before;
    const what = `round ${round}: ${fs.readFileSync(index, "utf8")}`;
    assert.is((await rotting.node.store.check()).faults.length, isSame ? 0 : 1, what);
    await menders[round % menders.length]!(rotting);
    assert.equal(JSON.parse(fs.readFileSync(index, "utf8")), JSON.parse(before), what);
    assert.equal(fs.statSync(index).mtime, lastUse, "Rez's last use stays");
    assert.is(`${rotting.tree}.json`, index, what);
    await rotting.isWholeAgain(what);
  });
});

/** Whoever comes upon a rotten index file has it mended. */
const menders: readonly ((rotting: Rotting) => Promise<unknown>)[] = [
  ({ node }) => node.store.bookkeeping.mend(),
  ({ node, hash }) => node.store.scrub.look(hash, 0),
  async (rotting) => {
    await rotting.stop();
    await rotting.start();
    await rotting.node.store.verifyUnsure();
  },
  async ({ node, hash }) => {
    flipByte(join(node.store.holdings()[0]!.path, "bin/one"));
    await node.store.verify(hash);
    await node.fetcher.fetch(hash);
  },
];

test(`bits that flip in the bitmap of what is on its way change nothing (seed ${seed})`, async () => {
  await using rotting = await Rotting.open();
  await inRounds(rotting, plan.have, 5, async (round, flips) => {
    const { store, fetcher } = rotting.node;
    await store.remove(rotting.hash);
    const cut = new AbortController();
    const onProgress = () => rotting.random() < 0.5 && cut.abort(new Error("enough"));
    await fetcher.fetch(rotting.hash, { signal: cut.signal, onProgress }).catch(() => undefined);
    await fetcher.landed();
    const [left] = fs.readdirSync(join(rotting.own, "staging"));
    const have = join(rotting.own, "staging", left ?? "", "have");
    if (left !== undefined && fs.statSync(have).size > 0) for (let i = 0; i < flips; i++) rotting.flip([have]);
    await fetcher.fetch(rotting.hash);
    await rotting.isWholeAgain(`round ${round}`);
  });
});

test(`with bits that flip in the database a node starts, and holds what it held (seed ${seed})`, async () => {
  await using rotting = await Rotting.open();
  const [held] = rotting.node.store.holdings();
  await inRounds(rotting, plan.level, 5, async (round, flips) => {
    await rotting.stop();
    const index = join(rotting.folder, "state", "index");
    for (let i = 0; i < flips; i++) rotting.flip(filesIn(index));
    await rotting.start();
    const { store } = rotting.node;
    assert.equal(store.holdings(), [held], `round ${round}`);
    await store.verifyUnsure();
    await rotting.isWholeAgain(`round ${round}`);
    // The next round flips bits of a database that was written anew.
    if (round % 4 === 3) await store.bookkeeping.rebuild();
  });
});

function lineOf(tree: string, path: string): string {
  const name = path.slice(tree.length + 1);
  return listTree(tree).find((line) => line.startsWith(`file ${name} `))!;
}

function contentsOf(path: string): Record<string, string> {
  return Object.fromEntries(filesIn(path).map((each) => [each, bytesToHex(engine.hash(fs.readFileSync(each)))]));
}

test.run();
