// runs unprivileged
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MemoryRepository } from "../../node/origins/memory-origin.ts";
import { BusyError, DeadlineError, P2pCacheError } from "../../protocol/errors.ts";
import { defaultAttributes } from "../../protocol/record.ts";
import { variantHash } from "../../protocol/variant.ts";
import { FetchWorld, never, publishSample, unreachable, WatchedOrigin } from "../support/fetch-world.ts";
import { engine, variantOf } from "../support/payloads.ts";
import { failureOf, within } from "../support/swarm-member.ts";

const test = suite("the fetcher");
const variant = variantHash(variantOf("foo"), engine.hash);

interface Scene {
  readonly world: FetchWorld;
  readonly repository: MemoryRepository;
  readonly origin: WatchedOrigin;
  readonly bytes: number;
  readonly contentBytes: number;
}

/** A rule about one release, `foo`, at one origin. */
function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    const repository = new MemoryRepository("filer");
    const published = await publishSample(repository);
    const scene = {
      world: new FetchWorld(),
      repository,
      origin: new WatchedOrigin(repository),
      bytes: published.bytes,
      contentBytes: published.newBytes,
    };
    await within(20_000, text, check(scene));
  });
}

rule(
  "a variant comes from the origin once, and is here from then on",
  async ({ world, origin, bytes, contentBytes }) => {
    const { fetcher, store } = world.node("a", { origins: [origin] });
    const seen: number[] = [];
    const onProgress = (progress: { bytes: { origin: number }; totalBytes: number; text: string }) => {
      assert.equal([progress.totalBytes, progress.text], [bytes, "studio:foo-1.0.0"]);
      seen.push(progress.bytes.origin);
    };
    const result = await fetcher.fetch(variant, { onProgress });
    assert.equal([result.outcome, result.handle, result.variant], ["fetched", "studio:foo-1.0.0", variant]);
    assert.ok(result.bytes.origin >= contentBytes && result.bytes.peers === 0);
    assert.equal(
      seen,
      [...seen].sort((a, b) => a - b),
    );
    assert.is(store.files(variant).size, 24);
    const chunks = origin.chunks;
    const again = await fetcher.fetch(variant);
    assert.equal(
      [again.outcome, again.path, again.bytes],
      ["local", result.path, { local: bytes, peers: 0, origin: 0 }],
    );
    assert.is(origin.chunks, chunks);
    assert.equal(fetcher.transfers(), []);
  },
);

rule("what a peer has comes from it, and nothing from the origin", async ({ world, repository, origin }) => {
  await world.holder("holder", repository, variant);
  const node = world.node("a", { origins: [origin] });
  const { bytes } = await node.fetcher.fetch(variant);
  assert.equal([bytes.origin, origin.chunks], [0, 0]);
  assert.ok(bytes.peers > 0);
  assert.equal(node.standing.summary("holder"), { strikes: 0, bytesFrom: bytes.peers, bytesTo: 0 });
});

rule("nodes that fetch at once share what each has so far", async ({ world, origin, contentBytes }) => {
  const nodes = ["a", "b", "c"].map((name) => world.node(name, { origins: [origin] }));
  const results = await Promise.all(nodes.map(({ fetcher }) => fetcher.fetch(variant)));
  for (const { store } of nodes) assert.is(store.files(variant).size, 24);
  assert.ok(results.every(({ outcome, bytes }) => outcome === "fetched" && bytes.peers + bytes.origin >= contentBytes));
});

rule("two callers share one transfer", async ({ world, origin }) => {
  const { fetcher } = world.node("a", { origins: [origin] });
  const alone = await world.node("b", { origins: [origin] }).fetcher.fetch(variant, { peers: "never" });
  const chunksOfOne = origin.chunks;
  const [one, other] = await Promise.all([
    fetcher.fetch(variant, { peers: "never" }),
    fetcher.fetch(variant, { peers: "never" }),
  ]);
  assert.is(origin.chunks, 2 * chunksOfOne);
  assert.equal(one.bytes, other.bytes);
  assert.equal(one.bytes, alone.bytes);
});

