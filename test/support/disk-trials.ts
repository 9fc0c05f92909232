import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import * as assert from "uvu/assert";
import { ItemWorkers } from "../../node/store/item-workers.ts";
import { PayloadStore } from "../../node/store/payload-store.ts";
import { P2pCacheError } from "../../protocol/errors.ts";
import { flipByte, storeOptions } from "../node/store/store-fixture.ts";
import { bury } from "./buried.ts";
import { disk } from "./faulty-disk.ts";
import { noise } from "./noise.ts";
import { describe, itemBytes, missingChunks, release, removeTree, treeDifferences } from "./payloads.ts";

// A process whose disk fails at one call after the other (see `faulty-disk`): `<crash|EIO|ENOSPC|EROFS|slow> <work> <stride> <first>`.

type Work = "fetch" | "evict" | "repair";
const [fault, work, stride, first] = process.argv.slice(2) as [Parameters<typeof disk.fail>[0], Work, string, string];

process.umask(0);
const folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-trials-"));
const source = join(folder, "source");
writeTree(source);
const payload = await release(source);
fs.mkdirSync(join(folder, "bin"));
fs.symlinkSync("/bin/true", join(folder, "bin/sync"));
process.env.PATH = `${join(folder, "bin")}:${process.env.PATH}`;
const workers = ItemWorkers.open();

// The database's own calls cannot be seen; its writes are calls too.
for (const name of ["put", "del", "batch"] as const) {
  const real = Level.prototype[name] as (...parameters: unknown[]) => Promise<unknown>;
  Object.assign(Level.prototype, {
    async [name](this: unknown, ...parameters: unknown[]) {
      disk.step(`level.${name}`, parameters[0]);
      // All but the last, which are the options: nothing need be synced here.
      return await real.apply(this, parameters.slice(0, name === "put" ? 2 : 1));
    },
  });
}

let trials = 0;
try {
  for (let count = Number(first); ; count += Number(stride)) {
    const wasReached = fault === "crash" ? await crashAt(count) : await failAt(count);
    if (!wasReached) break;
    trials++;
  }
  process.stdout.write(`${trials} trials\n`);
} finally {
  disk.calm();
  await workers[Symbol.asyncDispose]();
  removeTree(folder);
}

/** A machine whose process ends at one call. Answers whether that call came. */
async function crashAt(count: number): Promise<boolean> {
  const machine = fs.mkdtempSync(join(folder, "machine-"));
  const store = await open(machine);
  await prepare(store);
  disk.fail("crash", count);
  await perform(store).catch(() => undefined);
  const wasReached = disk.hasFailed();
  // It tries to tidy up, and cannot.
  if (!wasReached) disk.fail("crash", 0);
  await store[Symbol.asyncDispose]().catch(() => undefined);
  disk.calm();
  bury(machine);
  const startedMs = performance.now();
  const again = await open(machine);
  assert.ok(performance.now() - startedMs < 2_000, `opened in ${performance.now() - startedMs} ms`);
  await isRight(again, machine, `${work}, crash at call ${count}`);
  await again[Symbol.asyncDispose]();
  removeTree(machine);
  return wasReached;
}

/** A machine of which one call, and some after it, fail. Answers whether that call came. */
async function failAt(count: number): Promise<boolean> {
  const machine = fs.mkdtempSync(join(folder, "machine-"));
  const store = await open(machine);
  await prepare(store);
  disk.fail(fault, count, fault === "EROFS" || fault === "slow" ? 1 << 20 : 1);
  const error = await perform(store).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  const wasReached = disk.hasFailed();
  disk.calm();
  const what = `${work}, ${fault} at call ${count}`;
  if (error !== undefined) assert.instance(error, P2pCacheError, `${what}: ${(error as Error).stack}`);
  if (fault === "slow") assert.is(error, undefined, what);
  // It stays up, and does the same work now.
  await perform(store);
  await isRight(store, machine, what);
  await store[Symbol.asyncDispose]();
  const again = await open(machine);
  await isRight(again, machine, what);
  await again[Symbol.asyncDispose]();
  removeTree(machine);
  return wasReached;
}

