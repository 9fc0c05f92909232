import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { seededRandom } from "../../protocol/random.ts";
import { errorIn, Machine, p2pcache } from "../support/command-line.ts";
import { makeTree } from "../support/trees.ts";

const test = suite("publish, unpublish and ls --origin");

function rule(text: string, check: (machine: Machine) => Promise<void>): void {
  test(text, async () => {
    await using machine = await Machine.open();
    await check(machine);
  });
}

/** A package without variants where its repository is mounted. */
function addPackage({ studio }: Machine, name: string, version: string, seed = 1): string {
  const tree = join(studio.path, "packages", name, version);
  mkdirSync(tree, { recursive: true, mode: 0o755 });
  makeTree(tree, seededRandom(seed), { smallFiles: 20, largeMib: 1 });
  return tree;
}

function lines(text: string): { [field: string]: unknown }[] {
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { [field: string]: unknown });
}

rule(
  "several variants in one call: one line each, and one failure does not keep the others from it",
  async (machine) => {
    addPackage(machine, "one", "1.0");
    addPackage(machine, "three", "3.0", 3);
    const all = ["studio:one-1.0", "studio:two-2.0", "studio:three-3.0"];
    const ended = await machine.run(["publish", ...all, "--json=lines"]);
    assert.is(ended.code, 2);
    assert.equal(
      lines(ended.stdout).map(({ schema, revision }) => [schema, revision]),
      [
        ["p2pcache/publish/1", 0],
        ["p2pcache/publish/1", 0],
      ],
    );
    assert.equal([errorIn(ended).code, lines(ended.stderr).length], ["UNPUBLISHABLE", 1]);
    const object = await machine.json(["publish", "studio:one-1.0", "studio:three-3.0"]);
    const { published } = object.out as { published: { newChunks: number }[] };
    assert.equal(
      published.map(({ newChunks }) => newChunks),
      [0, 0],
    );
    const plain = await machine.run(["publish", ...all]);
    assert.match(plain.stdout, /^payload:[0-9a-f]{64}\npayload:[0-9a-f]{64}\n$/);
    assert.match(plain.stderr, /studio:one-1\.0: revision 0, [^\n]+\np2pcache: there is no tree at [^\n]+\n/);
  },
);

rule("--root and --requires are about one variant", async (machine) => {
  for (const flag of ["--root=/tmp", "--requires=python-3"]) {
    const ended = await machine.run(["publish", "studio:a-1", "studio:b-1", flag, "--json"]);
    assert.equal([ended.code, errorIn(ended).code], [2, "USAGE"]);
  }
});

rule(
  "a tree that differs from its release is refused, with the files that differ, unless it supersedes",
  async (machine) => {
    const tree = addPackage(machine, "foo", "1.0");
    assert.is((await machine.run(["publish", "studio:foo-1.0"])).code, 0);
    for (let i = 0; i < 25; i++) writeFileSync(join(tree, `new-${i + 10}`), `${i}`, { mode: 0o644 });
    const refused = await machine.run(["publish", "studio:foo-1.0"]);
    assert.is(refused.code, 5);
    const told = refused.stderr.split("\n");
    assert.equal([told[0], told[19]], ["studio:foo-1.0: added new-10", "studio:foo-1.0: added new-29"]);
    assert.is(told[20], "studio:foo-1.0: and 5 more");
    assert.match(
      told[21]!,
      "studio:foo-1.0 is already released with another tree (25 added, 0 removed, 0 changed); a new",
    );
    const json = errorIn(await machine.run(["publish", "studio:foo-1.0", "--json"]));
    const { added, changes } = json.details as { added: number; changes: object[] };
    assert.equal([json.code, added, changes.length], ["ALREADY_RELEASED", 25, 25]);
    assert.equal(changes[0], { kind: "added", path: "new-10" });
    const { out } = await machine.json(["publish", "studio:foo-1.0", "--supersede"]);
    assert.is((out as { revision: number }).revision, 1);
  },
);

rule(
  "a release that was withdrawn is fetched no more, says why, and a plain publish brings it back",
  async (machine) => {
    addPackage(machine, "foo", "1.0");
    addPackage(machine, "bar", "1.0", 2);
    await machine.run(["publish", "studio:foo-1.0", "studio:bar-1.0"]);
    assert.is((await machine.run(["fetch", "studio:foo-1.0"])).code, 0);
    const { code, out } = await machine.json(["unpublish", "studio:foo-1.0", "--reason", "it crashes"]);
    const { outcome, revision, reason } = out as { outcome: string; revision: number; reason: string };
    assert.equal([code, outcome, revision, reason], [0, "withdrawn", 1, "it crashes"]);
    const again = await machine.run(["unpublish", "studio:foo-1.0"]);
    assert.equal([again.code, again.stdout], [0, "studio:foo-1.0: was withdrawn already, revision 1\n"]);
    const refused = await machine.run(["fetch", "studio:foo-1.0", "--json"]);
    assert.equal([refused.code, errorIn(refused).code], [3, "WITHDRAWN"]);
    assert.match(errorIn(refused).message, /^studio:foo-1\.0 was withdrawn by [0-9a-f]{16} on 20[^ ]+Z: it crashes$/);
    assert.equal((await machine.json(["ls"])).out, { schema: "p2pcache/ls/1", holdings: [] });
    const anew = await machine.json(["publish", "studio:foo-1.0"]);
    const { revision: third, newChunks } = anew.out as { revision: number; newChunks: number };
    assert.equal([anew.code, third, newChunks], [0, 2, 0]);
    assert.is((await machine.run(["fetch", "studio:foo-1.0"])).code, 0);
  },
);

