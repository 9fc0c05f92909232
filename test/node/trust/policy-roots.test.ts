import { join } from "node:path";
import type { Metadata, Root } from "@tufjs/models";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadPublisherKey, type PublisherKey } from "../../../node/keys.ts";
import { openNodeState } from "../../../node/trust/first-contact.ts";
import { followPolicy } from "../../../node/trust/policy-follower.ts";
import type { PolicyState } from "../../../node/trust/policy-state.ts";
import { firstRoot } from "../../../node/trust/role-files.ts";
import { fileBytes, rootOf, signAll } from "../../../node/trust/tuf.ts";
import { policyKeysPath, signRoot } from "../../../node/trust-admin.ts";
import type { P2pCacheError } from "../../../protocol/errors.ts";
import { PolicyWorld } from "../../support/policy-world.ts";

interface Scene {
  readonly world: PolicyWorld;
  readonly state: PolicyState;
  /** The holders of the root's keys, of whom two must sign, and others who are none. */
  readonly keys: Readonly<Record<"a" | "b" | "c" | "x" | "y" | "z", PublisherKey>>;
}

const test = suite<Scene>("following a root of two of three keys");
test.before.each(async (context) => {
  const world = new PolicyWorld();
  const made = [];
  for (const name of ["a", "b", "c", "x", "y", "z"]) made.push([name, await world.key(name)] as const);
  const holders = made.slice(0, 3).map(([, key]) => key);
  const draft = join(world.path, "draft.json");
  await world.begin({ rootKeys: holders.map(({ text }) => text), threshold: 2, draftFile: draft });
  await signRoot(world.settings(), draft, { keyFiles: holders.slice(0, 2).map(({ path }) => path) });
  await world.begin({ rootFile: draft });
  const keys = await Promise.all(made.map(async ([name, { path }]) => [name, await loadPublisherKey(path)] as const));
  const rootFile = join(world.folder.path, "1.root.json");
  const state = await openNodeState({ statePath: join(world.path, "node"), rootFile, nowMs: Date.now() });
  Object.assign(context, { world, state, keys: Object.fromEntries(keys) });
  assert.is(await follow(context, undefined), true);
});
test.after.each(({ world }) => world[Symbol.dispose]());

test("a new root that one of its holders has signed is refused, and with a second one it is followed", async (scene) => {
  const { a, c, x, y } = scene.keys;
  for (const signers of [[], [a], [c], [a, a], [a, x], [x, y]]) await refused(scene, await newRoot(scene), signers);
  assert.is(await follow(scene, signed(await newRoot(scene), [a, c])), true);
  assert.ok(scene.state.stored!.files.has("2.root.json"));
});

test("a root with new keys is refused unless enough of the old ones have signed it, and enough of the new ones", async (scene) => {
  const { a, b, c, x, y, z } = scene.keys;
  const next = () => newRoot(scene, { root: [x, y, z] });
  for (const signers of [
    [x, y],
    [x, y, z],
    [x, y, z, b],
    [a, b, c],
    [a, b, c, z],
  ]) {
    await refused(scene, await next(), signers);
  }
  assert.is(await follow(scene, signed(await next(), [b, c, x, z])), true);
});

test("a root that asks for fewer signatures takes as many as the one before asked for", async (scene) => {
  const { a, b } = scene.keys;
  const next = () => newRoot(scene, { root: [a], threshold: 1 });
  await refused(scene, await next(), [a]);
  assert.is(await follow(scene, signed(await next(), [a, b])), true);
});

test("a root that asks for more signatures takes as many as it asks for", async (scene) => {
  const { a, b, c } = scene.keys;
  const next = () => newRoot(scene, { threshold: 3 });
  await refused(scene, await next(), [a, b]);
  assert.is(await follow(scene, signed(await next(), [a, b, c])), true);
});

test.run();

/** The second root, which nobody has signed; what signs all else stays. */
async function newRoot(
  { world, keys: { a, b, c } }: Scene,
  { root = [a, b, c], threshold = 2 }: { readonly root?: readonly PublisherKey[]; readonly threshold?: number } = {},
): Promise<Metadata<Root>> {
  const own = async (name: string) => {
    return (await loadPublisherKey(join(policyKeysPath(world.settings()), `${name}.pem`))).rawPublic;
  };
  const keys = {
    root: root.map(({ rawPublic }) => rawPublic),
    targets: await own("targets"),
    online: await own("online"),
  };
  const { signed: of } = firstRoot({ ...keys, threshold }, world.nowMs);
  return rootOf(Buffer.from(JSON.stringify({ signed: { ...of.toJSON(), version: 2 }, signatures: [] })));
}

function signed(root: Metadata<Root>, signers: readonly PublisherKey[]): Metadata<Root> {
  signAll(root, signers);
  return root;
}

async function follow({ world, state }: Scene, next: Metadata<Root> | undefined): Promise<boolean> {
  const bytes = next === undefined ? undefined : fileBytes(next);
  const read = async (name: string) => (name === "2.root.json" ? bytes : await world.folder.read(name));
  return await followPolicy({ state, workPath: join(world.path, "node"), nowMs: Date.now() }, read);
}

async function refused(scene: Scene, next: Metadata<Root>, signers: readonly PublisherKey[]): Promise<void> {
  const before = scene.state.stored;
  const error = await follow(scene, signed(next, signers)).then(
    () => undefined,
    (thrown: P2pCacheError) => thrown,
  );
  const names = Object.entries(scene.keys).filter(([, key]) => signers.includes(key));
  assert.is(error?.code, "POLICY_UNSIGNED", `signed by ${names.map(([name]) => name)}: ${error?.stack}`);
  assert.is(scene.state.stored, before, "nothing is kept of what was refused");
}
