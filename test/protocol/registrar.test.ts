import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { PayloadId } from "../../protocol/hash.ts";
import { defaultRegistryLimits } from "../../protocol/payload-registry.ts";
import { seededRandom } from "../../protocol/random.ts";
import {
  answerFault,
  leadsNowhere,
  type RegisterAnswer,
  type RegisterQuestion,
} from "../../protocol/register-messages.ts";
import { Registrar } from "../../protocol/registrar.ts";

import { bits, groups, leased, payload, question, reported, scene } from "../support/registrar-scene.ts";

test("the segments are leased first, and chunks only to who can use them", () => {
  const { ask } = scene();
  assert.equal(leased(ask("late", 0, { held: bits(1), isReady: false, wants: 0 })), []);
  const first = leased(ask("a", 0, { isReady: false }));
  assert.is(first[0], 0);
  assert.is(first.length, 2);
  assert.equal(leased(ask("b", 0, { isReady: false })), []);
  assert.is(leased(ask("c", 0)).length, 2);
});

test("a group is leased to one wanter at a time, and never more than two to one", () => {
  const { ask } = scene();
  const all = ["a", "b", "c", "d"].map((name) => leased(ask(name, 0)));
  assert.equal(
    all.map(({ length }) => length),
    [2, 2, 2, 0],
  );
  assert.is(new Set(all.flat()).size, 6);
  assert.is(leased(ask("a", 1, { wants: 99, leases: reported(all[0]!) })).length, 2);
});

test("a group that somebody holds is leased no more, and one that nobody holds any more is again", () => {
  const { registrar, ask } = scene();
  assert.equal(leased(ask("holder", 0, { held: bits(0, 1, 2, 3, 4), wants: 0 })), []);
  assert.equal(leased(ask("a", 0)), [5]);
  registrar.left("holder", 1);
  assert.is(leased(ask("a", 1, { leases: reported([5]) })).length, 2);
});

test("a lease without items lapses, goes to another, and who let it lapse waits", () => {
  const { ask } = scene();
  const own = leased(ask("a", 0));
  ask("b", 0);
  ask("c", 0);
  ask("a", defaultRegistryLimits.leaseMs - 1, { leases: reported(own) });
  const over = leased(ask("d", defaultRegistryLimits.leaseMs + 1));
  assert.equal([...over].sort(), [...own].sort());
  assert.equal(leased(ask("a", defaultRegistryLimits.leaseMs + 2)), []);
});

test("a lease of which its wanter does not speak goes to another at once, and the wanter waits", () => {
  const { ask } = scene();
  const own = leased(ask("a", 0));
  ask("b", 0);
  ask("c", 0);
  assert.equal(leased(ask("a", 100, { leases: reported([own[0]!]) })), [own[0]]);
  assert.equal(leased(ask("d", 101)), [own[1]]);
});

test("of whoever has not been heard since it is thought for one term more that items have come", () => {
  const { ask } = scene();
  const own = leased(ask("a", 0));
  ask("b", 0);
  ask("c", 0);
  assert.equal(leased(ask("d", defaultRegistryLimits.leaseMs + 1)), [0], "but for the segments, which all wait for");
  const over = leased(ask("e", 2 * defaultRegistryLimits.leaseMs + 1));
  assert.is(over.length, 2);
  assert.equal(leased(ask("a", 2 * defaultRegistryLimits.leaseMs + 2)), []);
  assert.is(own.length, 2);
});

test("items that arrived renew a lease, and saying the same again does not", () => {
  const { ask } = scene();
  const [group] = leased(ask("a", 0));
  const report = (arrived: number) => ({ leases: [{ group: group!, arrived }] });
  assert.ok(leased(ask("a", 2000, report(1))).includes(group!));
  assert.ok(leased(ask("a", 4000, report(2))).includes(group!));
  assert.ok(leased(ask("a", 6000, report(2))).includes(group!));
  assert.is(leased(ask("a", 9600, report(2))).includes(group!), false);
});

