// deadline: 300 s
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { seededRandom } from "../../../protocol/random.ts";

const test = suite("a disk that fails");
const isLong = process.env.P2PCACHE_LONG !== undefined;
const seed = Number(process.env.P2PCACHE_SEED ?? Date.now() % 1_000_000);
const random = seededRandom(seed);

/** Lets every `stride`-th call fail. Answers how many did. */
async function trials(fault: string, work: string, stride: number): Promise<number> {
  // From each call on all are slow: the trials of one work take as long as the square of its calls.
  const every = !isLong ? stride : fault === "slow" ? Math.ceil(stride / 5) : 1;
  const support = join(import.meta.dirname, "../../support");
  const preload = ["--import", pathToFileURL(join(support, "faulty-disk.ts")).href];
  const words = [...preload, join(support, "disk-trials.ts"), fault, work, `${every}`];
  const child = spawn(process.execPath, [...words, `${Math.floor(random() * every)}`], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "exit")]);
  assert.is(code, 0, stderr);
  return Number.parseInt(stdout, 10);
}

test("a crash at each call of a fetch of twenty files leaves nothing wrong", async () => {
  assert.ok((await trials("crash", "fetch", 1)) > 100);
});

test("a crash at each call of a removal leaves nothing wrong", async () => {
  assert.ok((await trials("crash", "evict", 1)) > 30);
});

test(`a crash at any call of a repair leaves nothing wrong (seed ${seed})`, async () => {
  assert.ok((await trials("crash", "repair", 5)) > 10);
});

for (const fault of ["EIO", "ENOSPC", "EROFS"]) {
  test(`wherever a disk says ${fault}, it is an error of ours, and the store goes on (seed ${seed})`, async () => {
    const counts = [
      await trials(fault, "fetch", 13),
      await trials(fault, "evict", 7),
      await trials(fault, "repair", 17),
    ];
    assert.ok(
      counts.every((count) => count >= 4),
      counts.join(),
    );
  });
}

test(`a disk that is slow from any call on only makes it take longer (seed ${seed})`, async () => {
  const counts = [
    await trials("slow", "fetch", 30),
    await trials("slow", "evict", 10),
    await trials("slow", "repair", 30),
  ];
  assert.ok(
    counts.every((count) => count > 2),
    counts.join(),
  );
});

test.run();
