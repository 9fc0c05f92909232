// deadline: 240 s
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FolderRepository } from "../../../node/origins/folder-origin.ts";
import { PayloadStore } from "../../../node/store/payload-store.ts";
import { seededRandom } from "../../../protocol/random.ts";
import { decodeEnvelope, decodeRelease } from "../../../protocol/record.ts";
import { variantHash } from "../../../protocol/variant.ts";
import {
  engine,
  fill,
  missingChunks,
  release,
  removeTree,
  treeDifferences,
  variantOf,
  writeSampleTree,
} from "../../support/payloads.ts";
import { fetch, storeOptions } from "./store-fixture.ts";

const test = suite("kill -9");
/** Of each kind of work; ten more nodes are killed in kill.test. */
const kills =
  process.env.P2PCACHE_LONG === undefined
    ? { place: 12, repair: 10, publish: 8 }
    : { place: 800, repair: 700, publish: 480 };
const seed = Number(process.env.P2PCACHE_SEED ?? Date.now() % 1_000_000);

test(`a process that is killed while it places payloads leaves nothing wrong behind (seed ${seed})`, async () => {
  const folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-crash-"));
  const random = seededRandom(seed);
  for (const [i, name] of ["first", "second"].entries()) writeSampleTree(join(folder, name), i + 1);
  try {
    for (let kill = 0; kill < kills.place; kill++) {
      await runAndKill(folder, "place", random() * 400);
      await checkAfterwards(folder);
    }
    await using store = await PayloadStore.open(storeOptions(folder));
    for (const name of ["first", "second"]) {
      const payload = await release(join(folder, name), { variant: variantOf(name) });
      assert.equal(treeDifferences(join(folder, name), await fetch(store, payload)), []);
    }
    assert.equal((await store.check()).faults, []);
    // Whatever the killed ones left of records and segments goes with the last removal.
    for (const { variant } of store.holdings()) await store.remove(variant);
    const objects = join(folder, "cache/.sys/p2pcache/objects");
    const left = fs.readdirSync(objects).flatMap((name) => fs.readdirSync(join(objects, name)));
    const staging = fs.readdirSync(join(folder, "cache/.sys/p2pcache/staging"));
    assert.equal([left, staging], [[], []]);
  } finally {
    removeTree(folder);
  }
});

test(`one that is killed while it repairs leaves nothing wrong but what was damaged (seed ${seed})`, async () => {
  const folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-crash-"));
  const random = seededRandom(seed);
  const source = join(folder, "first");
  writeSampleTree(source, 1);
  const payload = await release(source, { variant: variantOf("first") });
  try {
    for (let kill = 0; kill < kills.repair; kill++) {
      await runAndKill(folder, "repair", random() * 400);
      const startedMs = performance.now();
      await using store = await PayloadStore.open(storeOptions(folder));
      assert.ok(performance.now() - startedMs < 2_000);
      const { faults } = await store.check();
      assert.equal(
        faults.filter((fault) => !fault.endsWith("it is damaged")),
        [],
      );
      const { path } = store.holding(payload.hash)!;
      // Two of the files have the same bytes, and come together.
      const wrong = treeDifferences(source, path).filter((difference) => difference.includes("has other content"));
      assert.ok(wrong.length <= 1, wrong.join());
      if ((await store.verify(payload.hash)).length > 0) {
        const tree = (await store.repairs.open(payload.hash, payload.record))!;
        await fill(tree, payload);
        await store.repairs.mend(payload.hash, tree);
        await store.repairs.leave(tree);
      }
      assert.equal(treeDifferences(source, path), []);
      assert.equal((await store.check()).faults, []);
    }
    // An opening after a kill removes the directory as well, and it comes back with the next repair.
    const drafts = join(folder, "cache/.sys/p2pcache/repairs");
    assert.equal(fs.existsSync(drafts) ? fs.readdirSync(drafts) : [], []);
  } finally {
    removeTree(folder);
  }
});

