// runs unprivileged
// deadline: 240 s
import { appendFileSync, existsSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorIn, Machine } from "../support/command-line.ts";
import { packageTree } from "../support/package-trees.ts";

const soon = "--linger=20";
const dayMs = 86_400_000;

test("a list is signed, published and followed, and keeps what it names", async () => {
  await using machine = await machineWithToolset("fx");
  const { path } = machine;
  for (const name of ["kept", "other"]) {
    packageTree(machine, name);
    assert.is((await machine.run(["publish", `${name}-1.0.0`])).code, 0);
  }
  const toml = writeList(
    path,
    '[[keep]]\npackage = "studio:kept-1+<2"\nprefetch = true\n[[keep]]\npackage = "studio:missing"',
  );
  const signed = await sign(machine, toml);
  assert.is(signed.code, 0, signed.stderr);
  assert.match(signed.stderr, /fx, version 1, 2 lines, signed by fx, in force until/);
  const file = join(path, "fx.keepalive.json");
  assert.match(
    (await machine.run(["keepalive", "verify", file])).stdout,
    /^fx, version 1, signed by fx, in force until/,
  );
  assert.is((await machine.run(["keepalive", "publish", file])).stdout, "fx, version 1, published\n");
  assert.is((await machine.run(["keepalive", "publish", file])).stdout, "fx, version 1, was published already\n");
  const { stdout } = await machine.run(["fetch", "kept-1.0.0", "other-1.0.0", soon]);
  for (const root of stdout.trim().split("\n")) {
    const old = new Date(Date.now() - 41 * dayMs);
    utimesSync(`${root}.json`, old, old);
  }
  const shown = await machine.run(["keepalive", "show", "fx", "--refresh"]);
  assert.match(
    shown.stdout,
    /^toolset fx, version 1, signed by fx, in force until .*\n {2}1 {2}studio:kept-1\+<2 {2}prefetch\n {2}2 {2}studio:missing\n$/,
  );
  assert.is(
    (await machine.run(["explain", "kept-1.0.0"])).stdout,
    "studio:kept-1.0.0 kept: toolset fx, version 1, rank 1, signed by fx\n",
  );
  const covered = await machine.run(["keepalive", "coverage", "fx"]);
  assert.match(
    covered.stdout,
    /1 {2}studio:kept-1\.0\.0 +here +0 copies elsewhere\n2 {2}studio:missing +nothing that is known is meant\n/,
  );
  const [kept, other] = stdout.split("\n") as [string, string];
  assert.is((await machine.run(["gc"])).code, 0);
  assert.equal([existsSync(kept), existsSync(other)], [true, false]);
  // It is kept by the list that lies on this disk, also while nobody runs and nobody is asked.
  assert.is((await machine.run(["node", "stop"])).code, 0);
  assert.match((await machine.run(["explain", "kept-1.0.0"])).stdout, /kept: toolset fx, version 1/);
});

test("a version never goes back, at the origin or on a machine (P6)", async () => {
  await using machine = await machineWithToolset("fx");
  const { path } = machine;
  const file = join(path, "fx.keepalive.json");
  packageTree(machine, "foo");
  await machine.run(["publish", "foo-1.0.0"]);
  const first = writeList(path, '[[keep]]\npackage = "studio:one"');
  await sign(machine, first);
  const old = readFileSync(file);
  assert.is((await machine.run(["keepalive", "publish", file])).code, 0);
  writeList(path, '[[keep]]\npackage = "studio:two"');
  assert.match((await sign(machine, first)).stderr, /version 2/);
  assert.is((await machine.run(["keepalive", "publish", file])).code, 0);
  await machine.run(["fetch", "none-1.0.0", soon]);
  await machine.run(["keepalive", "show", "--refresh"]);
  writeFileSync(join(path, "old.json"), old);
  const refused = await machine.run(["keepalive", "publish", join(path, "old.json"), "--json"]);
  assert.equal([refused.code, errorIn(refused).code], [5, "LIST_OUTDATED"]);
  const again = await sign(machine, first, ["--list-version", "2", "--json"]);
  assert.equal([again.code, errorIn(again).code], [5, "LIST_OUTDATED"]);
  // Somebody who may write there puts the old one back.
  writeFileSync(join(machine.studio.path, "origin/policy/targets/keepalive/fx.dsse.json"), old);
  assert.match(
    (await machine.run(["keepalive", "show", "--refresh"])).stdout,
    /^toolset fx, version 2,.*\n {2}1 {2}studio:two\n$/,
  );
});

