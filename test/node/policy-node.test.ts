// runs unprivileged
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { keyId, loadPublisherKey, publicKeyText } from "../../node/keys.ts";
import type { Log } from "../../node/log.ts";
import type { LogEvent } from "../../node/log-events.ts";
import { CacheNode, type NodeOptions } from "../../node/node.ts";
import type { Settings } from "../../node/settings/schema.ts";
import { beginPolicy, changePolicy, type TrustChange } from "../../node/trust-admin.ts";
import { seededRandom } from "../../protocol/random.ts";
import { Studio } from "../support/studio.ts";
import { failureOf, within } from "../support/swarm-member.ts";
import { makeTree } from "../support/trees.ts";

const test = suite("a node and the network's policy");
const variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" } as const;
const thing = { kind: "variant", variant } as const;
const dayMs = 24 * 3_600_000;

/** A studio with a policy, in which one variant is released by its publisher. */
class Scene {
  readonly studio: Studio;
  readonly nodes: AsyncDisposableStack;
  readonly #waiting = new Map<string, PromiseWithResolvers<Readonly<Record<string, unknown>>>>();

  constructor(studio: Studio, nodes: AsyncDisposableStack) {
    this.studio = studio;
    this.nodes = nodes;
  }

  get tree(): string {
    return join(this.studio.path, "packages", "foo");
  }

  settings(machine: string, more: Partial<Settings["trust"]> = {}, options: object = {}): Settings {
    const settings = this.studio.settings(this.studio.configure(machine, options));
    const rootFile = join(this.studio.path, "origin", "policy", "1.root.json");
    return { ...settings, trust: { ...settings.trust, rootFile, publishers: [], ...more } };
  }

  async begin(nowMs = Date.now()): Promise<void> {
    const { trust } = this.studio.settings(this.studio.configure("admin"));
    const settings = this.settings("admin", { rootFile: undefined, publishers: trust.publishers });
    await beginPolicy(settings, { rootKeys: [], threshold: 1 }, { nowMs });
  }

  async change(change: TrustChange): Promise<void> {
    await changePolicy(this.settings("admin"), change);
  }

  async open(machine: string, options: NodeOptions = {}, settings = this.settings(machine)): Promise<CacheNode> {
    const log: Log = (_level, event, facts = {}) => this.heard(event).resolve(facts);
    return this.nodes.use(await CacheNode.open(settings, { log, policyPeriodMs: 20, ...options }));
  }

  /** The next event of a name that any node logs. */
  heard(event: LogEvent): PromiseWithResolvers<Readonly<Record<string, unknown>>> {
    const known = this.#waiting.get(event) ?? Promise.withResolvers<Readonly<Record<string, unknown>>>();
    this.#waiting.set(event, known);
    return known;
  }

  /** From now on: what was heard before does not count. */
  next(event: LogEvent): Promise<Readonly<Record<string, unknown>>> {
    this.#waiting.delete(event);
    return this.heard(event).promise;
  }

  async keyid(): Promise<string> {
    return keyId((await loadPublisherKey(join(this.studio.path, "publisher.pem"))).rawPublic);
  }
}

function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    await using studio = await Studio.open();
    await using nodes = new AsyncDisposableStack();
    const tree = join(studio.path, "packages", "foo");
    mkdirSync(tree, { mode: 0o755 });
    makeTree(tree, seededRandom(1), { smallFiles: 20, largeMib: 1 });
    await studio.publish(variant, tree);
    await within(60_000, text, check(new Scene(studio, nodes)));
  });
}

rule("a policy takes the place of trust.publishers", async (scene) => {
  await scene.begin();
  const node = await scene.open("machine");
  await scene.heard("policy-followed").promise;
  assert.is((await node.fetch(thing)).outcome, "fetched");
  const { policy } = node.status("1").trust;
  assert.equal([policy?.state, policy?.version], ["in-force", 2]);
});

rule("a publisher releases nothing outside its patterns", async (scene) => {
  await scene.begin();
  const key = publicKeyText(await loadPublisherKey(join(scene.studio.path, "publisher.pem")));
  await scene.change({ kind: "add-publisher", key, names: ["studio:rig_*"], label: "" });
  const node = await scene.open("machine");
  await scene.heard("policy-followed").promise;
  const error = await failureOf(node.fetch(thing));
  assert.equal([error.code, error.exit], ["NAME_NOT_ALLOWED", 5]);
});

