// runs unprivileged
// deadline: 120 s
import { existsSync, readdirSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { NodeClient } from "../../node/http/client.ts";
import type { Variant } from "../../protocol/variant.ts";
import { errorIn, Machine } from "../support/command-line.ts";
import { packageTree } from "../support/package-trees.ts";
import { copyLikeRez } from "../support/rez-copies.ts";

const soon = "--linger=20";
const foo: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };

for (const how of ["with a node", "without a node"]) {
  test(`rm takes variants off the disk, ${how}, and what is not held exits 3`, async () => {
    await using machine = await Machine.open();
    for (const name of ["foo", "bar", "baz"]) {
      packageTree(machine, name);
      await machine.run(["publish", `${name}-1.0.0`]);
    }
    const { stdout } = await machine.run(["fetch", "foo-1.0.0", "bar-1.0.0", "baz-1.0.0", soon]);
    const [fooPath, barPath, bazPath] = stdout.split("\n") as [string, string, string];
    if (how === "without a node") assert.is((await machine.run(["node", "stop"])).code, 0);
    const { code, out } = await machine.json(["rm", "foo-1.0.0", "studio:bar-1.0.0", "foo/1.0.0"]);
    assert.is(code, 0);
    const { schema, variants } = out as { schema: string; variants: { path: string; outcome: string }[] };
    assert.is(schema, "p2pcache/rm/1");
    assert.equal(
      variants.map(({ path, outcome }) => [path, outcome]),
      [
        [fooPath, "removed"],
        [barPath, "removed"],
      ],
    );
    assert.equal([fooPath, `${fooPath}.json`, barPath].filter(existsSync), []);
    const again = await machine.run(["rm", "foo-1.0.0", "baz-1.0.0", "--json"]);
    assert.equal([again.code, errorIn(again).code], [3, "NOT_FOUND"]);
    assert.not(existsSync(bazPath), "one that is not held does not keep the others");
    const own = join(machine.path, "cache", ".sys", "p2pcache");
    const objects = readdirSync(join(own, "objects")).flatMap((name) => readdirSync(join(own, "objects", name)));
    assert.equal([objects, readdirSync(join(machine.path, "cache"))], [[], [".sys"]]);
    const { stdout: listed } = await machine.run(["ls"]);
    assert.is(listed, "");
  });
}

test("rm leaves alone what Rez has cached itself, and says so: exit 9", async () => {
  await using machine = await Machine.open();
  const source = packageTree(machine, "foo");
  const copy = copyLikeRez(join(machine.path, "cache"), join(machine.studio.path, "packages"), foo, source);
  const ended = await machine.run(["rm", "foo-1.0.0", "--json"]);
  assert.equal([ended.code, errorIn(ended).code], [9, "NOT_OURS"]);
  assert.ok(errorIn(ended).message.includes(copy.path));
  assert.ok(existsSync(join(copy.path, "bin", "tool")) && existsSync(copy.indexPath));
});

test("rm of what is being fetched exits 8, and the fetch goes on", async () => {
  await using machine = await Machine.open();
  const source = packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  await machine.run(["fetch", "foo-1.0.0", soon]);
  writeFileSync(join(source, "new"), "of the next revision");
  assert.is((await machine.run(["publish", "foo-1.0.0", "--supersede"])).code, 0);
  const lock = join(machine.path, "cache", ".sys", ".lock.lock");
  writeFileSync(lock, "");
  const fetched = machine.run(["fetch", "foo-1.0.0", soon]);
  const { node } = machine.studio.settings(machine.config);
  const client = new NodeClient(node);
  for (;;) {
    const { transfers } = (await client.status()) as { transfers: object[] };
    if (transfers.length > 0) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const refused = await machine.run(["rm", "foo-1.0.0", "--json"]);
  assert.equal([refused.code, errorIn(refused).code], [8, "BUSY"]);
  unlinkSync(lock);
  assert.is((await fetched).code, 0);
  assert.is((await machine.run(["rm", "foo-1.0.0"])).code, 0);
});

test.run();
