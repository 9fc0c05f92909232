import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../../node/clock.ts";
import { openHashEngine } from "../../node/hasher.ts";
import { PolicyGossip } from "../../node/policy-gossip.ts";
import { PolicyWatch } from "../../node/policy-watch.ts";
import type { Swarm } from "../../node/ports.ts";
import { RecordTrust } from "../../node/record-trust.ts";
import type { PolicyHead } from "../../protocol/messages.ts";
import { PolicyWorld } from "../support/policy-world.ts";
import { within } from "../support/swarm-member.ts";

const test = suite("policies that peers offer");
const minuteMs = 60_000;

test("a peer that offers false policies costs at most one look a minute, and keeps no other from being followed", async () => {
  using world = new PolicyWorld();
  await world.begin();
  const plain = world.settings("machine");
  const settings = { ...plain, trust: { ...plain.trust, rootFile: join(world.folder.path, "1.root.json") } };
  const trust = new RecordTrust(settings.trust, openHashEngine().hash, Date.now);
  const parts = { settings, clock: systemClock, log: () => undefined, trust, random: () => 0.5 };
  await using watch = (await PolicyWatch.open(parts))!;
  let [nowMs, follows, files] = [0, 0, 0];
  let last: Promise<unknown> = Promise.resolve();
  const counted = {
    state: watch.state,
    note: (from: string, error: unknown) => watch.note(from, error),
    follow: (...asked: Parameters<PolicyWatch["follow"]>) => {
      follows++;
      const followed = watch.follow(...asked);
      last = followed.catch(() => undefined);
      return followed;
    },
  };
  // Always a newer one, of which it has nothing that is right.
  const heads = (): PolicyHead[] => [
    { role: "timestamp", version: 1_000 + follows, hash: "ab".repeat(32) },
    { role: "root", version: 2, hash: "cd".repeat(32) },
  ];
  const policy = {
    exchange: async () => heads(),
    file: async () => {
      files++;
      return new Uint8Array(100);
    },
    recheck: () => undefined,
  };
  const swarm = { policy, peers: () => [] } as unknown as Swarm;
  const gossip = new PolicyGossip({
    ...{ watch: counted, trust, swarm: () => swarm, admitsMembersOnly: false },
    ...{ random: () => 0.5, monotonicMs: () => nowMs },
  });
  const offer = async () => {
    await gossip.exchange("liar");
    gossip.heard("liar", heads());
    await within(10_000, "one look", last);
    await new Promise(setImmediate); // Its failure is noted behind it.
  };
  for (; nowMs < 2 * minuteMs; nowMs += 1_000) await offer();
  assert.is(follows, 2);
  assert.ok(files <= 4, `${files} files`);
  assert.is(trust.inForce, undefined);
  await watch.follow("filer", (name) => world.folder.read(name));
  assert.ok(trust.inForce !== undefined);
});

test.run();
