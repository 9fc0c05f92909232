// runs unprivileged
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readdirSync, watch, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { launcherPath } from "../../cli/context.ts";
import { MIB } from "../../protocol/limits.ts";
import { errorIn, Machine } from "../support/command-line.ts";
import { needs } from "../support/needs.ts";
import { noise } from "../support/noise.ts";

const test = suite("publishing in trouble");

interface Scene {
  readonly machine: Machine;
  readonly origin: string;
}

/** A package of so many megabytes, `studio:big-1.0`. */
function rule(text: string, mib: number, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    await using machine = await Machine.open();
    const { path } = machine.studio;
    const tree = join(path, "packages", "big", "1.0");
    mkdirSync(tree, { recursive: true, mode: 0o755 });
    for (let i = 0; i < mib; i++) writeFileSync(join(tree, `file-${i}`), noise(i, MIB), { mode: 0o644 });
    await check({ machine, origin: join(path, "origin") });
  });
}

function filesIn(path: string): string[] {
  const entries = readdirSync(path, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
}

/** Ends a publish by a signal once so many chunks have arrived. */
async function endMidway({ machine, origin }: Scene, signal: NodeJS.Signals, chunks: number) {
  using stack = new DisposableStack();
  const watching = new AbortController();
  stack.defer(() => watching.abort());
  let isSent = false;
  return await machine.run(["publish", "studio:big-1.0", "--json"], {
    onProcess: (child) => {
      const events = watch(origin, { recursive: true, signal: watching.signal });
      events.on("error", () => undefined);
      events.on("change", () => {
        if (isSent || child.exitCode !== null) return;
        if (filesIn(origin).filter((name) => /^[0-9a-f]{64}(\.zst)?$/.test(name)).length < chunks) return;
        isSent = true;
        child.kill(signal);
      });
      void once(child, "exit").then(() => watching.abort());
    },
  });
}

const total = async ({ machine }: Scene) => {
  const { code, out } = await machine.json(["publish", "studio:big-1.0"]);
  return { code, ...(out as { newBytes: number; bytes: number; newChunks: number; chunks: number }) };
};

rule("a publish that is killed leaves chunks and no record, and the next one goes on from there", 60, async (scene) => {
  const { code } = await endMidway(scene, "SIGKILL", 10);
  assert.is(code, undefined);
  assert.equal(
    filesIn(scene.origin).filter((name) => name.endsWith(".dsse.json")),
    [],
  );
  const second = await total(scene);
  assert.is(second.code, 0);
  // Each chunk but a file's last one has 256 KiB or more.
  assert.ok(second.newChunks <= second.chunks - 10, `${second.newChunks} of ${second.chunks} chunks were new`);
  assert.ok(second.newBytes < second.bytes - MIB, `${second.newBytes} of ${second.bytes} bytes were new`);
  assert.equal((await total(scene)).newBytes, 0);
});

rule("Ctrl-C ends a publish with 130 and leaves nothing but chunks, whole ones", 60, async (scene) => {
  const ended = await endMidway(scene, "SIGINT", 10);
  assert.equal([ended.code, errorIn(ended).code], [130, "INTERRUPTED"]);
  const left = filesIn(scene.origin).filter((name) => name !== "p2pcache.json");
  assert.ok(left.length >= 10);
  assert.ok(
    left.every((name) => /^[0-9a-f]{64}(\.zst)?$/.test(name)),
    left.join("\n"),
  );
  assert.is((await total(scene)).code, 0);
});

for (const [what, limits] of [
  ["bytes", "size=3m"],
  ["inodes", "size=60m,nr_inodes=12"],
] as const) {
  rule(`an origin that is out of ${what} is said to be full, exit 7, and no record is written`, 8, async (scene) => {
    const { machine, origin } = scene;
    if (!needs("unshare", "util-linux")) return;
    // A mount namespace of one's own; what is mounted in it is gone with its last process.
    const script = `mount -t tmpfs -o ${limits},mode=0755 none "$1" && shift && "$@"; code=$?; find ${origin} -type f; exit $code`;
    const publish = ["publish", "studio:big-1.0", "--json", "--config", machine.config];
    const words = ["-rm", "sh", "-c", script, "sh", origin, process.execPath, launcherPath, ...publish];
    const ended = spawnSync("unshare", words, { encoding: "utf8" });
    if (/unshare failed|mount: /.test(ended.stderr)) {
      process.stdout.write(`skipped: no mount namespace of one's own here: ${ended.stderr}`);
      return;
    }
    const error = errorIn({ code: ended.status ?? undefined, stdout: "", stderr: ended.stderr });
    assert.equal([ended.status, error.code], [7, "NO_SPACE"], ended.stderr);
    assert.match(error.message, "the origin filer is full");
    const left = ended.stdout.split("\n").filter(Boolean);
    assert.ok(
      left.every((path) => /p2pcache\.json$|\/[0-9a-f]{64}(\.zst)?$/.test(path)),
      ended.stdout,
    );
  });
}

rule("an origin that may not be written is named, exit 1", 1, async ({ machine, origin }) => {
  chmodSync(origin, 0o555);
  const ended = await machine.run(["publish", "studio:big-1.0", "--json"]);
  chmodSync(origin, 0o755);
  assert.equal([ended.code, errorIn(ended).code], [1, "UNUSABLE"]);
  assert.match(errorIn(ended).message, /^the origin filer cannot be written: .*: EACCES$/);
});

rule("a tree with what others may not read, or of names that are not UTF-8, is refused by name", 1, async (scene) => {
  const { machine, origin } = scene;
  const tree = join(machine.studio.path, "packages", "big", "1.0");
  chmodSync(join(tree, "file-0"), 0o600);
  const closed = await machine.run(["publish", "studio:big-1.0", "--json"]);
  assert.equal([closed.code, errorIn(closed).code], [2, "UNPUBLISHABLE"]);
  assert.match(errorIn(closed).message, '"file-0" may not be read by others');
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/caf`), Buffer.from([0xe9])]), "x");
  const strange = await machine.run(["publish", "studio:big-1.0", "--json"]);
  assert.equal([strange.code, errorIn(strange).code], [2, "UNPUBLISHABLE"]);
  assert.match(errorIn(strange).message, 'the name "caf\\xe9"');
  assert.equal(
    filesIn(origin).filter((name) => name.endsWith(".dsse.json")),
    [],
  );
});

test.run();
