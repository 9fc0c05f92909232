// deadline: 120 s

import { test } from "uvu";
import * as assert from "uvu/assert";
import { simulateGossip } from "../../simulations/scenarios/gossip.ts";

test("a network of 200 gossips within its bars, and ends with the truth in every directory", () => {
  const report = simulateGossip({ nodes: 200, seed: 7 });
  const figure = (name: string) => Number(report[name]);
  assert.ok(figure("sentBytesPerSecondMax") < 50_000, JSON.stringify(report));
  assert.is(figure("changeKnownBy"), 199);
  assert.ok(figure("changeKnownMsMax") < 1_000, JSON.stringify(report));
  assert.ok(figure("healedSeconds") <= 30 && figure("stillBehind") === 0, JSON.stringify(report));
  assert.ok(figure("joinerSeconds") < 2, JSON.stringify(report));
  assert.is(figure("wrongDirectoryEntries"), 0);
});

test("the same seed gives the same report, byte for byte", () => {
  const reports = [3, 3, 4].map((seed) => JSON.stringify(simulateGossip({ nodes: 40, seed })));
  assert.is(reports[0], reports[1]);
  assert.is.not(reports[0], reports[2]);
});

test.run();
