// deadline: 60 s
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { launcherPath } from "../../cli/context.ts";
import type { PublishRequest } from "../../node/publish.ts";
import { publish } from "../../node/publish.ts";
import type { Variant } from "../../protocol/variant.ts";
import { until } from "../support/child-processes.ts";
import { p2pcache } from "../support/command-line.ts";
import { needs } from "../support/needs.ts";
import { logged } from "../support/node-log.ts";
import { noise } from "../support/noise.ts";
import { kill, type RunningNode, Studio } from "../support/studio.ts";

// A filer that hangs for ever: bindfs (FUSE) over the folder, stopped. The file runs itself again in a mount namespace of
// its own, so that no mount is left whatever happens.

const variant: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };
const things = [{ kind: "variant", variant } as const];
const isInside = process.env.IN_MOUNT_NAMESPACE === "1";

if (!isInside && canRun()) {
  const words = ["--mount", "--propagation", "private", process.execPath, fileURLToPath(import.meta.url)];
  const env = { ...process.env, IN_MOUNT_NAMESPACE: "1" };
  process.exitCode = spawnSync("unshare", words, { env, stdio: "inherit" }).status ?? 1;
} else {
  if (isInside) tests();
  test.run();
}

function tests(): void {
  test("with a mount that hangs, peers serve, the origin ends by its deadline, and nodes start and stop in time", async () => {
    await using scene = await Scene.open();
    const holder = await scene.studio.start(scene.config("holder"));
    const alone = await scene.studio.start(scene.config("alone"));
    const [held] = await holder.client.fetch({ things }, () => undefined, {});
    assert.is(held?.outcome, "fetched");
    scene.hang();
    // What runs already.
    await expectLate(alone);
    const [silent] = await alone.client.fetch({ things }, () => undefined, {});
    assert.equal([silent?.outcome, silent?.error?.exit], ["failed", 6]);
    // What starts while it hangs, the repository's mount included.
    const node = await scene.studio.start(scene.config("node", holder.addresses));
    assert.ok(node.readyMs < 10_000, `ready after ${node.readyMs} ms`);
    assert.match(JSON.stringify(await node.client.status({})), /the mount of the repository studio .* does not answer/);
    const [result] = await node.client.fetch({ things }, () => undefined, {});
    assert.equal([result?.outcome, result?.bytes.origin], ["fetched", 0]);
    const listed = await p2pcache(["ls", "--config", scene.config("node")]);
    assert.equal([listed.code, listed.stdout.includes("foo")], [0, true]);
    for (const each of [alone, node, holder]) await stopInTime(each);
  });

  test("a reload while a mount hangs: other repositories are in force within seconds, and the node stops in time", async () => {
    await using scene = await Scene.open();
    const config = scene.config("node");
    const node = await scene.studio.start(config);
    scene.hang();
    const other = join(scene.studio.path, "other");
    mkdirSync(other);
    writeFileSync(config, readFileSync(config, "utf8").replace("[repositories]", `[repositories]\nsite = "${other}"`));
    node.process.kill("SIGHUP");
    assert.equal((await logged(node, "settings-reloaded")).changed, ["repositories.site"]);
    assert.match(JSON.stringify(await node.client.status({})), /the mount of the repository studio .* does not answer/);
    const thing = { kind: "variant", variant: { ...variant, repository: "site" } } as const;
    const [asked] = await node.client.fetch({ things: [thing], timeoutMs: 3_000 }, () => undefined, {});
    assert.is(asked?.error?.exit, 6);
    await stopInTime(node);
  });

  test("publishing from and to a mount that hangs ends by --timeout and by Ctrl-C", async () => {
    await using scene = await Scene.open();
    const config = scene.config("publisher");
    scene.hang();
    for (const words of [
      ["publish", "foo-1.0.0"],
      ["unpublish", "foo-1.0.0"],
      ["ls", "--origin"],
    ]) {
      assert.is(await exitOf([...words, "--config", config, "--timeout", "1 s"]), 6, words.join(" "));
      assert.is(await exitOf([...words, "--config", config], 2_000), 130, words.join(" "));
    }
  });

  test("a release in place on a mount that hangs ends by its deadline, and comes once it answers", async () => {
    await using scene = await Scene.open({ inPlace: true });
    const node = await scene.studio.start(scene.config("node"));
    scene.hang();
    await expectLate(node);
    scene.goOn();
    let outcome: string | undefined;
    for (let tries = 0; tries < 10 && outcome !== "fetched"; tries++) {
      const [result] = await node.client.fetch({ things }, () => undefined, {});
      outcome = result?.outcome;
    }
    assert.is(outcome, "fetched");
    await stopInTime(node);
  });
}

