// runs unprivileged
// deadline: 120 s
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { errorIn, Machine } from "../support/command-line.ts";
import { packageTree } from "../support/package-trees.ts";
import { listTree } from "../support/trees.ts";

/** What a publisher sees of a tree that cannot be released as it is: one line that names the entry, and no record. */
const test = suite("bad trees");

/** What stands in the tree that should not. Each is taken away after its turn. */
const faults: readonly (readonly [what: string, plant: (tree: string) => string, says: RegExp])[] = [
  [
    "a name that is not UTF-8",
    (tree) => {
      const path = Buffer.concat([Buffer.from(`${tree}/caf`), Buffer.from([0xe9])]);
      writeFileSync(path, "x");
      return path.toString("latin1");
    },
    /the name "caf\\xe9"/,
  ],
  ["a file that is setuid", (tree) => make(join(tree, "tool"), 0o4755), /"tool" is setuid or setgid/],
  [
    "a FIFO, as devices and sockets",
    (tree) => {
      execFileSync("mkfifo", ["-m", "644", join(tree, "pipe")]);
      return join(tree, "pipe");
    },
    /"pipe" is a device, a socket or a FIFO/,
  ],
  [
    "a file that others may not read",
    (tree) => make(join(tree, "secret"), 0o600),
    /"secret" may not be read by others/,
  ],
  [
    "a directory that nobody may read",
    (tree) => {
      mkdirSync(join(tree, "closed"));
      chmodSync(join(tree, "closed"), 0);
      return join(tree, "closed");
    },
    /"closed" (may not be read by others|cannot be read)/,
  ],
];

test("a tree with what cannot be released is refused: exit 2, one line that names it, and no record", async () => {
  await using machine = await Machine.open();
  const tree = packageTree(machine, "foo", { largeMib: 0 });
  for (const [what, plant, says] of faults) {
    const planted = plant(tree);
    const ended = await machine.run(["publish", "foo-1.0.0", "--no-progress"]);
    assert.equal([ended.code, ended.stdout], [2, ""], `${what}: ${ended.stderr}`);
    assert.match(ended.stderr, /^p2pcache: [^\n]+\n( {2}[^\n]+\n)?$/, what);
    assert.match(ended.stderr, says, what);
    const json = await machine.run(["publish", "foo-1.0.0", "--json"]);
    assert.equal([json.code, errorIn(json).code], [2, "UNPUBLISHABLE"], what);
    assert.not(existsSync(join(machine.studio.path, "origin", "variants")), what);
    chmodSync(Buffer.from(planted, "latin1"), 0o700);
    rmSync(Buffer.from(planted, "latin1"), { recursive: true });
  }
  assert.is((await machine.run(["publish", "foo-1.0.0"])).code, 0);
});

test("names that collide where case does not count are released and placed side by side", async () => {
  await using machine = await Machine.open();
  const tree = packageTree(machine, "foo", { largeMib: 0 });
  const names = ["Readme", "README", "caf\u00e9", "cafe\u0301"];
  for (const name of names) writeFileSync(join(tree, name), name, { mode: 0o644 });
  assert.is((await machine.run(["publish", "foo-1.0.0"])).code, 0);
  const fetched = await machine.run(["fetch", "foo-1.0.0", "--quiet"]);
  const path = fetched.stdout.trimEnd();
  assert.equal([fetched.code, listTree(path)], [0, listTree(tree)]);
  assert.equal(readdirSync(path).filter((name) => names.includes(name)).length, names.length);
});

test.run();

function make(path: string, mode: number): string {
  writeFileSync(path, "x");
  chmodSync(path, mode);
  return path;
}
