// runs unprivileged
// deadline: 120 s
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { generatePublisherKey, publicKeyText } from "../../node/keys.ts";
import type { Variant } from "../../protocol/variant.ts";
import { Machine } from "../support/command-line.ts";
import { logged } from "../support/node-log.ts";
import { packageTree } from "../support/package-trees.ts";
import { kill, type RunningNode } from "../support/studio.ts";

const foo: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };

async function fetchFoo(node: RunningNode) {
  const [result] = await node.client.fetch({ things: [{ kind: "variant", variant: foo }] }, () => undefined, {});
  return result!;
}

function edit(machine: Machine, from: string | RegExp, to: string): void {
  const text = readFileSync(machine.config, "utf8");
  const edited = text.replace(from, to);
  assert.is.not(edited, text, String(from));
  writeFileSync(machine.config, edited);
}

test("SIGHUP: limits, origins, publishers and the log's level are in force at once, and what is not says so", async () => {
  await using machine = await Machine.open();
  packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  const good = readFileSync(machine.config, "utf8");
  const stranger = publicKeyText(await generatePublisherKey(join(machine.studio.path, "other.pem")));
  edit(machine, /publishers = \[".*"\]/, `publishers = ["${stranger}"]`);
  edit(machine, 'max_bytes = "100 GB"', 'max_bytes = "1 MB"');
  const elsewhere = join(machine.studio.path, "elsewhere");
  mkdirSync(elsewhere);
  edit(machine, /path = ".*\/origin"/, `path = "${elsewhere}"`);
  const node = await machine.studio.start(machine.config);
  assert.is((await fetchFoo(node)).error?.code, "UNREACHABLE");

  edit(machine, `"${elsewhere}"`, `"${join(machine.studio.path, "origin")}"`);
  node.process.kill("SIGHUP");
  assert.equal((await logged(node, "settings-reloaded")).changed, ["origin"]);
  assert.is((await fetchFoo(node)).error?.code, "NOT_TRUSTED");

  writeFileSync(machine.config, good.replace('max_bytes = "100 GB"', 'max_bytes = "1 MB"'));
  node.process.kill("SIGHUP");
  assert.equal((await logged(node, "settings-reloaded", 2)).changed, ["trust.publishers"]);
  assert.is((await fetchFoo(node)).error?.code, "NO_SPACE");

  writeFileSync(machine.config, good);
  edit(machine, /listen = .*/, 'listen = ["/ip4/127.0.0.1/tcp/1"]\nlog_level = "debug"');
  node.process.kill("SIGHUP");
  const third = await logged(node, "settings-reloaded", 3);
  assert.equal([...(third.changed as string[])].sort(), ["cache.max_bytes", "node.log_level"]);
  assert.equal((await logged(node, "settings-need-restart")).keys, ["node.listen"]);
  assert.is((await fetchFoo(node)).outcome, "fetched");
  assert.is((await fetchFoo(node)).outcome, "local");
  await logged(node, "fetch-local");
  const status = (await node.client.status()) as { cache: { maxBytes: number } };
  assert.is(status.cache.maxBytes, 100_000_000_000);
  await kill(node, "SIGTERM");
  assert.is(node.process.exitCode, 0);
});

test("SIGHUP with a configuration that cannot be used: a line in the log, and all stays in force", async () => {
  await using machine = await Machine.open();
  packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  const good = readFileSync(machine.config, "utf8");
  const node = await machine.studio.start(machine.config);
  const bad: readonly [string, RegExp][] = [
    [`${good}\n[cahe]\n`, /cahe/],
    [good.replace('"100 GB"', '"100 parsecs"'), /cache\.max_bytes/],
    ["[network", /:1:/],
    [`${good}\n[[origin]]\nname = "filer"\nkind = "folder"\npath = "/elsewhere"\n`, /two origins/],
  ];
  for (const [i, [text, reason]] of bad.entries()) {
    writeFileSync(machine.config, text);
    node.process.kill("SIGHUP");
    const line = await logged(node, "settings-refused", i + 1);
    assert.equal([line.level, line.code], ["error", "USAGE"]);
    assert.match(String(line.reason), reason);
  }
  assert.is((await fetchFoo(node)).outcome, "fetched");
  writeFileSync(machine.config, good);
  node.process.kill("SIGHUP");
  assert.equal((await logged(node, "settings-reloaded")).changed, []);
  await kill(node, "SIGTERM");
});

test("a flag goes on beating the file at a reload", async () => {
  await using machine = await Machine.open();
  const node = await machine.studio.start(machine.config, ["--timeout=7 s"]);
  edit(machine, "[trust]", '[transfer]\ntimeout = "9 s"\n[trust]');
  node.process.kill("SIGHUP");
  assert.equal((await logged(node, "settings-reloaded")).changed, []);
  await kill(node, "SIGTERM");
});

test.run();
