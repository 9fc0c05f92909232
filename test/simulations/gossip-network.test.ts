// deadline: 300 s

import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { seededRandom } from "../../protocol/random.ts";
import { findLies } from "../../simulations/checkers.ts";
import { GossipNetwork, type NetworkOptions } from "../../simulations/gossip-network.ts";
import { VirtualClock } from "../../simulations/virtual-clock.ts";
import { holdings, numbers } from "../support/announcements.ts";

function newNetwork(options: NetworkOptions): GossipNetwork {
  return new GossipNetwork(options, new VirtualClock(), seededRandom(options.seed));
}

/** All members start and meet. */
function startAll(network: GossipNetwork): void {
  for (const { index } of network.members) network.members[index]!.start(1, holdings(index, index + 1));
  for (const { index } of network.members) network.meet(index);
}

test("members that meet know of each other within 2 s, and a change within half a second", () => {
  const network = newNetwork({ members: 8, seed: 1 });
  startAll(network);
  network.clock.run(2_000);
  assert.equal(findLies(network), []);
  network.members[3]!.hold(holdings(1, 2, 3, 4));
  network.clock.run(network.clock.nowMs + 500);
  assert.equal(findLies(network), []);
});

test("who says goodbye is forgotten at once, who dies in the time it said", () => {
  const network = newNetwork({ members: 12, seed: 2 });
  startAll(network);
  network.clock.run(5_000);
  network.members[0]!.stop();
  network.part(0);
  network.clock.run(6_000);
  assert.equal(findLies(network), []);
  network.members[1]!.kill();
  network.part(1);
  network.clock.run(60_000);
  assert.is(findLies(network).length, 10, "nobody knows yet");
  // Its last announcement was at most one heartbeat before its end, and counts three and a half.
  network.clock.run(6_000 + 3.5 * 30_000 + 1_000);
  assert.equal(findLies(network), []);
});

test("a cut of 60 s is healed within 30 s", () => {
  const network = newNetwork({ members: 40, seed: 3 });
  startAll(network);
  network.clock.run(10_000);
  network.cut((a, b) => a % 2 !== b % 2);
  for (const { index } of network.members) {
    network.clock.run(network.clock.nowMs + 1_400);
    network.members[index]!.hold(holdings(...numbers(6, index)));
  }
  network.clock.run(70_000);
  assert.ok(findLies(network).length > 100, "the halves do not know of each other's changes");
  network.heal();
  network.clock.run(100_000);
  assert.equal(findLies(network), []);
});

test("a list of thousands that changes at once is known everywhere, some a second", () => {
  const network = newNetwork({ members: 6, seed: 4 });
  startAll(network);
  network.clock.run(5_000);
  network.members[2]!.hold(holdings(...numbers(3_000, 100)));
  network.clock.run(7_000);
  const known = network.members[4]!.directory.holdingsOf(network.members[2]!.name);
  assert.ok(known >= 256 && known <= 1_000, `${known} after 2 s`);
  network.clock.run(30_000);
  assert.equal(findLies(network), []);
});

test("whatever is lost, comes twice, ends and begins again: after some quiet all directories are right", () => {
  const step = fc.record({
    member: fc.nat(5),
    waitMs: fc.oneof(fc.nat(3_000), fc.nat(90_000)),
    what: fc.constantFrom("hold", "hold", "hold", "stop", "kill", "cut", "heal"),
    held: fc.uniqueArray(fc.nat(30), { maxLength: 12 }),
  });
  const options = fc.record({
    members: fc.integer({ min: 2, max: 6 }),
    seed: fc.nat(1_000_000),
    lossShare: fc.double({ min: 0, max: 0.6, noNaN: true }),
    duplicateShare: fc.double({ min: 0, max: 0.5, noNaN: true }),
  });
  fc.assert(
    fc.property(options, fc.array(step, { maxLength: 30 }), (given, steps) => {
      const network = newNetwork(given);
      startAll(network);
      let epoch = 1;
      for (const { member, waitMs, what, held } of steps) {
        network.clock.run(network.clock.nowMs + waitMs);
        const { index, isRunning } = network.members[member % given.members]!;
        if (what === "cut") network.cut((a, b) => a <= index !== b <= index);
        else if (what === "heal") network.heal();
        else if (!isRunning) network.revive(index, ++epoch, holdings(...held));
        else if (what === "hold") network.members[index]!.hold(holdings(...held));
        else {
          network.members[index]![what]();
          network.part(index);
        }
      }
      network.heal();
      network.clock.run(network.clock.nowMs + 400_000);
      assert.equal(findLies(network), []);
    }),
    { numRuns: process.env.P2PCACHE_LONG === undefined ? 150 : 2_000 },
  );
});

test.run();
