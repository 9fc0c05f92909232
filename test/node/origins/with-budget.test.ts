import { test } from "uvu";
import { systemClock } from "../../../node/clock.ts";
import { MemoryRepository } from "../../../node/origins/memory-origin.ts";
import { LimitedOrigin } from "../../../node/origins/with-budget.ts";
import { testRepository } from "../../conformance/origin-conformance.ts";
import { servedRepository } from "../../support/served-folder.ts";

testRepository("memory behind a budget", async () => {
  const memory = new MemoryRepository("memory");
  const budget = { slots: 1, bytesPerMs: 1e9 };
  const crowd = () => ({ self: "me", members: ["me"] });
  const limited = new LimitedOrigin(memory, { budget, crowd, clock: systemClock, random: Math.random });
  return { repository: servedRepository(memory, limited), close: async () => {} };
});

test.run();
