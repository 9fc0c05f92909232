// deadline: 240 s
import { existsSync, lstatSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ApiVariant } from "../../node/http/api-types.ts";
import type { Progress } from "../../node/http/client.ts";
import { seededRandom } from "../../protocol/random.ts";
import type { Variant } from "../../protocol/variant.ts";
import { fillDisk, giveToNobody, insideOf, mayMount, onOwnDisks } from "../support/own-disk.ts";
import { type RunningNode, Studio } from "../support/studio.ts";
import { listTree, makeTree } from "../support/trees.ts";

const test = suite("a disk that is full");
const variant: Variant = { kind: "rez", repository: "studio", name: "tools", version: "1.0" };
/** Each takes some hundred bytes of the state. */
const variants = 30;
const full = ["bytes", "inodes"] as const;

interface Scene {
  readonly node: RunningNode;
  readonly source: readonly string[];
  /** Cache and state, as this process sees them. */
  readonly cache: string;
  readonly state: string;
  readonly fetch: (options?: { thing?: string; onProgress?: (progress: Progress) => void }) => Promise<ApiVariant>;
}

/** A rule about a node of an unprivileged user whose cache and state have small disks of their own. */
function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    await using studio = await Studio.open();
    const tree = join(studio.path, "source", "tools");
    makeTree(tree, seededRandom(3), { smallFiles: 2_000, largeMib: 32 });
    await studio.publish(variant, tree);
    const small = join(studio.path, "source", "small");
    makeTree(small, seededRandom(4), { smallFiles: 3, largeMib: 0 });
    for (let i = 0; i < variants; i++) await studio.publish({ ...variant, name: `small${i}` }, small);
    const config = studio.configure("machine");
    const [cache, state] = [join(studio.path, "machine", "cache"), join(studio.path, "machine", "state")];
    for (const path of [cache, state]) mkdirSync(path, { recursive: true, mode: 0o755 });
    giveToNobody(studio.path);
    const disks = [
      { path: cache, bytes: 128e6, inodes: 4_000 },
      { path: state, bytes: 16e6, inodes: 1_000 },
    ];
    const node = await studio.start(config, [], { prefix: onOwnDisks(disks) });
    await check({
      node,
      source: listTree(tree),
      cache: insideOf(node.process.pid!, cache),
      state: insideOf(node.process.pid!, state),
      fetch: async ({ thing = "tools", onProgress = () => undefined } = {}) => {
        const things = [{ kind: "variant", variant: { ...variant, name: thing } }] as const;
        const [result] = await node.client.fetch({ things }, onProgress, {});
        return result!;
      },
    });
  });
}

/** Stops the node when a tenth of the bytes has come, fills its cache's disk, and lets it go on. */
function fillingMidway(scene: Scene, what: "bytes" | "inodes"): { result: Promise<ApiVariant>; empty(): void } {
  const { node, cache, fetch } = scene;
  let empty: (() => void) | undefined;
  const onProgress = ({ bytes, totalBytes }: Progress) => {
    if (empty !== undefined || bytes.origin < totalBytes / 10) return;
    node.process.kill("SIGSTOP");
    empty = fillDisk(cache, what);
    node.process.kill("SIGCONT");
  };
  return { result: fetch({ onProgress }), empty: () => empty?.() };
}

/** Resolves once every item of the one payload in staging is marked: the tree waits to be placed. */
async function allVerified(staging: string): Promise<void> {
  for (;;) {
    const [payload] = readdirSync(staging);
    const tree = payload === undefined ? undefined : join(staging, payload, "tree");
    // Links are made last.
    if (tree !== undefined && lstatSync(join(tree, "link"), { throwIfNoEntry: false }) !== undefined) return;
    await sleep(10);
  }
}

