import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { MIB } from "../../protocol/limits.ts";
import {
  type Manner,
  type OriginPlan,
  type PeerPlan,
  TransferWorld,
  type WorldPlan,
} from "../support/transfer-world.ts";

const runs = process.env.P2PCACHE_LONG === undefined ? 3000 : 100_000;
const manner: fc.Arbitrary<Manner> = fc.constantFrom(
  ...(["honest", "slow", "silent", "liar", "empty-handed", "busy", "failing", "mixed", "mixed"] as const),
);
const peer: fc.Arbitrary<PeerPlan> = fc.record({
  manner,
  joinsAfterMs: fc.oneof(fc.nat(50), fc.nat(20_000)),
  neverJoins: fc.integer({ min: 0, max: 7 }).map((die) => die === 0),
  leavesAfterMs: fc.option(fc.nat(20_000), { nil: undefined }),
  percent: fc.constantFrom(0, 30, 70, 100, 100),
  grows: fc.boolean(),
});
const origin: fc.Arbitrary<OriginPlan> = fc
  .record({ manner, healsAfterMs: fc.option(fc.nat(30_000), { nil: undefined }) })
  // An origin that never has a turn for us is waited for until the caller's deadline.
  .map(({ manner, healsAfterMs }) => ({
    manner,
    healsAfterMs: manner === "busy" ? (healsAfterMs ?? 1e6) : healsAfterMs,
  }));
const honestOrigin: OriginPlan = { manner: "honest", healsAfterMs: undefined };

function world(origins: fc.Arbitrary<readonly OriginPlan[]>): fc.Arbitrary<WorldPlan> {
  return fc.record({
    segmentSizes: fc.array(fc.integer({ min: 1, max: 256 * 1024 }), { maxLength: 3 }),
    chunkSizes: fc.array(fc.oneof(fc.integer({ min: 1, max: 2 * MIB }), fc.constant(MIB / 2)), { maxLength: 16 }),
    copies: fc.array(
      fc.integer({ min: 0, max: 4 }).map((die) => die === 0),
      { maxLength: 16 },
    ),
    stored: fc.array(
      fc.integer({ min: 0, max: 4 }).map((die) => die === 0),
      { maxLength: 19 },
    ),
    peers: fc.array(peer, { maxLength: 6 }),
    origins,
    inFlightBytesMax: fc.constantFrom(MIB, 3 * MIB, 24 * MIB),
    paceBytesPerMs: fc.constantFrom(undefined, undefined, 20, 500),
    seed: fc.nat(),
  });
}

test("a transfer keeps its promises and comes to an end, whatever its sources do", () => {
  const ends = new Map<string, number>();
  fc.assert(
    fc.property(world(fc.array(origin, { maxLength: 2 })), (plan) => {
      const { end } = new TransferWorld(plan).run();
      const how = end.kind === "gaveUp" ? end.fault : end.kind;
      ends.set(how, (ends.get(how) ?? 0) + 1);
    }),
    { numRuns: runs, seed: 3 },
  );
  // The worlds are varied enough to end in every way there is.
  assert.equal([...ends.keys()].sort(), ["complete", "corrupt", "missing", "unreachable"]);
});

test("with one honest origin a transfer completes, whatever peers and other origins do", () => {
  const origins = fc.tuple(fc.array(origin, { maxLength: 1 }), fc.boolean()).map(([others, isFirst]) => {
    return isFirst ? [honestOrigin, ...others] : [...others, honestOrigin];
  });
  fc.assert(
    fc.property(world(origins), (plan) => {
      const { end } = new TransferWorld(plan).run();
      assert.is(end.kind, "complete");
    }),
    { numRuns: runs, seed: 4 },
  );
});

test("with one honest peer that stays and has everything a transfer completes without an origin", () => {
  const honestPeer: PeerPlan = {
    ...{ manner: "honest", joinsAfterMs: 10, neverJoins: false, leavesAfterMs: undefined },
    ...{ percent: 100, grows: false },
  };
  fc.assert(
    fc.property(world(fc.constant([])), (plan) => {
      const { end } = new TransferWorld({ ...plan, peers: [...plan.peers, honestPeer] }).run();
      assert.is(end.kind, "complete");
    }),
    { numRuns: runs, seed: 5 },
  );
});

test.run();
