import { suite } from "uvu";
import * as assert from "uvu/assert";
import { indexedVariants, readReleases } from "../../node/origin-releases.ts";
import { MemoryRepository } from "../../node/origins/memory-origin.ts";
import type { VariantHash } from "../../protocol/hash.ts";
import { encodeIndex } from "../../protocol/origin-index.ts";
import { variantHash } from "../../protocol/variant.ts";
import { publishSample, unreachable, WatchedOrigin } from "../support/fetch-world.ts";
import { engine, variantOf } from "../support/payloads.ts";
import { failureOf } from "../support/swarm-member.ts";

const test = suite("the releases of an origin");
const options = { publishers: new Map(), hasher: engine.hash, matches: () => true };
const repository = new MemoryRepository("server");
const names = Array.from({ length: 10 }, (_, i) => `foo${i}`);
for (const name of names) await publishSample(repository, { variant: variantOf(name) });

function indexOf(...all: string[]): Uint8Array {
  return encodeIndex(all.map((name) => ({ variant: variantOf(name), revision: 7, isWithdrawn: false })));
}

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

test("an index only says where to look: what it says of a release counts for nothing", async () => {
  const indexed = { name: "server", index: async () => indexOf(...names, "gone") };
  const releases = await collect(readReleases(repository, indexedVariants(indexed, options), options));
  assert.equal(
    releases.map(({ record, trust }) => [record?.variant.name, record?.revision, trust]),
    names.map((name) => [name, 0, "unknown-key"]),
  );
});

test("an origin without an index, or with a broken one, cannot be listed, and says so", async () => {
  const listing = (bytes: Uint8Array | undefined) =>
    failureOf(collect(indexedVariants({ name: "server", index: async () => bytes }, options)));
  assert.is((await listing(undefined)).code, "NOT_FOUND");
  assert.is((await listing(indexOf("a").subarray(1))).code, "BAD_FORMAT");
});

test("what a pattern leaves out is not even asked for", async () => {
  const asked = new WatchedOrigin(repository);
  const matching = { ...options, matches: ({ name }: { name: string }) => name === "foo3" };
  const indexed = { name: "server", index: async () => indexOf(...names) };
  assert.is((await collect(readReleases(asked, indexedVariants(indexed, matching), matching))).length, 1);
  assert.is(asked.records, 1);
});

test("a record that is broken, or another variant's, is told as unreadable, and hides no other", async () => {
  const broken = new MemoryRepository("server");
  for (const [hash, records] of repository.records) broken.records.set(hash, [...records]);
  const [first, second, third] = names.map((name) => variantHash(variantOf(name), engine.hash));
  broken.records.set(first!, [Buffer.from("{}")]);
  broken.records.set(second!, broken.records.get(third!)!);
  async function* variants(): AsyncGenerator<VariantHash> {
    yield* [first!, second!, third!];
  }
  const releases = await collect(readReleases(broken, variants(), options));
  assert.equal(
    releases.map(({ trust }) => trust),
    ["unreadable", "unreadable", "unknown-key"],
  );
  const away = new WatchedOrigin(broken);
  away.before = unreachable;
  assert.is((await failureOf(collect(readReleases(away, variants(), options)))).code, "UNREACHABLE");
});

test.run();