/** No space, exit 7, on one line; the node answers on, and nothing lies under a final path. */
async function assertNoSpace({ node, cache }: Scene, result: ApiVariant): Promise<void> {
  assert.equal([result.outcome, result.error?.code, result.error?.exit], ["failed", "NO_SPACE", 7], result.reason);
  assert.not.match(result.error!.message, "\n");
  assert.is((await node.client.status()).apiVersion, 1);
  assert.equal(await node.client.holdings(), []);
  const shown = readdirSync(cache, { recursive: true }) as string[];
  assert.equal(
    shown.filter((path) => !path.startsWith(".") && path.endsWith(".json")),
    [],
  );
}

/** After space is made the same fetch succeeds, the tree is right, and the books are clean. */
async function assertFetches(scene: Scene): Promise<ApiVariant> {
  const result = await scene.fetch();
  assert.is(result.outcome, "fetched", result.reason);
  assert.equal(listTree(insideOf(scene.node.process.pid!, result.path!)), scene.source);
  assert.equal(await scene.node.client.fsck(), { checked: 1, faults: [] });
  return result;
}

if (mayMount()) {
  for (const what of full) {
    rule(`${what} run out during a fetch: no space, and what was verified stays for the next try`, async (scene) => {
      const { result, empty } = fillingMidway(scene, what);
      await assertNoSpace(scene, await result);
      empty();
      const { bytes } = await assertFetches(scene);
      assert.ok(bytes.local > 0, JSON.stringify(bytes));
    });

    rule(`${what} run out before it is put in place: no space, and nothing is fetched again`, async (scene) => {
      // While Rez holds its lock a finished tree waits for it.
      const lock = join(scene.cache, ".sys", ".lock.lock");
      writeFileSync(lock, "");
      const fetching = scene.fetch();
      await allVerified(join(scene.cache, ".sys", "p2pcache", "staging"));
      const empty = fillDisk(scene.cache, what);
      rmSync(lock);
      await assertNoSpace(scene, await fetching);
      empty();
      const { bytes } = await assertFetches(scene);
      assert.is(bytes.origin, 0);
    });
  }

  for (const what of full) {
    rule(`with no ${what} left at all, what is idle goes, and a fetch takes its place by itself`, async (scene) => {
      const { node, cache, fetch } = scene;
      const { path } = await fetch();
      const index = `${insideOf(node.process.pid!, path!)}.json`;
      const at = Date.now() / 1000 - 40 * 86_400;
      utimesSync(index, at, at);
      const empty = fillDisk(cache, what);
      const { lines, missing } = await node.client.keeping.gc({ dryRun: false });
      assert.equal([lines.map(({ outcome }) => outcome), missing], [["removed"], undefined], lines[0]?.reason);
      assert.not(existsSync(index));
      empty();
      await fetch();
      utimesSync(index, at, at);
      fillDisk(cache, what);
      const result = await fetch({ thing: "small1" });
      assert.is(result.outcome, "fetched", result.reason);
      assert.not(existsSync(index));
      assert.equal(await node.client.fsck(), { checked: 1, faults: [] });
    });
  }

  rule("a disk that is full before: refused before anything is asked for", async (scene) => {
    const empty = fillDisk(scene.cache, "bytes");
    const result = await scene.fetch();
    await assertNoSpace(scene, result);
    assert.is(result.bytes.origin, 0);
    empty();
    await assertFetches(scene);
  });

  rule("a state's disk that is full: no space, and the next try succeeds without a restart", async (scene) => {
    const empty = fillDisk(scene.state, "bytes");
    // The database writes on into what room its file has, until that is used up.
    let failed: ApiVariant | undefined;
    for (let i = 0; failed === undefined && i < variants; i++) {
      const result = await scene.fetch({ thing: `small${i}` });
      if (result.outcome === "failed") failed = result;
    }
    assert.equal([failed?.error?.code, failed?.error?.exit], ["NO_SPACE", 7], failed?.reason);
    empty();
    for (let i = 0; i < variants; i++) {
      const result = await scene.fetch({ thing: `small${i}` });
      assert.ok(["local", "fetched"].includes(result.outcome), result.reason);
    }
    assert.equal(await scene.node.client.fsck(), { checked: variants, faults: [] });
  });
}

test.run();
