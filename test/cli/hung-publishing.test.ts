// runs unprivileged
// deadline: 240 s
// mostly waits
import { type ChildProcess, execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { errorIn, Machine } from "../support/command-line.ts";
import { packageTree } from "../support/package-trees.ts";

/**
 * Commands that touch mounts themselves. Calls below one directory hang in their thread for ever, as on a mount whose
 * server has gone: they open a FIFO that nobody writes to.
 */
const test = suite("publishing while a mount hangs");

/** Preloaded into the command; it says on stderr when a call hangs. */
const hangingCalls = `
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
const [{ open }, { openSync }] = [fs.promises, fs];
for (const calls of [fs, fs.promises]) {
  for (const name of ["open", "opendir", "lstat"]) {
    const real = calls[name];
    calls[name] = (path, ...rest) => {
      if (!String(path).startsWith(process.env.HANGS)) return real(path, ...rest);
      process.stderr.write("a call hangs\\n");
      return open(process.env.FIFO);
    };
  }
}
// The tree is read by calls that block the one thread there is.
for (const name of ["openSync", "lstatSync", "statSync", "readdirSync", "realpathSync"]) {
  const real = fs[name];
  fs[name] = Object.assign((path, ...rest) => {
    if (!String(path).startsWith(process.env.HANGS)) return real(path, ...rest);
    process.stderr.write("a call hangs\\n");
    return openSync(process.env.FIFO);
  }, real);
}
syncBuiltinESMExports();
`;

/** Which directory hangs, and for which command. */
const commands: readonly (readonly [where: string, ...words: string[]])[] = [
  ["packages", "publish", "bar-1.0.0"],
  ["packages", "publish", "--in-place", "bar-1.0.0"],
  ["origin", "publish", "bar-1.0.0"],
  ["origin", "unpublish", "foo-1.0.0"],
  ["origin", "ls", "--origin"],
  ["origin", "origin", "gc"],
];

async function machineThatHangs() {
  const machine = await Machine.open();
  for (const name of ["foo", "bar"]) packageTree(machine, name, { largeMib: 0 });
  assert.is((await machine.run(["publish", "foo-1.0.0"])).code, 0);
  const { path } = machine.studio;
  const [hook, fifo] = [join(path, "hook.mjs"), join(path, "fifo")];
  writeFileSync(hook, hangingCalls);
  execFileSync("mkfifo", [fifo]);
  const envFor = (where: string) => ({ NODE_OPTIONS: `--import=${hook}`, HANGS: join(path, where), FIFO: fifo });
  return { machine, envFor };
}

test("Ctrl-C ends them once, within seconds: exit 130", async () => {
  const { machine, envFor } = await machineThatHangs();
  await using _machine = machine;
  for (const [where, ...words] of commands) {
    let interruptedMs = 0;
    const onProcess = (child: ChildProcess) =>
      child.stderr!.on("data", (bytes: Buffer) => {
        if (interruptedMs > 0 || !bytes.includes("a call hangs")) return;
        interruptedMs = performance.now();
        child.kill("SIGINT");
      });
    const ended = await machine.run([...words, "--json"], { env: envFor(where), onProcess });
    assert.equal([ended.code, errorIn(ended).code], [130, "INTERRUPTED"], words.join(" "));
    assert.ok(interruptedMs > 0 && performance.now() - interruptedMs < 10_000, words.join(" "));
  }
});

test("--timeout ends them: exit 6, in one line", async () => {
  const { machine, envFor } = await machineThatHangs();
  await using _machine = machine;
  for (const [where, ...words] of commands) {
    const ended = await machine.run([...words, "--timeout", "500 ms", "--json"], { env: envFor(where) });
    assert.equal([ended.code, errorIn(ended).code], [6, "DEADLINE"], words.join(" "));
    assert.match(
      errorIn(ended).message,
      /^(studio:(foo|bar)-1\.0\.0|ls --origin|origin gc): not done within [\d.]+ m?s$/,
    );
  }
});

test.run();
