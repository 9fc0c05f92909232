import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { defaultLinkLimits, type LinkAction, type LinkEvent, Links } from "../../protocol/links.ts";
import { seededRandom } from "../../protocol/random.ts";
import type { Distance } from "../../protocol/transfer.ts";

const limits = { wanted: 3, max: 5, far: 1 };
const links = (
  rating: (peer: string) => number | undefined = () => undefined,
  holds: (peer: string) => boolean = () => true,
) => new Links(limits, { rating, holds }, seededRandom(1));
const unknown = { rating: () => undefined, holds: () => false };
const peers = (distance: Distance, ...names: string[]) => names.map((peer) => ({ peer, distance }));
const offered = (...list: { peer: string; distance: Distance }[]): LinkEvent => ({ kind: "offered", peers: list });
const asked = (peer: string, distance: Distance = "site"): LinkEvent => ({ kind: "asked", by: { peer, distance } });

function named(actions: readonly LinkAction[], kind: LinkAction["kind"]): string[] {
  return actions.flatMap((action) => (action.kind === kind && "peer" in action ? [action.peer] : []));
}

test("as many links are made as are wanted, one of them to another site", () => {
  const connects = named(
    links().step(offered(...peers("site", "a", "b", "c", "d"), ...peers("far", "x", "y", "z")), 0),
    "connect",
  );
  assert.is(connects.length, 3);
  assert.is(connects.filter((peer) => "xyz".includes(peer)).length, 1);
});

test("where only far peers are known, they are linked to", () => {
  assert.is(named(links().step(offered(...peers("far", "x", "y", "z")), 0), "connect").length, 3);
});

test("where something is to be brought from another site, a far peer is linked though there are enough near ones", () => {
  const own = links();
  for (const peer of ["a", "b", "c", "d", "e"]) own.step(asked(peer), 0);
  assert.equal(named(own.step(offered(...peers("far", "x", "y")), 1), "connect"), []);
  const actions = own.step({ kind: "far", isNeeded: true }, 2);
  const [far] = named(actions, "connect");
  assert.ok(far === "x" || far === "y", "one of them");
  assert.is(named(actions, "part").length, 1, "there were as many as may be: one made place");
  assert.equal(own.step({ kind: "linked", peer: far! }, 3), []);
  assert.equal(named(own.step(offered(...peers("far", "z")), 4), "connect"), [], "one is enough");
  assert.is(named(own.step({ kind: "lost", peer: far! }, 5), "connect").length, 1, "another one takes its place");
});

test("far peers that hold nothing do not stand for one that is needed, and make place for others", () => {
  const own = new Links({ ...limits, max: 4 }, { ...unknown, holds: (peer) => peer === "holder" }, seededRandom(1));
  for (const peer of ["a", "b", "c"]) own.step(asked(peer), 0);
  own.step(asked("idle", "far"), 0);
  own.step({ kind: "far", isNeeded: true }, 1);
  const actions = own.step(offered(...peers("far", "holder")), 2);
  assert.equal([named(actions, "part"), named(actions, "connect")], [["idle"], ["holder"]]);
  own.step({ kind: "linked", peer: "holder" }, 3);
  assert.is(own.lacksFar, false);
});

test("a far peer that is needed and not known is sought, until it is not needed any more", () => {
  const own = links();
  for (const peer of ["a", "b", "c"]) own.step(asked(peer), 0);
  assert.is(own.step({ kind: "far", isNeeded: true }, 1)[0]?.kind, "seek");
  assert.equal(own.step({ kind: "far", isNeeded: false }, 2), []);
  assert.equal(named(own.step(offered(...peers("far", "x")), 3), "connect"), []);
});

test("of two near peers one of the same rack is preferred", () => {
  let near = 0;
  for (let seed = 0; seed < 200; seed++) {
    const own = new Links({ wanted: 1, max: 5, far: 0 }, unknown, seededRandom(seed));
    const [first] = named(own.step(offered(...peers("site", "a"), ...peers("rack", "r")), 0), "connect");
    if (first === "r") near++;
  }
  assert.ok(near > 125 && near < 175, `${near} of 200: three of four, not all`);
});

test("who is lost is replaced, and not asked again for a while", () => {
  const own = links();
  own.step(offered(...peers("site", "a", "b", "c")), 0);
  for (const peer of ["a", "b", "c"]) own.step({ kind: "linked", peer }, 1);
  const actions = own.step({ kind: "lost", peer: "a" }, 2);
  assert.equal(actions, [{ kind: "seek" }, { kind: "wakeAt", atMs: 5_002 }]);
  assert.equal(named(own.step(offered(...peers("site", "d")), 3), "connect"), ["d"]);
  own.step({ kind: "lost", peer: "d" }, 4);
  assert.equal(named(own.step(offered(), 10_000), "connect").length, 1);
});

