import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { generatePublisherKey, publicKeyText } from "../../node/keys.ts";
import type { Log } from "../../node/log.ts";
import { CacheNode } from "../../node/node.ts";
import { publish } from "../../node/publish.ts";
import { loadSettings } from "../../node/settings/load.ts";
import type { Settings } from "../../node/settings/schema.ts";
import { BusyError, NotFoundError, UsageError } from "../../protocol/errors.ts";
import { seededRandom } from "../../protocol/random.ts";
import type { Variant } from "../../protocol/variant.ts";
import { Studio } from "../support/studio.ts";
import { Events, failureOf, within } from "../support/swarm-member.ts";
import { listTree, makeTree } from "../support/trees.ts";

const test = suite("a node");
const variant: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };
const thing = { kind: "variant", variant } as const;

interface LogLine {
  readonly event: string;
  readonly facts: Readonly<Record<string, unknown>>;
}

interface Scene {
  readonly studio: Studio;
  /** Of the release `foo`. */
  readonly tree: string;
  readonly settings: (machine: string, options?: Parameters<Studio["configure"]>[1]) => Settings;
  readonly open: (settings: Settings) => Promise<CacheNode>;
  readonly log: Events<LogLine>;
}

function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    await using studio = await Studio.open();
    await using nodes = new AsyncDisposableStack();
    const tree = join(studio.path, "packages", "foo");
    mkdirSync(tree, { mode: 0o755 });
    makeTree(tree, seededRandom(1), { smallFiles: 50, largeMib: 4 });
    await studio.publish(variant, tree);
    const log = new Events<LogLine>();
    const noted: Log = (_level, event, facts = {}) => log.add({ event, facts });
    const scene: Scene = {
      studio,
      tree,
      log,
      settings: (machine, options) => studio.settings(studio.configure(machine, options)),
      open: async (settings) => nodes.use(await CacheNode.open(settings, { log: noted })),
    };
    await within(30_000, text, check(scene));
  });
}

const addressOf = (node: CacheNode) => node.status("1").addresses[0]!;

rule("two nodes: from the origin, then from the peer, and what each says of itself", async (scene) => {
  const { settings, open, tree, log } = scene;
  const first = await open(settings("first"));
  const fetched = await first.fetch(thing);
  assert.equal([fetched.outcome, fetched.bytes.peers], ["fetched", 0]);
  assert.equal(listTree(fetched.path!), listTree(tree));
  const second = await open(settings("second", { bootstrap: [addressOf(first)], originPolicy: "never" }));
  await log.until("that they met", ({ event, facts }) => event === "peer-joined" && facts.peer === first.id);
  const shared = await second.fetch(thing);
  assert.equal([shared.outcome, shared.bytes.origin], ["fetched", 0]);
  assert.equal(listTree(shared.path!), listTree(tree));
  assert.is((await second.fetch(thing)).outcome, "local");

  const [peer] = second.peers();
  const { standing, strikes, bytesFrom, bytesTo } = peer!;
  assert.equal([peer!.peer, peer!.name, peer!.path, peer!.holdings], [first.id, "first", "stream", 1]);
  assert.equal([standing, strikes, bytesFrom, bytesTo], ["good", 0, shared.bytes.peers, 0]);
  assert.is(first.peers()[0]!.bytesTo, shared.bytes.peers);

  const status = second.status("1.2.3");
  assert.equal([status.node, status.name, status.version, status.apiVersion], [second.id, "second", "1.2.3", 1]);
  assert.equal([status.network, status.peers, status.transfers], ["test", 1, []]);
  assert.equal([status.cache.variants, status.origins], [1, [{ name: "filer", state: "never" }]]);
  assert.equal(status.trust, { mode: "signed", publishers: 1 });

  const [holding] = second.holdings();
  assert.equal(
    [holding!.name, holding!.version, holding!.state, holding!.path],
    ["foo", "1.0.0", "whole", shared.path],
  );
  assert.match(holding!.lastUsed!, /^20\d\d-/);
  assert.equal(await second.verify([]), { checked: 1, damaged: [] });
  assert.equal(await second.verify([thing]), { checked: 1, damaged: [] });
  assert.equal(await second.fsck(), { checked: 1, faults: [] });
  // It announces that to the first one, a moment later.
  while (first.peers()[0]!.holdings !== 1) await new Promise((resolve) => setTimeout(resolve, 5));
});

rule("a payload may be named where one variant of it is known", async ({ settings, open, log }) => {
  const first = await open(settings("first"));
  const { payload, variant: hash } = await first.fetch(thing);
  assert.is(first.hashOf({ kind: "payload", payload: payload! }), hash);
  const second = await open(settings("second", { bootstrap: [addressOf(first)] }));
  await log.until("that they met", ({ event, facts }) => event === "peer-joined" && facts.peer === first.id);
  while (second.peers()[0]?.holdings !== 1) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.is((await second.fetch({ kind: "payload", payload: payload! })).outcome, "fetched");
  const nobody = { kind: "payload", payload: "0".repeat(64) as typeof payload & string } as const;
  assert.instance(await failureOf(second.fetch(nobody)), NotFoundError);
});

