// runs unprivileged
// deadline: 240 s
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { launcherPath } from "../../cli/context.ts";
import { NodeClient } from "../../node/http/client.ts";
import type { Variant } from "../../protocol/variant.ts";
import { errorIn, Machine } from "../support/command-line.ts";
import { packageTree } from "../support/package-trees.ts";
import { kill, type RunningNode, removeTree } from "../support/studio.ts";
import { listTree } from "../support/trees.ts";

const foo: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };
const things = [{ kind: "variant", variant: foo }] as const;

async function fetchFoo(node: RunningNode) {
  const [result] = await node.client.fetch({ things }, () => undefined, {});
  return result!;
}

/** A machine with a release `foo` at its origin. */
async function machineWithFoo(largeMib = 4): Promise<{ machine: Machine; source: string }> {
  const machine = await Machine.open();
  const source = packageTree(machine, "foo", { largeMib });
  assert.is((await machine.run(["publish", "foo-1.0.0"])).code, 0);
  return { machine, source };
}

/** Ends a node as an init system does. Answers how long it took. */
async function terminate(node: RunningNode): Promise<number> {
  const startedMs = performance.now();
  await kill(node, "SIGTERM");
  assert.equal([node.process.exitCode, node.process.signalCode], [0, null], node.log());
  return performance.now() - startedMs;
}

test("SIGTERM in a commit: the node ends cleanly, and the next one finishes with what is there", async () => {
  const { machine, source } = await machineWithFoo();
  await using _machine = machine;
  const node = await machine.studio.start(machine.config);
  const lock = join(machine.path, "cache", ".sys", ".lock.lock");
  writeFileSync(lock, "");
  const fetched = fetchFoo(node).catch(() => undefined);
  const staging = join(machine.path, "cache", ".sys", "p2pcache", "staging");
  // The tree's top has its final name and all is in: it waits for Rez's lock.
  while (!readdirSync(staging).some((name) => existsSync(join(staging, name, "tree", "link")))) await sleep(10);
  assert.ok((await terminate(node)) < 10_000);
  await fetched;
  unlinkSync(lock);
  assert.equal(readdirSync(join(machine.path, "cache")), [".sys"]);
  const second = await machine.studio.start(machine.config);
  const result = await fetchFoo(second);
  assert.equal([result.outcome, result.bytes.origin], ["fetched", 0]);
  assert.equal(listTree(result.path!), listTree(source));
  assert.equal(await second.client.fsck(), { checked: 1, faults: [] });
  await terminate(second);
});

test("SIGTERM while a transfer is under way, at any moment: clean within 10 s, and the next node goes on", async () => {
  const { machine, source } = await machineWithFoo(64);
  await using _machine = machine;
  for (const afterMs of [0, 100, 300, 600, 1_000]) {
    const node = await machine.studio.start(machine.config);
    const fetched = fetchFoo(node).catch(() => undefined);
    await sleep(afterMs);
    assert.ok((await terminate(node)) < 10_000);
    await fetched;
  }
  const last = await machine.studio.start(machine.config);
  assert.equal(listTree((await fetchFoo(last)).path!), listTree(source));
  assert.equal(await last.client.fsck(), { checked: 1, faults: [] });
  await terminate(last);
});

test("two nodes on one cache, or on one state: the second one names the first and exits 8", async () => {
  const { machine } = await machineWithFoo();
  await using _machine = machine;
  const { studio } = machine;
  const node = await studio.start(machine.config);
  for (const flag of [`--state=${join(studio.path, "state2")}`, `--cache=${join(studio.path, "cache2")}`]) {
    const words = ["node", "run", flag, `--socket=${join(studio.path, "run2", "node.sock")}`, "--json"];
    const ended = await machine.run(words);
    assert.equal([ended.code, errorIn(ended).code], [8, "CACHE_IN_USE"]);
    assert.match(errorIn(ended).message, new RegExp(`process ${node.process.pid}`));
  }
  const sameSocket = await machine.run(["node", "run", "--json"]);
  assert.is(sameSocket.code, 8);
  assert.is((await fetchFoo(node)).outcome, "fetched");
  await terminate(node);
});

