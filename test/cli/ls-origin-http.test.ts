// runs unprivileged
// deadline: 120 s
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { encodeIndex, type IndexEntry, originIndexPath, parseIndex } from "../../protocol/origin-index.ts";
import { type Ended, errorIn, Machine, p2pcache } from "../support/command-line.ts";
import { needs } from "../support/needs.ts";
import { Nginx } from "../support/nginx.ts";
import { packageTree } from "../support/package-trees.ts";
import { StaticServer } from "../support/static-server.ts";

/** What is released, as a machine sees it that has nothing but a web server for its origin. */
const test = suite("ls --origin over HTTP");
const variantOf = (name: string): IndexEntry["variant"] => ({
  kind: "rez",
  repository: "studio",
  name,
  version: "1.0.0",
});

interface Scene {
  readonly machine: Machine;
  readonly root: string;
  readonly index: string;
}

/** An origin with `foo`, released, and `bar`, withdrawn. */
function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    await using machine = await Machine.open();
    for (const name of ["foo", "bar"]) packageTree(machine, name, { largeMib: 0 });
    assert.is((await machine.run(["publish", "foo-1.0.0", "bar-1.0.0"])).code, 0);
    assert.is((await machine.run(["unpublish", "bar-1.0.0", "--reason", "too big"])).code, 0);
    const root = join(machine.studio.path, "origin");
    await check({ machine, root, index: join(root, originIndexPath) });
  });
}

function listFrom({ machine }: Scene, url: string, words: readonly string[] = []): Promise<Ended> {
  const origin = `[[origin]]\nname = "web"\nkind = "http"\nurl = "${url}"`;
  return p2pcache(["ls", "--origin", ...words, "--json", "--config", machine.studio.configure("reader", { origin })]);
}

function factsOf({ code, stdout, stderr }: Ended): unknown[] {
  assert.is(code, 0, stderr);
  const { releases } = JSON.parse(stdout) as { releases: { [field: string]: unknown }[] };
  return releases.map(({ name, state, trust, revision, origin }) => [name, state, trust, revision, origin]);
}

const bar = ["bar", "withdrawn", "trusted", 1, "web"];
const foo = ["foo", "released", "trusted", 0, "web"];

if (needs("nginx", "nginx-light")) {
  rule("what publish put there is listed from nginx, by pattern too", async (scene) => {
    await using server = await Nginx.open({ root: scene.root });
    assert.equal(factsOf(await listFrom(scene, server.url)), [bar, foo]);
    assert.equal(factsOf(await listFrom(scene, server.url, ["fo*"])), [foo]);
  });
}

rule("a server without an index: exit 3, and what writes one", async (scene) => {
  await using server = await StaticServer.open(scene.root);
  rmSync(scene.index);
  const ended = await listFrom(scene, server.url);
  assert.equal([ended.code, ended.stdout, errorIn(ended).code], [3, "", "NOT_FOUND"]);
  const { message, details } = errorIn(ended);
  assert.match(message, /^the origin web has no index, and cannot be listed without one$/);
  assert.match((details as { hint: string }).hint, /p2pcache origin gc/);
  // As the hint says.
  assert.is((await scene.machine.run(["origin", "gc"])).code, 0);
  assert.equal(factsOf(await listFrom(scene, server.url)), [bar, foo]);
});

rule("an index that lies is only a hint: records say what is released", async (scene) => {
  await using server = await StaticServer.open(scene.root);
  const honest = parseIndex(readFileSync(scene.index));
  const lies = honest.map((entry) => ({ ...entry, revision: 7, isWithdrawn: !entry.isWithdrawn }));
  const gone = { variant: variantOf("gone"), revision: 0, isWithdrawn: false };
  writeFileSync(scene.index, encodeIndex([...lies, gone]));
  assert.equal(factsOf(await listFrom(scene, server.url)), [bar, foo]);
  writeFileSync(scene.index, "nonsense");
  const broken = await listFrom(scene, server.url);
  assert.equal([broken.code, errorIn(broken).code], [4, "BAD_FORMAT"]);
});

test.run();