async function open(machine: string): Promise<PayloadStore> {
  return await PayloadStore.open({ ...storeOptions(machine), workers });
}

async function prepare(store: PayloadStore): Promise<void> {
  if (work === "fetch") return;
  await fetchOne(store);
  if (work === "repair") flipByte(join(store.holding(payload.hash)!.path, "lib/3.py"));
}

async function perform(store: PayloadStore): Promise<void> {
  switch (work) {
    case "fetch":
      return await fetchOne(store);
    case "evict":
      return void (await store.remove(payload.hash));
    case "repair":
      return await repairOne(store);
  }
}

/** Nothing is wrong, and what was to be done can be done. */
async function isRight(store: PayloadStore, machine: string, what: string): Promise<void> {
  const { faults } = await store.check();
  assert.equal(
    faults.filter((line) => !line.endsWith("it is damaged")),
    [],
    what,
  );
  looksRight(join(machine, "cache"), what);
  if (store.holding(payload.hash) === undefined) await fetchOne(store);
  if (work === "repair") await repairOne(store);
  const { path } = store.holding(payload.hash)!;
  assert.equal(treeDifferences(source, path), [], what);
  assert.equal((await store.check()).faults, [], what);
  await store.remove(payload.hash);
  const shown = fs.readdirSync(join(machine, "cache")).filter((name) => name !== ".sys");
  assert.equal(shown, [], what);
}

/** Where Rez looks there is nothing but whole trees, each with its index file; a file that a test damaged counts as whole. */
function looksRight(cache: string, what: string): void {
  const names = fs.readdirSync(cache, { recursive: true, encoding: "utf8" }).filter((name) => !name.startsWith(".sys"));
  const indexes = names.filter((name) => /^[^/]+\/[^/]+\/[^/]+\/[a-z]+\.json$/.test(name));
  const trees = names.filter((name) => /^[^/]+\/[^/]+\/[^/]+\/[a-z]+$/.test(name));
  assert.equal(indexes.map((name) => name.slice(0, -".json".length)).sort(), trees.sort(), what);
  for (const tree of trees) {
    const wrong = treeDifferences(source, join(cache, tree)).filter((line) => line.includes("other content"));
    assert.equal(
      wrong.filter((line) => work !== "repair" || !line.startsWith("lib/3.py")),
      [],
      what,
    );
  }
}

async function fetchOne(store: PayloadStore): Promise<void> {
  const staged = await store.stage(payload.hash, payload.record, payload.envelope);
  try {
    const missing = missingChunks(staged, await describe(staged, payload));
    for (const item of missing) await staged.put(item, itemBytes(payload, staged.hashOf(item)));
    await store.commit(payload.hash, staged);
  } finally {
    await store.leave(staged);
  }
}

async function repairOne(store: PayloadStore): Promise<void> {
  if ((await store.verify(payload.hash)).length === 0) return;
  const tree = (await store.repairs.open(payload.hash, payload.record))!;
  try {
    const missing = missingChunks(tree, await describe(tree, payload));
    for (const item of missing) await tree.put(item, itemBytes(payload, tree.hashOf(item)));
    await store.repairs.mend(payload.hash, tree);
  } finally {
    await store.repairs.leave(tree);
  }
}

/** Twenty files: a run, a large one, an empty one, a link, a directory. */
function writeTree(path: string): void {
  fs.mkdirSync(join(path, "lib"), { recursive: true });
  fs.mkdirSync(join(path, "bin"));
  for (let i = 0; i < 18; i++) fs.writeFileSync(join(path, "lib", `${i}.py`), noise(i, 500 + 31 * i));
  fs.writeFileSync(join(path, "bin/large"), noise(77, 1_200_000));
  fs.writeFileSync(join(path, "bin/empty"), "");
  fs.symlinkSync("../lib/3.py", join(path, "bin/link"));
}
