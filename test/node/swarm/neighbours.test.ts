// deadline: 120 s
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Libp2pSwarm } from "../../../node/swarm/libp2p-swarm.ts";
import type { SwarmOptions } from "../../../node/swarm/swarm-options.ts";
import { UnreachableError } from "../../../protocol/errors.ts";
import { type LoopbackWorld, loopbackRules } from "../../support/libp2p-world.ts";
import { announced, RawGossiper } from "../../support/raw-gossiper.ts";
import {
  eventually,
  failureOf,
  Listener,
  Member,
  payloadNamed,
  servedPayload,
  variantNamed,
} from "../../support/swarm-member.ts";

const test = suite("neighbours");
const rule = loopbackRules(test, 40_000);

const variant = variantNamed("aa");
const payload = payloadNamed("bb");

/** Connected to nobody but those whom it is told of. */
const passive: Partial<SwarmOptions> = { neighbours: { goal: 0, most: 8 } };

/** Three in a row: the ends know each other by the one in the middle alone. */
async function row(world: LoopbackWorld, holder: Member) {
  const middle = await world.add("middle", new Member(), passive);
  const bootstrap = middle.addresses().slice(0, 1);
  const one = await world.add("one", holder, { ...passive, bootstrap });
  const other = await world.add("other", new Member(), { ...passive, bootstrap });
  await eventually("that they know of each other", () => other.directory.labels(one.id) !== undefined);
  return { middle, one, other };
}

rule("a member that somebody else told of is dialled when something is wanted of it, once for all", async (world) => {
  const holder = new Member();
  holder.records.set(variant, new Uint8Array(100));
  holder.payloads.set(payload, servedPayload([new Uint8Array(10), new Uint8Array(20)]));
  holder.holdings = [[variant, payload]];
  const { middle, one, other } = await row(world, holder);
  await eventually("what it holds", () => other.directory.holders(variant).has(one.id));
  assert.equal(
    other.peers().map(({ peer }) => peer),
    [middle.id],
  );
  const listener = new Listener();
  const [first, second, join] = await Promise.all([
    other.record(one.id, variant),
    other.record(one.id, variantNamed("00")),
    other.join(one.id, payload, 2, listener),
  ]);
  assert.equal([first?.length, second, join?.have], [100, undefined, "all"]);
  join?.request([1]);
  assert.is((await listener.bytesOf(1)).length, 20);
  assert.is(other.peers().find(({ peer }) => peer === one.id)?.addresses.length, 1);
});

rule("a member that cannot be reached is said so at once, and not dialled again for every question", async (world) => {
  const swarm = await world.add("node", new Member(), passive);
  await using raw = await RawGossiper.open();
  await raw.peer.enter(swarm);
  // A port at which nobody listens.
  const away = await RawGossiper.open();
  await raw.say(await announced(away.key, [[variant, payload]], { addresses: ["/ip4/127.0.0.1/tcp/1"] }));
  await away[Symbol.asyncDispose]();
  await eventually("that it is known", () => swarm.directory.holders(variant).size === 1);
  const first = await failureOf(swarm.record(away.id, variant));
  assert.instance(first, UnreachableError);
  assert.match(first.message, /cannot be reached/);
  const again = await failureOf(swarm.join(away.id, payload, 1, new Listener()));
  assert.match(again.message, /has gone/);
  assert.instance(
    await failureOf(swarm.record("12D3KooWGRUAJLS5nV7zqpBtqrvEPyYxLwHhQ1bPSBYoJXXdBvAu", variant)),
    UnreachableError,
  );
});

rule("members who learn of each other connect until they have enough", async (world) => {
  const first = await world.add("first", new Member(), { neighbours: { goal: 3, most: 8 } });
  const bootstrap = first.addresses().slice(0, 1);
  const others: Libp2pSwarm[] = [];
  for (let i = 0; i < 4; i++) {
    others.push(await world.add(`m${i}`, new Member(), { bootstrap, neighbours: { goal: 3, most: 8 } }));
  }
  await eventually("three neighbours each", () => others.every((swarm) => swarm.peers().length >= 3));
});

rule("members that one in the middle knows meet, without a list and without multicast", async (world) => {
  const one = new Member();
  const oneSwarm = await world.add("one", one);
  const otherSwarm = await world.add("other", new Member(), { bootstrap: [] });
  assert.equal(oneSwarm.peers(), []);
  const third = await world.add("third");
  await eventually("that they meet", () => otherSwarm.peers().length === 2 && oneSwarm.peers().length === 2);
  one.holdings = [[variant, payload]];
  oneSwarm.announce();
  const know = () => [otherSwarm, third].every(({ directory }) => directory.holders(variant).size > 0);
  await eventually("that it is heard", know);
});

test.run();