test(`one that is killed while it publishes leaves no record of which a part is missing (seed ${seed})`, async () => {
  const folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-crash-"));
  const random = seededRandom(seed);
  for (const [i, name] of ["first", "second"].entries()) writeSampleTree(join(folder, name), i + 1);
  fs.mkdirSync(join(folder, "origin"));
  try {
    for (let kill = 0; kill < kills.publish; kill++) {
      await runAndKill(folder, "publish", random() * 400);
      await readOrigin(folder);
    }
  } finally {
    removeTree(folder);
  }
});

/** Fetches what was released last, if anything was, as a node would. */
async function readOrigin(folder: string): Promise<void> {
  const path = join(folder, "origin");
  const repository = await FolderRepository.open({ name: "origin", path, network: "test" });
  const hash = variantHash(variantOf("first"), engine.hash);
  const envelope = await repository.latestRecord(hash).catch(() => undefined);
  if (envelope === undefined) return;
  const record = decodeRelease(decodeEnvelope(envelope).body, engine.hash);
  const machine = fs.mkdtempSync(join(folder, "machine-"));
  await using store = await PayloadStore.open(storeOptions(machine));
  const staged = await store.stage(hash, record, envelope);
  for (let item = 0; item < staged.index.segments; item++) {
    const { hash: segment, sizeBytes } = record.root.segments[item]!;
    await staged.put(item, new Uint8Array(await repository.chunk(segment, sizeBytes)));
  }
  const description = await staged.describe();
  for (const item of missingChunks(staged, description)) {
    const bytes = await repository.chunk(staged.hashOf(item), description.sizesBytes[item]!);
    await staged.put(item, new Uint8Array(bytes));
  }
  const result = await store.commit(hash, staged);
  assert.is(result.kind, "placed");
  const placed = store.holding(hash)!.path;
  const isEqual = ["first", "second"].some((name) => treeDifferences(join(folder, name), placed).length === 0);
  assert.ok(isEqual);
}

async function runAndKill(folder: string, work: keyof typeof kills, afterMs: number): Promise<void> {
  const script = join(import.meta.dirname, "../../support/crashing-store.ts");
  const child = spawn(process.execPath, [script, folder, work], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  const first = await Promise.race([once(child.stdout, "data"), exited.then(() => undefined)]);
  assert.ok(first, "the child has started");
  await sleep(afterMs);
  child.kill("SIGKILL");
  assert.equal(await exited, [null, "SIGKILL"]);
}

async function checkAfterwards(folder: string): Promise<void> {
  const startedMs = performance.now();
  const store = await PayloadStore.open(storeOptions(folder));
  const openedMs = performance.now() - startedMs;
  assert.ok(openedMs < 2_000, `opened within ${openedMs} ms`);
  assert.equal((await store.check()).faults, []);
  for (const { path, name } of store.holdings()) assert.equal(treeDifferences(join(folder, name), path), []);
  const held = store.holdings().map(({ path }) => path);
  await store[Symbol.asyncDispose]();
  // Whatever lies where Rez looks is a whole tree with its index file.
  const cache = join(folder, "cache");
  for (const name of fs.readdirSync(cache).filter((each) => each !== ".sys")) {
    const version = join(cache, name, "1.0.0");
    const [hash] = fs.existsSync(version) ? fs.readdirSync(version) : [];
    // Killed between two directories that it made: an empty one says nothing to Rez.
    if (hash === undefined) continue;
    const directory = join(version, hash);
    const paths = fs.readdirSync(directory).sort();
    const trees = paths.filter((path) => !path.endsWith(".json"));
    assert.equal(
      paths,
      trees.flatMap((tree) => [tree, `${tree}.json`]),
    );
    assert.equal(
      trees.map((tree) => join(directory, tree)),
      held.filter((path) => path.startsWith(directory)),
    );
  }
  assert.equal(fs.readdirSync(join(cache, ".sys/to_delete")), []);
}

test.run();
