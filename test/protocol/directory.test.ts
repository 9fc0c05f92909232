import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Holding, packHoldings } from "../../protocol/announcement.ts";
import type { Directory, DirectoryLimits } from "../../protocol/directory.ts";
import type { PayloadId, VariantHash } from "../../protocol/hash.ts";
import { knownBytesMax, peersMax } from "../../protocol/limits.ts";
import { headOf, holdings, newDirectory, numbers, payload, signedBy, variant } from "../support/announcements.ts";

const limits: DirectoryLimits = { peersMax: 10, holdingsPerPeerMax: 50, pairsMax: 100, holdingsMax: 200 };

const holders = (directory: Directory, number: number) => [...directory.holders(variant(number)).keys()].sort();

/** A head and its list, as a comparison of heads and an ask would bring them. */
function learnWhole(directory: Directory, peer: string, whole: readonly Holding[], sequence = 0, nowMs = 0) {
  directory.learn(signedBy(peer, whole, { sequence }), 100_000, nowMs);
  return directory.learnList(peer, packHoldings(whole));
}

test("what peers announce is known by variant and by payload", () => {
  const directory = newDirectory();
  assert.is(learnWhole(directory, "a", holdings(1, 2)), "learnt");
  assert.is(learnWhole(directory, "b", [...holdings(2), [variant(3), payload(1)]]), "learnt");
  assert.equal(
    [1, 2, 3, 4].map((number) => holders(directory, number)),
    [["a"], ["a", "b"], ["b"], []],
  );
  assert.is(directory.holders(variant(3)).get("b"), payload(1));
  assert.equal([directory.holds("a", variant(1)), directory.holds("a", variant(3))], [payload(1), undefined]);
  assert.is(directory.holds("nobody", variant(1)), undefined);
  const copies = [1, 2, 3].map((number) => directory.copies(variant(number), payload(number)));
  assert.equal([copies, directory.copies(variant(3), payload(1))], [[1, 2, 0], 1], "of this very payload");
  assert.equal([directory.holdersOf(payload(1)), directory.holdersOf(payload(9))], [["a", "b"], []]);
  assert.equal(directory.variantsOf(payload(1)).sort(), [variant(1), variant(3)].sort());
  assert.equal([directory.holdingsOf("a"), directory.holdingsOf("nobody"), directory.size], [2, 0, 2]);
  assert.equal(directory.holdings("a"), packHoldings(holdings(1, 2)));
  assert.equal([...directory.peers()], ["a", "b"]);
  assert.equal(directory.labels("a"), {
    ...{ addresses: ["/ip4/10.0.0.1/tcp/4001/p2p/a"], name: "host-a", site: "hq", rack: "r1" },
  });
});

test("a head says that a list is missing, until the list comes that it is the digest of", () => {
  const directory = newDirectory();
  const signed = signedBy("a", holdings(1, 2));
  assert.equal(directory.learn(signed, 100_000, 0), { kind: "gap" });
  assert.equal([directory.isCurrent("a"), directory.holdings("a"), holders(directory, 1)], [false, undefined, []]);
  assert.is(directory.learnList("a", packHoldings(holdings(1, 3))), "false");
  assert.is(directory.learnList("a", packHoldings(holdings(1))), "false");
  assert.is(directory.learnList("b", packHoldings(holdings(1, 2))), "unknown");
  assert.equal([directory.isCurrent("a"), holders(directory, 1)], [false, []]);
  assert.is(directory.learnList("a", packHoldings(holdings(1, 2))), "learnt");
  assert.equal([directory.isCurrent("a"), holders(directory, 1)], [true, ["a"]]);
});

