// runs unprivileged
// deadline: 240 s
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Ended, errorIn, Machine, p2pcache } from "../support/command-line.ts";
import { packageTree } from "../support/package-trees.ts";

const launcher = fileURLToPath(new URL("../../cli/launcher.js", import.meta.url));
const soon = "--linger=20";
const dayMs = 86_400_000;

test("gc says for every variant why it stays or goes, and the dry run takes nothing", async () => {
  await using machine = await machineWith("max_age = '30 d'", "old", "young");
  const [old, young] = await fetched(machine, "old", "young");
  ageBy(old, 41);
  ageBy(young, 2);
  const dry = await machine.run(["gc", "--dry-run"]);
  assert.is(dry.code, 0, dry.stderr);
  assert.match(dry.stdout, /studio:old-1\.0\.0 .* goes: last used 41 days ago, 0 replicas, longer than max_age\n/);
  assert.match(dry.stdout, /studio:young-1\.0\.0 .* kept: no room is needed, last used 2 days ago, 0 replicas\n/);
  assert.ok(existsSync(old));
  const explained = await machine.run(["explain", "old-1.0.0"]);
  assert.is(explained.stdout, "studio:old-1.0.0 goes: last used 41 days ago, 0 replicas, longer than max_age\n");
  const { out, code } = await machine.json(["gc"]);
  assert.is(code, 0);
  const { schema, dryRun, variants } = out as {
    schema: string;
    dryRun: boolean;
    variants: { handle: string; outcome: string }[];
  };
  assert.equal([schema, dryRun], ["p2pcache/gc/1", false]);
  assert.equal(
    variants.map(({ handle, outcome }) => [handle, outcome]),
    [
      ["studio:old-1.0.0", "removed"],
      ["studio:young-1.0.0", "kept"],
    ],
  );
  assert.equal([existsSync(old), existsSync(young)], [false, true]);
  const gone = await machine.run(["explain", "old-1.0.0", "--json"]);
  assert.equal([gone.code, errorIn(gone).code], [3, "NOT_FOUND"]);
});

test("what is pinned stays, through a restart of the node, until it is unpinned; rm refuses it", async () => {
  await using machine = await machineWith("max_age = '30 d'", "old");
  const [old] = await fetched(machine, "old");
  ageBy(old, 41);
  assert.is((await machine.run(["pin", "old-1.0.0"])).stdout, "studio:old-1.0.0\n");
  assert.is((await machine.run(["node", "stop"])).code, 0);
  assert.is((await machine.run(["gc"])).code, 0);
  assert.is((await machine.run(["explain", "old-1.0.0"])).stdout, "studio:old-1.0.0 kept: pinned on this machine\n");
  const refused = await machine.run(["rm", "old-1.0.0", "--json"]);
  assert.equal([refused.code, errorIn(refused).code], [8, "PINNED"]);
  assert.is((await machine.run(["unpin", "old-1.0.0"])).code, 0);
  assert.is((await machine.run(["unpin", "old-1.0.0"])).code, 3);
  assert.is((await machine.run(["pin", "nothing-1.0.0"])).code, 3);
  assert.is((await machine.run(["gc"])).code, 0);
  assert.not(existsSync(old));
});

test("run sets Rez's variables for what it fetched, and that stays as long as the command runs", async () => {
  await using machine = await machineWith("max_age = '30 d'", "tool");
  const [tool] = await fetched(machine, "tool");
  ageBy(tool, 41);
  const p2pcacheHere = `"${process.execPath}" "${launcher}" --config "${machine.config}"`;
  const script = [
    `${p2pcacheHere} explain tool-1.0.0; ${p2pcacheHere} gc >/dev/null; ${p2pcacheHere} rm tool-1.0.0`,
    `echo "$REZ_TOOL_ROOT|$REZ_TOOL_BASE|$REZ_TOOL_VERSION|$REZ_TOOL_MAJOR_VERSION|$REZ_TOOL_MINOR_VERSION|$REZ_TOOL_PATCH_VERSION"`,
    "exit 7",
  ];
  const file = join(machine.path, "script.sh");
  writeFileSync(file, script.join("\n"));
  const { code, stdout, stderr } = await runIn(machine, ["tool-1.0.0", soon, "--", "sh", file]);
  const base = join(machine.studio.path, "packages", "tool", "1.0.0");
  const [explained, variables] = stdout.split("\n");
  assert.match(explained!, /^studio:tool-1\.0\.0 kept: leased by (pid \d+ \(sh\)|sh)$/);
  assert.is(variables, [tool, base, "1.0.0", "1", "0", "0"].join("|"));
  assert.match(stderr, /is leased by/, "rm is refused");
  assert.is(code, 7, "the command's own exit code");
  assert.ok(existsSync(tool));
  assert.is((await machine.run(["gc"])).code, 0);
  assert.not(existsSync(tool), "and goes when it has ended");
});

