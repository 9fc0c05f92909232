import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MemoryRepository } from "../../node/origins/memory-origin.ts";
import { withdrawVariant } from "../../node/payloads/withdrawer.ts";
import { RecordWatch, recordForPeers, watchRecords } from "../../node/record-watch.ts";
import { NotTrustedError, type P2pCacheError } from "../../protocol/errors.ts";
import { parseVariantHash } from "../../protocol/hash.ts";
import { variantHash } from "../../protocol/variant.ts";
import { FetchWorld, never, publishSample, type TestNode, unreachable, WatchedOrigin } from "../support/fetch-world.ts";
import { engine, variantOf } from "../support/payloads.ts";
import { failureOf, within } from "../support/swarm-member.ts";

const test = suite("a withdrawn variant");
const variant = variantHash(variantOf("foo"), engine.hash);
const publisher = "aa".repeat(32);

interface Scene {
  readonly world: FetchWorld;
  readonly repository: MemoryRepository;
  readonly origin: WatchedOrigin;
  readonly withdraw: (keyid?: string, reason?: string) => Promise<number>;
}

function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    const repository = new MemoryRepository("filer");
    await publishSample(repository);
    const withdraw = async (keyid = publisher, reason = "it crashes"): Promise<number> => {
      const sign = { keyid, sign: (message: Uint8Array) => engine.hash(message) };
      const now = "2026-07-02T08:00:00Z";
      return (await withdrawVariant({ variant: variantOf("foo"), reason, repository, engine, sign, now })).revision;
    };
    const scene = { world: new FetchWorld(), repository, origin: new WatchedOrigin(repository), withdraw };
    await within(20_000, text, check(scene));
  });
}

async function refusal({ fetcher }: TestNode): Promise<readonly [string, number]> {
  const { code, exit } = (await failureOf(fetcher.fetch(variant))) as P2pCacheError;
  return [code, exit];
}

rule("a fetch of it fails and says who, when and why; who holds it drops it then", async (scene) => {
  const { world, origin, withdraw } = scene;
  const node = world.node("a", { origins: [origin] });
  await node.fetcher.fetch(variant);
  await withdraw();
  const error = await failureOf(node.fetcher.fetch(variant));
  assert.equal([error.code, error.exit], ["WITHDRAWN", 3]);
  assert.match(error.message, "studio:foo-1.0.0 was withdrawn by aaaaaaaaaaaaaaaa on 2026-07-02T08:00:00Z: it crashes");
  assert.equal(node.store.holdings(), []);
});

rule("once seen it is never gone behind: an older release is taken from nobody", async (scene) => {
  const { world, repository, origin, withdraw } = scene;
  await world.holder("holder", repository, variant);
  await withdraw();
  const node = world.node("a", { origins: [origin] });
  assert.equal(await refusal(node), ["WITHDRAWN", 3]);
  repository.records.get(variant)!.pop();
  assert.equal(await refusal(node), ["WITHDRAWN", 3]);
  origin.before = unreachable;
  assert.equal(await refusal(node), ["WITHDRAWN", 3]);
});

rule("it is passed on to peers that ask, by who dropped it and by who never had it", async (scene) => {
  const { world, repository, origin, withdraw } = scene;
  await world.holder("holder", repository, variant);
  await withdraw();
  const seen = world.node("seen", { origins: [origin] });
  assert.equal(await refusal(seen), ["WITHDRAWN", 3]);
  const envelope = await seen.store.record(variant);
  assert.is(await recordForPeers(seen.store, variant, engine.hash), envelope);
  const handlers = { record: () => recordForPeers(seen.store, variant, engine.hash) };
  world.node("teller", { handlers });
  // Its other peer holds the release still.
  assert.equal(await refusal(world.node("a")), ["WITHDRAWN", 3]);
});

rule("a release that is only known, and not held, is not passed on", async ({ world, repository }) => {
  const node = world.node("a");
  await node.store.noteRecord(variant, repository.records.get(variant)![0]!);
  assert.is(await recordForPeers(node.store, variant, engine.hash), undefined);
});

rule("a withdrawal by somebody whom nobody trusts changes nothing", async ({ world, origin, withdraw }) => {
  const node = world.node("a", { origins: [origin] });
  await node.fetcher.fetch(variant);
  await withdraw("bb".repeat(32));
  assert.is((await node.fetcher.fetch(variant)).outcome, "local");
  await node.fetcher.look(variant, new AbortController().signal);
  assert.is(node.store.holdings().length, 1);
});

