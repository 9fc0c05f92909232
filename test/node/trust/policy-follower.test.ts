import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { generatePublisherKey, loadPublisherKey } from "../../../node/keys.ts";
import { openNodeState, readRoot, trustRoot } from "../../../node/trust/first-contact.ts";
import { effectiveMs, storedContents, termOf } from "../../../node/trust/policy-facts.ts";
import { followPolicy } from "../../../node/trust/policy-follower.ts";
import { PolicyState } from "../../../node/trust/policy-state.ts";
import { newSnapshot, newTargets, newTimestamp } from "../../../node/trust/role-files.ts";
import { sha256 } from "../../../node/trust/sha256.ts";
import { TrustFloor } from "../../../node/trust/trust-floor.ts";
import { fileBytes, rootOf, signAll, snapshotOf, targetsOf, timestampOf } from "../../../node/trust/tuf.ts";
import type { ReadPolicyFile } from "../../../node/trust/verify-policy.ts";
import { policyKeysPath, rotatePolicyKey } from "../../../node/trust-admin.ts";
import { NotTrustedError, P2pCacheError } from "../../../protocol/errors.ts";
import { parsePayloadId } from "../../../protocol/hash.ts";
import { randomBelow, seededRandom } from "../../../protocol/random.ts";
import { dayMs, PolicyWorld } from "../../support/policy-world.ts";

interface Scene {
  readonly world: PolicyWorld;
  readonly state: PolicyState;
  readonly statePath: string;
  readonly origin: ReadPolicyFile;
}

const test = suite<Scene>("following a policy");
test.before.each(async (context) => {
  const world = new PolicyWorld();
  const statePath = join(world.path, "node");
  // Days ago, so that what expires can be made to have expired: tuf-js looks at the clock of the machine.
  world.nowMs = Date.now() - 10 * dayMs;
  await world.begin({}, [(await world.key("publisher")).text]);
  const rootFile = join(world.folder.path, "1.root.json");
  const state = await openNodeState({ statePath, rootFile, nowMs: Date.now() });
  Object.assign(context, { world, state, statePath, origin: (name: string) => world.folder.read(name) });
});
test.after.each(({ world }) => world[Symbol.dispose]());

test("a new policy is taken once, and the same one again is nothing new", async (scene) => {
  assert.is(await follow(scene), true);
  assert.is(await follow(scene), false);
  assert.ok(storedContents(scene.state.stored!).has("publishers.json"));
  await deny(scene);
  assert.is(await follow(scene), true);
  assert.match(denials(scene.state), "ab".repeat(32));
});

test("rollback: an older timestamp is refused", async (scene) => {
  const old = await scene.origin("timestamp.json");
  await deny(scene);
  await follow(scene);
  await refused(scene, { "timestamp.json": old! }, "POLICY_ROLLBACK");
});

test("rollback: an older list under a newer timestamp is refused", async (scene) => {
  await deny(scene);
  await follow(scene);
  const { world } = scene;
  const timestamp = timestampOf((await scene.origin("timestamp.json"))!);
  const snapshot = snapshotOf((await scene.origin(`${timestamp.signed.snapshotMeta.version}.snapshot.json`))!);
  // Whoever has the online key, and nothing else, tries to have the denial forgotten.
  const older = snapshot.toJSON() as { signed: { version: number; meta: Record<string, { version: number }> } };
  const first = snapshotOf((await scene.origin("2.snapshot.json"))!).toJSON() as typeof older;
  older.signed.version++;
  older.signed.meta["deny.json"] = first.signed.meta["deny.json"]!;
  const forged = await signed(world, "online", snapshotOf(bytesOf(older)));
  const next = timestamp.toJSON() as { signed: { version: number; meta: object } };
  next.signed.version++;
  next.signed.meta = { "snapshot.json": { version: older.signed.version } };
  const files = {
    [`${older.signed.version}.snapshot.json`]: forged,
    "timestamp.json": await signed(world, "online", timestampOf(bytesOf(next))),
  };
  await refused(scene, files, "POLICY_ROLLBACK");
});

