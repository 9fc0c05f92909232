import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ownerData } from "../../../node/store/owner.ts";
import { type LockTiming, RezLock, systemTiming } from "../../../node/store/rez-lock.ts";
import { BusyError } from "../../../protocol/errors.ts";

const test = suite<{ folder: string; path: string }>("rez-lock");
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), "p2pcache-lock-"));
  context.path = join(context.folder, ".lock.lock");
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

/** A clock that goes on only while somebody sleeps; `atSleep` is told how long was slept so far. */
function steppingTiming(atSleep: (sleptMs: number) => void = () => {}): LockTiming {
  let nowMs = 0;
  return {
    waitMs: 10_000,
    nowMs: () => nowMs,
    async sleep(ms) {
      nowMs += ms;
      atSleep(nowMs);
    },
  };
}

async function refusal(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

test("a lock has our owner data in it from its first moment, and nothing is left of it", async ({ folder, path }) => {
  const lock = await RezLock.take(path, folder);
  assert.equal(readdirSync(folder), [".lock.lock"]);
  assert.is(JSON.parse(readFileSync(path, "utf8")).pid, process.pid);
  lock.release();
  assert.equal(readdirSync(folder), []);
});

test("one at a time has it", async ({ folder, path }) => {
  const first = await RezLock.take(path, folder);
  const second = RezLock.take(path, folder, {
    timing: steppingTiming((sleptMs) => sleptMs === 100 && first.release()),
  });
  (await second).release();
  assert.not.ok(existsSync(path));
});

test("Rez's lock, an empty file, is waited for and never broken", async ({ folder, path }) => {
  writeFileSync(path, "");
  let lastMs = 0;
  const timing = steppingTiming((sleptMs) => {
    lastMs = sleptMs;
  });
  const error = await refusal(RezLock.take(path, folder, { timing }));
  assert.instance(error, BusyError);
  assert.is((error as BusyError).code, "REZ_LOCK_HELD");
  assert.is((error as BusyError).exit, 8);
  assert.ok((error as BusyError).message.includes(path));
  assert.match((error as BusyError).hint ?? "", "rez-pkg-cache");
  assert.is(lastMs, 10_000);
  assert.equal(readdirSync(folder), [".lock.lock"]);
});

test("the lock is ours as soon as Rez lets go", async ({ folder, path }) => {
  writeFileSync(path, "");
  const timing = steppingTiming((sleptMs) => sleptMs === 200 && unlinkSync(path));
  using _lock = await RezLock.take(path, folder, { timing });
  assert.ok(existsSync(path));
});

test("a lock that a crash of ours left is broken at once", async ({ folder, path }) => {
  const { pid } = spawnSync(process.execPath, ["-e", ""]);
  writeFileSync(path, JSON.stringify({ ...ownerData(), pid, started: "1" }));
  const timing = steppingTiming(() => assert.unreachable("there was nothing to wait for"));
  using _lock = await RezLock.take(path, folder, { timing });
  assert.is(JSON.parse(readFileSync(path, "utf8")).pid, process.pid);
});

test("a live p2pcache's lock is named in the hint", async ({ folder, path }) => {
  using _lock = await RezLock.take(path, folder);
  const error = await refusal(RezLock.take(path, folder, { timing: steppingTiming() }));
  assert.match((error as BusyError).hint ?? "", `process ${process.pid} of p2pcache`);
});

test("a strange thing in the lock's place is waited for like a lock", async ({ folder, path }) => {
  symlinkSync("/nonexistent", path);
  const error = await refusal(RezLock.take(path, folder, { timing: steppingTiming() }));
  assert.is((error as BusyError).code, "REZ_LOCK_HELD");
});

test("an abort ends the waiting with its reason", async ({ folder, path }) => {
  writeFileSync(path, "");
  const reason = new Error("enough");
  const controller = new AbortController();
  const timing = { ...systemTiming, nowMs: () => 0 };
  const waiting = refusal(RezLock.take(path, folder, { timing, signal: controller.signal }));
  controller.abort(reason);
  assert.is(await waiting, reason);
  assert.is(await refusal(RezLock.take(path, folder, { signal: controller.signal })), reason);
});

test.run();
