// runs unprivileged
// mostly waits
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../../node/clock.ts";
import { originAccess } from "../../node/origin-access.ts";
import { MemoryRepository } from "../../node/origins/memory-origin.ts";
import { LimitedOrigin } from "../../node/origins/with-budget.ts";
import type { Origin } from "../../node/ports.ts";
import { DeadlineError, NotOurTurnError } from "../../protocol/errors.ts";
import type { ChunkHash } from "../../protocol/hash.ts";
import { seededRandom } from "../../protocol/random.ts";
import type { BudgetLimits, SiteBudget } from "../../protocol/site-budget.ts";
import { variantHash } from "../../protocol/variant.ts";
import { FetchWorld, publishSample, WatchedOrigin } from "../support/fetch-world.ts";
import { engine, variantOf } from "../support/payloads.ts";
import { failureOf, within } from "../support/swarm-member.ts";

/** Nodes of one site and an origin with a budget: whoever reads it is noted. */
const test = suite("an origin with a budget");
const variant = variantHash(variantOf("foo"), engine.hash);
const unlimited = Number.POSITIVE_INFINITY;
/** Turns of a third of a second, since those of half a minute would take a test hours. */
const limits: BudgetLimits = { epochMs: 300, lastStartMs: 30, waitMsMax: 30 };
const repository = new MemoryRepository("filer");
const sample = await publishSample(repository);

/** All reads of chunks of one origin, by a whole site. */
class Site {
  readonly members: readonly string[];
  readonly #budget: SiteBudget;
  readonly #readers = new Map<string, number>();
  readonly origins = new Map<string, Origin>();
  readonly watched = new Map<string, WatchedOrigin>();
  /** How often a transfer asked, whether or not it was let. */
  asked = 0;
  /** How many nodes read at a time, at most. */
  readersMax = 0;
  bytes = 0;
  /** By how much what was read was ahead of the rate, at most. */
  aheadBytes = Number.NEGATIVE_INFINITY;

  constructor(members: readonly string[], budget: SiteBudget) {
    this.members = members;
    this.#budget = budget;
  }