test("who claims an item more each time keeps a group no longer than eight terms", () => {
  const { ask } = scene();
  const [group] = leased(ask("liar", 0));
  let nowMs = 0;
  let answer = ask("liar", nowMs);
  for (let arrived = 1; leased(answer).includes(group!); arrived++) {
    nowMs += 1000;
    answer = ask("liar", nowMs, { leases: [{ group: group!, arrived }] });
    assert.ok(nowMs <= 40_000, "it ends, at eight terms of four seconds");
  }
});

test("what one says it holds and nobody finds is leased again after a while, and the holder is named before", () => {
  const { ask } = scene();
  ask("liar", 0, { held: bits(0, 1, 2, 3, 4, 5), wants: 0 });
  const soon = ask("a", 100, { lacking: [3] });
  assert.equal([leased(soon), soon.peers], [[], ["liar"]]);
  assert.equal(leased(ask("a", 5_200, { lacking: [3] })), [3]);
  assert.equal(leased(ask("b", 5_300, { lacking: [3] })), [], "once at a time");
});

test("a lease that another registrar gave is known once it is reported", () => {
  const { ask } = scene();
  assert.equal(leased(ask("a", 0, { wants: 0, leases: [{ group: 4, arrived: 3 }] })), [4]);
  for (const name of ["b", "c", "d"]) assert.is(leased(ask(name, 0)).includes(4), false);
});

test("a lease that is only spoken of counts no more than one that is given: who rests has none", () => {
  const { ask } = scene();
  const own = leased(ask("liar", 0));
  ask("b", 0);
  ask("c", 0);
  const lapsedMs = defaultRegistryLimits.leaseMs + 1;
  ask("liar", lapsedMs - 2, { leases: reported(own), wants: 0 });
  assert.equal(leased(ask("liar", lapsedMs, { leases: reported(own), wants: 0 })), []);
  assert.equal(leased(ask("liar", lapsedMs + 1, { leases: [{ group: own[0]!, arrived: 9 }], wants: 0 })), []);
});

test("what one let lapse it does not get again by its word for a minute, also if it goes and comes back", () => {
  const { registrar, ask } = scene();
  const word = { leases: [{ group: 4, arrived: 1 }], wants: 0 };
  assert.equal(leased(ask("liar", 0, word)), [4]);
  const lapsedMs = defaultRegistryLimits.leaseMs + 1;
  ask("liar", lapsedMs - 2, word);
  assert.equal(leased(ask("liar", lapsedMs, word)), []);
  registrar.left("liar", lapsedMs + 1);
  assert.equal(leased(ask("liar", lapsedMs + 2, word)), [], "it rests");
  const restedMs = lapsedMs + defaultRegistryLimits.leaseMs;
  assert.equal(leased(ask("liar", restedMs + 1, word)), [], "it has rested, and its word counts for nothing");
  assert.equal(leased(ask("liar", restedMs + 2, { leases: [{ group: 5, arrived: 1 }], wants: 0 })), [5]);
});

test("no more leases of a site are taken by word than are given", () => {
  const { ask } = scene({ ...defaultRegistryLimits, leasesMax: 1 });
  assert.equal(leased(ask("a", 0, { leases: reported([1]), wants: 0 })), [1]);
  assert.equal(leased(ask("b", 0, { leases: reported([2]), wants: 0 })), []);
});

test("who may not read the origin gets leases of what another site has, and no others, whatever it says", () => {
  const { ask } = scene();
  ask("there", 0, { site: "x", held: bits(2), wants: 0 });
  const far = { site: "y", isFarOnly: true };
  assert.equal(ask("a", 1, far).leases, [{ group: 2, from: "far" }]);
  assert.equal(ask("a", 2, { ...far, leases: reported([2, 3]) }).leases, [{ group: 2, from: "far" }]);
  assert.equal(scene().ask("alone", 0, far).leases, []);
});

test("what another site has is fetched from there, and what it fetches is waited for", () => {
  const { ask } = scene();
  ask("near", 0, { site: "x", held: bits(2), wants: 2 });
  const { leases, peers } = ask("far", 1, { site: "y" });
  assert.equal(
    leases.find(({ group }) => group === 2),
    { group: 2, from: "far" },
  );
  assert.ok(peers.includes("near"));
  const taken = leased(ask("near", 2, { site: "x", held: bits(2) }));
  for (const { group, from } of leases) if (from === "origin") assert.is(taken.includes(group), false);
});

