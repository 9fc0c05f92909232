// runs unprivileged
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Programs } from "../../node/programs.ts";

const test = suite("programs that run from the cache");

interface Scene {
  readonly cachePath: string;
  /** A tree in the cache. */
  readonly tree: string;
  nowMs: number;
  readonly programs: Programs;
  /** Starts something, and waits until it runs. */
  start(command: string, options?: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv }): Promise<ChildProcess>;
}

function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    const cachePath = realpathSync(mkdtempSync(join(tmpdir(), "programs-")));
    const tree = join(cachePath, "foo/1.0.0/11e9/a");
    mkdirSync(join(tree, "bin"), { recursive: true });
    const started: ChildProcess[] = [];
    const scene: Scene = {
      ...{ cachePath, tree, nowMs: 0 },
      programs: new Programs({ cachePath, nowMs: () => scene.nowMs }),
      start: async (command, options = {}) => {
        const child = spawn(command, ["600"], { ...options, stdio: "ignore" });
        started.push(child);
        await once(child, "spawn");
        return child;
      },
    };
    try {
      await check(scene);
    } finally {
      await Promise.all(started.map(end));
      rmSync(cachePath, { recursive: true });
    }
  });
}

rule("a program whose binary lies in a tree runs from it", async ({ tree, programs, start }) => {
  const binary = join(tree, "bin/tool");
  copyFileSync("/bin/sleep", binary);
  const { pid } = await start(binary);
  await programs.look();
  assert.is(programs.from(tree), `tool (${pid})`);
});

rule("so does one that has it as its working directory, and one whose environment names it", async (scene) => {
  const { cachePath, tree, programs, start } = scene;
  const other = join(cachePath, "bar/2.0/22f0/b");
  const third = join(cachePath, "b\u00e4r/2.0/33f0/a");
  for (const path of [other, third]) mkdirSync(path, { recursive: true });
  const { pid: inside } = await start("sleep", { cwd: join(tree, "bin") });
  const env = { REZ_BAR_ROOT: other, PYTHONPATH: `/usr/lib:${third}/python:/x` };
  const { pid: named } = await start("sleep", { env: { ...process.env, ...env } });
  await programs.look();
  assert.equal([programs.from(tree), programs.from(other)], [`sleep (${inside})`, `sleep (${named})`]);
  assert.is(programs.from(third), `sleep (${named})`);
  assert.is(programs.from(join(cachePath, "foo/1.0.0/11e9/b")), undefined);
});

rule("who has ended runs from nothing any more, once it is looked again", async (scene) => {
  const { tree, programs, start } = scene;
  const child = await start("sleep", { cwd: tree });
  await programs.look();
  await end(child);
  await programs.look();
  assert.ok(programs.from(tree), "what was seen a moment ago is believed");
  await programs.look(0);
  assert.equal([programs.from(tree), programs.areSeen], [undefined, false]);
  await start("sleep", { cwd: tree });
  scene.nowMs = 3_000;
  await programs.look();
  assert.ok(programs.areSeen);
});

rule("nobody is seen where nobody runs", async (scene) => {
  const { tree, programs } = scene;
  await programs.look();
  assert.equal([programs.from(tree), programs.areSeen], [undefined, false]);
});

rule(
  "a cache whose name only begins like this one's is another, and this very process does not count",
  async (scene) => {
    const { cachePath, tree, programs, start } = scene;
    await start("sleep", { env: { ...process.env, OTHER: `${cachePath}-2/foo/1.0.0/11e9/a` } });
    const before = process.cwd();
    try {
      process.chdir(tree);
      await programs.look();
    } finally {
      process.chdir(before);
    }
    assert.not(programs.areSeen);
  },
);

rule("what cannot be read, has gone or is no process is passed over", async ({ cachePath, tree }) => {
  const procPath = join(cachePath, "proc");
  for (const each of ["1", "2", "self"]) mkdirSync(join(procPath, each), { recursive: true });
  for (const each of ["2", "self"]) symlinkSync(tree, join(procPath, each, "cwd"));
  mkdirSync(join(procPath, "2/maps"));
  writeFileSync(join(procPath, "3"), "");
  const programs = new Programs({ cachePath, nowMs: () => 0, procPath });
  await programs.look();
  assert.is(programs.from(tree), "a program (2)");
  const none = new Programs({ cachePath, nowMs: () => 0, procPath: join(cachePath, "none") });
  await none.look();
  assert.not(none.areSeen);
});

rule(
  "a process of which nothing can be read is waited for once, for a second; what was seen by then counts",
  async (scene) => {
    const { cachePath, tree } = scene;
    const procPath = join(cachePath, "proc");
    for (const each of ["2", "3", "4"]) mkdirSync(join(procPath, each), { recursive: true });
    for (const each of ["2", "4"]) symlinkSync(join(tree, each), join(procPath, each, "cwd"));
    // As the pages of a process that hangs in a mount: whoever opens it waits.
    const hung = join(procPath, "3/maps");
    assert.is(spawnSync("mkfifo", [hung]).status, 0);
    const programs = new Programs({ cachePath, nowMs: () => scene.nowMs, procPath });
    await programs.look();
    assert.equal([programs.from(join(tree, "2")), programs.from(join(tree, "4"))], ["a program (2)", undefined]);
    const startedMs = performance.now();
    for (let i = 0; i < 50; i++) await programs.look();
    assert.ok(performance.now() - startedMs < 900, "nobody waits again");
    writeFileSync(hung, "");
    rmSync(hung);
    while (programs.from(join(tree, "4")) === undefined) {
      await new Promise((resolve) => setImmediate(resolve));
      await programs.look();
    }
  },
);

test.run();

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}
