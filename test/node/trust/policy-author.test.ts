import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { keyId, parsePublicKey } from "../../../node/keys.ts";
import type { Settings } from "../../../node/settings/schema.ts";
import { readRoot } from "../../../node/trust/first-contact.ts";
import { policyContent } from "../../../node/trust/policy-content.ts";
import { PolicyFolder } from "../../../node/trust/policy-folder.ts";
import { type VerifiedPolicy, verifyPolicy } from "../../../node/trust/verify-policy.ts";
import { beginPolicy, changePolicy, policyKeysPath, rotatePolicyKey, signRoot } from "../../../node/trust-admin.ts";
import type { P2pCacheError } from "../../../protocol/errors.ts";
import { parsePayloadId } from "../../../protocol/hash.ts";
import { Policy } from "../../../protocol/policy.ts";
import { dayMs, PolicyWorld } from "../../support/policy-world.ts";

const test = suite<{ world: PolicyWorld }>("authoring a policy");
test.before.each((context) => {
  context.world = new PolicyWorld();
});
test.after.each(({ world }) => world[Symbol.dispose]());

test("a policy begins with the publishers that were trusted before, and every file of it is in order", async ({
  world,
}) => {
  const publisher = await world.key("publisher");
  await world.begin({}, [publisher.text]);
  const policy = await read(world);
  assert.is(new Policy(policyContent(policy)).signer(idOf(publisher.text), "studio:maya", "00").kind, "trusted");
  assert.equal([policy.root.signed.version, policy.targets.signed.version], [1, 2]);
  for (const name of readdirSync(join(world.path, "admin", "keys", "policy"))) {
    assert.is(statSync(join(world.path, "admin", "keys", "policy", name)).mode & 0o777, 0o600);
  }
});

test("a policy begins once", async ({ world }) => {
  await world.begin();
  await fails(world.begin(), "POLICY_EXISTS", 2);
});

test("a publisher may release what its patterns say", async ({ world }) => {
  await world.begin();
  const { text } = await world.key("rigger");
  await world.change({ kind: "add-publisher", key: text, names: ["studio:rig_*"], label: "Rigging" });
  const policy = new Policy(policyContent(await read(world)));
  assert.is(policy.signer(idOf(text), "studio:rig_face", "00").kind, "trusted");
  assert.is(policy.signer(idOf(text), "studio:maya", "00").kind, "otherNames");
  assert.is(policy.signer("0".repeat(64), "studio:maya", "00").kind, "unknown");
});

test("a revoked key is never trusted again", async ({ world }) => {
  await world.begin();
  const { text } = await world.key("stolen");
  await world.change({ kind: "add-publisher", key: text, names: ["*"], label: "" });
  await world.change({ kind: "revoke-publisher", who: idOf(text).slice(0, 12), reason: "stolen" });
  const policy = new Policy(policyContent(await read(world)));
  assert.is(policy.signer(idOf(text), "studio:maya", "00").kind, "revoked");
  assert.is(policy.keyOf(idOf(text)), undefined);
  await fails(world.change({ kind: "add-publisher", key: text, names: ["*"], label: "" }), "KEY_REVOKED", 2);
});

test("members come and go", async ({ world }) => {
  await world.begin();
  const [one, two] = ["12D3KooWone", "12D3KooWtwo"];
  await world.change({ kind: "add-member", site: "lyon", member: { peer: one, labels: ["farm"] } });
  await world.change({
    kind: "add-member",
    site: "lyon",
    member: { peer: two, labels: [], until: "2026-12-01T00:00:00Z" },
  });
  await world.change({ kind: "remove-member", site: "lyon", peer: one });
  const policy = new Policy(policyContent(await read(world)));
  assert.is(policy.member(one, 0).kind, "stranger");
  assert.is(policy.member(two, Date.parse("2026-11-30T23:59:59Z")).kind, "member");
  assert.is(policy.member(two, Date.parse("2026-12-01T00:00:00Z")).kind, "expired");
  await fails(world.change({ kind: "remove-member", site: "lyon", peer: one }), "NOT_FOUND", 3);
});

test("a denial names who denied a payload, when and why", async ({ world }) => {
  await world.begin();
  const payload = parsePayloadId("ab".repeat(32));
  await world.change({ kind: "deny", payload, by: "ana", reason: "a miner was in it" });
  const denial = new Policy(policyContent(await read(world))).denial(payload);
  assert.equal(
    [denial?.by, denial?.reason, denial?.at],
    ["ana", "a miner was in it", new Date(world.nowMs).toISOString()],
  );
});