test("freeze: an origin that stands still is refused once its timestamp has expired", async (scene) => {
  await follow(scene);
  const { state, statePath: workPath, origin } = scene;
  const late = { state, workPath, nowMs: scene.world.nowMs + 31 * dayMs };
  await fails(followPolicy(late, origin), "POLICY_EXPIRED");
  scene.world.nowMs = Date.now() - 40 * dayMs;
  // By the machine's own clock too, which tuf-js looks at.
  using old = new PolicyWorld();
  old.nowMs = Date.now() - 40 * dayMs;
  await old.begin();
  const fresh = await PolicyState.open(join(old.path, "node"));
  await trustRoot(fresh, await readRoot(join(old.folder.path, "1.root.json")), old.nowMs);
  const parts = { state: fresh, workPath: old.path, nowMs: Date.now() };
  await fails(
    followPolicy(parts, (name) => old.folder.read(name)),
    "POLICY_EXPIRED",
  );
});

test("mix and match: a snapshot of another time is refused", async (scene) => {
  const { version } = timestampOf((await scene.origin("timestamp.json"))!).signed.snapshotMeta;
  await refused(scene, { [`${version}.snapshot.json`]: (await scene.origin("1.snapshot.json"))! }, "POLICY_MIXED");
});

test("mix and match: one role's files in another one's place are refused", async (scene) => {
  await refused(scene, { "1.publishers.json": (await scene.origin("1.deny.json"))! }, "POLICY_MIXED");
});

test("tampered target: publishers that nobody signed are refused", async (scene) => {
  const policy = targetsOf((await scene.origin("1.publishers.json"))!);
  const hash = policy.signed.targets["publishers.json"]!.hashes.sha256!;
  const bytes = (await scene.origin(`targets/${hash}.publishers.json`))!.slice();
  bytes[20]! ^= 1;
  await refused(scene, { [`targets/${hash}.publishers.json`]: bytes }, "POLICY_MIXED");
});

test("content of a version that this program does not know is refused, and not kept", async (scene) => {
  const { world } = scene;
  const bytes = Buffer.from('{"version":2,"denied":[]}');
  const deny = newTargets(2, world.nowMs, new Map([["deny.json", bytes]]));
  const denyBytes = await signed(world, "targets", deny);
  const before = timestampOf((await scene.origin("timestamp.json"))!);
  const { version } = before.signed.snapshotMeta;
  const snapshot = newSnapshot(snapshotOf((await scene.origin(`${version}.snapshot.json`))!), world.nowMs, [
    ["deny", deny],
  ]);
  const snapshotBytes = await signed(world, "online", snapshot);
  const timestamp = newTimestamp(before.signed.version + 1, world.nowMs, snapshot);
  const files = {
    [`targets/${sha256(bytes)}.deny.json`]: bytes,
    "2.deny.json": denyBytes,
    [`${version + 1}.snapshot.json`]: snapshotBytes,
    "timestamp.json": await signed(world, "online", timestamp),
  };
  await refused(scene, files, "UNKNOWN_VERSION");
});

test("whichever byte of whichever file is changed: what is taken says the same, or nothing is", async (scene) => {
  await follow(scene);
  const honest = storedContents(scene.state.stored!);
  const names = [...scene.state.stored!.files.keys()].filter((name) => name !== "1.root.json");
  const random = seededRandom(7);
  const rootFile = join(scene.world.folder.path, "1.root.json");
  for (let run = 0; run < 60; run++) {
    const name = names[randomBelow(names.length, random)]!;
    const bytes = (await scene.origin(name))!.slice();
    bytes[randomBelow(bytes.length, random)] = randomBelow(256, random);
    const statePath = join(scene.world.path, `fuzz-${run}`);
    const state = await openNodeState({ statePath, rootFile, nowMs: Date.now() });
    const error = await follow({ ...scene, state, statePath }, { [name]: bytes }).catch((thrown: Error) => thrown);
    if (error instanceof P2pCacheError) assert.ok([4, 5].includes(error.exit), `${name}, run ${run}: ${error.stack}`);
    else assert.equal([error, storedContents(state.stored!)], [true, honest], `${name}, run ${run}`);
  }
});

