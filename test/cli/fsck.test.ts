// runs unprivileged
// deadline: 300 s
// mostly waits
import { existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { flipByte } from "../node/store/store-fixture.ts";
import { errorIn, Machine } from "../support/command-line.ts";
import { packageTree } from "../support/package-trees.ts";

/** A node that a fetch starts ends by itself, should the test not end it. */
const soon = "--linger=20";

/** A machine that holds `foo`; where its tree lies. */
async function holder(): Promise<{ machine: Machine; tree: string } & AsyncDisposable> {
  const machine = await Machine.open();
  packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  const { stdout } = await machine.run(["fetch", "foo-1.0.0", soon]);
  return { machine, tree: stdout.trim(), [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose]() };
}

const objectsOf = (machine: Machine) => join(machine.path, "cache/.sys/p2pcache/objects");

/** Every file in `objects/` but the release record. */
function segmentOf(machine: Machine): string {
  const names = readdirSync(objectsOf(machine), { recursive: true, encoding: "utf8" });
  return join(objectsOf(machine), names.find((name) => /^..\/[0-9a-f]{64}$/.test(name))!);
}

function fileOf(tree: string): string {
  return join(tree, readdirSync(tree, { recursive: true, encoding: "utf8" }).find((name) => name.endsWith(".py"))!);
}

for (const isRunning of [true, false]) {
  const where = isRunning ? "in a running node" : "without a node";
  test(`fsck names what is wrong and exits 4; --repair mends it ${where}, and exits 0`, async () => {
    await using held = await holder();
    const { machine, tree } = held;
    if (!isRunning) await machine.run(["node", "stop"]);
    flipByte(segmentOf(machine), 20);
    const found = await machine.run(["fsck", "--json"]);
    assert.is(found.code, 4);
    assert.is(errorIn(found).code, "FSCK_FAULTS");
    assert.match(JSON.parse(found.stdout).faults[0], /foo-1\.0\.0: its manifest segment [0-9a-f]{64}/);
    const { code, out } = await machine.json(["fsck", "--repair"]);
    assert.equal([code, (out as { left: string[] }).left], [0, []]);
    flipByte(fileOf(tree), 0);
    assert.is((await machine.run(["verify"])).code, 4);
    // A node that runs may have begun by itself.
    assert.is((await machine.run(["fsck", "--repair"])).code, 0);
    assert.is((await machine.run(["verify"])).code, 0);
    assert.is((await machine.run(["fsck"])).code, 0);
    assert.ok(existsSync(tree));
  });

  test(`fsck --rebuild makes the database anew ${where}`, async () => {
    await using held = await holder();
    const { machine, tree } = held;
    if (!isRunning) await machine.run(["node", "stop"]);
    const { code, out } = await machine.json(["fsck", "--rebuild"]);
    assert.equal([code, out], [0, { schema: "p2pcache/fsck/1", checked: 1, faults: [], left: [] }]);
    const listed = (await machine.json(["ls"])).out as { holdings: { path: string; state: string }[] };
    assert.equal(
      listed.holdings.map(({ path, state }) => [path, state]),
      [[tree, "whole"]],
    );
    const again = (await machine.json(["fetch", "foo-1.0.0", soon])).out as { variants: { outcome: string }[] };
    assert.is(again.variants[0]!.outcome, "local");
  });
}

test("what no source has any more is left, and named", async () => {
  await using held = await holder();
  const { machine, tree } = held;
  await machine.run(["node", "stop"]);
  flipByte(fileOf(tree), 0);
  assert.is((await machine.run(["verify"])).code, 4);
  const origin = join(machine.studio.path, "origin");
  renameSync(origin, `${origin}.away`);
  const { code, stdout } = await machine.run(["fsck", "--repair"]);
  assert.is(code, 4);
  assert.match(stdout, /foo-1\.0\.0: it is damaged\n.* was not repaired: /);
  renameSync(`${origin}.away`, origin);
  assert.is((await machine.run(["fsck", "--repair"])).code, 0);
});

test("a tree that was taken away is forgotten by fsck --repair, and not brought back", async () => {
  await using held = await holder();
  const { machine, tree } = held;
  rmSync(`${tree}.json`);
  assert.match((await machine.run(["fsck"])).stdout, /the index file has gone/);
  assert.is((await machine.run(["fsck", "--repair"])).code, 0);
  assert.equal(((await machine.json(["ls"])).out as { holdings: [] }).holdings, []);
});

test.run();