/** A studio whose origin and packages lie on a mount. */
class Scene implements AsyncDisposable {
  readonly studio: Studio;
  readonly #bindfs: ChildProcess;
  readonly #mount: string;

  private constructor(studio: Studio, bindfs: ChildProcess) {
    this.studio = studio;
    this.#bindfs = bindfs;
    this.#mount = join(studio.path, "mount");
  }

  static async open(request: Partial<PublishRequest> = {}): Promise<Scene> {
    const studio = await Studio.open();
    const [filer, mount] = [join(studio.path, "filer"), join(studio.path, "mount")];
    for (const path of [filer, mount, join(filer, "origin"), join(filer, "packages")]) mkdirSync(path);
    const bindfs = spawn("bindfs", ["-f", filer, mount], { stdio: "inherit" });
    await until("bindfs has mounted", () => readFileSync("/proc/self/mountinfo", "utf8").includes(` ${mount} `));
    const scene = new Scene(studio, bindfs);
    const tree = join(mount, "packages", "foo", "1.0.0");
    mkdirSync(tree, { recursive: true });
    for (let i = 0; i < 4; i++) writeFileSync(join(tree, `file${i}.bin`), noise(i, 1_500_000));
    await publish(studio.settings(scene.config("publisher")), { variant, treePath: tree, requires: [], ...request });
    return scene;
  }

  /** A machine that has origin and packages on the mount. */
  config(machine: string, bootstrap: readonly string[] = []): string {
    const file = this.studio.configure(machine, { bootstrap });
    const text = readFileSync(file, "utf8");
    const { path } = this.studio;
    writeFileSync(
      file,
      text
        .replaceAll(`"${path}/origin"`, `"${this.#mount}/origin"`)
        .replaceAll(`"${path}/packages"`, `"${this.#mount}/packages"`),
    );
    return file;
  }

  hang(): void {
    this.#bindfs.kill("SIGSTOP");
  }

  goOn(): void {
    this.#bindfs.kill("SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exited = once(this.#bindfs, "exit");
    spawnSync("umount", ["--lazy", this.#mount]);
    this.#bindfs.kill("SIGKILL");
    await exited;
    await this.studio[Symbol.asyncDispose]();
    rmSync(this.studio.path, { recursive: true, force: true });
  }
}

/** How a command exits, within 15 s; it may be interrupted on the way. Who is left in the kernel keeps its pipes open. */
async function exitOf(words: readonly string[], interruptMs?: number): Promise<number | null> {
  const child = spawn(process.execPath, [launcherPath, ...words], { stdio: "ignore" });
  const exited = once(child, "exit");
  const startedMs = performance.now();
  if (interruptMs !== undefined) setTimeout(() => child.kill("SIGINT"), interruptMs);
  const [code] = (await exited) as [number | null];
  assert.ok(performance.now() - startedMs < 15_000, words.join(" "));
  return code;
}

async function expectLate(node: RunningNode): Promise<void> {
  const startedMs = performance.now();
  const [late] = await node.client.fetch({ things, timeoutMs: 3_000 }, () => undefined, {});
  assert.equal([late?.outcome, late?.error?.exit], ["failed", 6]);
  assert.ok(performance.now() - startedMs < 10_000);
}

async function stopInTime(node: RunningNode): Promise<void> {
  const startedMs = performance.now();
  await kill(node, "SIGTERM");
  const tookMs = performance.now() - startedMs;
  assert.ok(tookMs < 10_000, `a node took ${tookMs} ms to stop`);
}

/** Whether there is what it takes; prints what is missing. */
function canRun(): boolean {
  if (!needs("bindfs", "bindfs") || !needs("unshare", "util-linux")) return false;
  const tried = spawnSync("unshare", ["--mount", "--propagation", "private", "sh", "-c", "test -w /dev/fuse"]);
  if (tried.status === 0) return true;
  process.stdout.write("skipped: hung-mount needs root, and a /dev/fuse\n");
  return false;
}
