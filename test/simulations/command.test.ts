import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";

const program = join(import.meta.dirname, "../../simulations/run.ts");

for (const [words, fault] of [
  [[], /^which scenario\?\n/],
  [["constructor"], /^there is no scenario constructor\n/],
  [["morning-rush", "--nodes", "1"], /^--nodes and --sizes are whole numbers, from 2 on\n/],
  [["morning-rush", "--seed", "1.5"], /^--seed is a whole number\n/],
  [["--wrong"], /^Unknown option '--wrong'/],
] as const) {
  test(`simulate ${words.join(" ")}: exit 2, a line that says why, and how it is meant`, () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...words], { encoding: "utf8" });
    assert.equal([status, stdout], [2, ""]);
    assert.match(stderr, fault);
    assert.match(stderr, /\nusage: npm run simulate -- /);
  });
}

test("a scenario prints its figures as JSON", () => {
  const words = [program, "morning-rush", "--nodes", "3", "--seed", "2", "--json"];
  const { status, stdout } = spawnSync(process.execPath, words, { encoding: "utf8" });
  const { schema, nodes, seed } = JSON.parse(stdout) as { schema: string; nodes: number; seed: number };
  assert.equal([status, schema, nodes, seed], [0, "p2pcache/simulate/1", 3, 2]);
});

test.run();