  origin(self: string): Origin {
    const watched = new WatchedOrigin(repository);
    const fromMs = performance.now();
    const chunk = async (...[hash, sizeBytes, options]: Parameters<Origin["chunk"]>) => {
      this.#readers.set(self, (this.#readers.get(self) ?? 0) + 1);
      this.readersMax = Math.max(this.readersMax, this.#readers.size);
      this.bytes += sizeBytes;
      this.aheadBytes = this.bytes - this.#budget.bytesPerMs * (performance.now() - fromMs);
      try {
        await sleep(5); // As a filer takes its time.
        return await watched.chunk(hash, sizeBytes, options);
      } finally {
        const others = this.#readers.get(self)! - 1;
        if (others === 0) this.#readers.delete(self);
        else this.#readers.set(self, others);
      }
    };
    const counted: Origin = { name: "filer", chunk, latestRecord: (each) => watched.latestRecord(each) };
    const crowd = () => ({ self, members: this.members });
    const parts = { budget: this.#budget, crowd, clock: systemClock, random: seededRandom(1), limits };
    const limited = new LimitedOrigin(counted, parts);
    const { chunk: ask } = { chunk: limited.chunk.bind(limited) };
    limited.chunk = (...words) => {
      this.asked++;
      return ask(...words);
    };
    this.watched.set(self, watched);
    return limited;
  }
}

function names(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `n${i}`);
}

function rule(text: string, check: () => Promise<void>): void {
  test(text, () => within(40_000, text, check()));
}

rule("nodes that share nothing but the origin read it by turns, and all finish", async () => {
  const site = new Site(names(6), { slots: 2, bytesPerMs: unlimited });
  const world = new FetchWorld();
  const nodes = site.members.map((name) => world.node(name, { origins: [site.origin(name)], timeoutMs: 40_000 }));
  const results = await Promise.all(nodes.map(({ fetcher }) => fetcher.fetch(variant, { peers: "never" })));
  assert.ok(results.every(({ outcome, bytes }) => outcome === "fetched" && bytes.peers === 0));
  assert.ok(site.readersMax <= 2, `${site.readersMax} read at a time`);
});

rule("nodes that share an origin's rate keep to it together, and all finish", async () => {
  const site = new Site(names(4), { slots: 2, bytesPerMs: 4_000 });
  const world = new FetchWorld();
  const nodes = site.members.map((name) => world.node(name, { origins: [site.origin(name)], timeoutMs: 40_000 }));
  const startedMs = performance.now();
  await Promise.all(nodes.map(({ fetcher }) => fetcher.fetch(variant, { peers: "never" })));
  const tookMs = performance.now() - startedMs;
  assert.ok(site.readersMax <= 2, `${site.readersMax} read at a time`);
  assert.ok(site.aheadBytes <= 512 * 1024, `${site.aheadBytes} bytes ahead of the rate`);
  assert.ok(tookMs >= (4 * sample.newBytes) / 4_000 - 200, `${4 * sample.newBytes} bytes in ${tookMs} ms`);
});

rule("what one node has read by its turn the others have from it", async () => {
  const site = new Site(names(6), { slots: 1, bytesPerMs: unlimited });
  const world = new FetchWorld();
  const nodes = site.members.map((name) => world.node(name, { origins: [site.origin(name)], timeoutMs: 40_000 }));
  const results = await Promise.all(nodes.map(({ fetcher }) => fetcher.fetch(variant)));
  assert.ok(results.every(({ outcome }) => outcome === "fetched"));
  assert.is(site.readersMax, 1);
  assert.ok(site.bytes <= 2.5 * sample.newBytes, `${site.bytes} of ${sample.newBytes} bytes`);
});

rule("who never has a turn ends at its deadline, has asked seldom, and has read nothing but the record", async () => {
  const site = new Site(names(100_000), { slots: 1, bytesPerMs: unlimited });
  const origin = site.origin("stranger");
  const { fetcher } = new FetchWorld().node("stranger", { origins: [origin], timeoutMs: 1_500 });
  const error = await failureOf(fetcher.fetch(variant));
  assert.instance(error, DeadlineError);
  assert.equal([site.bytes, site.watched.get("stranger")!.records], [0, 1]);
  assert.ok(site.asked <= 60, `${site.asked} times`);
});

rule("a chunk that is refused says why, and a record passes", async () => {
  const site = new Site(names(1_000), { slots: 1, bytesPerMs: unlimited });
  const origin = site.origin("stranger") as LimitedOrigin;
  const error = await failureOf(origin.chunk("ab".repeat(32) as ChunkHash, 5));
  assert.instance(error, NotOurTurnError);
  assert.equal([error.code, error.exit], ["ORIGIN_LIMITED", 6]);
  assert.match(error.message, "the origin filer is limited to 1 node at a time: others have their turn");
  const { retryAfterMs } = error as NotOurTurnError;
  assert.ok(retryAfterMs! > 0 && retryAfterMs! <= 400, `${retryAfterMs}`);
  assert.ok(((await origin.latestRecord(variant))?.length ?? 0) > 0);
  const slow = new Site(["n0"], { slots: 1, bytesPerMs: 1 }).origin("n0") as LimitedOrigin;
  assert.match((await failureOf(slow.chunk("ab".repeat(32) as ChunkHash, 500))).message, "its part of the rate");
});

rule("records count against the rate, and who leaves while it waits does not", async () => {
  const site = new Site(["n0"], { slots: 1, bytesPerMs: 100 });
  const [hash, bytes] = [...repository.chunks].find(([, each]) => each.length < 2_500 && each.length > 100)!;
  const origin = site.origin("n0");
  for (let i = 0; i < 10; i++) {
    const leaving = new AbortController();
    const left = origin.chunk(hash, 2_500, leaving).catch((error: unknown) => error);
    leaving.abort();
    await left;
  }
  assert.is(site.bytes, 0);
  assert.ok((await origin.chunk(hash, bytes.length)).length > 0);
  for (let i = 0; i < 10; i++) await origin.latestRecord(variant);
  assert.instance(await failureOf(origin.chunk(hash, bytes.length)), NotOurTurnError);
});

rule("never means never, whatever is configured: no record, no chunk, no segment is read", async () => {
  const site = new Site(["a"], { slots: 1, bytesPerMs: unlimited });
  const world = new FetchWorld();
  const [auto, limited] = [new WatchedOrigin(repository), site.origin("a")];
  const alone = world.node("a", { origins: [auto, limited], fetcher: { limitedOrigins: [limited] } });
  const error = await failureOf(alone.fetcher.fetch(variant, { origin: "never" }));
  assert.is(error.exit, 3);
  await world.holder("holder", repository, variant);
  const { bytes } = await alone.fetcher.fetch(variant, { origin: "never" });
  assert.is(bytes.origin, 0);
  const { records, chunks } = site.watched.get("a")!;
  assert.equal([auto.records, auto.chunks, records, chunks], [0, 0, 0, 0]);
});

rule("one fetch may keep within the budget where that is not configured, and cannot leave it where it is", async () => {
  const free = new WatchedOrigin(repository);
  const site = new Site(names(1_000), { slots: 1, bytesPerMs: unlimited });
  const limited = site.origin("stranger");
  const configured = (origins: readonly Origin[]) => {
    return new FetchWorld().node("stranger", { origins, timeoutMs: 600, fetcher: { limitedOrigins: [limited] } })
      .fetcher;
  };
  assert.instance(await failureOf(configured([free]).fetch(variant, { origin: "limited" })), DeadlineError);
  assert.instance(await failureOf(configured([limited]).fetch(variant, { origin: "auto" })), DeadlineError);
  assert.equal([free.chunks, site.bytes], [0, 0]);
  assert.is((await configured([free]).fetch(variant, { origin: "auto" })).outcome, "fetched");
});

test("a set of origins is planned for by its freest one", () => {
  const [owner, stranger] = [new Site(["n0"], { slots: 1, bytesPerMs: unlimited }), new Site(names(1_000), oneSlot)];
  const [held, refused] = [owner.origin("n0"), stranger.origin("stranger")];
  const facts = (origins: readonly Origin[]) => {
    const { policy, holdsSlot, isHeldBack } = originAccess(origins);
    return [policy, holdsSlot(), isHeldBack()];
  };
  assert.equal(facts([]), ["never", false, false]);
  assert.equal(facts([refused]), ["limited", false, true]);
  assert.equal(facts([refused, held]), ["limited", true, false]);
  assert.equal(facts([refused, new WatchedOrigin(repository)]), ["auto", true, false]);
});

const oneSlot: SiteBudget = { slots: 1, bytesPerMs: unlimited };

test.run();
