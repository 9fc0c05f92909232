// runs unprivileged
// deadline: 120 s
import { lstatSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Variant } from "../../protocol/variant.ts";
import { Machine } from "../support/command-line.ts";
import { packageTree } from "../support/package-trees.ts";
import { copyLikeRez } from "../support/rez-copies.ts";

const soon = "--linger=20";
const foo: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };

test("what Rez has cached itself is adopted when it is what was released: nothing of it is fetched or changed", async () => {
  await using machine = await Machine.open();
  const { studio, path } = machine;
  const source = packageTree(machine, "foo");
  const { bytes } = (await machine.json(["publish", "foo-1.0.0"])).out as { bytes: number };
  const copy = copyLikeRez(join(path, "cache"), join(studio.path, "packages"), foo, source);
  const { code, out } = await machine.json(["fetch", "foo-1.0.0", soon]);
  const [fetched] = (out as { variants: { outcome: string; path: string; bytes: { local: number; origin: number } }[] })
    .variants;
  assert.equal([code, fetched?.outcome, fetched?.path, fetched?.bytes.local], [0, "local", copy.path, bytes]);
  assert.ok(fetched!.bytes.origin < 100_000, "its manifest alone comes from the origin");
  assert.is(lstatSync(copy.path).mode & 0o777, 0o755);
  const listed = (await machine.json(["ls"])).out as { holdings: { path: string; state: string }[] };
  assert.equal(
    listed.holdings.map((holding) => [holding.path, holding.state]),
    [[copy.path, "whole"]],
  );
  assert.is((await machine.run(["verify"])).code, 0);

  // Another machine gets it from this one.
  const { addresses } = (await machine.json(["node", "status"])).out as { addresses: string[] };
  const config = studio.configure("second", { bootstrap: addresses, originPolicy: "never" });
  const second = await studio.start(config);
  const [shared] = await second.client.fetch({ things: [{ kind: "variant", variant: foo }] }, () => undefined, {});
  assert.equal([shared?.outcome, shared?.bytes.origin], ["fetched", 0]);
  await second.client.stop();

  assert.is((await machine.run(["rm", "foo-1.0.0"])).code, 0);
  assert.equal(readdirSync(join(path, "cache")), [".sys"]);
});

test("what Rez has cached itself and what is not what was released is left alone, and said so: exit 9", async () => {
  await using machine = await Machine.open();
  const { studio, path } = machine;
  const source = packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  const copy = copyLikeRez(join(path, "cache"), join(studio.path, "packages"), foo, source);
  writeFileSync(join(copy.path, "package.py"), "name = 'bar'\n");
  const index = readFileSync(copy.indexPath, "utf8");
  const { code, stdout, stderr } = await machine.run(["fetch", "foo-1.0.0", soon]);
  assert.equal([code, stdout], [9, ""]);
  assert.match(stderr, /foo-1\.0\.0 was left out: Rez has its own copy there, which is left alone: package\.py has /);
  assert.is(readFileSync(copy.indexPath, "utf8"), index);
  assert.is((await machine.run(["ls"])).stdout, "");
});

test.run();