test("a toolset's owner signs its list with the toolset's own key and no other; a refresh puts it into force", async ({
  world,
}) => {
  await world.begin();
  const owner = await world.key("fx");
  await world.change({ kind: "delegate", role: "keepalive/fx", keys: [owner.text], threshold: 1 });
  const rootFile = join(world.folder.path, "1.root.json");
  const theirs = { ...world.settings("owner"), trust: { ...world.settings().trust, rootFile } };
  const list = new TextEncoder().encode('{"toolset":"fx"}');
  const put = await changePolicy(
    theirs,
    { kind: "list", toolset: "fx", bytes: list },
    { keyFiles: [owner.path], nowMs: world.nowMs },
  );
  assert.is(put.isInForce, false);
  assert.is((await read(world)).contents.has("keepalive/fx.json"), false);
  const { isInForce, warnings } = await world.change({ kind: "refresh" });
  assert.equal([isInForce, warnings], [true, []]);
  assert.equal((await read(world)).contents.get("keepalive/fx.json"), list);
  await fails(
    changePolicy(
      theirs,
      { kind: "deny", payload: parsePayloadId("ab".repeat(32)), by: "", reason: "" },
      { keyFiles: [owner.path], nowMs: world.nowMs },
    ),
    "KEY_MISSING",
    2,
  );
});

test("a new owner's list goes on counting where the one before has ended", async ({ world }) => {
  await world.begin();
  const [first, second] = [await world.key("first"), await world.key("second")];
  const list = (keyFile: string, more: object = {}) => {
    const bytes = new TextEncoder().encode('{"toolset":"fx","keep":[]}');
    return world.change({ kind: "list", toolset: "fx", bytes, ...more }, [keyFile]);
  };
  await world.change({ kind: "delegate", role: "keepalive/fx", keys: [first.text], threshold: 1 });
  await list(first.path, { version: 7 });
  await world.change({ kind: "delegate", role: "keepalive/fx", keys: [second.text], threshold: 1 });
  await fails(list(second.path, { version: 7 }), "LIST_OUTDATED", 5);
  const { signed } = await list(second.path);
  assert.is(signed.find(({ role }) => role === "keepalive/fx")?.version, 8);
  assert.is((await read(world)).delegated.get("keepalive/fx")?.signed.version, 8);
});

test("how long a list is in force is its owner's word: nobody else's refresh makes it longer", async ({ world }) => {
  await world.begin();
  const owner = await world.key("fx");
  await world.change({ kind: "delegate", role: "keepalive/fx", keys: [owner.text], threshold: 1 });
  const bytes = new TextEncoder().encode('{"toolset":"fx","keep":[]}');
  const expiresMs = Math.floor(world.nowMs / 1000) * 1000 + 30 * dayMs;
  await world.change({ kind: "list", toolset: "fx", bytes, expiresMs }, [owner.path]);
  await world.change({ kind: "refresh" }, [owner.path]);
  const { expires, version } = (await read(world)).delegated.get("keepalive/fx")!.signed;
  assert.equal([Date.parse(expires), version], [expiresMs, 1]);
});

test("a list that waits is found behind versions that were left out, and beside what others have put there", async ({
  world,
}) => {
  await world.begin();
  const owner = await world.key("fx");
  await world.change({ kind: "delegate", role: "keepalive/fx", keys: [owner.text], threshold: 1 });
  const rootFile = join(world.folder.path, "1.root.json");
  const theirs = { ...world.settings("owner"), trust: { ...world.settings().trust, rootFile } };
  const bytes = new TextEncoder().encode('{"toolset":"fx","keep":[]}');
  const options = { keyFiles: [owner.path], nowMs: world.nowMs };
  await changePolicy(theirs, { kind: "list", toolset: "fx", bytes, version: 5 }, options);
  await world.folder.create("9.keepalive.fx.json", new TextEncoder().encode("{}"));
  const { warnings } = await world.change({ kind: "refresh" });
  assert.match(warnings[0] ?? "", "keepalive/fx is left out");
  assert.is((await read(world)).delegated.get("keepalive/fx")?.signed.version, 5);
});

test("a list that somebody else signed is left out of the next snapshot, with a warning", async ({ world }) => {
  await world.begin();
  const owner = await world.key("fx");
  await world.change({ kind: "delegate", role: "keepalive/fx", keys: [owner.text], threshold: 1 });
  await world.folder.create("1.keepalive.fx.json", new TextEncoder().encode("{}"));
  const { isInForce, warnings } = await world.change({ kind: "refresh" });
  assert.is(isInForce, true);
  assert.match(warnings[0] ?? "", "keepalive/fx is left out");
});