test("what is not signed by the toolset's own key, or has expired, is refused: exit 5", async () => {
  await using machine = await machineWithToolset("fx");
  const { path } = machine;
  const toml = writeList(path, '[[keep]]\npackage = "studio:one"');
  const stranger = await machine.run(["key", "gen", "--key", join(path, "stranger.pem")]);
  assert.is(stranger.code, 0, stranger.stderr);
  const file = join(path, "fx.keepalive.json");
  await sign(machine, toml, [], "stranger.pem");
  const refused = await machine.run(["keepalive", "verify", file, "--json"]);
  assert.equal([refused.code, errorIn(refused).code], [5, "BAD_SIGNATURE"]);
  assert.is((await machine.run(["keepalive", "publish", file])).code, 5);
  writeFileSync(toml, readFileSync(toml, "utf8").replace("fx", "unknown"));
  const unknown = await sign(machine, toml, ["--out", join(path, "unknown.json")]);
  assert.is(unknown.code, 0, unknown.stderr);
  assert.equal((await machine.run(["keepalive", "verify", join(path, "unknown.json")])).code, 5);
});

test("bad lists are refused with their line: exit 4 for what breaks a rule, 2 for what is no TOML or no file", async () => {
  await using machine = await machineWithToolset("fx");
  const toml = writeList(machine.path, '[[keep]]\npackage = "maya"');
  const bad = await sign(machine, toml);
  assert.is(bad.code, 4);
  assert.match(bad.stderr, /\[\[keep\]\] number 1: "?maya"? is no package/);
  writeFileSync(toml, "toolset = fx");
  const broken = await sign(machine, toml);
  assert.is(broken.code, 2);
  assert.match(broken.stderr, /list\.toml, line 1/);
  assert.is((await sign(machine, join(machine.path, "none.toml"))).code, 2);
  assert.is((await machine.run(["keepalive", "verify", toml])).code, 4);
  assert.is((await machine.run(["keepalive", "show", "nothing"])).code, 3);
  assert.is((await machine.run(["keepalive", "coverage", "nothing"])).code, 3);
  assert.is((await sign(machine, toml, ["--days", "0"])).code, 2);
});

test("diff says what was added, taken away and moved", async () => {
  await using machine = await machineWithToolset("fx");
  const a = join(machine.path, "a.toml");
  const lines = (names: string[]) => names.map((name) => `[[keep]]\npackage = "studio:${name}"`).join("\n");
  writeFileSync(a, `toolset = "fx"\n${lines(["one", "two", "three", "four"])}`);
  const b = writeList(machine.path, `${lines(["two", "one", "four", "five"])}\nprefetch = true`);
  const { stdout, code, stderr } = await machine.run(["keepalive", "diff", a, b]);
  assert.is(code, 0, stderr);
  const expected = ["- 3  studio:three", "~ 2 -> 1  studio:two", "~ 1 -> 2  studio:one", "+ 4  studio:five"];
  assert.equal(stdout.trim().split("\n"), expected);
});

async function machineWithToolset(toolset: string): Promise<Machine> {
  const machine = await Machine.open();
  const key = join(machine.path, `${toolset}.pem`);
  const { stdout, stderr, code } = await machine.run(["key", "gen", "--key", key]);
  assert.is(code, 0, stderr);
  const publicKey = /ed25519:\S+/.exec(stdout + stderr)![0];
  appendFileSync(machine.config, `[keepalive]\nkeys = ["${toolset}=${publicKey}"]\n`);
  const text = readFileSync(machine.config, "utf8");
  writeFileSync(machine.config, text.replace("[cache]", "[cache]\nmax_age = '30 d'"));
  return machine;
}

function writeList(path: string, keep: string): string {
  const file = join(path, "list.toml");
  writeFileSync(file, `toolset = "fx"\n${keep}\n`);
  return file;
}

function sign(machine: Machine, toml: string, words: readonly string[] = [], key = "fx.pem") {
  const out = words.includes("--out") ? [] : ["--out", join(machine.path, "fx.keepalive.json")];
  return machine.run(["keepalive", "sign", toml, "--key", join(machine.path, key), ...out, ...words]);
}

test.run();
