import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type LeaseStore, Leases } from "../../node/leases.ts";
import { processMark } from "../../node/store/owner.ts";
import type { VariantHash } from "../../protocol/hash.ts";

const foo = "f".repeat(64) as VariantHash;

test("a lease without a process ends with its connection", async () => {
  const leases = await Leases.open(memory(), fail);
  const lease = await leases.hold({ variants: [foo], name: "a script" });
  assert.is(leases.holders().get(foo), "a script");
  await lease.leave();
  assert.is(leases.holders().size, 0);
  await lease.leave();
});

test("a lease with a process lives until both have gone, and through a restart of the node", async () => {
  const store = memory();
  const sleeper = spawn("sleep", ["60"]);
  await once(sleeper, "spawn");
  try {
    const first = await Leases.open(store, fail);
    const lease = await first.hold({ variants: [foo], name: "nuke", process: processMark(sleeper.pid!) });
    await lease.leave();
    assert.is(first.holders().get(foo), `pid ${sleeper.pid} (nuke)`);
    const second = await Leases.open(store, fail);
    assert.is(second.holders().get(foo), `pid ${sleeper.pid} (nuke)`);
    sleeper.kill();
    await once(sleeper, "exit");
    await second.prune();
    assert.is(second.holders().size, 0);
    assert.is((await store.leases()).size, 0, "and nothing of it is left written down");
  } finally {
    sleeper.kill("SIGKILL");
  }
});

test("a pid that another process has by now keeps nothing", async () => {
  const mark = { ...processMark(process.pid), started: "1" };
  const store = memory();
  await store.noteLease("old", { variants: [foo], name: "nuke", process: mark });
  assert.is((await Leases.open(store, fail)).holders().size, 0);
});

test("what was written down and is none of ours is dropped", async () => {
  const store = memory();
  for (const [id, lease] of Object.entries({ a: { name: 5 }, b: { variants: [foo], name: "x" }, c: {} })) {
    await store.noteLease(id, lease);
  }
  assert.is((await Leases.open(store, fail)).holders().size, 0);
  assert.is((await store.leases()).size, 0);
});

test("there is an end to leases", async () => {
  const leases = await Leases.open(memory(), fail);
  for (let i = 0; i < 1000; i++) await leases.hold({ variants: [foo], name: "x" });
  const refused = await leases.hold({ variants: [foo], name: "x" }).then(
    () => "held",
    (error: { code: string }) => error.code,
  );
  assert.is(refused, "TOO_MANY_LEASES");
});

function memory(): LeaseStore {
  const kept = new Map<string, unknown>();
  return {
    leases: async () => new Map(kept),
    async noteLease(id, lease) {
      if (lease === undefined) kept.delete(id);
      else kept.set(id, JSON.parse(JSON.stringify(lease)));
    },
  };
}

function fail(problem: string): void {
  throw new Error(problem);
}

test.run();
