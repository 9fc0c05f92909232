// runs unprivileged
// deadline: 120 s
// mostly waits
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { ApiVariant } from "../../node/http/api-types.ts";
import { type PublishRequest, publish } from "../../node/publish.ts";
import type { P2pCacheError } from "../../protocol/errors.ts";
import type { Variant } from "../../protocol/variant.ts";
import { noise } from "../support/noise.ts";
import { kill, type RunningNode, removeTree, Studio } from "../support/studio.ts";
import { listTree } from "../support/trees.ts";

const variant: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };

test("a release in place has no chunks at the origin, and comes whole to two machines", async () => {
  await using scene = await Scene.open();
  const { inPlaceRoot, newChunks } = await scene.publish({ inPlace: true });
  assert.equal([inPlaceRoot, newChunks], ["foo/1.0.0", 0]);
  // One directory a segment, and nothing else.
  assert.is(chunksAt(scene).length, 1);
  const first = await scene.studio.start(scene.studio.configure("first"));
  const one = await fetchOne(first);
  assert.is(one.outcome, "fetched");
  assert.ok(one.bytes.origin > 4_000_000);
  assert.equal(listTree(one.path!), listTree(scene.tree));
  // The second machine mounts the repository elsewhere.
  const elsewhere = join(scene.studio.path, "elsewhere");
  symlinkSync(join(scene.studio.path, "packages"), elsewhere);
  const config = scene.studio.configure("second");
  writeFileSync(config, readFileSync(config, "utf8").replace(/studio = ".*"/, `studio = "${elsewhere}"`));
  const two = await fetchOne(await scene.studio.start(config));
  assert.equal(listTree(two.path!), listTree(scene.tree));
});

test("a release that was changed ends a fetch soon, with the file that differs; a peer that has it saves it", async () => {
  await using scene = await Scene.open();
  await scene.publish({ inPlace: true });
  const holder = await scene.studio.start(scene.studio.configure("holder"));
  await fetchOne(holder);
  for (const [change, file, why] of changes) {
    const undo = change(scene.tree);
    const node = await scene.studio.start(scene.studio.configure("alone"));
    const startedMs = performance.now();
    const failed = await fetchOne(node);
    assert.equal([failed.outcome, failed.error?.code, failed.error?.exit], ["failed", "RELEASE_CHANGED", 4]);
    assert.match(failed.error!.message, `the release at ${scene.tree} no longer matches its manifest: ${file} ${why}`);
    assert.ok(performance.now() - startedMs < 15_000, "it is not tried for ever");
    await scene.forget(node, "alone");
    undo();
  }
  changes[0]![0](scene.tree);
  const saved = await scene.studio.start(scene.studio.configure("saved", { bootstrap: holder.addresses }));
  const { outcome, bytes } = await fetchOne(saved);
  assert.is(outcome, "fetched");
  assert.ok(bytes.peers > 0);
});

test("a link that was planted in a release is not followed, wherever it leads", async () => {
  await using scene = await Scene.open();
  await scene.publish({ inPlace: true });
  const outside = join(scene.studio.path, "outside");
  renameSync(join(scene.tree, "lib"), outside);
  symlinkSync(outside, join(scene.tree, "lib"));
  const node = await scene.studio.start(scene.studio.configure("machine"));
  // The bytes are the right ones, and are not taken all the same.
  const { error } = await fetchOne(node);
  assert.is(error?.code, "RELEASE_CHANGED");
  assert.match(error!.message, /lib\/.* is reached by a link now/);
  rmSync(scene.tree, { recursive: true });
  renameSync(outside, join(scene.studio.path, "foreign"));
  symlinkSync(join(scene.studio.path, "foreign"), scene.tree);
  assert.match((await fetchOne(node)).error!.message, /no longer matches its manifest: it leads out of the repository/);
});

test("a release that has gone is told from a repository that is not mounted", async () => {
  await using scene = await Scene.open();
  await scene.publish({ inPlace: true });
  const node = await scene.studio.start(scene.studio.configure("machine"));
  renameSync(scene.tree, join(scene.studio.path, "packages", "foo", "moved"));
  const gone = await fetchOne(node);
  assert.equal([gone.error?.code, gone.error?.exit], ["RELEASE_CHANGED", 4]);
  assert.match(gone.error!.message, /it is not there any more/);
  rmSync(join(scene.studio.path, "packages"), { recursive: true });
  mkdirSync(join(scene.studio.path, "packages"));
  const unmounted = await fetchOne(node, 4_000);
  assert.is(unmounted.error?.exit, 6);
});

