// deadline: 240 s
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PayloadStore } from "../../../node/store/payload-store.ts";
import { seededRandom } from "../../../protocol/random.ts";
import { release, removeTree, treeDifferences, variantOf, writeSampleTree } from "../../support/payloads.ts";
import { fetch, storeOptions } from "./store-fixture.ts";

const test = suite("kill -9");
const kills = process.env.P2PCACHE_LONG === undefined ? 10 : 100;
const seed = Date.now() % 1_000_000;

test(`a process that is killed while it places payloads leaves nothing wrong behind (seed ${seed})`, async () => {
  const folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-crash-"));
  const random = seededRandom(seed);
  for (const [i, name] of ["first", "second"].entries()) writeSampleTree(join(folder, name), i + 1);
  try {
    for (let kill = 0; kill < kills; kill++) {
      await runAndKill(folder, random() * 400);
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

async function runAndKill(folder: string, afterMs: number): Promise<void> {
  const script = join(import.meta.dirname, "../../support/crashing-store.ts");
  const child = spawn(process.execPath, [script, folder], { stdio: ["ignore", "pipe", "inherit"] });
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