test("peers of the same site are given, never the asker, and not more than an answer holds", () => {
  const { ask } = scene();
  for (let i = 0; i < 200; i++) ask(`p${i}`, 0, { wants: 0 });
  const { peers } = ask("a", 1);
  assert.ok(peers.length >= 16 && peers.length <= 50, String(peers.length));
  assert.is(new Set(peers).size, peers.length);
  assert.is(peers.includes("a"), false);
  assert.equal(ask("a", 1, { seeks: false }).peers, []);
});

test("a wanter is forgotten after a minute, and a payload too", () => {
  const { registrar, ask } = scene();
  ask("a", 0, { held: bits(0, 1, 2, 3, 4, 5) });
  const after = ask("b", 60_001);
  assert.equal([after.peers, after.leases.length], [[], 2]);
  registrar.ask("b", "22".repeat(32) as PayloadId, question(), 200_000);
  assert.is(registrar.payloads, 1);
});

test("questions that make no sense have no answer", () => {
  const { registrar } = scene();
  for (const bad of [{ groups: 0 }, { groups: 1e9 }, { held: new Uint8Array(2) }, { groups: 9, held: bits() }]) {
    assert.is(registrar.ask("a", payload, question(bad), 0), undefined);
  }
});

test("who counts a payload's groups wrongly, and first, takes nothing from those who count them right", () => {
  const { registrar, ask } = scene();
  registrar.ask("liar", payload, question({ groups: 7, held: bits(0, 1, 2, 3, 4, 5, 6), wants: 0 }), 0);
  const first = ask("a", 1);
  assert.equal([first.peers, first.leases.length], [[], 2]);
  assert.equal(ask("b", 2).peers, ["a"]);
});

test("a question about a new payload costs little, however many groups it has", () => {
  let draws = 0;
  const random = seededRandom(1);
  const registrar = new Registrar(() => {
    draws++;
    return random();
  });
  const large = question({ groups: 65_537, held: new Uint8Array(8_193) });
  assert.is(registrar.ask("a", payload, large, 0)?.leases.length, 2);
  assert.ok(draws < 10, `${draws} random numbers`);
});

test("one who asks about very much pushes out its own questions, not those of others", () => {
  const { registrar, ask } = scene({ ...defaultRegistryLimits, payloadsMax: 5 });
  ask("holder", 0, { held: bits(0, 1, 2, 3, 4, 5), wants: 0 });
  for (let i = 0; i < 50; i++) registrar.ask("liar", String(i).padStart(64, "0") as PayloadId, question(), 1 + i);
  assert.equal(ask("a", 60).peers, ["holder"]);
  assert.ok(registrar.payloads <= 5);
});

test("every group of a payload is leased once, whatever their number", () => {
  for (const count of [1, 2, 9, 12, 60, 97]) {
    const registrar = new Registrar(seededRandom(count), { limits: { ...defaultRegistryLimits, leasesMax: 1000 } });
    const held = new Uint8Array(Math.ceil(count / 8));
    const all = Array.from({ length: count }, (_, i) => {
      const answer = registrar.ask(`p${i}`, payload, question({ groups: count, held, wants: 1 }), 0)!;
      return answer.leases.map(({ group }) => group);
    });
    assert.is(new Set(all.flat()).size, count);
  }
});

test("memory is bounded, however many ask about however much", () => {
  const { registrar, ask } = scene({ ...defaultRegistryLimits, wantersMax: 10, payloadsMax: 5, sitesMax: 3 });
  for (let i = 0; i < 50; i++) ask(`p${i}`, i, { site: `site ${i}` });
  assert.ok(ask("last", 60).peers.length <= 10);
  for (let i = 0; i < 50; i++) registrar.ask("a", String(i).padStart(64, "0") as PayloadId, question(), 100 + i);
  assert.ok(registrar.payloads <= 5);
});