rule("one caller that leaves hears its own reason, and does not end it for the other", async ({ world, origin }) => {
  const open = Promise.withResolvers<void>();
  origin.before = (what) => (what === "chunk" ? open.promise : undefined);
  const { fetcher } = world.node("a", { origins: [origin] });
  const stop = new AbortController();
  const stays = fetcher.fetch(variant);
  const leaves = failureOf(fetcher.fetch(variant, { signal: stop.signal }));
  const reason = new Error("I leave");
  stop.abort(reason);
  assert.is(await leaves, reason);
  assert.is(await failureOf(fetcher.fetch(variant, { signal: AbortSignal.abort(reason) })), reason);
  open.resolve();
  assert.is((await stays).outcome, "fetched");
});

rule("when all callers have left it ends, and the next one starts anew", async ({ world, origin }) => {
  const signals: (AbortSignal | undefined)[] = [];
  origin.before = (what, signal) => {
    if (what === "record") return;
    signals.push(signal);
    return never;
  };
  const { fetcher } = world.node("a", { origins: [origin] });
  const stops = [new AbortController(), new AbortController()];
  const fetches = stops.map(({ signal }) => failureOf(fetcher.fetch(variant, { signal })));
  while (signals.length === 0) await new Promise(setImmediate);
  for (const stop of stops) stop.abort(new Error("enough"));
  for (const failure of await Promise.all(fetches)) assert.is(failure.message, "enough");
  // At once, while the old one is still tidying up.
  origin.before = () => undefined;
  assert.is((await fetcher.fetch(variant)).outcome, "fetched");
  assert.ok(signals.every((signal) => signal?.aborted));
});

rule("every caller has a deadline of its own", async ({ world, origin }) => {
  const open = Promise.withResolvers<void>();
  origin.before = (what) => (what === "chunk" ? open.promise : undefined);
  const { fetcher } = world.node("a", { origins: [origin] });
  const patient = fetcher.fetch(variant);
  const hasty = await failureOf(fetcher.fetch(variant, { timeoutMs: 50 }));
  assert.instance(hasty, DeadlineError);
  assert.equal([hasty.code, hasty.exit], ["DEADLINE", 6]);
  assert.match(hasty.message, /^not done within 0\.05 s, and (\S+ .?B) of \1 of studio:\S+ are missing$/);
  open.resolve();
  assert.is((await patient).outcome, "fetched");
});

for (const what of ["record", "chunk"] as const) {
  rule(
    `an origin that hangs for ever over a ${what} ends by the deadline, and others are not held up`,
    async (scene) => {
      const { world, origin, repository } = scene;
      origin.before = (asked) => (asked === what ? never : undefined);
      const { fetcher } = world.node("a", { origins: [origin], timeoutMs: 300 });
      const startedMs = performance.now();
      assert.instance(await failureOf(fetcher.fetch(variant)), DeadlineError);
      assert.ok(performance.now() - startedMs < 1_500);
      const second = world.node("b", { origins: [origin, repository] });
      assert.is((await second.fetcher.fetch(variant)).outcome, "fetched");
    },
  );
}

rule("a local hit is quick when the origin cannot be reached, and waits little for one that hangs", async (scene) => {
  const { world, origin } = scene;
  const { fetcher } = world.node("a", { origins: [origin] });
  await fetcher.fetch(variant);
  for (const [before, withinMs] of [
    [unreachable, 400],
    [() => never, 1_500],
  ] as const) {
    origin.before = before;
    const startedMs = performance.now();
    assert.is((await fetcher.fetch(variant)).outcome, "local");
    assert.ok(performance.now() - startedMs < withinMs, `${performance.now() - startedMs} ms`);
  }
});

rule(
  "origin never: the origin is not asked for anything, also when peers fail",
  async ({ world, repository, origin }) => {
    const serve = async () => undefined;
    await world.holder("holder", repository, variant, { handlers: { serve } });
    const { fetcher } = world.node("a", { origins: [origin] });
    const failure = await failureOf(fetcher.fetch(variant, { origin: "never" }));
    assert.equal([failure.code, failure.exit], ["NOT_FOUND", 3]);
    assert.equal([origin.records, origin.chunks], [0, 0]);
    const unknown = variantHash(variantOf("bar"), engine.hash);
    assert.is((await failureOf(fetcher.fetch(unknown, { origin: "never" }))).code, "NOT_FOUND");
    assert.equal([origin.records, origin.chunks], [0, 0]);
  },
);

rule("peers never: nobody is asked for anything", async ({ world, repository, origin }) => {
  await world.holder("holder", repository, variant);
  const node = world.node("a", { origins: [origin] });
  while (node.swarm.peers().length === 0) await new Promise(setImmediate);
  const { bytes } = await node.fetcher.fetch(variant, { peers: "never" });
  assert.is(bytes.peers, 0);
  assert.equal(node.swarm.asked, []);
});

