// runs unprivileged
// deadline: 120 s
// mostly waits
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Variant } from "../../protocol/variant.ts";
import { childrenOf, stateOf, until } from "../support/child-processes.ts";
import { noise } from "../support/noise.ts";
import { kill, type RunningNode, Studio } from "../support/studio.ts";

// A stopped child stands for a mount that hangs: it says nothing, whatever it is asked. test/long/ has such a mount.

const variant: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };
const things = [{ kind: "variant", variant } as const];

test("with a folder that hangs, a fetch whose peers have the payload succeeds, and the node stops in time", async () => {
  await using studio = await publishedStudio();
  const holder = await studio.start(studio.configure("holder"));
  await holder.client.fetch({ things }, () => undefined, {});
  const node = await studio.start(studio.configure("node", { bootstrap: holder.addresses }));
  const child = await stopChild(node);
  const [result] = await node.client.fetch({ things }, () => undefined, {});
  assert.is(result?.outcome, "fetched");
  assert.equal([result?.bytes.origin, result!.bytes.peers > 0], [0, true]);
  await stopInTime(node);
  await until("the child has gone", () => stateOf(child) === undefined);
});

test("with a folder that hangs, a fetch whose peers have nothing ends by its deadline, and says what hangs", async () => {
  await using studio = await publishedStudio();
  const node = await studio.start(studio.configure("node"));
  const child = await stopChild(node);
  const startedMs = performance.now();
  const [late] = await node.client.fetch({ things, timeoutMs: 2_000 }, () => undefined, {});
  assert.equal([late?.outcome, late?.error?.code, late?.error?.exit], ["failed", "DEADLINE", 6]);
  assert.ok(performance.now() - startedMs < 8_000);
  const [silent] = await node.client.fetch({ things }, () => undefined, {});
  assert.equal([silent?.outcome, silent?.error?.exit], ["failed", 6]);
  assert.match(silent!.error!.message, `the origin filer cannot be used: ${studio.path}/origin/`);
  assert.match(silent!.error!.message, /has not answered for 10 s/);
  // It was abandoned; once its folder answers again so does the origin, with another child.
  await until("the child has gone", () => stateOf(child) === undefined);
  await until("another try is due", () => performance.now() - startedMs > 14_000, 20_000);
  const [again] = await node.client.fetch({ things }, () => undefined, {});
  assert.is(again?.outcome, "fetched");
  await stopInTime(node);
});

test("a child that dies in the middle of a fetch is replaced, and the fetch goes on", async () => {
  await using studio = await publishedStudio(40_000_000);
  const node = await studio.start(studio.configure("node"));
  let isKilled = false;
  const onProgress = ({ bytes }: { readonly bytes: { readonly origin: number } }) => {
    if (isKilled || bytes.origin === 0) return;
    isKilled = true;
    for (const child of childrenOf(node.process.pid!, "folder-child")) process.kill(child, "SIGKILL");
  };
  const [result] = await node.client.fetch({ things }, onProgress, {});
  assert.equal([isKilled, result?.outcome], [true, "fetched"]);
});

test.run();

async function publishedStudio(sizeBytes = 4_000_000): Promise<Studio> {
  const studio = await Studio.open();
  const tree = join(studio.path, "source");
  mkdirSync(tree);
  for (let i = 0; i < 4; i++) writeFileSync(join(tree, `file${i}.bin`), noise(i, sizeBytes / 4));
  await studio.publish(variant, tree);
  return studio;
}

/** The node looks at its origin when it starts, so its child is there, or soon will be. */
async function stopChild(node: RunningNode): Promise<number> {
  await until("the child is there", () => childrenOf(node.process.pid!, "folder-child").length === 1);
  const [child] = childrenOf(node.process.pid!, "folder-child");
  process.kill(child!, "SIGSTOP");
  return child!;
}

async function stopInTime(node: RunningNode): Promise<void> {
  const startedMs = performance.now();
  await kill(node, "SIGTERM");
  const tookMs = performance.now() - startedMs;
  assert.ok(tookMs < 10_000, `the node took ${tookMs} ms to stop`);
  assert.is(node.process.exitCode, 0);
}
