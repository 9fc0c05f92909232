// runs unprivileged
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { publish } from "../../node/publish.ts";
import { changePolicy, deniedPayload } from "../../node/trust-admin.ts";
import { resetTrust } from "../../node/trust-look.ts";
import { PolicyScene, thing, variant } from "../support/policy-scene.ts";
import { failureOf, within } from "../support/swarm-member.ts";

const test = suite("a node and the network's policy");
const dayMs = 24 * 3_600_000;

function rule(text: string, check: (scene: PolicyScene) => Promise<void>): void {
  test(text, async () => {
    await using scene = await PolicyScene.open();
    await within(60_000, text, check(scene));
  });
}

rule("a policy takes the place of trust.publishers", async (scene) => {
  await scene.begin();
  const node = await scene.following("machine");
  assert.is((await node.fetch(thing)).outcome, "fetched");
  const { policy } = node.status("1").trust;
  assert.equal([policy?.state, policy?.version], ["in-force", 2]);
});

rule("a publisher releases nothing outside its patterns", async (scene) => {
  await scene.begin();
  const key = await scene.publisher();
  await scene.change({ kind: "add-publisher", key, names: ["studio:rig_*"], label: "" });
  const node = await scene.following("machine");
  const error = await failureOf(node.fetch(thing));
  assert.equal([error.code, error.exit], ["NAME_NOT_ALLOWED", 5]);
});

rule("a retired publisher's releases of before stay, and later ones are refused", async (scene) => {
  await scene.begin();
  await scene.change({ kind: "retire-publisher", who: await scene.publisherId() });
  const node = await scene.following("machine");
  assert.is((await node.fetch(thing)).outcome, "fetched");
  const later = { ...variant, version: "2.0.0" };
  await scene.studio.publish(later, scene.tree);
  const error = await failureOf(node.fetch({ kind: "variant", variant: later }));
  assert.equal([error.code, error.exit], ["PUBLISHER_RETIRED", 5]);
  assert.is(node.holdings().length, 1);
});

rule("a publisher's retirement makes nothing valid that was outside its patterns, nor lists it", async (scene) => {
  await scene.begin();
  const key = await scene.publisher();
  await scene.change({ kind: "add-publisher", key, names: ["studio:rig_*"], label: "" });
  const rig = { ...variant, name: "rig_face" };
  await scene.studio.publish(rig, scene.tree);
  await scene.change({ kind: "retire-publisher", who: await scene.publisherId() });
  const node = await scene.following("machine");
  const error = await failureOf(node.fetch(thing));
  assert.equal([error.code, error.exit], ["PUBLISHER_RETIRED", 5]);
  assert.is((await node.fetch({ kind: "variant", variant: rig })).outcome, "fetched");
});

rule(
  "who retires a publisher lists its releases at every folder, and hears which origins were not listed",
  async (scene) => {
    await scene.begin();
    const { path } = scene.studio;
    // Another site's folder, with a release of its own.
    const other = { ...variant, version: "3.0.0" };
    const second = `[[origin]]\nname = "second"\nkind = "folder"\npath = "${path}/second"`;
    mkdirSync(join(path, "second"), { mode: 0o755 });
    const elsewhere = scene.settings("publisher", {}, { origin: second });
    await publish(elsewhere, { variant: other, treePath: scene.tree, requires: [] });
    const away = `[[origin]]\nname = "away"\nkind = "folder"\npath = "${path}/away"`;
    const web = '[[origin]]\nname = "web"\nkind = "http"\nurl = "http://127.0.0.1:9"';
    const first = `[[origin]]\nname = "filer"\nkind = "folder"\npath = "${path}/origin"`;
    const settings = scene.settings("admin", {}, { origin: [first, second, away, web].join("\n") });
    const { warnings } = await changePolicy(settings, { kind: "retire-publisher", who: await scene.publisherId() });
    assert.equal(
      warnings.map((text) => /^the records at (\w+) were not listed/.exec(text)?.[1]),
      ["away", "web"],
    );
    const node = await scene.following(
      "machine",
      scene.settings("machine", {}, { origin: [first, second].join("\n") }),
    );
    assert.is((await node.fetch({ kind: "variant", variant: other })).outcome, "fetched");
  },
);

rule("a revoked publisher's releases are void: what is held of them goes, by itself", async (scene) => {
  await scene.begin();
  const node = await scene.following("machine");
  const { path } = await node.fetch(thing);
  scene.forget();
  await scene.change({ kind: "revoke-publisher", who: await scene.publisherId(), reason: "stolen" });
  assert.match(String((await scene.heard("variant-voided", "machine")).reason), /revoked on .*: stolen/);
  assert.equal([existsSync(path!), node.holdings()], [false, []]);
  const error = await failureOf(node.fetch(thing));
  assert.equal([error.code, error.exit], ["PUBLISHER_REVOKED", 5]);
});

rule("a denied payload goes, is not fetched again, and status and log say who denied it and when", async (scene) => {
  await scene.begin();
  const node = await scene.following("machine");
  const { path, payload } = await node.fetch(thing);
  scene.forget();
  await scene.change({ kind: "deny", payload: payload!, by: "ana", reason: "a miner was in it" });
  assert.match(
    String((await scene.heard("variant-voided", "machine")).reason),
    /was denied by ana on 2\d{3}-.*: a miner was in it/,
  );
  assert.equal([existsSync(path!), existsSync(`${path}.json`), node.holdings()], [false, false, []]);
  const error = await failureOf(node.fetch(thing));
  assert.equal([error.code, error.exit], ["PAYLOAD_DENIED", 5]);
  assert.is(node.status("1").trust.policy?.denied[0]?.by, "ana");
});