test("a file that is missing is refused like one that is wrong", async (scene) => {
  await refused(scene, { "1.deny.json": undefined }, "POLICY_MIXED");
});

test("bytes that are no metadata are refused", async (scene) => {
  for (const text of ["", "{}", "[1]", '{"signed":{"_type":"timestamp"},"signatures":[]}', "x".repeat(20_000)]) {
    await refused(scene, { "timestamp.json": Buffer.from(text) }, "POLICY_BROKEN");
  }
});

test("too few signatures of the root: the new one is refused", async (scene) => {
  const root = rootOf((await scene.origin("1.root.json"))!);
  const thief = await generatePublisherKey(join(scene.world.path, "thief.pem"));
  const json = root.toJSON() as { signed: { version: number } };
  json.signed.version = 2;
  const forged = rootOf(bytesOf({ ...json, signatures: [] }));
  signAll(forged, [thief]);
  await refused(scene, { "2.root.json": fileBytes(forged) }, "POLICY_UNSIGNED");
});

test("a timestamp that another key signed is refused", async (scene) => {
  const timestamp = timestampOf((await scene.origin("timestamp.json"))!);
  const thief = await generatePublisherKey(join(scene.world.path, "thief.pem"));
  const forged = timestampOf(bytesOf({ ...timestamp.toJSON(), signatures: [] }));
  signAll(forged, [thief]);
  await refused(scene, { "timestamp.json": fileBytes(forged) }, "POLICY_UNSIGNED");
});

test("a rotated root is followed from the one that was trusted first, over all that came between", async (scene) => {
  await follow(scene);
  for (const name of ["root", "online", "root"]) {
    await rotatePolicyKey(scene.world.settings(), name, { nowMs: scene.world.nowMs });
  }
  assert.is(await follow(scene), true);
  const names = [...scene.state.stored!.files.keys()].filter((name) => name.endsWith("root.json"));
  assert.equal(names.sort(), ["1.root.json", "2.root.json", "3.root.json", "4.root.json"]);
});

test("a root whose version jumps is refused", async (scene) => {
  const { world } = scene;
  await rotatePolicyKey(world.settings(), "root", { nowMs: world.nowMs });
  await rotatePolicyKey(world.settings(), "root", { nowMs: world.nowMs });
  const code = await codeOf(follow(scene, { "2.root.json": (await scene.origin("3.root.json"))! }));
  assert.ok(["POLICY_ROLLBACK", "POLICY_UNSIGNED"].includes(code), code);
});

test("state deleted: the second copy is taken, made anew, and nothing older counts", async (scene) => {
  const old = await scene.origin("timestamp.json");
  await deny(scene);
  await follow(scene);
  for (const directory of ["policy", "policy.copy"]) {
    rmSync(join(scene.statePath, directory), { recursive: true });
    const state = await PolicyState.open(scene.statePath);
    await refused({ ...scene, state }, { "timestamp.json": old! }, "POLICY_ROLLBACK");
    assert.ok(readFileSync(join(scene.statePath, directory, "verified.json")).length > 0);
  }
});

test("state cut short: the other copy is taken", async (scene) => {
  await follow(scene);
  const path = join(scene.statePath, "policy", "verified.json");
  writeFileSync(path, readFileSync(path).subarray(0, 500));
  const state = await PolicyState.open(scene.statePath);
  assert.is(state.stored?.sequence, scene.state.stored?.sequence);
});

test("both copies deleted: without a configured root nothing is trusted, and with it the first contact is anew", async (scene) => {
  await follow(scene);
  for (const directory of ["policy", "policy.copy"]) rmSync(join(scene.statePath, directory), { recursive: true });
  const bare = await openNodeState({ statePath: scene.statePath, rootFile: undefined, nowMs: Date.now() });
  await fails(followPolicy({ state: bare, workPath: scene.statePath, nowMs: Date.now() }, scene.origin), "NO_ROOT");
  const rootFile = join(scene.world.folder.path, "1.root.json");
  const state = await openNodeState({ statePath: scene.statePath, rootFile, nowMs: Date.now() });
  assert.is(await follow({ ...scene, state }), true);
});