rule("a tree that somebody changed is found by verify, no longer served, and brought anew", async (scene) => {
  const { settings, open, tree, log } = scene;
  const first = await open(settings("first"));
  const { path } = await first.fetch(thing);
  const victim = join(path!, "library0.so");
  chmodSync(victim, 0o644);
  writeFileSync(victim, "short");
  const { damaged } = await first.verify([thing]);
  assert.equal(
    damaged.map(({ file }) => file),
    ["library0.so"],
  );
  assert.is(first.holdings()[0]!.state, "damaged");
  await log.until("that it was noted", ({ event }) => event === "holding-damaged");
  const again = await first.fetch(thing);
  assert.is(again.outcome, "fetched");
  assert.equal(listTree(again.path!), listTree(tree));
  assert.is(first.holdings()[0]!.state, "whole");
});

rule("ninety variants at once come from one peer, without the origin", async ({ settings, open, studio, log }) => {
  const things = [];
  for (let i = 0; i < 90; i++) {
    const tree = join(studio.path, "packages", `many${i}`);
    mkdirSync(tree, { mode: 0o755 });
    writeFileSync(join(tree, "file"), `${i}`);
    const one: Variant = { kind: "rez", repository: "studio", name: `many${i}` };
    await studio.publish(one, tree);
    things.push({ kind: "variant", variant: one } as const);
  }
  const first = await open(settings("first"));
  await Promise.all(things.map((one) => first.fetch(one)));
  const second = await open(settings("second", { bootstrap: [addressOf(first)], originPolicy: "never" }));
  await log.until("that they met", ({ event, facts }) => event === "peer-joined" && facts.peer === first.id);
  const results = await Promise.all(things.map((one) => second.fetch(one)));
  assert.equal([...new Set(results.map(({ outcome }) => outcome))], ["fetched"]);
  assert.is(second.holdings().length, 90);
});

rule("a second node on the same cache, or the same state, is refused", async ({ settings, open }) => {
  const own = settings("first");
  await open(own);
  const other = settings("other");
  for (const taken of [
    own,
    { ...other, cache: own.cache },
    { ...other, node: { ...other.node, state: own.node.state } },
  ]) {
    const failure = await failureOf(CacheNode.open(taken));
    assert.instance(failure, BusyError);
    assert.is(failure.exit, 8);
  }
});

rule("a node that is closed lets go of everything, and may be opened again", async ({ settings, open, studio }) => {
  const own = settings("first");
  const first = await open(own);
  const { id } = first;
  await first.fetch(thing);
  await first[Symbol.asyncDispose]();
  assert.is((await failureOf(first.fetch(thing))).code, "STOPPED");
  const again = await open(own);
  assert.is(again.id, id);
  assert.is((await again.fetch(thing)).outcome, "local");
  assert.is(statSync(join(studio.path, "first/state/node.key")).mode & 0o777, 0o600);
});

rule("closing in the middle of a fetch ends it with a typed error, and the next one goes on", async (scene) => {
  const { settings, open } = scene;
  const own = settings("first");
  const first = await open(own);
  const begun = Promise.withResolvers<void>();
  const fetching = failureOf(first.fetch(thing, { onProgress: () => begun.resolve() }));
  await begun.promise;
  await within(5_000, "closing", first[Symbol.asyncDispose]());
  const failure = await fetching;
  assert.equal([failure.code, failure.exit], ["STOPPED", 6]);
  const again = await open(own);
  assert.is((await again.fetch(thing)).outcome, "fetched");
  assert.equal(await again.fsck(), { checked: 1, faults: [] });
});

rule("without a publisher that is trusted nothing is placed", async ({ settings, open, studio }) => {
  const own = settings("first");
  const failure = await failureOf((await open({ ...own, trust: { ...own.trust, publishers: [] } })).fetch(thing));
  assert.equal([failure.code, failure.exit], ["NOT_TRUSTED", 5]);
  const stranger = publicKeyText(await generatePublisherKey(join(studio.path, "stranger.pem")));
  const second = settings("second");
  const other = await open({ ...second, trust: { ...second.trust, publishers: [stranger] } });
  assert.is((await failureOf(other.fetch(thing))).code, "NOT_TRUSTED");
  assert.equal(readdirSync(join(studio.path, "second/cache")), [".sys"]);
});