test("a payload that is deleted behind the node's back is noticed, and brought again", async () => {
  const { machine, source } = await machineWithFoo();
  await using _machine = machine;
  const node = await machine.studio.start(machine.config);
  const { path } = await fetchFoo(node);
  removeTree(path!);
  const verified = await machine.run(["verify", "--json"]);
  assert.is(verified.code, 4);
  const again = await fetchFoo(node);
  assert.equal([again.outcome, listTree(again.path!)], ["fetched", listTree(source)]);
  assert.is((await machine.run(["verify"])).code, 0);
  // As Rez's own cleaning does it: index file and payload.
  unlinkSync(`${again.path}.json`);
  removeTree(again.path!);
  const third = await fetchFoo(node);
  assert.equal([third.outcome, listTree(third.path!)], ["fetched", listTree(source)]);
  assert.equal(await node.client.fsck(), { checked: 1, faults: [] });
  await terminate(node);
});

test("a state directory that is deleted under a running node: it goes on, ends, and starts again with all it held", async () => {
  const { machine, source } = await machineWithFoo();
  await using _machine = machine;
  packageTree(machine, "bar");
  await machine.run(["publish", "bar-1.0.0"]);
  const state = join(machine.path, "state");
  const node = await machine.studio.start(machine.config);
  const { path } = await fetchFoo(node);
  rmSync(state, { recursive: true });
  assert.is((await fetchFoo(node)).outcome, "local");
  const bar = { kind: "variant", variant: { ...foo, name: "bar" } } as const;
  const [other] = await node.client.fetch({ things: [bar] }, () => undefined, {});
  assert.is(other?.outcome, "fetched", JSON.stringify(other));
  await terminate(node);
  for (let round = 0; round < 2; round++) {
    const next = await machine.studio.start(machine.config);
    assert.is((await next.client.holdings()).length, 2);
    assert.equal([(await fetchFoo(next)).outcome, listTree(path!)], ["local", listTree(source)]);
    await terminate(next);
    rmSync(state, { recursive: true });
  }
});

test("a database that is cut off or overwritten is made anew from the cache, and the log says so", async () => {
  const { machine } = await machineWithFoo();
  await using _machine = machine;
  const index = join(machine.path, "state", "index");
  const lose = () => unlinkSync(join(index, "CURRENT"));
  const overwrite = () => {
    for (const name of readdirSync(index)) {
      if (/\.(log|ldb)$/.test(name)) writeFileSync(join(index, name), Buffer.alloc(4096, 0xa5));
    }
  };
  const spoil: readonly (() => void)[] = [
    lose,
    () => truncateSync(join(index, readFileSync(join(index, "CURRENT"), "utf8").trim()), 7),
    overwrite,
    () => appendFileSync(join(index, "CURRENT"), "\0\0\0"),
  ];
  const first = await machine.studio.start(machine.config);
  const { path } = await fetchFoo(first);
  await terminate(first);
  for (const each of spoil) {
    each();
    const node = await machine.studio.start(machine.config);
    const again = await fetchFoo(node);
    assert.equal([again.outcome, again.path], ["local", path], node.log());
    assert.equal(await node.client.fsck(), { checked: 1, faults: [] });
    // What leveldb drops by itself it does not tell; the cache says what is held all the same.
    if (each !== overwrite && each !== lose)
      assert.match(node.log(), /the node's database was broken, lies now at .*index\.broken-\d+, and is made anew/);
    await terminate(node);
  }
});

test("a log whose reader has gone ends no node", async () => {
  const { machine } = await machineWithFoo();
  await using _machine = machine;
  const child = spawn(process.execPath, [launcherPath, "node", "run", "--config", machine.config, "-v"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  try {
    await once(child.stdout, "data");
    child.stderr.destroy();
    const client = new NodeClient(machine.studio.settings(machine.config).node);
    for (let i = 0; i < 3; i++) {
      const [result] = await client.fetch({ things }, () => undefined, {});
      assert.is(result?.outcome, i === 0 ? "fetched" : "local");
    }
    assert.is(child.exitCode, null);
  } finally {
    const exited = once(child, "exit");
    child.kill("SIGTERM");
    assert.equal(await exited, [0, null]);
  }
});

test.run();