rule("a peer that appears midway is used", async ({ world, repository, origin }) => {
  origin.before = (what) => (what === "chunk" ? never : undefined);
  const elsewhere = new FetchWorld();
  const holder = await elsewhere.holder("holder", repository, variant);
  const node = world.node("a", { origins: [origin] });
  const fetching = node.fetcher.fetch(variant);
  while (origin.chunks === 0) await new Promise(setImmediate);
  world.network.connect(node.swarm, holder.swarm);
  const { bytes } = await fetching;
  assert.is(bytes.origin, 0);
  assert.ok(bytes.peers > 0);
});

rule("a peer that goes midway does not end it", async ({ world, repository, origin }) => {
  const [held, holder] = [world.node("a", { origins: [origin] }), await world.holder("holder", repository, variant)];
  const fetching = held.fetcher.fetch(variant, {
    onProgress: ({ bytes }) => {
      if (bytes.peers > 0) world.network.disconnect(held.swarm, holder.swarm);
    },
  });
  const { bytes } = await fetching;
  assert.ok(bytes.peers > 0 && bytes.origin > 0);
});

rule("what nobody has is not found", async ({ world, origin }) => {
  const { fetcher } = world.node("a", { origins: [origin] });
  const failure = await failureOf(fetcher.fetch(variantHash(variantOf("bar"), engine.hash)));
  assert.equal([failure.code, failure.exit], ["NOT_FOUND", 3]);
});

rule("items that an origin lost are not found, and said to be", async ({ world, repository }) => {
  repository.chunks.delete([...repository.chunks.keys()][3]!);
  const failure = await failureOf(world.node("a", { origins: [repository] }).fetcher.fetch(variant));
  assert.equal([failure.code, failure.exit], ["NOT_FOUND", 3]);
  assert.match(failure.message, /\d of 10 items of studio:foo-1\.0\.0 are nowhere to be had/);
});

rule("a release by somebody whom nobody trusts is not trusted", async ({ world, origin }) => {
  const { fetcher } = world.node("a", { origins: [origin], publishers: new Map() });
  const failure = await failureOf(fetcher.fetch(variant));
  assert.equal([failure.code, failure.exit], ["NOT_TRUSTED", 5]);
  assert.is(origin.chunks, 0);
});

rule("an origin out of reach, and no peers", async ({ world, origin }) => {
  const { fetcher } = world.node("a", { origins: [origin] });
  origin.before = unreachable;
  const failure = await failureOf(fetcher.fetch(variant));
  assert.equal([failure.code, failure.exit], ["UNREACHABLE", 6]);
  origin.before = (what) => (what === "chunk" ? unreachable() : undefined);
  assert.equal((await failureOf(fetcher.fetch(variant))).code, "UNREACHABLE");
});

rule("an origin that was away for a moment", async ({ world, origin }) => {
  let calls = 0;
  origin.before = (what) => (what === "chunk" && calls++ < 1 ? unreachable() : undefined);
  assert.is((await world.node("a", { origins: [origin] }).fetcher.fetch(variant)).outcome, "fetched");
});

rule("wrong bytes at the only origin are named", async ({ world, repository }) => {
  const [hash, bytes] = [...repository.chunks].at(2)!;
  repository.chunks.set(
    hash,
    bytes.map((byte) => byte ^ 1),
  );
  const node = world.node("a", { origins: [repository] });
  const failure = (await failureOf(node.fetcher.fetch(variant))) as P2pCacheError;
  assert.equal([failure.code, failure.exit], ["CHUNK_CORRUPT", 4]);
  assert.match(failure.message, /item \d+ is wrong at the origin filer/);
  assert.equal(failure.details?.sources, ["origin:filer"]);
  assert.equal(node.store.holdings(), []);
});

rule("wrong bytes at the first origin, right ones at the second", async ({ world, repository }) => {
  const broken = new MemoryRepository("broken");
  for (const [hash, bytes] of repository.chunks)
    broken.chunks.set(
      hash,
      bytes.map((byte) => byte ^ 1),
    );
  broken.records.set(variant, repository.records.get(variant)!);
  assert.is((await world.node("a", { origins: [broken, repository] }).fetcher.fetch(variant)).outcome, "fetched");
});