test("a root of two of three keys is signed step by step", async ({ world }) => {
  const holders = [await world.key("a"), await world.key("b"), await world.key("c")];
  const draft = join(world.path, "draft.json");
  const init = { rootKeys: holders.map(({ text }) => text), threshold: 2 };
  const begun = await beginPolicy(world.settings(), { ...init, draftFile: draft }, { nowMs: world.nowMs });
  assert.equal([begun.written, begun.draft], [undefined, draft]);
  assert.equal(await signRoot(world.settings("a"), draft, { keyFiles: [holders[0]!.path] }), {
    signatures: 1,
    needed: 2,
  });
  await world.begin({ rootFile: draft, draftFile: join(world.path, "again.json") });
  assert.is(await world.folder.read("1.root.json"), undefined, "one signature is too few");
  assert.equal(await signRoot(world.settings("c"), draft, { keyFiles: [holders[2]!.path] }), {
    signatures: 2,
    needed: 2,
  });
  await world.begin({ rootFile: draft });
  assert.is((await read(world)).root.signed.roles.root?.threshold, 2);
});

for (const name of ["root", "targets", "online"]) {
  test(`the ${name} key is rotated, and whoever trusted the first root follows`, async ({ world }) => {
    await world.begin({}, [(await world.key("publisher")).text]);
    const before = Object.keys((await read(world)).root.signed.keys);
    const { written, made } = await rotatePolicyKey(world.settings(), name, { nowMs: world.nowMs });
    assert.equal([written?.isInForce, made.length], [true, 1]);
    const policy = await read(world);
    assert.is(policy.root.signed.version, 2);
    assert.is(before.filter((keyid) => keyid in policy.root.signed.keys).length, 2);
    await world.change({ kind: "deny", payload: parsePayloadId("ab".repeat(32)), by: "", reason: "" });
    assert.is(new Policy(policyContent(await read(world))).content.denied.length, 1);
  });
}

test("a targets key that others had to rotate out has no say in what was delegated to it", async ({ world }) => {
  const keyFiles = await beginWithTwo(world);
  const before = (await read(world)).root.signed.roles.targets!.keyIDs;
  const rotated = await rotatePolicyKey(world.settings(), "targets", { nowMs: world.nowMs });
  await signRoot(world.settings(), rotated.draft!, { keyFiles });
  await world.change({ kind: "refresh", rootFile: rotated.draft! });
  const { root, targets } = await read(world);
  const keyids = Object.values(targets.signed.delegations?.roles ?? {}).flatMap((role) => role.keyIDs);
  assert.equal([root.signed.version, keyids.some((keyid) => before.includes(keyid))], [2, false]);
});

for (const name of ["targets", "online"]) {
  test(`a crash between a new ${name} key's root and its timestamp is made good by the next change`, async ({
    world,
  }) => {
    await world.begin({}, [(await world.key("publisher")).text]);
    // The last change before was another admin's.
    world.nowMs += 60_000;
    await changePolicy(machine(world, "other"), { kind: "refresh" }, { keyFiles: own(world), nowMs: world.nowMs });
    const before = await world.folder.read("timestamp.json");
    await crashing(() => rotatePolicyKey(world.settings(), name, { nowMs: world.nowMs }));
    assert.equal(await world.folder.read("timestamp.json"), before);
    await fails(read(world), "POLICY_UNSIGNED", 5);
    world.nowMs += 60_000;
    const { isInForce } = await world.change({ kind: "refresh" });
    assert.equal([isInForce, (await read(world)).root.signed.version], [true, 2]);
    world.nowMs += 60_000;
    await crashing(() => rotatePolicyKey(world.settings(), name, { nowMs: world.nowMs }));
    world.nowMs += 60_000;
    await rotatePolicyKey(world.settings(), name, { nowMs: world.nowMs });
    const policy = await read(world);
    assert.equal([policy.root.signed.version, policyContent(policy).publishers.length], [4, 1]);
  });
}

test("after such a crash nothing is built upon another timestamp than the one that was in force", async ({ world }) => {
  await world.begin();
  const old = await world.folder.read("timestamp.json");
  await world.change({ kind: "refresh" });
  await crashing(() => rotatePolicyKey(world.settings(), "online", { nowMs: world.nowMs }));
  await world.folder.replace("timestamp.json", old!);
  await fails(world.change({ kind: "refresh" }), "POLICY_UNSIGNED", 5);
});

test("a crash before the timestamp is in no later change's way", async ({ world }) => {
  await world.begin();
  const deny = (byte: string) => {
    world.nowMs += 60_000;
    return world.change({ kind: "deny", payload: parsePayloadId(byte.repeat(32)), by: "", reason: "" });
  };
  await crashing(() => deny("ab"));
  await deny("cd");
  assert.ok(new Policy(policyContent(await read(world))).denial(parsePayloadId("cd".repeat(32))));
});

