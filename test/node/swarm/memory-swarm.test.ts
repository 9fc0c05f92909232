import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Swarm } from "../../../node/ports.ts";
import { MemoryNetwork } from "../../../node/swarm/memory-swarm.ts";
import { testCrowd } from "../../conformance/crowd-conformance.ts";
import { type SwarmWorld, testSwarm } from "../../conformance/swarm-conformance.ts";
import { Listener, Member, payloadNamed, servedPayload } from "../../support/swarm-member.ts";

testSwarm("memory", open);
testCrowd("memory", open);

async function open(): Promise<SwarmWorld> {
  const network = new MemoryNetwork();
  const opened: Swarm[] = [];
  return {
    add: async (name, member) => {
      const swarm = network.open(name, member.handlers);
      opened.push(swarm);
      return swarm;
    },
    close: async () => {
      for (const swarm of opened) await swarm[Symbol.asyncDispose]();
    },
  };
}

test("members that were parted meet again when they are connected", async () => {
  const network = new MemoryNetwork();
  const [a, b] = [new Member(), new Member()];
  const [one, other] = [network.open("one", a.handlers), network.open("other", b.handlers)];
  b.payloads.set(payloadNamed("bb"), servedPayload([new Uint8Array(1)]));
  await a.ready(other);
  network.disconnect(one, other);
  await a.heard.until("that it left", ({ kind }) => kind === "left");
  assert.equal(one.peers(), []);
  network.connect(one, other);
  await a.heard.until("that it is back", () => a.heard.count(({ kind }) => kind === "ready") === 2);
  assert.ok(await one.join("other", payloadNamed("bb"), 1, new Listener()));
  await one[Symbol.asyncDispose]();
  await other[Symbol.asyncDispose]();
});

test.run();