rule("two releases that contradict each other are refused, and status says so", async (scene) => {
  const { settings, open, studio, tree } = scene;
  const own = settings("first");
  const path = join(studio.path, "other-origin");
  mkdirSync(path);
  const [filer] = own.origins;
  const other = { ...filer!, kind: "folder", name: "other", path, inPlace: false } as const;
  writeFileSync(join(tree, "more"), "x");
  const publishing = { ...own, origins: [other], publish: { ...own.publish, origin: "other" } };
  await publish(publishing, { variant, treePath: tree, requires: [] });
  const node = await open({ ...own, origins: [filer!, other] });
  const failure = await failureOf(node.fetch(thing));
  assert.equal([failure.code, failure.exit], ["RECORD_CONFLICT", 5]);
  assert.ok(node.status("1").warnings.some((warning) => warning.includes("disagree")));
});

rule("hash-only is warned about", async ({ settings, open }) => {
  const own = settings("first");
  const node = await open({ ...own, trust: { rootFile: undefined, publishers: [], mode: "hash-only" } });
  assert.match(node.status("1").warnings.join("\n"), "trust.mode is hash-only");
  assert.is((await node.fetch(thing)).outcome, "fetched");
});

rule("origin never, by setting or by call", async ({ settings, open }) => {
  const never = await open(settings("never", { originPolicy: "never" }));
  assert.is((await failureOf(never.fetch(thing))).code, "NOT_FOUND");
  assert.is((await failureOf(never.fetch(thing, { origin: "auto" }))).code, "NOT_FOUND");
  const auto = await open(settings("auto"));
  assert.is((await failureOf(auto.fetch(thing, { origin: "never" }))).code, "NOT_FOUND");
  assert.is((await auto.fetch(thing)).outcome, "fetched");
});

rule("a node that anybody could join does not run, unless that is written", async ({ settings, open }) => {
  const own = settings("first");
  for (const admission of ["key", "members"] as const) {
    const failure = await failureOf(
      CacheNode.open({ ...own, network: { name: "test", keyFile: undefined, admission } }),
    );
    assert.instance(failure, UsageError);
    assert.is(failure.exit, 2);
  }
  assert.is(existsSync(own.cache.path), false, "nothing was made");
  const nameless = await failureOf(CacheNode.open({ ...own, network: { ...own.network, name: undefined } }));
  assert.is(nameless.exit, 2);
  const openNode = await open({ ...own, network: { name: "test", keyFile: undefined, admission: "open" } });
  assert.is(openNode.status("1").addresses.length, 1);
});

rule("peers never: no port, no key, no dialling", async ({ settings, open, studio }) => {
  const friend = await open(settings("friend"));
  const before = servers();
  const own = settings("first", { bootstrap: [addressOf(friend)] });
  const transfer = { ...own.transfer, peers: "never" } as const;
  const network = { name: "test", keyFile: undefined, admission: "key" } as const;
  const node = await open({ ...own, transfer, network });
  assert.is(servers(), before);
  assert.equal([node.id, node.status("1").addresses, node.peers()], ["first", [], []]);
  assert.is((await node.fetch(thing)).outcome, "fetched");
  assert.is(existsSync(join(studio.path, "first/state/node.key")), false);
  assert.equal(friend.peers(), []);
});

rule("a peer of another network is not met, and said to be out of reach", async ({ settings, open, log }) => {
  const first = await open(settings("first"));
  const own = settings("second", { bootstrap: [addressOf(first)] });
  await open({ ...own, network: { ...own.network, keyFile: undefined, admission: "open" } });
  await log.until("why", ({ event }) => event === "bootstrap-unreachable");
  assert.equal(first.peers(), []);
});

rule("a port that is in use ends the start, and leaves the cache to others", async ({ settings, open }) => {
  const first = await open(settings("first"));
  const listen = [addressOf(first).replace(/\/p2p\/.*/, "")];
  const own = settings("second");
  const failure = await failureOf(CacheNode.open({ ...own, node: { ...own.node, listen } }));
  assert.equal([failure.code, failure.exit], ["CANNOT_LISTEN", 6]);
  await open(own);
});

rule("a new release is placed beside, and the peer has it at once", async ({ settings, open, tree, studio, log }) => {
  const first = await open(settings("first"));
  const second = await open(settings("second", { bootstrap: [addressOf(first)], originPolicy: "never" }));
  await log.until("that they met", ({ event, facts }) => event === "peer-joined" && facts.peer === first.id);
  await first.fetch(thing);
  await second.fetch(thing);
  writeFileSync(join(tree, "new-file"), "new");
  const publisher = loadSettings({ flags: { config: studio.configure("publisher") }, env: {} }).settings;
  await publish(publisher, { variant, treePath: tree, requires: [], supersede: true });
  const newer = await first.fetch(thing);
  assert.is(newer.outcome, "fetched");
  const result = await second.fetch(thing);
  assert.equal([result.outcome, result.payload, result.bytes.origin], ["fetched", newer.payload, 0]);
  assert.equal(listTree(result.path!), listTree(tree));
  assert.is(second.holdings().length, 1);
});

test.run();

/** Ports that this process listens on. */
function servers(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === "TCPServerWrap").length;
}
