import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { Worker } from "node:worker_threads";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ItemWorkers } from "../../../node/store/item-workers.ts";
import { RecentBytes, RecentMap } from "../../../node/store/recent.ts";
import { cacheError } from "../../../node/store/rez-guard.ts";
import {
  ChunkCorruptError,
  ChunkMissingError,
  FormatError,
  NoSpaceError,
  UnusableError,
} from "../../../protocol/errors.ts";
import { type ChunkHash, hashFromBytes } from "../../../protocol/hash.ts";
import { encodeRoot } from "../../../protocol/manifest.ts";
import { engine } from "../../support/payloads.ts";

const test = suite<{ folder: string; workers: ItemWorkers }>("item workers");
test.before.each((context) => {
  context.folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-workers-"));
  context.workers = ItemWorkers.open(1);
});
test.after.each(async ({ folder, workers }) => {
  await workers[Symbol.asyncDispose]();
  fs.chmodSync(folder, 0o700);
  fs.rmSync(folder, { recursive: true });
});

function segment(folder: string, text = "segment") {
  const bytes = new Uint8Array(Buffer.from(text));
  const hash = hashFromBytes<"chunk">(engine.hash(bytes)) as ChunkHash;
  return { kind: "storeSegment", objectsPath: folder, hash, bytes } as const;
}

test("a job is done, and its buffers are given away", async ({ workers, folder }) => {
  const job = segment(folder);
  await workers.do<"storeSegment">(job, { transfer: [job.bytes.buffer as ArrayBuffer] });
  assert.is(job.bytes.length, 0);
  const loaded = await workers.do<"loadSegment">({ kind: "loadSegment", objectsPath: folder, hash: job.hash });
  assert.is(Buffer.from(loaded).toString(), "segment");
});

test("errors keep their class and code across the thread", async ({ workers, folder }) => {
  const job = segment(folder);
  const corrupt = await failure(workers.do<"storeSegment">({ ...job, bytes: new Uint8Array(3) }));
  assert.instance(corrupt, ChunkCorruptError);
  assert.is(codeOf(corrupt), "CHUNK_CORRUPT");
  const missing = await failure(
    workers.do<"loadSegment">({ kind: "loadSegment", objectsPath: folder, hash: job.hash }),
  );
  assert.instance(missing, ChunkMissingError);
  const at = { objectsPath: folder, treePath: join(folder, "tree") };
  const bad = await failure(workers.do<"finish">({ kind: "finish", at, rootBytes: new Uint8Array([1]) }));
  assert.instance(bad, FormatError);
  assert.is(codeOf(bad), "BAD_FORMAT");
  fs.chmodSync(folder, 0o500);
  const refused = await failure(workers.do<"storeSegment">(segment(folder)));
  assert.instance(refused, UnusableError);
  assert.match(refused.message, new RegExp(folder));
  fs.chmodSync(folder, 0o700);
  const strange = await failure(workers.do<"measure">({ kind: "measure", path: "\0" }));
  assert.is(strange.constructor, Error);
  assert.is(codeOf(strange), "ERR_INVALID_ARG_VALUE");
});

test("a disk that is full is no space, not a fault of ours", async ({ workers, folder }) => {
  // /dev/full refuses every byte with ENOSPC (full(4)).
  const job = segment(folder);
  const directory = join(folder, job.hash.slice(0, 2));
  fs.mkdirSync(directory);
  // The worker writes beside under a name of its thread and a running number.
  for (let thread = 0; thread < 100; thread++) fs.symlinkSync("/dev/full", join(directory, `${job.hash}.${thread}-0`));
  const error = await failure(workers.do<"storeSegment">(job));
  assert.instance(error, NoSpaceError);
  assert.is(codeOf(error), "NO_SPACE");
  assert.not(fs.existsSync(join(directory, job.hash)));
  for (const code of ["ENOSPC", "EDQUOT"]) {
    assert.instance(cacheError("/cache", Object.assign(new Error(code), { code })), NoSpaceError);
  }
});

test("a thread that dies fails what it had in hand, and the next job has a new one", async ({ workers, folder }) => {
  const threads: Worker[] = [];
  const onWorker = (worker: Worker) => void threads.push(worker);
  process.on("worker", onWorker);
  try {
    const measures = ["/proc", folder].map((path) => workers.do<"measure">({ kind: "measure", path }));
    const results = Promise.allSettled(measures);
    await setImmediate(); // The event comes a turn later.
    assert.is(threads.length, 1);
    await threads[0]!.terminate();
    assert.equal(
      (await results).map(({ status }) => status),
      ["rejected", "rejected"],
    );
    assert.is((await workers.do<"measure">({ kind: "measure", path: folder })).inodes, 1);
    await setImmediate();
    assert.is(threads.length, 2);
  } finally {
    process.off("worker", onWorker);
  }
});