rule("what is withdrawn, or released anew, while it comes in is told, or brought in", async (scene) => {
  const { world, repository, origin, withdraw } = scene;
  for (const [name, isReleased] of [
    ["a", false],
    ["b", true],
  ] as const) {
    const { store, fetcher } = world.node(name, { origins: [origin] });
    const commit = store.commit.bind(store);
    let commits = 0;
    store.commit = async (...parts) => {
      if (commits++ > 0) return await commit(...parts);
      await withdraw();
      if (isReleased) await publishSample(repository);
      await store.noteRecord(variant, repository.records.get(variant)!.at(-1)!);
      throw new NotTrustedError("outdated", { code: "RECORD_OUTDATED" });
    };
    if (isReleased) assert.is((await fetcher.fetch(variant)).outcome, "fetched");
    else assert.is((await failureOf(fetcher.fetch(variant))).code, "WITHDRAWN");
    assert.is(commits, isReleased ? 2 : 1);
    await publishSample(repository);
  }
});

rule("a release after it is the next revision, and is fetched", async ({ world, repository, origin, withdraw }) => {
  const node = world.node("a", { origins: [origin] });
  await node.fetcher.fetch(variant);
  assert.is(await withdraw(), 1);
  assert.is(await withdraw(), 1);
  assert.equal(await refusal(node), ["WITHDRAWN", 3]);
  assert.is((await publishSample(repository)).revision, 2);
  assert.is((await node.fetcher.fetch(variant)).outcome, "fetched");
});

rule("a look drops it, also while a slow origin takes its time", async ({ world, origin, withdraw }) => {
  const told: (Error | undefined)[] = [];
  const fetcher = { onWithdrawn: (_: unknown, error: Error | undefined) => void told.push(error) };
  const node = world.node("a", { origins: [origin], fetcher });
  await node.fetcher.fetch(variant);
  const { signal } = new AbortController();
  await node.fetcher.look(variant, signal);
  assert.is(node.store.holdings().length, 1);
  await withdraw();
  origin.before = unreachable;
  await node.fetcher.look(variant, signal);
  assert.equal([node.store.holdings().length, told], [1, []]);
  origin.before = () => undefined;
  node.store.isLocked = true;
  await node.fetcher.look(variant, signal);
  assert.equal([node.store.holdings().length, (told[0] as P2pCacheError).code], [1, "REZ_LOCK_HELD"]);
  node.store.isLocked = false;
  await node.fetcher.look(variant, signal);
  assert.equal([node.store.holdings(), told[1]], [[], undefined]);
});

rule("a newer release that a look finds is remembered, and not fetched by itself", async (scene) => {
  const { world, repository, origin } = scene;
  const node = world.node("a", { origins: [origin] });
  const first = await node.fetcher.fetch(variant);
  await publishSample(repository, { seed: 2, supersede: true });
  await node.fetcher.look(variant, new AbortController().signal);
  assert.is(node.store.holding(variant)!.payload, first.payload);
  assert.equal(await node.store.record(variant), repository.records.get(variant)![1]);
});

rule("the watch looks at one after the other, and ends in the middle of a look", async () => {
  const looked = Promise.withResolvers<AbortSignal>();
  const waits: number[] = [];
  const watch = new RecordWatch({
    held: () => [variant],
    periodMs: 60_000,
    random: () => 0.5,
    wait: async (waitMs) => void waits.push(waitMs),
    look: async (_, signal) => {
      if (waits.length < 3) return;
      looked.resolve(signal);
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
  });
  const signal = await looked.promise;
  await watch[Symbol.asyncDispose]();
  assert.equal([signal.aborted, waits], [true, [1_000, 60_000, 60_000]]);
  const idle = new RecordWatch({ held: () => [], look: () => never });
  await idle[Symbol.asyncDispose]();
});

test("what comes to be held is looked at, and what has gone is not any more", async () => {
  const hashes = ["1", "2", "3"].map((digit) => parseVariantHash(digit.repeat(64)));
  const held = (...of: number[]) => of.map((i) => ({ hash: hashes[i]! }));
  let entries = held(0, 1);
  const looked: number[] = [];
  const done = Promise.withResolvers<void>();
  await using _watch = watchRecords(
    { entries: () => entries },
    {
      look: async (hash) => {
        looked.push(hashes.indexOf(hash));
        if (looked.length === 2) entries = held(1, 2);
        if (looked.length === 5) done.resolve();
      },
    },
    {
      wait: async (_, signal) => {
        if (looked.length < 5) return;
        await new Promise((_resolve, reject) => signal.addEventListener("abort", reject));
      },
    },
  );
  await done.promise;
  assert.equal(looked, [0, 1, 2, 1, 2]);
});

test("the watch looks more seldom where many machines look", async () => {
  const waited = Promise.withResolvers<void>();
  const waits: number[] = [];
  await using _watch = new RecordWatch({
    held: () => [variant],
    machines: () => 100_000,
    random: () => 0.5,
    wait: async (waitMs, signal) => {
      if (waits.push(waitMs) < 2) return;
      waited.resolve();
      await new Promise((_resolve, reject) => signal.addEventListener("abort", reject));
    },
    look: async () => undefined,
  });
  await waited.promise;
  assert.equal(waits, [60_000, 5_000_000]);
});

test.run();
