// runs unprivileged
// deadline: 180 s
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Seeds } from "../../node/seeds.ts";
import type { P2pCacheError } from "../../protocol/errors.ts";
import { seededRandom } from "../../protocol/random.ts";
import { registrarsFor } from "../../protocol/registrars.ts";
import { variantHash } from "../../protocol/variant.ts";
import { CrowdWorld } from "../support/crowd-world.ts";
import { never, type TestNode, unreachable } from "../support/fetch-world.ts";
import { engine, variantOf } from "../support/payloads.ts";
import { failureOf, payloadNamed, within } from "../support/swarm-member.ts";

const test = suite("a crowd of nodes");
const variant = variantHash(variantOf("foo"), engine.hash);
const fetchAll = (nodes: readonly TestNode[]) => Promise.all(nodes.map(({ fetcher }) => fetcher.fetch(variant)));
type Results = Awaited<ReturnType<typeof fetchAll>>;
const originBytes = (results: Results) => results.reduce((sum, { bytes }) => sum + bytes.origin, 0);
const allFetched = (results: Results) => results.every(({ outcome }) => outcome === "fetched");

function rule(text: string, check: (scene: CrowdWorld) => Promise<void>): void {
  test(text, async () => within(60_000, text, check(await CrowdWorld.open())));
}

/** Resolves once the origins have been asked for so many items. */
async function originsAsked(scene: CrowdWorld, items: number): Promise<void> {
  while (scene.origins.reduce((sum, { chunks }) => sum + chunks, 0) < items) await new Promise(setImmediate);
}

/** The registrars of the payload among these, the first first. */
function registrarsAmong(scene: CrowdWorld, nodes: readonly TestNode[]): TestNode[] {
  const members = nodes.map(({ name }) => ({ name, upSinceMs: 0 }));
  const names = registrarsFor(scene.published.payload, members, 1e12);
  return names.map((name) => nodes.find((node) => node.name === name)!);
}

rule("eight that want the same cold payload at once read the origin about once", async (scene) => {
  const results = await fetchAll(scene.nodes(8));
  assert.ok(allFetched(results));
  const copies = originBytes(results) / scene.published.newBytes;
  assert.ok(copies >= 0.99 && copies <= 1.1, `${copies} copies`);
});

rule("two alone read the origin about once", async (scene) => {
  const results = await fetchAll(scene.nodes(2));
  assert.ok(allFetched(results));
  assert.ok(originBytes(results) <= 1.1 * scene.published.newBytes);
});

rule("when the first registrar dies half-way another takes its place", async (scene) => {
  const nodes = scene.nodes(6);
  const [registrar] = registrarsAmong(scene, nodes);
  const others = nodes.filter((node) => node !== registrar);
  const fetching = fetchAll(others);
  await originsAsked(scene, 12);
  await registrar!.swarm[Symbol.asyncDispose]();
  const results = await fetching;
  assert.ok(allFetched(results));
  assert.ok(originBytes(results) <= 1.3 * scene.published.newBytes, `${originBytes(results)} bytes`);
});

rule("what a node took a lease for, and does not bring, another one brings", async (scene) => {
  const stuck = scene.origin();
  stuck.before = (what) => (what === "chunk" ? never : undefined);
  const slow = scene.node("slow", stuck);
  const others = ["a", "b", "c"].map((name) => scene.node(name));
  const fetching = slow.fetcher.fetch(variant);
  while (stuck.chunks === 0) await new Promise(setImmediate);
  const results = await fetchAll(others);
  assert.ok(allFetched(results));
  assert.ok(originBytes(results) <= 1.2 * scene.published.newBytes);
  const { bytes } = await fetching;
  assert.equal([bytes.origin, bytes.peers > 0], [0, true]);
});

rule("a node that dies with its leases does not hold up the others", async (scene) => {
  const stuck = scene.origin();
  stuck.before = (what) => (what === "chunk" ? never : undefined);
  const dying = scene.node("dying", stuck);
  const others = ["a", "b", "c"].map((name) => scene.node(name));
  const ended = failureOf(dying.fetcher.fetch(variant));
  while (stuck.chunks === 0) await new Promise(setImmediate);
  const startedMs = performance.now();
  const fetching = fetchAll(others);
  await dying.swarm[Symbol.asyncDispose]();
  const close = dying.fetcher.close(new Error("killed"));
  assert.ok(allFetched(await fetching));
  assert.ok(performance.now() - startedMs < 15_000);
  await close;
  assert.is((await ended).message, "killed");
});

