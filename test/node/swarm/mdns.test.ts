// alone
// deadline: 40 s
import { createSocket } from "node:dgram";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import multicastDns from "multicast-dns";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Segment, usableSegments } from "../../../node/swarm/interfaces.ts";
import { Mdns, type MdnsOptions, serviceName } from "../../../node/swarm/mdns.ts";
import { answerPacket } from "../../../node/swarm/mdns-packets.ts";
import { Events, eventually } from "../../support/swarm-member.ts";

const test = suite("multicast DNS");

/** Not 5353: whatever else this machine runs is not bothered. */
const port = 20_000 + (process.pid % 10_000);
const network = new Uint8Array(32).fill(1);
const loopback = usableSegments(true).filter(({ isLoopback, family }) => isLoopback && family === "IPv4");

interface Seeker {
  readonly own: string;
  readonly mdns: Mdns;
  readonly found: Events<{ readonly peer: string; readonly addresses: readonly string[] }>;
  readonly faults: string[];
}

const open: Seeker[] = [];

async function newPeer(): Promise<string> {
  return peerIdFromPrivateKey(await generateKeyPair("Ed25519")).toString();
}

async function seeker(more: Partial<MdnsOptions> = {}): Promise<Seeker> {
  const own = await newPeer();
  const found = new Events<{ readonly peer: string; readonly addresses: readonly string[] }>();
  const faults: string[] = [];
  const mdns = new Mdns({
    own,
    network,
    listening: () => [`/ip4/127.0.0.1/tcp/${4_000 + open.length}`],
    known: () => [],
    withLoopback: true,
    segments: () => loopback,
    onFound: (peer, addresses) => found.add({ peer, addresses }),
    onFault: (fault) => faults.push(fault),
    port,
    ...more,
  });
  const opened = { own, mdns, found, faults };
  open.push(opened);
  return opened;
}

/** A socket that says to all what a test tells it to say. */
function stranger() {
  return multicastDns({ port, interface: "127.0.0.1", bind: "0.0.0.0" });
}

test.after.each(() => {
  for (const { mdns } of open.splice(0)) mdns.stop();
});

function finds(one: Seeker, other: Seeker): Promise<unknown> {
  return one.found.until(`${other.own}`, ({ peer }) => peer === other.own, 3_000);
}

test("members of one network find each other, and hear nothing of another one on the same segment", async () => {
  const [a, b, c, d] = await Promise.all([
    seeker(),
    seeker(),
    seeker({ network: network.map(() => 2) }),
    seeker({ network: network.map(() => 2) }),
  ]);
  for (const { mdns } of open) mdns.start();
  await Promise.all([finds(a, b), finds(b, a), finds(c, d), finds(d, c)]);
  for (const [one, other] of [
    [a, b],
    [b, a],
    [c, d],
    [d, c],
  ] as const) {
    assert.equal([...new Set(one.found.all.map(({ peer }) => peer))], [other.own]);
  }
  assert.equal(
    [a, b, c, d].flatMap(({ faults }) => faults),
    [],
  );
});

test("the name on the wire tells nothing of the network, and is one that DNS allows", () => {
  const names = [network, network.map(() => 2)].map(serviceName);
  assert.match(names[0]!, /^_p2pc-[0-9a-f]{10}\._udp\.local$/);
  assert.is.not(names[0], names[1]);
  assert.ok(names[0]!.split(".")[0]!.length <= 16);
});

test("one that comes later is found too, and whoever is known is not asked to answer", async () => {
  const a = await seeker();
  a.mdns.start();
  const b = await seeker({ known: () => [a.own] });
  b.mdns.start();
  await finds(a, b);
  assert.equal(b.found.all, [], "its question needed no answer");
  const c = await seeker();
  c.mdns.start();
  await Promise.all([finds(c, a), finds(c, b)]);
});

test("nobody makes a node look elsewhere than on its segment", async () => {
  const a = await seeker();
  a.mdns.start();
  const liar = stranger();
  const right = await newPeer();
  const wrong = ["/ip4/10.99.0.1/tcp/80", "/ip4/8.8.8.8/tcp/53", "/dns4/evil.example/tcp/1"];
  for (const address of wrong) liar.respond(answerPacket(serviceName(network), await newPeer(), [address]) as never);
  liar.respond(answerPacket(serviceName(network), right, [...wrong, "/ip4/127.0.0.1/tcp/4001"]) as never);
  try {
    await a.found.until("the right one", ({ peer }) => peer === right, 3_000);
  } finally {
    liar.destroy();
  }
  assert.equal(a.found.all, [{ peer: right, addresses: ["/ip4/127.0.0.1/tcp/4001"] }]);
});

test("garbage, and packets from other ports, are passed over", async () => {
  const a = await seeker();
  a.mdns.start();
  const socket = createSocket("udp4");
  const sent = (bytes: Uint8Array) =>
    new Promise<void>((resolve) => socket.send(bytes, port, "224.0.0.251", () => resolve()));
  await new Promise<void>((resolve) => socket.bind(0, () => resolve()));
  socket.setMulticastInterface("127.0.0.1");
  for (const size of [0, 1, 12, 500, 9_000]) await sent(new Uint8Array(size).fill(0xc0));
  socket.close();
  const b = await seeker();
  b.mdns.start();
  await Promise.all([finds(a, b), finds(b, a)]);
  assert.equal(a.faults, []);
});

test("a segment that comes is used, one that goes is left, and none at all is said once", async () => {
  let segments: readonly Segment[] = [];
  let changes = 0;
  const a = await seeker({ segments: () => segments, lookMs: 20, onNetworkChanged: () => changes++ });
  const b = await seeker();
  a.mdns.start();
  b.mdns.start();
  await eventually("a second look", () => a.faults.length > 0);
  assert.equal(a.mdns.state().interfaces, []);
  segments = loopback;
  await eventually("the segment", () => changes === 1);
  assert.equal(a.mdns.state().interfaces, ["lo"]);
  segments = [];
  await eventually("that it has gone", () => changes === 2);
  assert.is(a.faults.length, 1);
  assert.match(a.mdns.state().faults[0]!, /no interface with an IPv4 address/);
});

test("a port that is taken by somebody who does not share is a fault, and no crash", async () => {
  const taken = createSocket("udp4");
  await new Promise<void>((resolve) => taken.bind(port + 1, () => resolve()));
  const a = await seeker({ port: port + 1, lookMs: 20 });
  a.mdns.start();
  await eventually("the fault", () => a.faults.length > 0);
  assert.match(a.faults[0]!, /^multicast on lo \(127\.0\.0\.1\): .*EADDRINUSE/);
  await new Promise<void>((resolve) => taken.close(() => resolve()));
  const b = await seeker({ port: port + 1 });
  b.mdns.start();
  await finds(b, a);
  assert.is(a.faults.length, 1);
});

test.run();
