import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type DiskSpace, nearestExisting, readDiskSpace, SpaceLedger } from "../../../node/store/space.ts";
import { describe, fill, release, variantOf, writeSampleTree } from "../../support/payloads.ts";
import { rejects, stage, stagedPath, storeSuite } from "./store-fixture.ts";

const ledgers = suite("space");
const disk: DiskSpace = { totalBytes: 1e9, freeBytes: 1e6, freeInodes: 5000, blockBytes: 100 };

function ledger(
  more: { maxBytes?: number; freeBytesMin?: number; used?: number; disk?: Partial<DiskSpace> } = {},
): SpaceLedger {
  const { maxBytes = 1e9, freeBytesMin = 0, used = 0 } = more;
  return new SpaceLedger(
    { maxBytes, freeBytesMin },
    async () => ({ ...disk, ...more.disk }),
    () => used,
  );
}

function need(bytes: number, inodes = 0, totalBytes = bytes) {
  return { bytes, inodes, totalBytes };
}

ledgers("what is held, reserved and asked for together stays within max_bytes, to the byte", async () => {
  const space = ledger({ maxBytes: 1000, used: 400 });
  await space.reserve("a", need(300));
  await space.reserve("b", need(300));
  const error = await rejects(space.reserve("c", need(1)), "NO_SPACE");
  assert.is(error.exit, 7);
  assert.match(error.message, /c needs 1 bytes.*max_bytes/);
  assert.equal(error.details, { neededBytes: 1, maxBytes: 1000 });
});

ledgers("all of a tree counts for max_bytes, also what lies in staging already", async () => {
  const space = ledger({ maxBytes: 1000 });
  await rejects(space.reserve("a", need(1, 0, 1001)), "NO_SPACE");
  await space.reserve("a", need(1, 0, 600));
  await rejects(space.reserve("b", need(1, 0, 401)), "NO_SPACE");
});

ledgers("the disk keeps free_bytes_min, a block for each file included", async () => {
  const space = ledger({ freeBytesMin: 100_000 });
  await rejects(space.reserve("a", need(900_001)), "NO_SPACE");
  await rejects(space.reserve("a", need(890_000, 101)), "NO_SPACE");
  await space.reserve("a", need(890_000, 100));
  const error = await rejects(space.reserve("b", need(1)), "NO_SPACE");
  assert.equal(error.details, { neededBytes: 1, freeBytes: 1e6, freeBytesMin: 100_000 });
});

ledgers("inodes count, those of others' fetches as well, and some are spared", async () => {
  const space = ledger({ disk: { freeInodes: 3000 } });
  await rejects(space.reserve("a", need(1, 2001)), "NO_SPACE");
  await space.reserve("a", need(1, 1500));
  assert.equal((await rejects(space.reserve("b", need(1, 501)), "NO_SPACE")).details, {
    neededInodes: 501,
    freeInodes: 3000,
  });
  await space.reserve("b", need(1, 500));
});

ledgers("a filesystem that does not count inodes refuses none", async () => {
  await ledger({ disk: { freeInodes: undefined } }).reserve("a", need(1, 9000));
});

ledgers("two who ask at once do not get the same room", async () => {
  const space = ledger();
  const results = await Promise.allSettled([space.reserve("a", need(600_000)), space.reserve("b", need(600_000))]);
  assert.equal(
    results.map(({ status }) => status),
    ["fulfilled", "rejected"],
  );
});

ledgers("what is released can be reserved again, once", async () => {
  const space = ledger({ maxBytes: 1000 });
  const first = await space.reserve("a", need(1000, 1));
  first.release();
  first.release();
  const second = await space.reserve("b", need(1000, 1));
  await rejects(space.reserve("c", need(1)), "NO_SPACE");
  second.release();
  await space.reserve("c", need(1000));
});

ledgers("what has been written is the disk's to count, and is not counted twice", async () => {
  let freeBytes = 1000;
  const space = new SpaceLedger(
    { maxBytes: 1e9, freeBytesMin: 0 },
    async () => ({ ...disk, freeBytes }),
    () => 0,
  );
  const first = await space.reserve("a", need(800));
  freeBytes -= 500;
  await rejects(space.reserve("b", need(200)), "NO_SPACE");
  first.wrote(500);
  const second = await space.reserve("b", need(200));
  await rejects(space.reserve("c", need(1)), "NO_SPACE");
  // More than was reserved does not become room for others.
  first.wrote(10_000);
  freeBytes = 0;
  second.release();
  first.release();
  first.release();
  await rejects(space.reserve("d", need(1)), "NO_SPACE");
  freeBytes = 1000;
  await space.reserve("e", need(1000));
});

ledgers("a disk is read as statfs says, and by the directory that is there", async () => {
  const folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-space-"));
  const path = await nearestExisting(join(folder, "not", "yet"));
  assert.is(path, folder);
  const { totalBytes, freeBytes, blockBytes } = await readDiskSpace(path);
  assert.ok(totalBytes >= freeBytes && freeBytes > 0 && blockBytes >= 512);
  fs.rmdirSync(folder);
});

ledgers.run();

const test = storeSuite("space of a store");

test("a payload that would leave too little on the disk is refused before anything is written", async (context) => {
  const { open, payload } = context;
  const { root } = payload.record;
  const readSpace = async () => ({ ...disk, freeBytes: root.bytes + 1000, freeInodes: undefined, blockBytes: 0 });
  const store = await open({ limits: { maxBytes: 1e12, freeBytesMin: 1001 }, readSpace });
  await rejects(stage(store, payload), "NO_SPACE");
  assert.equal(fs.readdirSync(context.stagingPath), []);
  assert.not(fs.existsSync(join(context.cachePath, ".sys/p2pcache/objects")));
});

test("what lies in staging already needs no room a second time", async (context) => {
  const { open, payload } = context;
  let freeBytes = 100_000_000;
  const store = await open({ readSpace: async () => ({ ...disk, freeBytes, freeInodes: undefined, blockBytes: 0 }) });
  const staged = await stage(store, payload);
  await fill(staged, payload);
  await store.leave(staged);
  freeBytes = 1000;
  const again = await stage(store, payload);
  await fill(again, payload);
  assert.is((await store.commit(payload.hash, again)).kind, "placed");
});

test("trees that were left count for max_bytes, and make room for what is wanted now, the oldest first", async (context) => {
  const { open, payload, folder } = context;
  const others = [];
  for (const i of [1, 2]) {
    writeSampleTree(join(folder, `other${i}`), i + 10);
    others.push(await release(join(folder, `other${i}`), { variant: variantOf(`other${i}`) }));
  }
  const first = await open();
  for (const [i, other] of others.entries()) {
    const staged = await stage(first, other);
    await fill(staged, other);
    await first.leave(staged);
    fs.utimesSync(join(stagedPath(context, other.record.payload), "have"), 1000 + i, 1000 + i);
  }
  await first[Symbol.asyncDispose]();
  const { bytes } = payload.record.root;
  const second = await open({ limits: { maxBytes: Math.floor(bytes * 2.5), freeBytesMin: 0 } });
  const staged = await stage(second, payload);
  await describe(staged, payload);
  assert.equal(fs.readdirSync(context.stagingPath).sort(), [payload.record.payload, others[1]!.record.payload].sort());
  // What is worked on is never thrown away.
  await rejects(
    stage(second, {
      ...others[0]!,
      record: { ...others[0]!.record, root: { ...others[0]!.record.root, bytes: bytes * 2 } },
    }),
    "NO_SPACE",
  );
  assert.ok(fs.existsSync(stagedPath(context, payload.record.payload)));
});

test.run();
