// runs unprivileged
import { chmodSync, existsSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openHashEngine } from "../../node/hasher.ts";
import { generatePublisherKey, keyId, publicKeyText, sign } from "../../node/keys.ts";
import { deniedPayload } from "../../node/trust-admin.ts";
import type { P2pCacheError } from "../../protocol/errors.ts";
import { decodeEnvelope, encodeEnvelope, signedBytes } from "../../protocol/record.ts";
import { type Variant, variantHash } from "../../protocol/variant.ts";
import { PolicyScene, thing, variant } from "../support/policy-scene.ts";
import { isForChunk, StaticServer } from "../support/static-server.ts";
import { failureOf, within } from "../support/swarm-member.ts";

const test = suite("what a policy denies, and what it keeps");
const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

function rule(text: string, check: (scene: PolicyScene) => Promise<void>): void {
  test(text, async () => {
    await using scene = await PolicyScene.open();
    await within(60_000, text, check(scene));
  });
}

rule("a fetch under way ends when its payload is denied, and nothing is placed", async (scene) => {
  await scene.begin();
  await using server = await StaticServer.open(join(scene.studio.path, "origin"));
  const asked = Promise.withResolvers<void>();
  server.misbehave = (request) => {
    // No chunk is ever answered: the fetch cannot end by itself.
    if (!isForChunk(request)) return false;
    asked.resolve();
    return true;
  };
  const origin = `[[origin]]\nname = "web"\nkind = "http"\nurl = "${server.url}"`;
  const settings = scene.settings("machine", {}, { origin });
  const node = await scene.following("machine", settings);
  const failure = failureOf(node.fetch(thing));
  await asked.promise;
  const payload = await deniedPayload(scene.settings("admin"), thing);
  await scene.change({ kind: "deny", payload, by: "ana", reason: "a miner was in it" });
  const error = await failure;
  assert.equal([error.code, error.exit], ["PAYLOAD_DENIED", 5]);
  assert.match(error.message, "denied by ana");
  assert.equal([node.holdings(), existsSync(join(settings.cache.path, "foo"))], [[], false]);
});

rule(
  "a handle means only what a publisher of the policy has signed, also where that is denied already",
  async (scene) => {
    await scene.begin();
    const admin = scene.settings("admin");
    const payload = await deniedPayload(admin, thing);
    await scene.change({ kind: "deny", payload, by: "ana", reason: "" });
    assert.is(await deniedPayload(admin, thing), payload, "by this name it can be allowed again");
    const bar = { ...variant, name: "bar" };
    await scene.studio.publish(bar, scene.tree);
    const path = recordPath(scene, variant);
    const own = readFileSync(path);
    // One that is signed, of another variant.
    replace(path, readFileSync(recordPath(scene, bar)));
    const misplaced = await failureOf(deniedPayload(admin, thing));
    assert.equal([misplaced.code, misplaced.exit], ["NOT_TRUSTED", 5]);
    assert.match((misplaced as P2pCacheError).hint ?? "", "payload:<hex>");
    // One of the right variant, that nobody has signed, or somebody else.
    const { body } = decodeEnvelope(own);
    const thief = await generatePublisherKey(join(scene.studio.path, "thief.pem"));
    const sig = sign(thief, signedBytes(body));
    const keyids = { NOT_TRUSTED: keyId(thief.rawPublic), BAD_SIGNATURE: await scene.publisherId() };
    for (const [code, keyid] of Object.entries(keyids)) {
      replace(path, encodeEnvelope({ body, signatures: [{ keyid, sig }] }));
      assert.is((await failureOf(deniedPayload(admin, thing))).code, code);
    }
    replace(path, encodeEnvelope({ body, signatures: [] }));
    assert.is((await failureOf(deniedPayload(admin, thing))).code, "NOT_TRUSTED");
  },
);

rule("once a denial is taken back the payload is fetched again", async (scene) => {
  await scene.begin();
  const node = await scene.following("machine");
  const { payload } = await node.fetch(thing);
  await scene.change({ kind: "deny", payload: payload!, by: "ana", reason: "" });
  await scene.heard("variant-voided", "machine");
  assert.is((await failureOf(node.fetch(thing))).code, "PAYLOAD_DENIED");
  scene.forget();
  await scene.change({ kind: "allow", payload: payload! });
  await scene.heard("policy-followed", "machine");
  assert.is((await node.fetch(thing)).outcome, "fetched");
  const error = await failureOf(scene.change({ kind: "allow", payload: payload! }));
  assert.equal([error.code, error.exit], ["NOT_FOUND", 3]);
});

