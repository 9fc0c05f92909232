import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Libp2pSwarm } from "../../../node/swarm/libp2p-swarm.ts";
import { UnreachableError, UsageError } from "../../../protocol/errors.ts";
import { testCrowd } from "../../conformance/crowd-conformance.ts";
import { testSwarm } from "../../conformance/swarm-conformance.ts";
import { LoopbackWorld, loopbackRules, swarmOptions } from "../../support/libp2p-world.ts";
import {
  Events,
  eventually,
  failureOf,
  Listener,
  Member,
  payloadNamed,
  servedPayload,
  variantNamed,
  within,
} from "../../support/swarm-member.ts";

testSwarm("libp2p", async () => new LoopbackWorld());
testCrowd("libp2p", async () => new LoopbackWorld());

const test = suite("the libp2p swarm");
const rule = loopbackRules(test);

const payload = payloadNamed("bb");
const chunk = new Uint8Array(1_000_000);

rule("a bootstrap peer that comes back is dialled again, and announces anew", async (world) => {
  const [friend, member] = [new Member(), new Member()];
  const options = await swarmOptions("friend");
  friend.holdings = [[variantNamed("aa"), payload]];
  const first = await Libp2pSwarm.open(options, friend.handlers);
  const address = first.addresses()[0]!;
  const listen = [address.replace(/\/p2p\/.*/, "")];
  const unreachable = new Events<string>();
  const swarm = await world.add("node", member, {
    bootstrap: [address],
    timings: { retryMs: 30 },
    onUnreachable: (away) => unreachable.add(away),
  });
  await eventually("what it holds", () => swarm.directory.holdingsOf(first.id) === 1);
  await first[Symbol.asyncDispose]();
  await member.heard.until("that it left", ({ kind }) => kind === "left");
  assert.equal(swarm.peers(), []);
  await unreachable.until("that it is away", () => true);
  friend.holdings = [...friend.holdings, [variantNamed("ab"), payload]];
  const second = await Libp2pSwarm.open({ ...options, listen, epoch: options.epoch + 1 }, friend.handlers);
  try {
    await member.heard.until("that it is back", () => member.heard.count(({ kind }) => kind === "ready") === 2);
    await eventually("what it holds", () => swarm.directory.holdingsOf(first.id) === 2);
    assert.equal(unreachable.all, [address]);
  } finally {
    await second[Symbol.asyncDispose]();
  }
});

rule("a bootstrap peer that starts later is found", async (world) => {
  const [friend, member] = [new Member(), new Member()];
  const options = await swarmOptions("friend");
  const before = await Libp2pSwarm.open(options, friend.handlers);
  const address = before.addresses()[0]!;
  await before[Symbol.asyncDispose]();
  await world.add("node", member, { bootstrap: [address], timings: { retryMs: 30 } });
  const listen = [address.replace(/\/p2p\/.*/, "")];
  const swarm = await Libp2pSwarm.open({ ...options, listen }, friend.handlers);
  try {
    await member.ready(swarm);
  } finally {
    await swarm[Symbol.asyncDispose]();
  }
});

test("an address that is none is an error of usage", async () => {
  for (const wrong of [{ listen: ["127.0.0.1:4001"] }, { bootstrap: ["/ip4/127.0.0.1/tcp/x"] }, { listen: [""] }]) {
    const failure = await failureOf(Libp2pSwarm.open(await swarmOptions("node", wrong), new Member().handlers));
    assert.instance(failure, UsageError);
    assert.match(failure.message, /^not a multiaddr: /);
  }
});

rule("a port that is in use is said to be, and nothing stays open", async (world) => {
  const swarm = await world.add("node");
  const listen = [swarm.addresses()[0]!.replace(/\/p2p\/.*/, "")];
  const before = openSockets();
  const failure = await failureOf(Libp2pSwarm.open(await swarmOptions("other", { listen }), new Member().handlers));
  assert.instance(failure, UnreachableError);
  assert.equal([failure.code, failure.exit], ["CANNOT_LISTEN", 6]);
  assert.match(failure.message, listen[0]!);
  await new Promise(setImmediate);
  assert.equal(openSockets(), before);
});