rule("what was denied while the node was off goes at its next start", async (scene) => {
  await scene.begin();
  const first = await scene.nodeToClose("machine");
  await scene.heard("policy-followed", "machine");
  const { payload } = await first.fetch(thing);
  await first[Symbol.asyncDispose]();
  await scene.change({ kind: "deny", payload: payload!, by: "ana", reason: "" });
  scene.forget();
  const node = await scene.node("machine");
  await scene.heard("variant-voided", "machine");
  assert.equal(node.holdings(), []);
});

rule("past its expiry what is here goes on being used, and nothing new is taken; status says so", async (scene) => {
  await scene.begin({ nowMs: Date.now() - 20 * dayMs });
  let aheadMs = 0;
  const clock = { monotonicMs: () => performance.now(), wallMs: () => Date.now() + aheadMs };
  const node = await scene.following("machine", undefined, { clock });
  assert.is((await node.fetch(thing)).outcome, "fetched");
  assert.match(node.status("1").warnings.join("\n"), "is in force until");
  aheadMs = 15 * dayMs;
  assert.is(node.status("1").trust.policy?.state, "expired");
  assert.match(node.status("1").warnings.join("\n"), "new releases and members are refused");
  assert.is((await node.fetch(thing)).outcome, "local");
  const other = { ...variant, version: "2.0.0" };
  await scene.studio.publish(other, scene.tree);
  const error = await failureOf(node.fetch({ kind: "variant", variant: other }));
  assert.equal([error.code, error.exit], ["POLICY_EXPIRED", 5]);
});

rule("the first fetch of a machine waits for its first policy", async (scene) => {
  await scene.begin();
  const node = await scene.node("machine");
  assert.is((await node.fetch(thing)).outcome, "fetched");
});

rule("where there is a root, and no policy that it leads to, trust.publishers do not count", async (scene) => {
  await scene.begin();
  const settings = scene.settings("machine", { publishers: [await scene.publisher()] });
  rmSync(join(scene.studio.path, "origin", "policy", "timestamp.json"));
  const node = await scene.node("machine", settings);
  const error = await failureOf(node.fetch(thing));
  assert.equal([error.code, error.exit], ["NOT_TRUSTED", 5]);
});

rule("with neither publishers nor a policy every fetch is refused", async (scene) => {
  const node = await scene.node("machine", scene.settings("machine", { rootFile: undefined }));
  const error = await failureOf(node.fetch(thing));
  assert.equal([error.code, error.exit], ["NOT_TRUSTED", 5]);
});

rule("a policy that is not as it should be is logged, and what was in force stays", async (scene) => {
  await scene.begin();
  const node = await scene.following("machine");
  writeFileSync(join(scene.studio.path, "origin", "policy", "timestamp.json"), "{}");
  assert.is((await scene.heard("policy-refused", "machine")).code, "POLICY_BROKEN");
  assert.is((await node.fetch(thing)).outcome, "fetched");
});

rule("a node keeps its policy over a restart, also without its first copy and with no origin", async (scene) => {
  await scene.begin();
  const settings = scene.settings("machine");
  const first = await scene.nodeToClose("machine");
  await scene.heard("policy-followed", "machine");
  await first.fetch(thing);
  await first[Symbol.asyncDispose]();
  rmSync(join(settings.node.state, "policy"), { recursive: true });
  const alone = { ...settings, origins: [], trust: { ...settings.trust, rootFile: undefined } };
  const node = await scene.node("machine", alone);
  assert.is(node.status("1").trust.policy?.state, "in-force");
  assert.is((await node.fetch(thing)).outcome, "local");
  assert.ok(readFileSync(join(settings.node.state, "policy", "verified.json")).length > 0);
});

rule(
  "a state directory that is deleted takes no denial back; a trust reset does, and is written down",
  async (scene) => {
    await scene.begin();
    const settings = scene.settings("machine");
    const timestamp = join(scene.studio.path, "origin", "policy", "timestamp.json");
    const old = readFileSync(timestamp);
    const first = await scene.nodeToClose("machine");
    await scene.heard("policy-followed", "machine");
    const payload = await deniedPayload(scene.settings("admin"), thing);
    scene.forget();
    await scene.change({ kind: "deny", payload, by: "ana", reason: "" });
    await scene.heard("policy-followed", "machine");
    await first[Symbol.asyncDispose]();
    rmSync(settings.node.state, { recursive: true });
    writeFileSync(timestamp, old);
    // Neither by the first root, nor by publishers that the policy may have revoked.
    const without = { ...settings.trust, rootFile: undefined, publishers: [await scene.publisher()] };
    for (const trust of [settings.trust, without]) {
      scene.forget();
      await using node = await scene.nodeToClose("machine", { ...settings, trust });
      assert.match(String((await scene.heard("store-problem", "machine")).problem), "gone from the state directory");
      if (trust.rootFile !== undefined) {
        assert.is((await scene.heard("policy-refused", "machine")).code, "POLICY_ROLLBACK");
      }
      assert.is((await failureOf(node.fetch(thing))).code, "NOT_TRUSTED");
      await node[Symbol.asyncDispose]();
      rmSync(settings.node.state, { recursive: true });
    }
    mkdirSync(settings.node.state);
    const { log } = await resetTrust(settings, {});
    assert.equal(JSON.parse(readFileSync(log, "utf8")).forgotten, { root: 1, timestamp: 3 });
    scene.forget();
    const node = await scene.node("machine");
    await scene.heard("policy-followed", "machine");
    assert.is((await node.fetch(thing)).outcome, "fetched");
  },
);

test.run();