test("state directory deleted: the floor in the cache is never gone behind, and what is as new is followed", async (scene) => {
  const [rootFile, old] = [join(scene.world.folder.path, "1.root.json"), await scene.origin("timestamp.json")];
  await deny(scene);
  await rotatePolicyKey(scene.world.settings(), "root", { nowMs: scene.world.nowMs });
  await follow({ ...scene, floor: await openFloor(scene) });
  rmSync(scene.statePath, { recursive: true });
  const floor = await openFloor(scene);
  const state = await openNodeState({ statePath: scene.statePath, rootFile, nowMs: 0, floor });
  assert.is(
    effectiveMs(state.stored, 0),
    Math.floor(scene.world.nowMs / 1000) * 1000,
    "no clock goes behind it either",
  );
  const anew = { ...scene, state, floor };
  await refused(anew, { "timestamp.json": old! }, "POLICY_ROLLBACK");
  await refused(anew, { "2.root.json": undefined }, "POLICY_ROLLBACK");
  // Who has the first root's key, which was rotated out, signs a second root and all that they like below it.
  const other = rootOf((await scene.origin("2.root.json"))!);
  const json = other.toJSON() as { signed: { expires: string } };
  json.signed.expires = new Date(scene.world.nowMs + 700 * dayMs).toISOString().replace(/\.\d+/, "");
  const fork = rootOf(bytesOf(json));
  for (const name of ["root", "root.2"]) {
    signAll(fork, [await loadPublisherKey(join(policyKeysPath(scene.world.settings()), `${name}.pem`))]);
  }
  await refused(anew, { "2.root.json": fileBytes(fork) }, "POLICY_ROLLBACK");
  assert.is(await follow(anew), true);
  assert.match(denials(state), "ab".repeat(32));
});

test("a floor that is broken trusts no first root, and one beside a policy that is known is made anew", async (scene) => {
  await follow({ ...scene, floor: await openFloor(scene) });
  const path = join(scene.world.path, "cache", ".sys", "p2pcache", "trust-floor.json");
  const whole = readFileSync(path);
  writeFileSync(path, whole.subarray(0, 100));
  const rootFile = join(scene.world.folder.path, "1.root.json");
  const lost = {
    statePath: join(scene.world.path, "lost"),
    rootFile,
    nowMs: Date.now(),
    floor: await openFloor(scene),
  };
  await fails(openNodeState(lost), "UNUSABLE");
  await follow({ ...scene, floor: await openFloor(scene) });
  assert.equal(readFileSync(path), whole);
});

test("clock set back: what had expired by the newest signed time does not count again", async (scene) => {
  const { world } = scene;
  const other = await world.key("deny");
  await world.change({ kind: "delegate", role: "keepalive/fx", keys: [other.text], threshold: 1 });
  const bytes = Buffer.from("{}");
  await world.change({ kind: "list", toolset: "fx", bytes }, [other.path]);
  await follow(scene);
  const seen = scene.state.stored!;
  assert.is(seen.newestSignedMs, Math.floor(world.nowMs / 1000) * 1000);
  assert.is(effectiveMs(seen, 0), seen.newestSignedMs);
  assert.is(effectiveMs(seen, seen.newestSignedMs + 5), seen.newestSignedMs + 5);
  // The same policy, of which a role ended before the newest signature: no clock makes it count.
  const term = termOf(seen.facts)!;
  const later = await PolicyState.open(join(world.path, "later"));
  await later.save({ ...seen, newestSignedMs: term.expiresMs + 1 });
  await fails(followPolicy({ state: later, workPath: world.path, nowMs: 0 }, scene.origin), "POLICY_EXPIRED");
});

