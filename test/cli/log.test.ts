// runs unprivileged
// deadline: 120 s
import { mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorIn, Machine } from "../support/command-line.ts";
import { packageTree } from "../support/package-trees.ts";
import { kill } from "../support/studio.ts";

test("--log-format pretty writes lines for people, and -q leaves out what is in order", async () => {
  await using machine = await Machine.open();
  const pretty = await machine.studio.start(machine.config, ["--log-format", "pretty"]);
  await kill(pretty, "SIGTERM");
  assert.match(pretty.log(), /^\[[-\d: ]+\] INFO: node-started node="12D3\w+" cache=/m);
  assert.match(pretty.log(), /^\[[-\d: ]+\] INFO: node-stopped /m);
  const quiet = await machine.studio.start(machine.config, ["-q"]);
  await kill(quiet, "SIGTERM");
  assert.is(quiet.log(), "");
  const wrong = await machine.run(["node", "run", "--log-format=xml", "--json"]);
  assert.equal([wrong.code, errorIn(wrong).code], [2, "USAGE"]);
});

test("a node that fetch has started logs into its state, and one older log is kept beside", async () => {
  await using machine = await Machine.open();
  packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  const log = join(machine.path, "state", "node.log");
  mkdirSync(join(machine.path, "state"), { recursive: true, mode: 0o700 });
  writeFileSync(log, "old\n", { mode: 0o600 });
  truncateSync(log, 10 * 1024 * 1024 + 1);
  assert.is((await machine.run(["fetch", "foo-1.0.0", "--linger=20"])).code, 0);
  assert.is(statSync(`${log}.1`).size, 10 * 1024 * 1024 + 1);
  const events = readFileSync(log, "utf8")
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { event: string }).event);
  assert.ok(
    ["node-started", "variant-placed", "fetch-ended"].every((event) => events.includes(event)),
    String(events),
  );
  assert.is(statSync(log).mode & 0o777, 0o600);
});

test.run();