test("changes are applied to the list that they go out from, and to no other", () => {
  const directory = newDirectory();
  learnWhole(directory, "a", holdings(1, 2));
  const now: Holding[] = [...holdings(2, 3), [variant(4), payload(9)]];
  const learnt = directory.learn(signedBy("a", now, { sequence: 1 }, holdings(1, 2)), 100_000, 0);
  assert.equal(learnt, { kind: "current", added: packHoldings([...holdings(3), [variant(4), payload(9)]]) });
  assert.equal(
    [1, 2, 3, 4].map((number) => holders(directory, number)),
    [[], ["a"], ["a"], ["a"]],
  );
  const other: Holding[] = [...holdings(2), [variant(4), payload(4)]];
  assert.is(directory.learn(signedBy("a", other, { sequence: 2 }, now), 100_000, 0).kind, "current");
  assert.equal([directory.holds("a", variant(4)), holders(directory, 3)], [payload(4), []]);
  assert.is(directory.learn(signedBy("a", holdings(7), { sequence: 4 }, holdings(6)), 100_000, 0).kind, "gap");
  assert.equal([holders(directory, 2), holders(directory, 7)], [["a"], []], "the older list is better than none");
});

test("changes that do not give what the digest says change nothing", () => {
  const directory = newDirectory();
  learnWhole(directory, "a", holdings(1, 2));
  const right = signedBy("a", holdings(1, 2, 3), { sequence: 1 }, holdings(1, 2));
  const wrong = { ...right.announcement, digest: signedBy("a", holdings(9)).announcement.digest };
  assert.equal(directory.learn({ ...right, announcement: wrong }, 100_000, 0), { kind: "gap" });
  assert.equal([holders(directory, 1), holders(directory, 3), directory.holdingsOf("a")], [["a"], [], 2]);
  const short = { ...right.announcement, sequence: 2, count: 2 };
  assert.equal(directory.learn({ ...right, announcement: short }, 100_000, 0), { kind: "gap" });
  assert.equal([holders(directory, 3), directory.holdersOf(payload(3))], [[], []]);
});

test("a peer that is new, or starts again, may name all that it holds as changes of nothing", () => {
  const directory = newDirectory();
  assert.is(directory.learn(signedBy("a", holdings(1, 2), {}, []), 100_000, 0).kind, "current");
  assert.is(directory.learn(signedBy("a", holdings(2, 3), { epoch: 2 }, []), 100_000, 0).kind, "current");
  assert.equal(
    [1, 2, 3].map((number) => holders(directory, number)),
    [[], ["a"], ["a"]],
  );
});

test("a node that starts again with the same holdings is known at once", () => {
  const directory = newDirectory();
  learnWhole(directory, "a", holdings(1, 2), 5);
  const learnt = directory.learn(signedBy("a", holdings(1, 2), { epoch: 2 }), 100_000, 0);
  assert.equal([learnt.kind, holders(directory, 1)], ["current", ["a"]]);
});

test("who holds nothing needs no list", () => {
  const directory = newDirectory();
  assert.is(directory.learn(signedBy("a", []), 100_000, 0).kind, "current");
  learnWhole(directory, "b", holdings(1));
  assert.is(directory.learn(signedBy("b", [], { sequence: 1 }), 100_000, 0).kind, "current");
  assert.equal([directory.isCurrent("a"), holders(directory, 1)], [true, []]);
});

test("stale and repeated announcements change nothing", () => {
  const directory = newDirectory();
  directory.learn(signedBy("a", holdings(1), { epoch: 5, sequence: 7 }, []), 100_000, 0);
  for (const [epoch, sequence] of [
    [5, 7],
    [5, 6],
    [4, 99],
  ] as const) {
    const replayed = signedBy("a", holdings(2), { epoch, sequence }, []);
    assert.equal(directory.learn(replayed, 100_000, 50_000), { kind: "stale" });
  }
  assert.equal([holders(directory, 1), holders(directory, 2)], [["a"], []]);
  assert.is(directory.head("a", 60_000)?.remainingMs, 40_000, "a replay does not make it count longer");
  assert.is(directory.learn(signedBy("a", holdings(2), { epoch: 5, sequence: 8 }, []), 100_000, 0).kind, "current");
  const last = { epoch: Number.MAX_SAFE_INTEGER, sequence: Number.MAX_SAFE_INTEGER };
  assert.is(directory.learn(signedBy("a", [], last), 100_000, 0).kind, "current");
  assert.is(directory.learn(signedBy("a", holdings(1), last, []), 100_000, 0).kind, "stale");
});

