// runs unprivileged
// deadline: 240 s
import { test } from "uvu";
import * as assert from "uvu/assert";
import { swarmScenarios } from "../../simulations/scenarios/swarms.ts";
import { SwarmWorld } from "../../simulations/swarm-world.ts";

/** The standard payload: at 1 Gbit/s it takes some nine seconds, and a lease that brings nothing up to five. */
const nodes = 10;
const idle = 3;

/** How long the slowest of the honest members took. `changes`: one of them, or none, takes leases and brings nothing. */
function honestSeconds(seed: number, traits: { readonly isIdle: boolean }): number {
  const plan = swarmScenarios["morning-rush"]!.plan({ nodes, seed });
  const members = plan.members.map((one, at) => (at === idle ? { ...one, traits } : one));
  const world = new SwarmWorld({ ...plan, members }).run();
  assert.equal(world.checkers.faults, []);
  const taken = world.members.flatMap(({ fetches }, at) => {
    const outcome = fetches[0]!.outcome;
    if (at === idle) return [];
    assert.ok(fetches[0]!.isComplete, `seed ${seed}: everybody honest has everything`);
    return [(outcome.endedMs! - outcome.startedMs) / 1000];
  });
  return Math.max(...taken);
}

for (let seed = 1; seed <= 19; seed++) {
  test(`leases that are taken and not used cost a quarter and a second at the most (seed ${seed})`, () => {
    const honest = honestSeconds(seed, { isIdle: false });
    const hostile = honestSeconds(seed, { isIdle: true });
    if (process.env.P2PCACHE_SHOW !== undefined) console.log(seed, honest, hostile);
    assert.ok(hostile <= 1.25 * honest + 1, `${hostile} s, ${honest} s without it`);
  });
}

test.run();