rule("what was never released cannot be withdrawn, nor for a reason of two lines", async (machine) => {
  addPackage(machine, "foo", "1.0");
  await machine.run(["publish", "studio:foo-1.0"]);
  const missing = await machine.run(["unpublish", "studio:none-1.0", "--json"]);
  assert.equal([missing.code, errorIn(missing).code], [3, "NOT_FOUND"]);
  const long = await machine.run(["unpublish", "studio:foo-1.0", "--reason", "a\nb", "--json"]);
  assert.equal([long.code, errorIn(long).code], [2, "USAGE"]);
  const several = await machine.run(["unpublish", "studio:none-1.0", "studio:foo-1.0", "--json=lines"]);
  assert.equal([several.code, lines(several.stdout).length], [3, 1]);
});

rule("ls --origin lists what is released, by pattern, with what was withdrawn and who is trusted", async (machine) => {
  addPackage(machine, "foo", "1.0");
  addPackage(machine, "foobar", "2.0", 2);
  await machine.run(["publish", "studio:foo-1.0", "studio:foobar-2.0"]);
  await machine.run(["unpublish", "studio:foobar-2.0", "--reason", "too big"]);
  const { out } = await machine.json(["ls", "--origin"]);
  const { schema, releases } = out as { schema: string; releases: { [field: string]: unknown }[] };
  const facts = releases.map(({ name, state, trust, revision, reason, origin }) => {
    return [name, state, trust, revision, reason, origin];
  });
  assert.is(schema, "p2pcache/ls-origin/1");
  assert.equal(facts, [
    ["foo", "released", "trusted", 0, null, "filer"],
    ["foobar", "withdrawn", "trusted", 1, "too big", "filer"],
  ]);
  for (const [pattern, count] of [
    ["foo*", 2],
    ["foo-*", 1],
    ["studio:foo-1.0", 1],
    ["other:*", 0],
  ] as const) {
    assert.is(lines((await machine.run(["ls", "--origin", pattern, "--json=lines"])).stdout).length, count, pattern);
  }
  const stranger = machine.studio.configure("stranger");
  writeFileSync(stranger, readFileSync(stranger, "utf8").replace(/publishers = .*/, "publishers = []"));
  const plain = await p2pcache(["ls", "--origin", "foo-1.0", "--config", stranger]);
  assert.match(plain.stdout, /^studio:foo-1\.0 {2}revision 0 {2}\d+ files .* unknown key {2}filer\n$/);
});

rule("the origin's index names what was published, one line each, and leaves nothing beside it", async (machine) => {
  addPackage(machine, "foo", "1.0");
  addPackage(machine, "bar", "1.0", 2);
  const index = join(machine.studio.path, "origin", "index");
  await Promise.all(["foo", "bar"].map((name) => machine.run(["publish", `studio:${name}-1.0`])));
  await machine.run(["unpublish", "studio:foo-1.0"]);
  const written = readFileSync(join(index, "releases.jsonl"), "utf8");
  assert.equal(lines(written), [
    { formatVersion: 1 },
    { variant: { kind: "rez", repository: "studio", name: "bar", version: "1.0" }, revision: 0 },
    { variant: { kind: "rez", repository: "studio", name: "foo", version: "1.0" }, revision: 1, withdrawn: true },
  ]);
  assert.equal(readdirSync(index), ["releases.jsonl"]);
  writeFileSync(join(index, "releases.jsonl"), "nonsense");
  await machine.run(["publish", "studio:bar-1.0"]);
  assert.is(readFileSync(join(index, "releases.jsonl"), "utf8"), written);
});

rule("origin gc says what it would remove and removes it, and refuses an age floor of minutes", async (machine) => {
  addPackage(machine, "foo", "1.0");
  await machine.run(["publish", "studio:foo-1.0"]);
  const dry = await machine.run(["origin", "gc", "--dry-run"]);
  assert.is(dry.code, 0);
  assert.match(
    dry.stdout,
    /^filer: would remove 0 chunks and segments \(0 B\), 0 leftovers \(0 B\), 0 empty directories\n/,
  );
  assert.match(dry.stdout, /\nfiler: kept \d+ chunks and segments of 1 releases of 1 variants/);
  const { code, out } = await machine.json(["origin", "gc", "--min-age", "30 d"]);
  const { schema, dryRun, objects, kept } = out as { [field: string]: unknown } & { kept: { count: number } };
  assert.equal([code, schema, dryRun, objects], [0, "p2pcache/origin-gc/1", false, { count: 0, bytes: 0 }]);
  assert.ok(kept.count > 0);
  for (const age of ["5 min", "soon"]) {
    const refused = await machine.run(["origin", "gc", "--min-age", age, "--json"]);
    assert.equal([refused.code, errorIn(refused).code], [2, "USAGE"]);
  }
});

test.run();