test("a head counts as long as it says, or as long as whoever relayed it says, if that is less", () => {
  const directory = newDirectory();
  directory.learn(signedBy("a", holdings(1), { lifetimeMs: 1_000 }, []), 99_999, 100);
  directory.learn(signedBy("b", holdings(1), { lifetimeMs: 1_000 }, []), 300, 100);
  assert.is(directory.learn(signedBy("c", holdings(1)), 0, 100).kind, "stale", "what counts no longer is not news");
  assert.is(directory.nextExpiryMs(), 400);
  assert.equal([directory.expired(399), directory.expired(400), directory.expired(1_100)], [[], ["b"], ["a", "b"]]);
  assert.is(directory.head("a", 600)?.remainingMs, 500);
});

test("a peer that said goodbye or expired does not come back by what it said before", () => {
  const directory = newDirectory();
  const before = signedBy("a", holdings(1), { sequence: 3 }, []);
  directory.learn(before, 100_000, 0);
  assert.equal(directory.learn(signedBy("a", holdings(1), { sequence: 4, lifetimeMs: 0 }), 0, 10), { kind: "gone" });
  assert.equal([directory.size, holders(directory, 1), directory.head("a", 10)], [0, [], undefined]);
  assert.equal(directory.learn(before, 100_000, 20), { kind: "stale" });
  assert.is(directory.learn(signedBy("a", holdings(1), { epoch: 2 }, []), 100_000, 30).kind, "current");
  directory.forget("a", 40);
  directory.forget("never met", 40);
  assert.equal(directory.learn(signedBy("a", holdings(1), { epoch: 2 }, []), 100_000, 50), { kind: "stale" });
  assert.is(directory.learn(signedBy("b", [], { lifetimeMs: 0 }), 0, 60).kind, "gone");
  assert.equal(directory.learn(signedBy("b", [], { sequence: 0 }), 100, 70), { kind: "stale" });
});

test("heads are told to those who do not know them; of those whose lists are missing all are to be told", () => {
  const directory = newDirectory();
  const signed = ["a", "b", "c"].map((peer, index) => signedBy(peer, holdings(index), {}, []));
  for (const each of signed) directory.learn(each, 100_000, 0);
  const other = newDirectory();
  other.learn(signed[0]!, 100_000, 0);
  other.learn(signedBy("b", holdings(1)), 100_000, 0);
  const told = [...directory.headsBeyond(other.known(), 1_000)].map((head) => head.signed.announcement.peer);
  assert.equal(told, ["b", "c"]);
  assert.equal([...directory.headsBeyond(directory.known(), 1_000)], []);
  assert.is([...directory.headsBeyond(new Uint8Array(7), 1_000)].length, 3);
  assert.equal([...directory.headsBeyond(new Uint8Array(0), 100_000)], [], "what expires now is not told");
  const { announcement } = directory.head("a", 1_000)!.signed;
  assert.is(announcement.changes, undefined);
  assert.equal(directory.head("a", 1_000), headOf({ announcement, envelope: signed[0]!.envelope }, 99_000));
});

test("no more peers are known than there is room for", () => {
  const directory = newDirectory(limits);
  for (const number of numbers(10)) assert.is(directory.learn(signedBy(`p${number}`, []), 100, 0).kind, "current");
  assert.is(directory.learn(signedBy("late", []), 100, 0).kind, "stale");
  assert.is(directory.size, 10);
  assert.is(directory.known().length * (peersMax / 10), knownBytesMax);
  directory.forget("p3", 0);
  assert.is(directory.learn(signedBy("late", []), 100, 0).kind, "current");
});