rule("a swarm that listens nowhere still reaches others", async (world) => {
  const [server, member] = [new Member(), new Member()];
  server.payloads.set(payload, servedPayload([chunk, chunk]));
  const served = await world.add("server", server);
  const swarm = await world.add("node", member, { listen: [] });
  await member.ready(served);
  assert.equal(swarm.addresses(), []);
  const listener = new Listener();
  (await swarm.join(served.id, payload, 2, listener))?.request([1]);
  assert.is((await listener.bytesOf(1)).length, chunk.length);
});

test("closing in the middle of everything leaves no socket and no timer that holds the process", async () => {
  await eventually("that those of the tests before have gone", () => openSockets().length === 0);
  const before = openSockets();
  const world = new LoopbackWorld();
  const [server, member] = [new Member(), new Member()];
  server.payloads.set(payload, servedPayload(Array.from({ length: 50 }, () => chunk)));
  server.payloads.set(payloadNamed("cc"), servedPayload([chunk], { load: () => new Promise(() => undefined) }));
  const served = await world.add("server", server);
  const swarm = await world.add("node", member, { bootstrap: [...served.addresses(), "/ip4/127.0.0.1/tcp/1"] });
  await member.ready(served);
  const listener = new Listener();
  const join = await swarm.join(served.id, payload, 50, listener);
  const stuck = await swarm.join(served.id, payloadNamed("cc"), 1, listener);
  join?.request(Array.from({ length: 50 }, (_, item) => item));
  stuck?.request([0]);
  swarm.announce();
  swarm.stored(payload, [1]);
  await listener.bytesOf(3);
  await within(5_000, "closing", world.close());
  await listener.until("the end of both", () => listener.count(({ kind }) => kind === "ended") === 2);
  await new Promise(setImmediate);
  assert.equal(openSockets(), before);
  // After its end it does nothing, and says so.
  swarm.announce();
  assert.equal(swarm.peers(), []);
  assert.is((await failureOf(swarm.join(served.id, payload, 50, listener))).code, "UNREACHABLE");
});

rule("what peers may be sent is bounded by class from the start", async (world) => {
  const [server, member] = [new Member(), new Member()];
  server.payloads.set(payload, { ...servedPayload([chunk, chunk, chunk]), sizeOf: () => 4 * 1024 * 1024 });
  const served = await world.add("server", server, { up: { repair: 0 } });
  const swarm = await world.add("node", member);
  await member.ready(served);
  const [slow, quick] = [new Listener(), new Listener()];
  swarm.take(served.id, payload, 3, slow, "repair").request([1, 2]);
  await slow.bytesOf(1);
  swarm.take(served.id, payload, 3, quick).request([1, 2]);
  await Promise.all([quick.bytesOf(1), quick.bytesOf(2)]);
  assert.is(slow.pieces(), 1);
});

rule("three that know one of them all meet it, and one after the other may leave", async (world) => {
  const members = [new Member(), new Member(), new Member(), new Member()];
  const swarms: Libp2pSwarm[] = [];
  for (const [i, member] of members.entries()) swarms.push(await world.add(`${i}`, member));
  for (const [i, member] of members.entries()) {
    for (const swarm of swarms) if (swarm !== swarms[i]) await member.ready(swarm);
  }
  assert.equal(
    swarms.map((swarm) => swarm.peers().length),
    [3, 3, 3, 3],
  );
  await swarms[1]![Symbol.asyncDispose]();
  for (const i of [0, 2, 3]) {
    await members[i]!.heard.until("that it left", (event) => event.kind === "left" && event.peer === swarms[1]!.id);
  }
  assert.equal(
    [0, 2, 3].map((i) => swarms[i]!.peers().length),
    [2, 2, 2],
  );
});

test.run();

/** What would keep this process alive, of those kinds that a swarm opens. */
function openSockets(): string[] {
  return process.getActiveResourcesInfo().filter((kind) => kind.startsWith("TCP"));
}