rule("a denied payload that cannot be removed is not served, nor is its record", async (scene) => {
  await scene.begin();
  const first = await scene.following("first");
  const { path, payload } = await first.fetch(thing);
  const bootstrap = first.status("1").addresses;
  // One that knows of no policy, and would take it.
  const publishers = [await scene.publisher()];
  const settings = (machine: string) =>
    scene.settings(machine, { rootFile: undefined, publishers }, { bootstrap, originPolicy: "never" });
  const second = await scene.nodeToClose("second", settings("second"));
  assert.is((await second.fetch(thing)).outcome, "fetched");
  await second[Symbol.asyncDispose]();
  chmodSync(dirname(path!), 0o555);
  scene.forget();
  await scene.change({ kind: "deny", payload: payload!, by: "ana", reason: "" });
  await scene.heard("voided-variant-stays", "first");
  const third = await scene.node("third", settings("third"));
  const error = await failureOf(third.fetch(thing, { timeoutMs: 5_000 }));
  chmodSync(dirname(path!), 0o755);
  assert.is(error.code, "NOT_FOUND");
});

rule("a list of a newer policy is in force as soon as the policy is", async (scene) => {
  await scene.begin();
  const node = await scene.following("machine");
  const key = join(scene.studio.path, "fx.pem");
  const owner = await generatePublisherKey(key);
  await scene.change({ kind: "delegate", role: "keepalive/fx", keys: [publicKeyText(owner)], threshold: 1 });
  const bytes = Buffer.from('{"toolset":"fx","keep":[{"package":"studio:foo"}]}');
  await scene.change({ kind: "list", toolset: "fx", bytes }, { keyFiles: [key] });
  await node.fetch(thing);
  const reason = async () => (await node.keeping.explain(thing)).reason;
  while (!(await reason()).includes("toolset fx, version 1")) await new Promise(setImmediate);
});

rule(
  "a list of the policy that has expired has no force, and takes nothing away by that, also after a restart",
  async (scene) => {
    await scene.begin();
    const key = join(scene.studio.path, "fx.pem");
    const owner = await generatePublisherKey(key);
    await scene.change({ kind: "delegate", role: "keepalive/fx", keys: [publicKeyText(owner)], threshold: 1 });
    const bytes = Buffer.from('{"toolset":"fx","keep":[{"package":"studio:foo"}]}');
    const expiresMs = Date.now() + hourMs;
    await scene.change({ kind: "list", toolset: "fx", bytes, expiresMs }, { keyFiles: [key] });
    const settings = scene.settings("machine", {}, { cache: 'max_age = "30 d"' });
    let aheadMs = 0;
    const clock = { monotonicMs: () => performance.now(), wallMs: () => Date.now() + aheadMs };
    const first = await scene.nodeToClose("machine", settings, { clock });
    await scene.heard("policy-followed", "machine");
    const { path } = await first.fetch(thing);
    const long = new Date(Date.now() - 41 * dayMs);
    utimesSync(`${path}.json`, long, long);
    assert.match((await first.keeping.explain(thing)).reason, /kept: .*toolset fx, version 1, rank 1/);
    await first[Symbol.asyncDispose]();
    aheadMs = 2 * hourMs;
    const node = await scene.node("machine", settings, { clock });
    assert.equal(
      (await node.keeping.lists({ refresh: false })).map(({ toolset, state }) => [toolset, state]),
      [["fx", "expired"]],
    );
    assert.equal(
      node.status("1").trust.policy?.lists.map(({ state }) => state),
      ["expired"],
    );
    assert.match(node.status("1").warnings.join("\n"), "the keep-alive list of fx has expired");
    const { lines } = await node.keeping.gc({ dryRun: false });
    assert.equal(
      lines.map(({ outcome }) => outcome),
      ["kept"],
    );
    assert.ok(existsSync(path!));
  },
);

test.run();

function recordPath({ studio }: PolicyScene, of: Variant): string {
  const hash = variantHash(of, openHashEngine().hash);
  return join(studio.path, "origin", "variants", hash.slice(0, 2), hash, "0.dsse.json");
}

function replace(path: string, bytes: Uint8Array): void {
  rmSync(path);
  writeFileSync(path, bytes);
}