rule("a retired publisher's releases of before stay, and later ones are refused", async (scene) => {
  await scene.begin();
  await scene.change({ kind: "retire-publisher", who: await scene.keyid() });
  const node = await scene.open("machine");
  await scene.heard("policy-followed").promise;
  assert.is((await node.fetch(thing)).outcome, "fetched");
  const later = { ...variant, version: "2.0.0" };
  await scene.studio.publish(later, scene.tree);
  const error = await failureOf(node.fetch({ kind: "variant", variant: later }));
  assert.equal([error.code, error.exit], ["PUBLISHER_RETIRED", 5]);
  assert.is(node.holdings().length, 1);
});

rule("a revoked publisher's releases are void: what is held of them goes, by itself", async (scene) => {
  await scene.begin();
  const node = await scene.open("machine");
  await scene.heard("policy-followed").promise;
  const { path } = await node.fetch(thing);
  const voided = scene.next("variant-voided");
  await scene.change({ kind: "revoke-publisher", who: await scene.keyid(), reason: "stolen" });
  assert.match(String((await voided).reason), /revoked on .*: stolen/);
  assert.equal([existsSync(path!), node.holdings()], [false, []]);
  const error = await failureOf(node.fetch(thing));
  assert.equal([error.code, error.exit], ["PUBLISHER_REVOKED", 5]);
});

rule("a denied payload goes, is not fetched again, and status and log say who denied it and when", async (scene) => {
  await scene.begin();
  const node = await scene.open("machine");
  await scene.heard("policy-followed").promise;
  const { path, payload } = await node.fetch(thing);
  const voided = scene.next("variant-voided");
  await scene.change({ kind: "deny", payload: payload!, by: "ana", reason: "a miner was in it" });
  assert.match(String((await voided).reason), /was denied by ana on 2\d{3}-.*: a miner was in it/);
  assert.equal([existsSync(path!), existsSync(`${path}.json`), node.holdings()], [false, false, []]);
  const error = await failureOf(node.fetch(thing));
  assert.equal([error.code, error.exit], ["PAYLOAD_DENIED", 5]);
  assert.is(node.status("1").trust.policy?.denied[0]?.by, "ana");
});

rule("what was denied while the node was off goes at its next start, before anybody is served", async (scene) => {
  await scene.begin();
  const settings = scene.settings("machine");
  const first = await CacheNode.open(settings, {
    policyPeriodMs: 20,
    log: (_level, event) => scene.heard(event).resolve({}),
  });
  await scene.heard("policy-followed").promise;
  const { payload } = await first.fetch(thing);
  await first[Symbol.asyncDispose]();
  await scene.change({ kind: "deny", payload: payload!, by: "ana", reason: "" });
  const voided = scene.next("variant-voided");
  const node = await scene.open("machine");
  await voided;
  assert.equal(node.holdings(), []);
});

rule("past its expiry what is here goes on being used, and nothing new is taken; status says so", async (scene) => {
  await scene.begin(Date.now() - 20 * dayMs);
  let aheadMs = 0;
  const clock = { monotonicMs: () => performance.now(), wallMs: () => Date.now() + aheadMs };
  const node = await scene.open("machine", { clock });
  await scene.heard("policy-followed").promise;
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

rule("with neither publishers nor a policy every fetch is refused", async (scene) => {
  const node = await scene.open("machine", {}, scene.settings("machine", { rootFile: undefined }));
  const error = await failureOf(node.fetch(thing));
  assert.equal([error.code, error.exit], ["NOT_TRUSTED", 5]);
});

rule("a policy that is not as it should be is logged, and what was in force stays", async (scene) => {
  await scene.begin();
  const node = await scene.open("machine");
  await scene.heard("policy-followed").promise;
  const refused = scene.next("policy-refused");
  writeFileSync(join(scene.studio.path, "origin", "policy", "timestamp.json"), "{}");
  assert.is((await refused).code, "POLICY_BROKEN");
  assert.is((await node.fetch(thing)).outcome, "fetched");
});

rule("a node keeps its policy over a restart, also without its first copy and with no origin", async (scene) => {
  await scene.begin();
  const settings = scene.settings("machine");
  const first = await CacheNode.open(settings, {
    policyPeriodMs: 20,
    log: (_level, event) => scene.heard(event).resolve({}),
  });
  await scene.heard("policy-followed").promise;
  await first.fetch(thing);
  await first[Symbol.asyncDispose]();
  rmSync(join(settings.node.state, "policy"), { recursive: true });
  const alone = { ...settings, origins: [], trust: { ...settings.trust, rootFile: undefined } };
  const node = await scene.open("machine", {}, alone);
  assert.is(node.status("1").trust.policy?.state, "in-force");
  assert.is((await node.fetch(thing)).outcome, "local");
  assert.ok(readFileSync(join(settings.node.state, "policy", "verified.json")).length > 0);
});

test.run();
