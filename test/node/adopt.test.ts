import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MemoryRepository } from "../../node/origins/memory-origin.ts";
import type { Origin } from "../../node/ports.ts";
import type { ChunkHash } from "../../protocol/hash.ts";
import { variantHash } from "../../protocol/variant.ts";
import { FetchWorld, publishSample, unreachable, WatchedOrigin } from "../support/fetch-world.ts";
import { engine, variantOf } from "../support/payloads.ts";
import { within } from "../support/swarm-member.ts";

const test = suite("the fetcher and Rez's own copies");
const variant = variantHash(variantOf("foo"), engine.hash);

interface Scene {
  readonly world: FetchWorld;
  readonly repository: MemoryRepository;
  readonly origin: WatchedOrigin;
}

function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    const repository = new MemoryRepository("filer");
    await publishSample(repository);
    const world = new FetchWorld();
    await within(20_000, text, check({ world, repository, origin: new WatchedOrigin(repository) }));
  });
}

rule("Rez's own copy is adopted where it is what was released", async ({ world, repository, origin }) => {
  const chunks = new Map<ChunkHash, Uint8Array>();
  const before: Origin = {
    name: "filer",
    latestRecord: (hash) => repository.latestRecord(hash),
    chunk: async (hash, sizeBytes) => {
      const bytes = await repository.chunk(hash, sizeBytes);
      chunks.set(hash, bytes.slice());
      return bytes;
    },
  };
  await world.node("before", { origins: [before] }).fetcher.fetch(variant);
  const equal = world.node("a", { origins: [origin] });
  equal.store.putForeign(variantOf("foo"), "/rez/foo", { chunks });
  const { outcome, path, bytes } = await equal.fetcher.fetch(variant, { peers: "never" });
  const { root } = equal.store.recordOf(variant)!;
  const segmentBytes = root.segments.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  assert.equal([outcome, path], ["local", "/rez/foo"]);
  assert.equal(bytes, { local: root.bytes, peers: 0, origin: segmentBytes });
  assert.is(origin.chunks, root.segments.length);
  assert.is(equal.store.announced().length, 1);
  assert.is((await equal.fetcher.fetch(variant)).bytes.origin, 0);
});

rule("Rez's own copy that differs, or cannot be compared, is left alone with the reason", async ({ world, origin }) => {
  const node = world.node("a", { origins: [origin] });
  node.store.putForeign(variantOf("foo"), "/rez/foo");
  const differing = await node.fetcher.fetch(variant);
  assert.equal([differing.outcome, differing.path], ["skipped", "/rez/foo"]);
  assert.match(differing.reason!, /Rez has its own copy there, which is left alone: item \d+ has other content/);
  const away = world.node("b", { origins: [origin] });
  away.store.putForeign(variantOf("foo"), "/rez/foo");
  origin.before = (what) => (what === "chunk" ? unreachable() : undefined);
  const unknown = await away.fetcher.fetch(variant, { peers: "never" });
  assert.equal([unknown.outcome, unknown.path], ["skipped", "/rez/foo"]);
  assert.match(unknown.reason!, /cannot be compared/);
});

test.run();
