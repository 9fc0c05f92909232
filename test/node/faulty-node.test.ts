// runs unprivileged
// deadline: 240 s
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { seededRandom } from "../../protocol/random.ts";
import type { Variant } from "../../protocol/variant.ts";
import { Studio } from "../support/studio.ts";
import { makeTree } from "../support/trees.ts";

const test = suite("a node whose disk fails");
const seed = Number(process.env.P2PCACHE_SEED ?? Date.now() % 1_000_000);
const random = seededRandom(seed);
const isLong = process.env.P2PCACHE_LONG !== undefined;
const variant: Variant = { kind: "rez", repository: "studio", name: "tools", version: "1.0" };
const support = join(import.meta.dirname, "../support");

for (const [fault, gateStride] of [
  ["EIO", 23],
  ["ENOSPC", 23],
  ["EROFS", 31],
  ["slow", 37],
] as const) {
  test(`wherever its disk says ${fault}, the node stays up, and does it once the disk is well (seed ${seed})`, async () => {
    const stride = isLong ? Math.ceil(gateStride / 8) : gateStride;
    await using studio = await Studio.open();
    const source = join(studio.path, "source");
    makeTree(source, seededRandom(3), { smallFiles: 18, largeMib: 1 });
    await studio.publish(variant, source);
    const preload = ["--import", pathToFileURL(join(support, "faulty-disk.ts")).href];
    const words = [fault, `${stride}`, `${Math.floor(random() * stride)}`, studio.configure("machine"), source];
    const child = spawn(process.execPath, [...preload, join(support, "faulty-node.ts"), ...words], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, "exit"), text(child.stdout)]);
    assert.is(code, 0, stderr);
  });
}

test.run();