test("a list that has expired keeps nothing else from being followed", async (scene) => {
  const { world } = scene;
  const owner = await world.key("fx");
  world.nowMs = Date.now() - 400 * dayMs;
  using old = new PolicyWorld();
  old.nowMs = Date.now() - 400 * dayMs;
  await old.begin();
  await old.change({ kind: "delegate", role: "keepalive/fx", keys: [owner.text], threshold: 1 });
  await old.change({ kind: "list", toolset: "fx", bytes: Buffer.from("{}") }, [owner.path]);
  old.nowMs = Date.now() - dayMs;
  // All else is signed anew; the owner's key is not there.
  await old.change({ kind: "refresh" });
  const state = await PolicyState.open(join(old.path, "node"));
  await trustRoot(state, await readRoot(join(old.folder.path, "1.root.json")), old.nowMs);
  const parts = { state, workPath: old.path, nowMs: Date.now() };
  assert.is(await followPolicy(parts, (name) => old.folder.read(name)), true);
  const list = state.stored!.facts.roles.find(({ role }) => role === "keepalive/fx")!;
  assert.ok(list.expiresMs < Date.now() && termOf(state.stored!.facts)!.expiresMs > Date.now());
});

test("a source that fails says so, and changes nothing", async (scene) => {
  const before = scene.state.stored;
  const gone = new Error("the mount has gone");
  const failing = async (name: string) => {
    if (name.includes("snapshot")) throw gone;
    return await scene.origin(name);
  };
  const parts = { state: scene.state, workPath: scene.statePath, nowMs: Date.now() };
  const error = await followPolicy(parts, failing).catch((thrown: Error) => thrown);
  assert.ok(error instanceof Error && !(error instanceof NotTrustedError && error.code === "POLICY_ROLLBACK"));
  assert.is(scene.state.stored, before);
});

test.run();

async function follow(
  { state, statePath, origin, floor }: Scene & { readonly floor?: TrustFloor },
  forged: Record<string, Uint8Array | undefined> = {},
): Promise<boolean> {
  const read: ReadPolicyFile = async (name) => (name in forged ? forged[name] : await origin(name));
  const parts = { state, workPath: statePath, nowMs: Date.now(), ...(floor === undefined ? {} : { floor }) };
  return await followPolicy(parts, read);
}

/** With the directories that the store makes. */
async function openFloor({ world }: Scene): Promise<TrustFloor> {
  const cache = join(world.path, "cache");
  mkdirSync(join(cache, ".sys", "p2pcache"), { recursive: true });
  return await TrustFloor.open(cache, (problem) => assert.unreachable(problem));
}

async function refused(scene: Scene, forged: Record<string, Uint8Array | undefined>, code: string): Promise<void> {
  const before = scene.state.stored;
  await fails(follow(scene, forged), code);
  assert.is(scene.state.stored, before, "nothing is kept of what was refused");
}

async function fails(work: Promise<unknown>, code: string): Promise<void> {
  const error = await work.then(
    () => undefined,
    (thrown: P2pCacheError) => thrown,
  );
  assert.is(error?.code, code, error?.stack);
  if (code.startsWith("POLICY")) assert.is(error?.exit, 5);
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => "",
    (thrown: P2pCacheError) => thrown.code,
  );
}

async function deny({ world }: Scene): Promise<void> {
  await world.change({ kind: "deny", payload: parsePayloadId("ab".repeat(32)), by: "ana", reason: "" });
}

function denials(state: PolicyState): string {
  return Buffer.from(storedContents(state.stored!).get("deny.json")!).toString();
}

function bytesOf(json: object): Uint8Array {
  return Buffer.from(JSON.stringify({ ...json, signatures: [] }));
}

async function signed(
  world: PolicyWorld,
  key: string,
  metadata: ReturnType<typeof timestampOf> | ReturnType<typeof snapshotOf> | ReturnType<typeof targetsOf>,
): Promise<Uint8Array> {
  signAll(metadata, [await loadPublisherKey(join(policyKeysPath(world.settings()), `${key}.pem`))]);
  return fileBytes(metadata);
}