rule("never is never, also in a crowd, and when whoever may read does not", async (scene) => {
  const forbidden = Array.from({ length: 4 }, (_, i) => ({ i, origin: scene.origin() }));
  const nodes = forbidden.map(({ i, origin }) => scene.node(`never${i}`, origin));
  for (const { store } of nodes) await store.noteRecord(variant, scene.repository.records.get(variant)![0]!);
  const reader = scene.node("reader");
  const [results, first] = await Promise.all([
    Promise.all(nodes.map(({ fetcher }) => fetcher.fetch(variant, { origin: "never" }))),
    reader.fetcher.fetch(variant),
  ]);
  assert.ok(allFetched([...results, first]));
  for (const { origin } of forbidden) assert.equal([origin.records, origin.chunks], [0, 0]);
});

rule("an origin that goes once everything of it is somewhere keeps nobody from the end", async (scene) => {
  const nodes = scene.nodes(4);
  const read = new Set<string>();
  for (const origin of scene.origins) {
    const chunk = origin.chunk.bind(origin);
    origin.chunk = async (...asked) => {
      if (read.size === scene.repository.chunks.size) unreachable();
      const bytes = await chunk(...asked);
      read.add(asked[0]);
      return bytes;
    };
  }
  assert.ok(allFetched(await fetchAll(nodes)));
});

rule("an item that is nowhere is named, and the fetch goes on where it was once the origin is back", async (scene) => {
  const limits = { joinMs: 200, hopelessMs: 200, patienceMs: 1_000, inFlightBytesMax: 16 << 20 };
  const nodes = ["a", "b"].map((name) => scene.node(name, scene.origin(), { transfers: { limits } }));
  const lost = [...scene.repository.chunks.keys()][5]!;
  const originals = scene.origins.map((origin) => origin.chunk.bind(origin));
  for (const [i, origin] of scene.origins.entries()) {
    origin.chunk = async (...asked) => (asked[0] === lost ? unreachable() : await originals[i]!(...asked)) as never;
  }
  const failures = (await Promise.all(
    nodes.map(({ fetcher }) => failureOf(fetcher.fetch(variant))),
  )) as P2pCacheError[];
  for (const { code, exit, details } of failures) {
    assert.equal([code, exit, details?.missingItems], ["UNREACHABLE", 6, 1]);
    assert.type(details?.item, "number");
  }
  for (const [i, origin] of scene.origins.entries()) origin.chunk = originals[i]!;
  const before = scene.origins.reduce((sum, { chunks }) => sum + chunks, 0);
  assert.ok(allFetched(await fetchAll(nodes)));
  assert.ok(scene.origins.reduce((sum, { chunks }) => sum + chunks, 0) - before <= 2);
});

rule("a node that knows a holder asks it at once, and the origin for nothing", async (scene) => {
  const holder = scene.node("holder");
  await holder.fetcher.fetch(variant);
  const late = scene.origin();
  const node = scene.node("late", late);
  while (!holder.swarm.peers().some(({ peer }) => peer === "late")) await new Promise(setImmediate);
  const startedMs = performance.now();
  const { bytes } = await node.fetcher.fetch(variant);
  assert.equal([bytes.origin, late.chunks], [0, 0]);
  assert.ok(performance.now() - startedMs < 10_000);
});

test("a holder takes twenty links of a payload, and another when one has gone", () => {
  const seeds = new Seeds(seededRandom(1), () => 0);
  const [payload, other] = [payloadNamed("aa"), payloadNamed("bb")];
  for (let i = 0; i < 20; i++) assert.is(seeds.mayJoin(`p${i}`, payload), true);
  assert.is(seeds.mayJoin("late", payload), false);
  assert.is(seeds.mayJoin("p3", payload), true, "who is in already");
  assert.is(seeds.mayJoin("late", other), true);
  seeds.unjoined("p7", payload);
  assert.is(seeds.mayJoin("late", payload), true);
  assert.is([...seeds.release(payload)].length, 20);
  assert.equal([...seeds.release(payload)], []);
});

test.run();