test("what a program runs from stays also when run was killed, through a restart of the node, and then goes", async () => {
  await using machine = await machineWith("max_age = '30 d'", "tool");
  const [tool] = await fetched(machine, "tool");
  ageBy(tool, 41);
  const running = Promise.withResolvers<ChildProcess>();
  const words = ["--config", machine.config, "run", "tool-1.0.0", soon, "--", "sh", "-c", 'echo "$$"; exec sleep 100'];
  const ended = p2pcache(words, { onProcess: running.resolve });
  const wrapper = await running.promise;
  const [line] = (await once(createInterface({ input: wrapper.stdout! }), "line")) as [string];
  const pid = Number(line);
  try {
    const leasedBy = `studio:tool-1.0.0 kept: leased by pid ${pid} (sh)\n`;
    const explain = async () => (await machine.run(["explain", "tool-1.0.0"])).stdout;
    await untilAsync(async () => (await explain()) === leasedBy);
    wrapper.kill("SIGKILL");
    assert.is(await explain(), leasedBy);
    assert.is((await machine.run(["node", "stop"])).code, 0);
    assert.is(await explain(), leasedBy);
    assert.is((await machine.run(["gc"])).code, 0);
    assert.ok(existsSync(tool));
  } finally {
    process.kill(pid, "SIGKILL");
  }
  // Its output was open until now.
  await ended;
  assert.is((await machine.run(["gc"])).code, 0);
  assert.not(existsSync(tool));
});

test("run says what is missing: no command, no such variant, no such program", async () => {
  await using machine = await machineWith("", "tool");
  assert.is((await machine.run(["run", "tool-1.0.0"])).code, 2);
  assert.is((await runIn(machine, ["none-1.0.0", soon, "--", "true"])).code, 3);
  const { code, stderr } = await runIn(machine, ["tool-1.0.0", soon, "--", "/nowhere/program"]);
  assert.is(code, 3);
  assert.match(stderr, /\/nowhere\/program cannot be run/);
});

test("a fetch that finds no room takes the place of what was not used for long, and says what is missing otherwise", async () => {
  await using machine = await machineWith("max_bytes = '10 MB'", "one", "two", "three");
  const [one] = await fetched(machine, "one");
  const full = await machine.run(["fetch", "two-1.0.0", "three-1.0.0", soon, "--json"]);
  assert.is(full.code, 7, full.stdout);
  assert.match(
    errorIn(full).message,
    /there is no room for studio:(two|three)-1\.0\.0: \d+ bytes below max_bytes are missing/,
  );
  ageBy(one, 3);
  const { code, stderr } = await machine.run(["fetch", "two-1.0.0", "three-1.0.0", soon]);
  assert.is(code, 0, stderr);
  assert.not(existsSync(one));
});

async function untilAsync(isSo: () => Promise<boolean>): Promise<void> {
  for (const untilMs = performance.now() + 30_000; performance.now() < untilMs; ) if (await isSo()) return;
  assert.unreachable("it never came about");
}

function runIn(machine: Machine, words: readonly string[]): Promise<Ended> {
  return p2pcache(["--config", machine.config, "run", ...words]);
}

async function machineWith(cache: string, ...names: string[]): Promise<Machine> {
  const machine = await Machine.open();
  const text = readFileSync(machine.config, "utf8");
  const lines = cache.startsWith("max_bytes")
    ? text.replace(/max_bytes = .*/, cache)
    : text.replace("[cache]", `[cache]\n${cache}`);
  writeFileSync(machine.config, lines);
  for (const name of names) {
    packageTree(machine, name);
    const { code, stderr } = await machine.run(["publish", `${name}-1.0.0`]);
    assert.is(code, 0, stderr);
  }
  return machine;
}

async function fetched(machine: Machine, ...names: string[]): Promise<[string, string]> {
  const { stdout, code, stderr } = await machine.run(["fetch", ...names.map((name) => `${name}-1.0.0`), soon]);
  assert.is(code, 0, stderr);
  return stdout.split("\n") as [string, string];
}

/** As if it had not been used for some days. */
function ageBy(path: string, days: number): void {
  const at = new Date(Date.now() - days * dayMs);
  utimesSync(`${path}.json`, at, at);
}

test.run();