test("whatever wanters say, a group has one lessee in a site, and nobody has more than two", () => {
  const ask = fc.record({
    from: fc.nat(5).map((n) => `p${n}`),
    afterMs: fc.nat(1500),
    held: fc.nat(63),
    wants: fc.nat(3),
    isReady: fc.boolean(),
    lacking: fc.array(fc.nat(7), { maxLength: 4 }),
    leases: fc.array(fc.record({ group: fc.nat(7), arrived: fc.nat(16) }), { maxLength: 4 }),
    leaves: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(ask, { maxLength: 80 }), (asks) => {
      const registrar = new Registrar(seededRandom(2));
      const held = new Map<string, number[]>();
      let nowMs = 0;
      for (const { from, afterMs, held: bytes, leaves, ...more } of asks) {
        nowMs += afterMs;
        const answer = registrar.ask(from, payload, question({ ...more, held: Uint8Array.of(bytes) }), nowMs)!;
        held.set(from, leased(answer));
        assert.ok(answer.leases.length <= 2);
        for (const group of leased(answer)) assert.ok(group < groups);
        if (leaves) registrar.left(from, nowMs);
        if (leaves) held.delete(from);
      }
    }),
    { seed: 6 },
  );
});

test("who lets a lease lapse without an item is told of; segments that do not come go to another after a second", () => {
  const idle: string[] = [];
  const registrar = new Registrar(seededRandom(1), { onIdle: (peer) => idle.push(peer) });
  const ask = (from: string, nowMs: number, more: Partial<RegisterQuestion> = {}) =>
    registrar.ask(from, payload, question(more), nowMs)!;
  const taken = leased(ask("idler", 0));
  assert.is(taken[0], 0);
  assert.equal(leased(ask("a", 500, { isReady: false })), []);
  ask("idler", 900, { leases: reported(taken), wants: 0 });
  assert.equal(leased(ask("a", 1_001, { isReady: false })).slice(0, 1), [0]);
  assert.equal(idle, []);
  const { leaseMs } = defaultRegistryLimits;
  ask("idler", leaseMs - 1, { leases: reported(taken.slice(1)), wants: 1 });
  ask("a", leaseMs + 1);
  assert.equal(idle, ["idler"]);
});

test("of who alone held a group and did not give it no other group counts as held", () => {
  const { ask } = scene();
  ask("keeper", 0, { held: bits(1, 2), wants: 0 });
  assert.equal(leased(ask("a", 1_000, { held: bits(0, 3, 4, 5), lacking: [1, 2] })), []);
  const lacking = { held: bits(0, 3, 4, 5), lacking: [1, 2] };
  assert.equal(leased(ask("a", 5_100, lacking)), [1, 2]);
  const other = scene();
  other.ask("keeper", 0, { held: bits(1), wants: 0 });
  other.ask("keeper", 4_000, { held: bits(1, 2), wants: 0 });
  assert.equal(leased(other.ask("a", 5_100, lacking)), [1, 2], "the second is believed no more, however new it is");
});

test("answers that no honest registrar gives are told apart, and those that lead nowhere", () => {
  const answer: RegisterAnswer = {
    peers: ["b"],
    leases: [{ group: 1, from: "origin" }],
    leaseMs: 2_500,
    retryAfterMs: 500,
  };
  const fault = (more: Partial<RegisterAnswer>, asked: Partial<RegisterQuestion> = {}) =>
    answerFault({ ...answer, ...more }, question(asked), "a");
  assert.is(fault({}), undefined);
  assert.match(fault({ leases: [{ group: groups, from: "far" }] })!, "what there is not");
  assert.match(fault({}, { wants: 0 })!, "that nobody asked for");
  assert.is(fault({}, { wants: 0, leases: reported([1]) }), undefined);
  assert.match(fault({ peers: ["b", "a"] })!, "as their own peers");
  assert.match(fault({ peers: Array.from({ length: 512 }, (_, i) => `${i}`) })!, "too many peers");
  for (const times of [{ leaseMs: 0 }, { leaseMs: 60_000 }, { retryAfterMs: 60_000 }]) {
    assert.match(fault(times)!, "times that none says");
  }
  const nothing = { ...answer, peers: [], leases: [] };
  assert.ok(leadsNowhere(nothing, question({ lacking: [0] })));
  for (const more of [{}, { lacking: [0], seeks: false }, { lacking: [0], wants: 0 }]) {
    assert.not(leadsNowhere(nothing, question(more)));
  }
  assert.not(leadsNowhere({ ...nothing, peers: ["b"] }, question({ lacking: [0] })));
});

test.run();
