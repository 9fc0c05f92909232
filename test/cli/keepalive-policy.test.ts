// runs unprivileged
// deadline: 240 s
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errorIn, Machine } from "../support/command-line.ts";
import { packageTree } from "../support/package-trees.ts";

const soon = "--linger=20";

test("where the policy delegates a toolset its list is signed there, and followed, kept and never taken back", async () => {
  await using machine = await machineWithPolicy();
  packageTree(machine, "kept");
  assert.is((await machine.run(["publish", "kept-1.0.0"])).code, 0);
  const file = await sign(machine, '[[keep]]\npackage = "studio:kept-1+<2"', ["--days", "30"]);
  const first = readFileSync(file);
  const verified = await machine.run(["keepalive", "verify", file]);
  assert.match(verified.stdout, /^fx, version 1, signed by fx/, verified.stderr);
  const published = await publish(machine, file);
  assert.is(published.stdout, "fx, version 1, published in the policy\n", published.stderr);
  assert.is((await publish(machine, file)).stdout, "fx, version 1, was published already in the policy\n");
  assert.not(existsSync(join(machine.studio.path, "origin/policy/targets/keepalive/fx.dsse.json")));
  assert.is((await machine.run(["fetch", "kept-1.0.0", soon])).code, 0);
  const shown = await machine.run(["keepalive", "show", "fx", "--refresh"]);
  const expires = JSON.parse((await machine.run(["keepalive", "verify", file, "--json"])).stdout).expires as string;
  assert.match(shown.stdout, /^toolset fx, version 1, signed by [0-9a-f]{16}, in force until .*\n {2}1 {2}studio:kept/);
  assert.ok(shown.stdout.includes(`until ${expires}`), "the list's own end, not the policy's");
  const explained = /^studio:kept-1\.0\.0 kept: .*toolset fx, version 1, rank 1, signed by [0-9a-f]{16}\n$/;
  assert.match((await machine.run(["explain", "kept-1.0.0"])).stdout, explained);
  assert.match((await machine.run(["keepalive", "coverage", "fx"])).stdout, /^1 {2}studio:kept-1\.0\.0 +here/);
  // The version goes on from the policy's, and never back.
  const next = await sign(machine, '[[keep]]\npackage = "studio:kept"', ["--list-version", "5"]);
  assert.is((await publish(machine, next)).stdout, "fx, version 5, published in the policy\n");
  assert.match((await machine.run(["keepalive", "show", "fx", "--refresh"])).stdout, /^toolset fx, version 5,/);
  writeFileSync(file, first);
  const refused = await publish(machine, file, ["--json"]);
  assert.equal([refused.code, errorIn(refused).code], [5, "LIST_OUTDATED"]);
});

test("whoever has another key publishes no list in the policy", async () => {
  await using machine = await machineWithPolicy();
  const file = await sign(machine, '[[keep]]\npackage = "studio:kept"');
  const other = join(machine.path, "other.pem");
  await machine.run(["key", "gen", "--key", other]);
  const refused = await machine.run(["keepalive", "publish", file, "--key", other, "--json"]);
  assert.equal([refused.code, errorIn(refused).code], [2, "KEY_MISSING"]);
  const forged = await sign(machine, '[[keep]]\npackage = "studio:kept"', [], "other.pem");
  const untrue = await publish(machine, forged, ["--json"]);
  assert.equal([untrue.code, errorIn(untrue).code], [5, "BAD_SIGNATURE"]);
});

test("a machine that trusts no root puts the list beside the policy, and says so", async () => {
  await using machine = await machineWithPolicy({ hasRoot: false });
  const file = await sign(machine, '[[keep]]\npackage = "studio:kept"');
  const published = await publish(machine, file);
  assert.is(published.stdout, "fx, version 1, published\n", published.stderr);
  assert.match(published.stderr, "this machine trusts no root of it");
});

/** One that follows a policy with a toolset `fx`, whose key is `fx.pem`. */
async function machineWithPolicy({ hasRoot = true } = {}): Promise<Machine> {
  const machine = await Machine.open();
  const made = await machine.run(["key", "gen", "--key", join(machine.path, "fx.pem")]);
  const key = /ed25519:\S+/.exec(made.stdout)![0];
  const begun = await machine.run(["trust", "init"]);
  assert.is(begun.code, 0, begun.stderr);
  assert.is((await machine.run(["trust", "delegate", "keepalive/fx", key])).code, 0);
  if (!hasRoot) {
    // As on a machine that is not the admin's.
    for (const name of ["policy", "policy-author"]) {
      for (const copy of [name, `${name}.copy`])
        rmSync(join(machine.path, "state", copy), { recursive: true, force: true });
    }
    return machine;
  }
  const text = readFileSync(machine.config, "utf8");
  const root = join(machine.studio.path, "origin/policy/1.root.json");
  writeFileSync(machine.config, text.replace("[trust]", `[trust]\nroot = "${root}"`));
  return machine;
}

async function sign(machine: Machine, keep: string, words: readonly string[] = [], key = "fx.pem"): Promise<string> {
  const toml = join(machine.path, "list.toml");
  const out = join(machine.path, "fx.keepalive.json");
  writeFileSync(toml, `toolset = "fx"\n${keep}\n`);
  const all = ["keepalive", "sign", toml, "--key", join(machine.path, key), "--signer", "fx", "--out", out, ...words];
  const signed = await machine.run(all);
  assert.is(signed.code, 0, signed.stderr);
  return out;
}

function publish(machine: Machine, file: string, words: readonly string[] = []) {
  return machine.run(["keepalive", "publish", file, "--key", join(machine.path, "fx.pem"), ...words]);
}

test.run();