test("a root with another online key is not put into force where that key is not", async ({ world }) => {
  const keyFiles = await beginWithTwo(world);
  const rotated = await rotatePolicyKey(world.settings(), "online", { nowMs: world.nowMs });
  await signRoot(world.settings(), rotated.draft!, { keyFiles });
  const change = { kind: "refresh", rootFile: rotated.draft! } as const;
  await fails(changePolicy(machine(world, "other"), change, { keyFiles, nowMs: world.nowMs }), "KEY_MISSING", 2);
  assert.is(await world.folder.read("2.root.json"), undefined);
  assert.is((await world.change(change)).isInForce, true);
  assert.is((await read(world)).root.signed.version, 2);
});

test("an admin builds upon nothing older than what it has seen", async ({ world }) => {
  await world.begin();
  const old = await world.folder.read("timestamp.json");
  await world.change({ kind: "refresh" });
  await world.folder.replace("timestamp.json", old!);
  await fails(world.change({ kind: "refresh" }), "POLICY_ROLLBACK", 5);
});

test("admins who change things at once lose nothing of each other's", async ({ world }) => {
  await world.begin();
  const peers = ["12D3KooWa", "12D3KooWb", "12D3KooWc", "12D3KooWd"];
  await Promise.all(
    peers.map((peer) => world.change({ kind: "add-member", site: "lyon", member: { peer, labels: [] } })),
  );
  const policy = new Policy(policyContent(await read(world)));
  assert.equal(
    peers.map((peer) => policy.member(peer, 0).kind),
    peers.map(() => "member"),
  );
  assert.equal(
    readdirSync(world.folder.path).filter((name) => name.startsWith(".")),
    [],
    "no lock and no draft stays",
  );
});

test("an origin whose folder is not there is not made", async ({ world }) => {
  await world.begin();
  rmSync(world.originPath, { recursive: true });
  await fails(world.change({ kind: "refresh" }), "NOT_FOUND", 3);
  assert.is(existsSync(world.originPath), false);
});

test("an admin whose clock is behind signs nothing", async ({ world }) => {
  await world.begin();
  world.nowMs -= 3_600_000;
  await fails(world.change({ kind: "refresh" }), "CLOCK_BEHIND", 2);
});

test("what was put into the folder beside the policy is not built upon", async ({ world }) => {
  await world.begin();
  const [name] = readdirSync(join(world.folder.path, "targets")).filter((each) => each.endsWith("publishers.json"));
  writeFileSync(join(world.folder.path, "targets", name!), '{"version":1,"publishers":[],"retired":[],"revoked":[]}');
  await fails(world.change({ kind: "refresh" }), "POLICY_MIXED", 5);
});

test.run();

/** A policy whose root takes two keys, both of which have signed it. Answers their files. */
async function beginWithTwo(world: PolicyWorld): Promise<string[]> {
  const holders = [await world.key("a"), await world.key("b")];
  const draft = join(world.path, "draft.json");
  await world.begin({ rootKeys: holders.map(({ text }) => text), threshold: 2, draftFile: draft });
  const keyFiles = holders.map(({ path }) => path);
  await signRoot(world.settings(), draft, { keyFiles });
  await world.begin({ rootFile: draft });
  return keyFiles;
}

async function read(world: PolicyWorld): Promise<VerifiedPolicy> {
  return await verifyPolicy(await readRoot(join(world.folder.path, "1.root.json")), (name) => world.folder.read(name));
}

/** An admin's other machine: it has no keys of its own. */
function machine(world: PolicyWorld, name: string): Settings {
  const rootFile = join(world.folder.path, "1.root.json");
  return { ...world.settings(name), trust: { ...world.settings().trust, rootFile } };
}

function own(world: PolicyWorld): string[] {
  return ["root", "targets", "online"].map((name) => join(policyKeysPath(world.settings()), `${name}.pem`));
}

/** Ends as a crash does, after all is written but the timestamp. */
async function crashing(work: () => Promise<unknown>): Promise<void> {
  const { replace } = PolicyFolder.prototype;
  PolicyFolder.prototype.replace = async () => {
    throw new Error("it crashes here");
  };
  try {
    await work();
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, "it crashes here");
  } finally {
    PolicyFolder.prototype.replace = replace;
  }
}

function idOf(text: string): string {
  return keyId(parsePublicKey(text));
}

async function fails(work: Promise<unknown>, code: string, exit: number): Promise<void> {
  const error = await work.then(
    () => undefined,
    (thrown: P2pCacheError) => thrown,
  );
  assert.equal([error?.code, error?.exit, error?.message.includes("\n")], [code, exit, false], error?.stack);
}