test("whoever has no link left asks again after a second, by itself, or when it is told that it is of use", () => {
  const own = links();
  own.step(offered(...peers("site", "a", "b")), 0);
  assert.equal(own.step({ kind: "lost", peer: "a" }, 10).at(-1), { kind: "wakeAt", atMs: 1_010 });
  own.step({ kind: "lost", peer: "b", retryAtMs: 3_000 }, 10);
  assert.equal(named(own.step({ kind: "woke" }, 1_010), "connect"), ["a"]);
  assert.equal(named(own.step(offered(...peers("site", "b")), 2_999), "connect"), []);
  assert.equal(named(own.step({ kind: "woke" }, 3_000), "connect"), ["b"]);
});

test("a peer of whom there is news is asked at once, whatever was before", () => {
  const own = links();
  own.step(offered(...peers("site", "a")), 0);
  own.step({ kind: "lost", peer: "a" }, 1);
  assert.equal(named(own.step(offered(...peers("site", "a")), 2), "connect"), []);
  const news: LinkEvent = { kind: "offered", peers: peers("site", "a"), isNews: true };
  assert.equal(named(own.step(news, 3), "connect"), ["a"]);
});

test("whoever had nothing for us does not count among those who want it", () => {
  const own = links();
  own.step(offered(...peers("site", "a", "b")), 0);
  own.step({ kind: "linked", peer: "b" }, 1);
  own.step({ kind: "lost", peer: "a" }, 2);
  assert.equal([...own.wanters()], ["b"]);
});

test("a link that nobody asked for is parted from, and one that is here is accepted again", () => {
  const own = links();
  assert.equal(named(own.step({ kind: "linked", peer: "s" }, 0), "part"), ["s"]);
  assert.equal(named(own.step(asked("a"), 0), "accept"), ["a"]);
  assert.equal(named(own.step(asked("a"), 0), "accept"), ["a"]);
  assert.is(own.count, 1);
});

test("when there are enough links a newcomer takes the place of another, but not more often than every 20 ms", () => {
  const own = new Links(defaultLinkLimits, unknown, seededRandom(1));
  for (let i = 0; i < 14; i++) assert.equal(named(own.step(asked(`p${i}`), i), "part"), []);
  const actions = own.step(asked("newcomer"), 100);
  assert.is(named(actions, "part").length, 1);
  assert.equal(named(actions, "accept"), ["newcomer"]);
  assert.is(own.count, 14);
  for (let i = 0; i < 6; i++) assert.equal(named(own.step(asked(`q${i}`), 101), "part"), []);
  assert.equal(named(own.step(asked("one too many"), 102), "refuse"), ["one too many"]);
});

test("every 30 s the worst link goes, if there is somebody to try instead", () => {
  const own = links((peer) => ({ a: 5, b: 1, c: 9 })[peer]);
  own.step(offered(...peers("site", "a", "b", "c")), 0);
  for (const peer of ["a", "b", "c"]) own.step({ kind: "linked", peer }, 0);
  assert.equal(named(own.step({ kind: "woke" }, 30_000), "part"), []);
  own.step(offered(...peers("site", "d")), 31_000);
  const actions = own.step({ kind: "woke" }, 60_000);
  assert.equal([named(actions, "part"), named(actions, "connect")], [["b"], ["d"]]);
});

test("two complete peers let go of each other, and a complete one makes no links but takes them", () => {
  const own = links();
  own.step(offered(...peers("site", "a", "b")), 0);
  for (const peer of ["a", "b"]) own.step({ kind: "linked", peer }, 0);
  assert.equal(own.step({ kind: "complete", peer: "a" }, 1), []);
  assert.equal(named(own.step({ kind: "complete", peer: "self" }, 2), "part"), ["a"]);
  assert.equal(named(own.step({ kind: "complete", peer: "b" }, 3), "part"), ["b"]);
  assert.equal(named(own.step(offered(...peers("site", "c")), 4), "connect"), []);
  assert.equal(named(own.step(asked("d"), 5), "accept"), ["d"]);
});

test("whatever peers do, links and what is known stay within their limits", () => {
  const peer = fc.nat(400).map((n) => `p${n}`);
  const distance = fc.constantFrom<Distance>("rack", "site", "far");
  const event: fc.Arbitrary<LinkEvent> = fc.oneof(
    fc.record({
      kind: fc.constant("offered" as const),
      peers: fc.array(fc.record({ peer, distance }), { maxLength: 30 }),
    }),
    fc.record({ kind: fc.constant("asked" as const), by: fc.record({ peer, distance }) }),
    fc.record({ kind: fc.constant("linked" as const), peer }),
    fc.record({ kind: fc.constant("lost" as const), peer }),
    fc.record({
      kind: fc.constant("complete" as const),
      peer: fc.oneof(peer, peer, peer, fc.constant("self" as const)),
    }),
    fc.constant({ kind: "woke" as const }),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(event, fc.nat(2000)), { maxLength: 120 }), (events) => {
      const own = links(() => 1);
      let nowMs = 0;
      for (const [one, afterMs] of events) {
        nowMs += afterMs;
        const actions = own.step(one, nowMs);
        assert.ok(own.count <= limits.max);
        assert.ok(own.knownCount <= 200);
        for (const action of actions) if (action.kind === "wakeAt") assert.ok(action.atMs > nowMs);
      }
    }),
    { seed: 5 },
  );
});

test.run();
