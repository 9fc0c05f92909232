// runs unprivileged
// deadline: 180 s
import { once } from "node:events";
import { existsSync, readdirSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { NodeClient } from "../../node/http/client.ts";
import { type Ended, errorIn, Machine } from "../support/command-line.ts";
import { logged } from "../support/node-log.ts";
import { packageTree } from "../support/package-trees.ts";

/** A machine with a node that runs, and Rez's lock held: whatever is fetched waits for it before it is placed. */
async function lockedMachine() {
  const machine = await Machine.open();
  packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  const node = await machine.studio.start(machine.config, ["-v"]);
  const lock = join(machine.path, "cache", ".sys", ".lock.lock");
  writeFileSync(lock, "");
  const staging = join(machine.path, "cache", ".sys", "p2pcache", "staging");
  return { machine, node, lock, staging };
}

/** Runs a fetch until it is among those that wait. Answers how to interrupt it, and its end. */
async function startFetch(machine: Machine, words: readonly string[] = []) {
  const started = Promise.withResolvers<{ kill: (signal: NodeJS.Signals) => boolean }>();
  const ended: Promise<Ended> = machine.run(["fetch", "foo-1.0.0", "--json", ...words], {
    onProcess: (child) => void once(child, "spawn").then(() => started.resolve(child)),
  });
  return { process: await started.promise, ended };
}

async function until(holds: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await holds())) await sleep(20);
}

async function transfers(client: NodeClient): Promise<number> {
  return ((await client.status()) as { transfers: object[] }).transfers.length;
}

test("two fetches of one variant share one transfer, and one that is interrupted does not end it", async () => {
  const { machine, node, lock, staging } = await lockedMachine();
  await using _machine = machine;
  const first = await startFetch(machine);
  await until(async () => (await transfers(node.client)) === 1);
  const second = await startFetch(machine);
  await logged(node, "fetch-asked", 2);
  assert.is(await transfers(node.client), 1);
  assert.is(readdirSync(staging).length, 1);
  first.process.kill("SIGINT");
  assert.is((await first.ended).code, 130);
  assert.is(await transfers(node.client), 1);
  unlinkSync(lock);
  const { code, stdout } = await second.ended;
  const [variant] = (JSON.parse(stdout) as { variants: { outcome: string; path: string }[] }).variants;
  assert.equal([code, variant?.outcome, existsSync(variant!.path)], [0, "fetched", true]);
});

test("when the last one leaves the transfer ends, and what was verified is kept", async () => {
  const { machine, node, lock, staging } = await lockedMachine();
  await using _machine = machine;
  const { process, ended } = await startFetch(machine);
  await until(async () => (await transfers(node.client)) === 1);
  await until(() => existsSync(join(staging, readdirSync(staging)[0] ?? "", "have")));
  process.kill("SIGINT");
  assert.is((await ended).code, 130);
  await until(async () => (await transfers(node.client)) === 0);
  assert.is(readdirSync(staging).length, 1);
  unlinkSync(lock);
  assert.is((await machine.run(["fetch", "foo-1.0.0"])).code, 0);
});

test("--timeout ends a fetch by its deadline: exit 6, and so does transfer.timeout of the node", async () => {
  const { machine, node, lock } = await lockedMachine();
  await using _machine = machine;
  const startedMs = performance.now();
  const ended = await machine.run(["fetch", "foo-1.0.0", "--timeout", "500 ms", "--json"]);
  assert.equal([ended.code, errorIn(ended).code], [6, "DEADLINE"]);
  assert.ok(performance.now() - startedMs < 8_000, "before the lock's own 10 s");
  await node.client.stop();
  const configured = machine.studio.configure("machine", { more: '[transfer]\ntimeout = "500 ms"' });
  const again = await machine.studio.start(configured);
  const things = [{ kind: "variant", variant: { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" } }];
  const [failed] = await again.client.fetch({ things: things as never }, () => undefined, {});
  assert.equal([failed?.error?.code, failed?.error?.exit], ["DEADLINE", 6]);
  unlinkSync(lock);
});

test("Rez's lock that is held for ever: exit 8, the file named, and the tree kept for the next try", async () => {
  const { machine, lock, staging } = await lockedMachine();
  await using _machine = machine;
  const ended = await machine.run(["fetch", "foo-1.0.0", "--json"]);
  const { code, message } = errorIn(ended);
  assert.equal([ended.code, code, message.includes(lock)], [8, "REZ_LOCK_HELD", true]);
  assert.is(readdirSync(staging).length, 1);
  unlinkSync(lock);
  const { out } = await machine.json(["fetch", "foo-1.0.0"]);
  const [variant] = (out as { variants: { outcome: string; bytes: { origin: number } }[] }).variants;
  assert.equal([variant?.outcome, variant?.bytes.origin], ["fetched", 0]);
});

test("a release that appears at the origin is found at once by a node that has just said there is none", async () => {
  await using machine = await Machine.open();
  packageTree(machine, "bar");
  await machine.run(["publish", "bar-1.0.0"]);
  packageTree(machine, "foo");
  const node = await machine.studio.start(machine.config);
  for (let i = 0; i < 2; i++) {
    const missing = await machine.run(["fetch", "foo-1.0.0", "--json"]);
    assert.equal([missing.code, errorIn(missing).code], [3, "NOT_FOUND"]);
  }
  await machine.run(["publish", "foo-1.0.0"]);
  const several = await machine.json(["fetch", "foo-1.0.0", "bar-1.0.0", "foo-1.0.0"]);
  const { variants } = several.out as { variants: { handle: string; outcome: string }[] };
  assert.is(several.code, 0);
  assert.equal(
    variants.map(({ handle, outcome }) => [handle, outcome]),
    [
      ["studio:foo-1.0.0", "fetched"],
      ["studio:bar-1.0.0", "fetched"],
      ["studio:foo-1.0.0", "fetched"],
    ],
  );
  await node.client.stop();
});

test.run();