test("publishing again with chunks heals a changed release; in place over chunks changes nothing", async () => {
  await using scene = await Scene.open();
  await scene.publish({ inPlace: true });
  const copied = await scene.publish();
  assert.equal([copied.revision, copied.inPlaceRoot], [0, "foo/1.0.0"]);
  assert.ok(copied.newChunks > 0);
  changes[0]![0](scene.tree);
  const node = await scene.studio.start(scene.studio.configure("machine"));
  assert.is((await fetchOne(node)).outcome, "fetched");

  const bar: Variant = { ...variant, name: "bar" };
  const chunked = await scene.publish({ variant: bar });
  const again = await scene.publish({ variant: bar, inPlace: true });
  assert.equal([again.revision, again.inPlaceRoot, again.payload], [0, undefined, chunked.payload]);
  const superseding = await scene.publish({ variant: bar, inPlace: true, supersede: true });
  assert.equal([superseding.revision, superseding.inPlaceRoot, superseding.payload], [1, "foo/1.0.0", chunked.payload]);
  const back = await scene.publish({ variant: bar, supersede: true });
  assert.equal([back.revision, back.inPlaceRoot, back.payload], [2, undefined, chunked.payload]);
  assert.is((await fetchOne(node, undefined, bar)).outcome, "fetched");
});

test("a tree outside of its repository is not published in place, nor one of a repository that is not configured", async () => {
  await using scene = await Scene.open();
  const outside = join(scene.studio.path, "outside");
  mkdirSync(outside);
  writeFileSync(join(outside, "file"), "content");
  const inside = join(scene.studio.path, "packages", "link");
  symlinkSync(outside, inside);
  for (const treePath of [outside, inside, join(scene.studio.path, "packages")]) {
    const error = await failureOf(scene.publish({ inPlace: true, treePath }));
    assert.equal([error.code, error.exit], ["NOT_IN_REPOSITORY", 2]);
    assert.ok(error.message.includes(treePath));
  }
  const other = { ...variant, repository: "other" };
  assert.is((await failureOf(scene.publish({ inPlace: true, variant: other }))).code, "REPOSITORY_NOT_CONFIGURED");
  assert.is(readdirSync(join(scene.studio.path, "origin")).length, 0);
});

test("an origin that may not read in place has no chunks of such a release", async () => {
  await using scene = await Scene.open();
  await scene.publish({ inPlace: true });
  const config = scene.studio.configure("machine");
  writeFileSync(config, readFileSync(config, "utf8").replace('kind = "folder"', 'kind = "folder"\nin_place = false'));
  assert.is((await fetchOne(await scene.studio.start(config))).error?.exit, 3);
});

test.run();

/** What somebody does to a released tree, the file that is named for it, and what is said. */
const changes: readonly (readonly [change: (tree: string) => () => void, file: string, why: string])[] = [
  [
    (tree) => rewrite(join(tree, "big.bin"), (bytes) => bytes.fill(0, 3_000_000, 3_000_100)),
    "big.bin",
    "has other bytes now",
  ],
  [
    (tree) => {
      renameSync(join(tree, "lib/b.py"), join(tree, "away"));
      return () => renameSync(join(tree, "away"), join(tree, "lib/b.py"));
    },
    "lib/b.py",
    "is not there any more",
  ],
];

function rewrite(path: string, change: (bytes: Buffer) => Uint8Array): () => void {
  const before = readFileSync(path);
  writeFileSync(path, change(Buffer.from(before)));
  return () => writeFileSync(path, before);
}

/** A studio with a package in its repository. */
class Scene implements AsyncDisposable {
  readonly studio: Studio;
  /** `<repository>/foo/1.0.0`. */
  readonly tree: string;

  private constructor(studio: Studio) {
    this.studio = studio;
    this.tree = join(studio.path, "packages", "foo", "1.0.0");
  }

  static async open(): Promise<Scene> {
    const scene = new Scene(await Studio.open());
    mkdirSync(join(scene.tree, "lib"), { recursive: true });
    writeFileSync(join(scene.tree, "big.bin"), noise(1, 4_000_000));
    for (const [i, name] of ["a", "b", "c"].entries()) {
      writeFileSync(join(scene.tree, "lib", `${name}.py`), noise(i + 2, 50_000));
    }
    appendFileSync(join(scene.tree, "empty"), "");
    return scene;
  }

  publish(request: Partial<PublishRequest> = {}) {
    const settings = this.studio.settings(this.studio.configure("publisher"));
    return publish(settings, { variant, treePath: this.tree, requires: [], ...request });
  }

  /** Ends a node and forgets all that it had. */
  async forget(node: RunningNode, machine: string): Promise<void> {
    await kill(node);
    removeTree(join(this.studio.path, machine));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.studio[Symbol.asyncDispose]();
  }
}

async function fetchOne(node: RunningNode, timeoutMs?: number, wanted = variant): Promise<ApiVariant> {
  const call = {
    things: [{ kind: "variant", variant: wanted } as const],
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  };
  const [result] = await node.client.fetch(call, () => undefined, {});
  return result!;
}

function chunksAt({ studio }: Scene): string[] {
  return readdirSync(join(studio.path, "origin", "chunks"));
}

async function failureOf(work: Promise<unknown>): Promise<P2pCacheError> {
  return (await work.then(
    () => assert.unreachable("nothing failed"),
    (error: unknown) => error,
  )) as P2pCacheError;
}
