// runs unprivileged
import { rmSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { generatePublisherKey, publicKeyText } from "../../node/keys.ts";
import { openNodeId } from "../../node/swarm/identity.ts";
import { storedContents } from "../../node/trust/policy-facts.ts";
import { PolicyState } from "../../node/trust/policy-state.ts";
import { rotatePolicyKey } from "../../node/trust-admin.ts";
import { PolicyScene, thing } from "../support/policy-scene.ts";
import { eventually, failureOf, within } from "../support/swarm-member.ts";

const test = suite("a policy among peers");

function rule(text: string, check: (scene: PolicyScene) => Promise<void>): void {
  test(text, async () => {
    await using scene = await PolicyScene.open();
    await within(60_000, text, check(scene));
  });
}

rule("a node that never reaches the origin learns a new list from a peer, over a rotated root", async (scene) => {
  await scene.begin();
  const first = await scene.following("first");
  await first.fetch(thing);
  const bootstrap = first.status("1").addresses;
  const settings = scene.settings("second", {}, { bootstrap, originPolicy: "never" });
  const second = await scene.node("second", settings);
  assert.is((await scene.heard("policy-followed", "second")).from, first.id);
  scene.forget();
  await rotatePolicyKey(scene.settings("admin"), "root");
  const owner = await generatePublisherKey(join(scene.studio.path, "fx.pem"));
  const keyFiles = [join(scene.studio.path, "fx.pem")];
  await scene.change({ kind: "delegate", role: "keepalive/fx", keys: [publicKeyText(owner)], threshold: 1 });
  await scene.change({ kind: "list", toolset: "fx", bytes: Buffer.from('{"toolset":"fx"}') }, { keyFiles });
  const list = async () => {
    const stored = await PolicyState.look(settings.node.state);
    return stored === undefined ? undefined : storedContents(stored).get("keepalive/fx.json");
  };
  let found: Uint8Array | undefined;
  while (found === undefined) {
    await scene.heard("policy-followed", "second");
    scene.forget();
    found = await list();
  }
  assert.is(Buffer.from(found).toString(), '{"toolset":"fx"}');
  assert.equal(
    second.status("1").trust.policy?.lists.map(({ toolset, version }) => [toolset, version]),
    [["fx", 1]],
  );
  assert.is((await second.fetch(thing)).outcome, "fetched");
});

rule("the first fetch of a machine waits for a peer's policy too", async (scene) => {
  await scene.begin();
  const first = await scene.following("first");
  await first.fetch(thing);
  const bootstrap = first.status("1").addresses;
  const second = await scene.node("second", scene.settings("second", {}, { bootstrap, originPolicy: "never" }));
  assert.is((await second.fetch(thing)).outcome, "fetched");
});

rule("what was denied is dropped by a node that hears of it from a peer only", async (scene) => {
  await scene.begin();
  const first = await scene.following("first");
  const bootstrap = first.status("1").addresses;
  const second = await scene.following("second", scene.settings("second", {}, { bootstrap, originPolicy: "never" }));
  await first.fetch(thing);
  const { payload } = await second.fetch(thing);
  await scene.change({ kind: "deny", payload: payload!, by: "ana", reason: "" });
  for (const machine of ["first", "second"]) await scene.heard("variant-voided", machine);
  assert.equal([first.holdings(), second.holdings()], [[], []]);
});

rule(
  "members only: a machine that is listed takes policy and release from a peer, another gets nothing",
  async (scene) => {
    await scene.begin();
    const closed = (machine: string, bootstrap: readonly string[] = []) => {
      const settings = scene.settings(machine, {}, { bootstrap, originPolicy: machine === "first" ? "auto" : "never" });
      return { ...settings, network: { ...settings.network, admission: "members" as const, keyFile: undefined } };
    };
    const ids = new Map<string, string>();
    for (const machine of ["first", "second", "third"]) ids.set(machine, await openNodeId(closed(machine).node.state));
    for (const machine of ["first", "second"]) {
      await scene.change({ kind: "add-member", site: "lyon", member: { peer: ids.get(machine)!, labels: [] } });
    }
    const first = await scene.following("first", closed("first"));
    const bootstrap = first.status("1").addresses;
    const second = await scene.following("second", closed("second", bootstrap));
    await eventually(
      "that both are members to each other",
      () => first.peers().length === 1 && second.peers().length === 1,
    );
    assert.is((await first.fetch(thing)).outcome, "fetched");
    assert.is((await second.fetch(thing)).outcome, "fetched");
    const third = await scene.node("third", closed("third", bootstrap));
    assert.is((await scene.heard("peer-refused", "first")).peer, ids.get("third"));
    assert.equal(third.status("1").trust.policy, undefined);
    assert.is((await failureOf(third.fetch(thing))).exit, 5);
    // Whoever is taken off the list goes.
    await scene.change({ kind: "remove-member", site: "lyon", peer: ids.get("second")! });
    await eventually("that the second has gone", () => first.status("1").peers === 0, 30_000);
  },
);

rule("a peer with a policy that is forged is not believed, and its lie is logged", async (scene) => {
  await scene.begin();
  const first = await scene.following("first");
  const bootstrap = first.status("1").addresses;
  // Another network's policy under the same name: its root is not ours.
  await using other = await PolicyScene.open();
  await other.begin();
  const root = join(other.studio.path, "origin", "policy", "1.root.json");
  const settings = scene.settings("second", { rootFile: root }, { bootstrap, originPolicy: "never" });
  const second = await scene.node("second", settings);
  assert.is((await scene.heard("policy-refused", "second")).from, first.id);
  assert.equal(second.status("1").trust.policy, undefined);
  rmSync(root);
});

test.run();