test("a job that cannot be sent fails alone", async ({ workers, folder }) => {
  const unsent = await failure(workers.do<"measure">({ kind: "measure", path: (() => "x") as never }));
  assert.match(unsent.message, /could not be cloned/);
  await workers.do<"measure">({ kind: "measure", path: folder });
});

test("a job with a buffer that was given away before fails alone", async ({ workers, folder }) => {
  const job = segment(folder);
  await workers.do<"storeSegment">(job, { transfer: [job.bytes.buffer as ArrayBuffer] });
  const again = await failure(workers.do<"storeSegment">(job, { transfer: [job.bytes.buffer as ArrayBuffer] }));
  assert.match(again.message, /detached|transfer|could not be cloned/i);
  await workers.do<"measure">({ kind: "measure", path: folder });
});

test("what is under way when the store closes fails, and so does everything after", async ({ workers, folder }) => {
  const jobs = Array.from({ length: 20 }, () =>
    failure(workers.do<"measure">({ kind: "measure", path: "/proc/self" })),
  );
  await workers[Symbol.asyncDispose]();
  assert.ok((await Promise.all(jobs)).every((error) => error instanceof Error));
  assert.match((await failure(workers.do<"measure">({ kind: "measure", path: folder }))).message, /closed/);
});

test("whoever closes waits until the thread has ended, whenever its last answer comes", async ({ folder }) => {
  for (let i = 0; i < 30; i++) {
    const workers = ItemWorkers.open(1);
    await workers.do<"measure">({ kind: "measure", path: folder });
    void workers.do<"measure">({ kind: "measure", path: folder }).catch(() => undefined);
    if (i % 2 === 1) await setImmediate();
    await workers[Symbol.asyncDispose]();
  }
});

test("a manifest that claims more than its segments hold is refused", async ({ workers, folder }) => {
  const job = segment(folder, "garbage");
  await workers.do<"storeSegment">(job);
  const ref = { hash: job.hash, sizeBytes: 7, entries: 1, chunks: 0 };
  const root = { entries: 1, files: 0, bytes: 0, chunks: 0, caseSensitive: false, segments: [ref] };
  const at = { objectsPath: folder, treePath: join(folder, "tree") };
  const prepare = { kind: "prepare", at, rootBytes: encodeRoot(root), externalLinks: false, makesTree: true } as const;
  assert.instance(await failure(workers.do<"prepare">(prepare)), FormatError);
  assert.not(fs.existsSync(join(folder, "tree")));
});

test("segments that are there are told from those that are damaged, which go", async ({ workers, folder }) => {
  const jobs = ["one", "two", "three"].map((text) => segment(folder, text));
  const hashes = jobs.map(({ hash }) => hash);
  for (const job of jobs.slice(0, 2)) await workers.do<"storeSegment">(job);
  const path = join(folder, hashes[1]!.slice(0, 2), hashes[1]!);
  fs.writeFileSync(path, "twa");
  const right = await workers.do<"checkSegments">({ kind: "checkSegments", objectsPath: folder, hashes });
  assert.equal([...right], [1, 0, 0]);
  assert.not(fs.existsSync(path));
});

test("the entries used last are kept, up to their number or their bytes", () => {
  const map = new RecentMap<string, number>(2);
  map.set("a", 1);
  map.set("b", 2);
  assert.is(map.get("a"), 1);
  map.set("c", 3);
  assert.equal([map.get("a"), map.get("b"), map.get("c")], [1, undefined, 3]);
  const bytes = new RecentBytes(10);
  bytes.set("a", new Uint8Array(4));
  bytes.set("b", new Uint8Array(4));
  assert.ok(bytes.get("a"));
  bytes.set("c", new Uint8Array(5));
  assert.equal(
    ["a", "b", "c"].map((key) => bytes.get(key)?.length),
    [4, undefined, 5],
  );
  bytes.set("d", new Uint8Array(11));
  assert.is(bytes.get("d"), undefined);
});

async function failure(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("was not refused");
}

function codeOf(error: Error): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

test.run();