rule("fetches with different options do not meet in one staging tree", async ({ world, origin }) => {
  const { fetcher, store } = world.node("a", { origins: [origin] });
  const results = await Promise.all([
    fetcher.fetch(variant),
    fetcher.fetch(variant, { peers: "never" }),
    fetcher.fetch(variant, { peers: "auto", origin: "auto" }),
  ]);
  // Two of them are one transfer; whichever came second found the tree in its place.
  const outcomes = results.map(({ outcome }) => outcome);
  assert.is(outcomes[0], outcomes[2]);
  assert.equal([outcomes[0], outcomes[1]].sort(), ["fetched", "local"]);
  assert.is(store.holdings().length, 1);
});

rule("two variants that are one tree are both placed", async ({ world, repository, origin }) => {
  const other = variantOf("other");
  await publishSample(repository, { variant: other });
  const { fetcher, store } = world.node("a", { origins: [origin] });
  await Promise.all([fetcher.fetch(variant), fetcher.fetch(variantHash(other, engine.hash))]);
  assert.equal(
    store
      .holdings()
      .map(({ name }) => name)
      .sort(),
    ["foo", "other"],
  );
});

rule("when Rez's lock is held what came is kept for the next try", async ({ world, origin }) => {
  const { fetcher, store } = world.node("a", { origins: [origin] });
  store.isLocked = true;
  const failure = await failureOf(fetcher.fetch(variant));
  assert.instance(failure, BusyError);
  assert.is(failure.exit, 8);
  store.isLocked = false;
  const chunks = origin.chunks;
  const result = await fetcher.fetch(variant);
  assert.equal([result.outcome, result.bytes.origin, origin.chunks], ["fetched", 0, chunks]);
});

rule("a disk without room says so before anything is asked for", async ({ world, origin }) => {
  const store = { limits: { maxBytes: 1_000, freeBytesMin: 0 } };
  const failure = await failureOf(world.node("a", { origins: [origin], store }).fetcher.fetch(variant));
  assert.equal([failure.code, failure.exit, origin.chunks], ["NO_SPACE", 7, 0]);
});

rule("what must not be placed is skipped, with the reason", async ({ world, repository, origin }) => {
  const foreign = world.node("a", { origins: [origin] });
  foreign.store.putForeign(variantOf("foo"), "/rez/foo", { state: "copying" });
  const skipped = await foreign.fetcher.fetch(variant);
  assert.equal([skipped.outcome, skipped.path], ["skipped", "/rez/foo"]);
  const notCachable = variantOf("bar");
  await publishSample(repository, { variant: notCachable, attributes: { ...defaultAttributes, cachable: false } });
  const other = await world.node("b", { origins: [origin] }).fetcher.fetch(variantHash(notCachable, engine.hash));
  assert.equal([other.outcome, other.path, origin.chunks], ["skipped", undefined, 0]);
  const homeless = world.node("c", { origins: [origin], store: { repositories: new Map() } });
  const failure = await failureOf(homeless.fetcher.fetch(variant));
  assert.equal([failure.code, failure.exit], ["REPOSITORY_NOT_CONFIGURED", 2]);
});

rule(
  "a newer release replaces the older one, and an older one never comes back",
  async ({ world, repository, origin }) => {
    const { fetcher, store } = world.node("a", { origins: [origin] });
    await fetcher.fetch(variant);
    const second = await publishSample(repository, { seed: 2, supersede: true });
    const result = await fetcher.fetch(variant);
    assert.equal([result.outcome, result.payload], ["fetched", second.payload]);
    repository.records.get(variant)!.pop();
    const again = await fetcher.fetch(variant);
    assert.equal([again.outcome, again.payload], ["local", second.payload]);
    assert.is(store.holdings().length, 1);
  },
);

rule("closing ends what is under way with the reason, lets go of the store, and takes nothing more", async (scene) => {
  const { world, origin } = scene;
  origin.before = (what) => (what === "chunk" ? never : undefined);
  const { fetcher, store } = world.node("a", { origins: [origin] });
  const fetching = failureOf(fetcher.fetch(variant));
  while (origin.chunks === 0) await new Promise(setImmediate);
  assert.is(fetcher.transfers().length, 1);
  const reason = new P2pCacheError("STOPPED", 6, "the node stops");
  await within(1_000, "closing", fetcher.close(reason));
  assert.is(await fetching, reason);
  assert.is(await failureOf(fetcher.fetch(variant)), reason);
  assert.equal([store.holdings(), fetcher.transfers()], [[], []]);
});

test.run();
