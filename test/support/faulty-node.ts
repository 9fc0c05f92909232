import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { CacheNode } from "../../node/node.ts";
import { loadSettings } from "../../node/settings/load.ts";
import { P2pCacheError } from "../../protocol/errors.ts";
import type { Variant } from "../../protocol/variant.ts";
import { disk } from "./faulty-disk.ts";
import { treeDifferences } from "./payloads.ts";

// A whole node in a process whose disk fails at one call after the other (see `faulty-disk`), while it fetches and
// removes: `<EIO|ENOSPC|EROFS|slow> <stride> <first> <configuration> <what was published>`. An error that nobody
// catches ends the process, and so the test.

const [fault, stride, first, config, source] = process.argv.slice(2) as [Fault, string, string, string, string];
type Fault = Parameters<typeof disk.fail>[0];

const variant: Variant = { kind: "rez", repository: "studio", name: "tools", version: "1.0" };
const thing = { kind: "variant", variant } as const;
const { settings } = loadSettings({ flags: { config }, env: {} });
process.umask(0);

let trials = 0;
let node = await CacheNode.open(settings);
for (let count = Number(first); ; count += Number(stride)) {
  const wasReached = [
    await during("fetch", count, async () => void (await node.fetch(thing))),
    await during("remove", count, async () => void (await node.remove(thing))),
  ];
  if (!wasReached.includes(true)) break;
  trials++;
}
await node[Symbol.asyncDispose]();
assert.ok(trials > 3, `${trials} trials`);
process.stdout.write(`${trials} trials\n`);

/** Does something while a call fails. Answers whether that call came; the work is done when it returns. */
async function during(name: string, count: number, work: () => Promise<void>): Promise<boolean> {
  const what = `${name}, ${fault} at call ${count}`;
  disk.fail(fault, count, fault === "EROFS" || fault === "slow" ? 1 << 20 : 1);
  const error = await work().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.is(node.status("test").network, "test", `${what}: it answers`);
  const wasReached = disk.hasFailed();
  disk.calm();
  if (error !== undefined) assert.instance(error, P2pCacheError, `${what}: ${(error as Error).stack}`);
  if (fault === "slow") assert.is(error, undefined, what);
  // A removal that failed half-way has taken the tree, and says so until it is done again.
  if (name === "fetch") await isRight(what);
  for (const { path } of node.holdings())
    assert.ok(existsSync(path) || !existsSync(`${path}.json`), `${what}: no tree`);
  if (trials % 4 === 3) {
    await node[Symbol.asyncDispose]();
    node = await CacheNode.open(settings);
    await isRight(`${what}, after a restart`);
  }
  if (name === "fetch") {
    const path = (await node.fetch(thing)).path!;
    assert.equal(treeDifferences(source, path), [], what);
  } else if (node.holdings().length > 0) {
    await node.remove(thing);
  }
  await isRight(`${what}, and again`);
  if (name === "remove") assert.equal(filesIn(settings.cache.path), [], what);
  return wasReached;
}

/** All that Rez might look at: a directory that was to go and is empty is nothing. */
function filesIn(cache: string): string[] {
  return readdirSync(cache, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory() && !entry.parentPath.startsWith(join(cache, ".sys")))
    .map(({ name }) => name);
}

/** No wrong byte lies where Rez looks. */
async function isRight(what: string): Promise<void> {
  const [{ faults }, { damaged }] = [await node.fsck(), await node.verify([])];
  assert.equal([faults, damaged], [[], []], what);
  for (const { path } of node.holdings()) assert.equal(treeDifferences(source, path), [], what);
}
