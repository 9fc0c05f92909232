// deadline: 120 s
import { test } from "uvu";
import * as assert from "uvu/assert";
import { runKrakenModel } from "../../simulations/kraken-model.ts";
import { OracleWorld } from "../../simulations/oracle.ts";
import { rivalPolicies } from "../../simulations/rivals.ts";
import { swarmFigures, swarmScenarios } from "../../simulations/scenarios/swarms.ts";
import { SwarmWorld, type WorldPlan } from "../../simulations/swarm-world.ts";

/** A quarter of the standard payload among fewer members: what is judged here is looser than in `simulations/results.md`. */
const small = { nodes: 40, seed: 7, mebibytes: 256 };

function run(name: string, change: (plan: WorldPlan) => WorldPlan = (plan) => plan) {
  const scenario = swarmScenarios[name]!;
  const world = new SwarmWorld(change(scenario.plan(small))).run();
  return { world, figures: swarmFigures(scenario, world), faults: world.checkers.faults };
}

test("a crowd reads the origin once and is done in little more than the least time", () => {
  const { figures, faults } = run("morning-rush");
  assert.equal(faults, []);
  assert.ok(figures.efficiency >= 0.75, JSON.stringify(figures));
  assert.ok(figures.originCopies <= 1.02 && figures.duplicates <= 0.02, JSON.stringify(figures));
});

test("the same seed gives the same result, byte for byte, and another one another", () => {
  const texts = [7, 7, 8].map((seed) => {
    const scenario = swarmScenarios.churn!;
    const world = new SwarmWorld(scenario.plan({ nodes: 20, seed, mebibytes: 64 })).run();
    const ends = world.members.map(({ fetches }) => fetches[0]?.outcome);
    return JSON.stringify([swarmFigures(scenario, world), ends, world.events.said]);
  });
  assert.is(texts[0], texts[1]);
  assert.is.not(texts[0], texts[2]);
});

/** The most copies that may be read from the origin; `subnets` counts crossings of the trunk too. */
const copiesMost: Readonly<Record<string, number>> = {
  churn: 1.3,
  "fast-origin": 1.1,
  "slow-origin": 1.1,
  "slow-links": 1.1,
  "lagging-views": 1.3,
  subnets: 1.2,
  "many-small": 1.2,
  "origin-dies": 1.1,
  "origin-returns": 1.2,
  "mostly-never": 1.1,
};
for (const [name, most] of Object.entries(copiesMost)) {
  test(`${name}: everybody who stays ends well, at ${most} copies from the origin at most`, () => {
    const { world, figures, faults } = run(name);
    assert.equal(faults, []);
    assert.ok(figures.originCopies <= most, JSON.stringify(figures));
    assert.ok(Number.isFinite(figures.p100Seconds), JSON.stringify(figures));
    for (const { isUp, fetches } of world.members) {
      if (isUp) for (const fetch of fetches) assert.ok(fetch!.isComplete);
    }
  });
}

test("on slow links nobody is taken for a liar, and little is sent twice", () => {
  const scenario = swarmScenarios["slow-links"]!;
  for (const nodes of [8, 50]) {
    const world = new SwarmWorld(scenario.plan({ nodes, seed: 7 })).run();
    const figures = swarmFigures(scenario, world);
    assert.equal(world.checkers.faults, []);
    assert.ok(figures.originCopies <= 1.1 && figures.duplicates <= 0.02, JSON.stringify(figures));
  }
});

test("a thin trunk is crossed about once", () => {
  const { figures } = run("subnets");
  assert.ok(Number(figures.trunkCopies) <= 1.2 && Number(figures.laterToEarlier) <= 1.3, JSON.stringify(figures));
});

test("who serves wrong bytes, or takes leases and requests and does nothing, costs the honest no copy of the origin", () => {
  const { world, figures, faults } = run("hostile");
  assert.equal(faults, []);
  assert.ok(Number(figures.honestOriginCopies) <= 1.1, JSON.stringify(figures));
  for (const { number, traits, fetches } of world.members) {
    if (!traits.isCorrupt && !traits.isIdle) assert.ok(fetches[0]!.isComplete, `n${number}`);
  }
});

test("without registrars everybody is done, by turns", () => {
  const { figures, faults } = run("no-registrar");
  assert.equal(faults, []);
  assert.ok(Number.isFinite(figures.p100Seconds) && figures.originCopies <= 6, JSON.stringify(figures));
});

test("when the origin has gone with an item missing, every fetch ends with a typed fault that names one", () => {
  const lose = (plan: WorldPlan) => ({
    ...plan,
    script: [{ atMs: 1000, run: (world: SwarmWorld) => world.stopOrigin() }],
  });
  const { figures, faults } = run("origin-lost", lose);
  assert.equal(faults, []);
  assert.equal([figures.failed, figures.namedItem, figures.faults], [40, 40, "unreachable"]);
});

test("a member that is not there any more is waited for by nobody", () => {
  const kill = (world: SwarmWorld) => {
    for (const member of world.members.slice(0, 12)) world.takeDown(member, 1_000);
  };
  const { figures, faults } = run("morning-rush", (plan) => ({ ...plan, script: [{ atMs: 1_200, run: kill }] }));
  assert.equal(faults, []);
  assert.ok(figures.p100Seconds < 9 && figures.originCopies < 1.5, JSON.stringify(figures));
});

test("the checkers see what is planted: bytes that were not verified, a read that is forbidden, a strike, a node that is stuck", () => {
  const { world } = run("morning-rush");
  world.member(0).fetches[0]!.have.remove(9);
  world.checkers.served(world.member(0), 0, 9);
  assert.match(world.checkers.faults.at(-1) ?? "", /n0 serves item 9, which it has not verified/);
  const never = run("mostly-never").world;
  never.checkers.originAsked(never.member(1).fetches[0]!);
  assert.match(never.checkers.faults.at(-1) ?? "", /n1 reads the origin, which it never may/);
  world.checkers.struck(world.member(1), world.member(2), "claim");
  assert.match(world.checkers.faults.at(-1) ?? "", /n1 strikes n2, which is honest: claim/);
  const stuck = run("morning-rush", (plan) => ({ ...plan, untilMs: 1_500 }));
  assert.ok(stuck.faults.some((fault) => /is stuck at 1\d\d\d ms: \d+ items are missing/.test(fault)));
});

test("no coordination at the origin reads it more often, and a tree takes twice as long", () => {
  const scenario = swarmScenarios["morning-rush"]!;
  const figures = ["no coordination at the origin", "static tree"].map((name) => {
    const world = new SwarmWorld(scenario.plan({ ...small, policies: rivalPolicies[name]! })).run();
    return swarmFigures(scenario, world);
  });
  const [open, tree] = figures;
  const own = run("morning-rush").figures;
  assert.ok(open!.originCopies > 1.3 && tree!.p100Seconds > 1.5 * own.p100Seconds);
  assert.ok(new OracleWorld(scenario.plan(small)).run() < own.p100Seconds);
});

test("in Kraken's model our choice of pieces needs no more rounds than Kraken's", () => {
  const job = { peers: 300, pieces: 200, seed: 7 };
  const [theirs, ours] = (["kraken", "p2pcache"] as const).map(
    (policy) => runKrakenModel({ ...job, policy }).p100Rounds,
  );
  assert.ok(ours! <= theirs!, `${ours} and ${theirs}`);
  assert.ok(theirs! >= 21 && theirs! < 40);
});

test.run();