test("where there is no room for all lists the longest make way, and a longer one is not taken", () => {
  const directory = newDirectory(limits);
  assert.is(learnWhole(directory, "flood", holdings(...numbers(50))), "learnt");
  assert.is(learnWhole(directory, "a", holdings(...numbers(30, 100))), "learnt");
  assert.is(learnWhole(directory, "b", holdings(...numbers(40, 200))), "learnt", "the flood makes way");
  assert.equal([directory.holdingsOf("flood"), directory.isCurrent("flood")], [0, false]);
  assert.equal([holders(directory, 5), holders(directory, 100), holders(directory, 200)], [[], ["a"], ["b"]]);
  assert.not(directory.hasRoomFor(50));
  assert.is(learnWhole(directory, "flood", holdings(...numbers(50)), 1), "crowded");
  assert.ok(directory.hasRoomFor(30));
  assert.is(learnWhole(directory, "c", holdings(...numbers(40, 200))), "learnt", "pairs that are there need no room");
  assert.is(learnWhole(directory, "d", holdings(...numbers(51, 500))), "crowded", "too many for one peer");
  assert.is(directory.size, 5, "who is crowded out is known nevertheless");
  const more = signedBy("a", holdings(...numbers(80, 100)), { sequence: 1 }, holdings(...numbers(30, 100)));
  assert.is(directory.learn(more, 100_000, 0).kind, "gap");
  assert.is(directory.holdingsOf("a"), 30);
});

test("what is removed makes room for as much again, for ever", () => {
  const directory = newDirectory(limits);
  for (let round = 0; round < 200; round++) {
    const whole = holdings(...numbers(45, round * 45));
    assert.is(learnWhole(directory, "a", whole, round), "learnt");
    assert.is(learnWhole(directory, "b", whole, round), "learnt");
    if (round % 3 === 0) directory.forget("b", 0);
  }
  assert.equal([directory.holdingsOf("a"), holders(directory, 199 * 45)], [45, ["a", "b"]]);
});

type Model = Map<string, Map<VariantHash, PayloadId>>;

test("a directory knows what a map of maps would know, whatever happens", () => {
  const peer = fc.constantFrom("a", "b", "c", "d");
  const list = fc.uniqueArray(fc.nat(12), { maxLength: 10 });
  const step = fc.record({ peer, list, payloads: fc.nat(1), how: fc.constantFrom("whole", "changes", "forget") });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const directory = newDirectory();
      const model: Model = new Map();
      for (const [sequence, { peer, list, payloads, how }] of steps.entries()) {
        const whole = list.map((number) => [variant(number), payload(number + 100 * payloads)] as const);
        if (how === "forget") {
          directory.forget(peer, 0);
          model.delete(peer);
          continue;
        }
        const before = how === "changes" ? [...(model.get(peer) ?? [])] : undefined;
        directory.learn(signedBy(peer, whole, { sequence }, before), 1_000, 0);
        if (how === "whole") directory.learnList(peer, packHoldings(whole));
        model.set(peer, new Map(whole));
      }
      checkModel(directory, model);
    }),
    { numRuns: 300 },
  );
});

function checkModel(directory: Directory, model: Model): void {
  assert.is(directory.size, model.size);
  for (const [peer, held] of model) assert.equal(directory.holdings(peer), packHoldings(held));
  for (const number of numbers(13)) {
    const key = variant(number);
    const expected = [...model].filter(([, held]) => held.has(key)).map(([peer, held]) => [peer, held.get(key)]);
    assert.equal(new Map(directory.holders(key)), new Map(expected as [string, PayloadId][]));
    for (const id of [payload(number), payload(number + 100)]) {
      const having = [...model].filter(([, held]) => [...held.values()].includes(id)).map(([peer]) => peer);
      assert.equal(directory.holdersOf(id).sort(), having.sort());
      assert.equal(directory.variantsOf(id), having.length === 0 ? [] : [key]);
    }
  }
}

test.run();
