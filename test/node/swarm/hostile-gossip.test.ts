// deadline: 180 s
import { generateKeyPair } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openAnnouncement } from "../../../node/swarm/envelope.ts";
import { FrameStream } from "../../../node/swarm/frame-stream.ts";
import { protocols } from "../../../node/swarm/protocols.ts";
import { loopbackRules } from "../../support/libp2p-world.ts";
import { announced, RawGossiper } from "../../support/raw-gossiper.ts";
import { RawPeer } from "../../support/raw-peer.ts";
import { Events, eventually, Member, payloadNamed, variantNamed } from "../../support/swarm-member.ts";

const test = suite("hostile gossip");
const rule = loopbackRules(test, 40_000);

const held = [[variantNamed("aa"), payloadNamed("bb")]] as const;

rule("what a peer has signed is learnt, and sent on to those who are not connected to it", async (world) => {
  const near = await world.add("near");
  const far = await world.add("far");
  await using raw = await RawGossiper.open();
  await raw.peer.enter(near);
  await raw.say(await announced(raw.key, held));
  await eventually("that both know", () => [near, far].every(({ directory }) => directory.holdingsOf(raw.id) === 1));
  assert.equal([...far.directory.holders(variantNamed("aa"))], [[raw.id, payloadNamed("bb")]]);
  assert.equal(far.directory.labels(raw.id)?.addresses, ["/ip4/127.0.0.1/tcp/1"]);
});

rule("whoever has said no hello is not heard, and keeps nobody from hearing the same of others", async (world) => {
  const swarm = await world.add("node", new Member(), { timings: { helloMs: 1_500 } });
  await using stranger = await RawGossiper.open();
  await using friend = await RawGossiper.open();
  const author = await generateKeyPair("Ed25519");
  const envelope = await announced(author, held);
  await stranger.peer.dial(swarm);
  await stranger.say(envelope);
  await stranger.peer.saw.until("the end of the connection", (event) => event === "closed");
  assert.is(swarm.directory.holders(variantNamed("aa")).size, 0);
  await friend.peer.enter(swarm);
  await friend.say(envelope);
  await eventually("that it is known", () => swarm.directory.holders(variantNamed("aa")).size === 1);
});

rule("what nobody has signed is not learnt and not sent on, and whoever goes on with it is let go", async (world) => {
  const refused = new Events<string>();
  const near = await world.add("near", new Member(), { onRefused: (peer, reason) => refused.add(`${peer} ${reason}`) });
  const far = await world.add("far");
  await using raw = await RawGossiper.open();
  await raw.peer.enter(near);
  const victim = await generateKeyPair("Ed25519");
  const right = await announced(victim, held);
  const broken = right.slice();
  broken[broken.length - 1]! ^= 1;
  const lies = [
    broken,
    await announced(victim, held, { network: "other" }),
    await announced(raw.key, held, { peer: peerIdFromPrivateKey(victim).toString() }),
    Buffer.concat([right, Buffer.from([0x7a, 1, 0])]),
    new Uint8Array(0),
    new Uint8Array(100).fill(255),
    new Uint8Array(60_000),
  ];
  for (const lie of lies) await raw.say(lie);
  for (let i = 0; i < 10; i++) await raw.say(new Uint8Array(50).fill(i));
  await refused.until("that it is let go", (text) => text === `${raw.id} it sends on what nobody signed`);
  await raw.peer.saw.until("the end of the connection", (event) => event === "closed");
  for (const { directory } of [near, far]) assert.is(directory.holders(variantNamed("aa")).size, 0);
});

rule("an older announcement changes nothing", async (world) => {
  const swarm = await world.add("node");
  await using raw = await RawGossiper.open();
  await raw.peer.enter(swarm);
  await raw.say(await announced(raw.key, held, { epoch: 5 }));
  await eventually("that it is known", () => swarm.directory.holdingsOf(raw.id) === 1);
  await raw.say(await announced(raw.key, [], { epoch: 4, sequence: 9 }));
  await raw.say(await announced(raw.key, [], { epoch: 5, sequence: 0, name: "again" }));
  const other = await generateKeyPair("Ed25519");
  await raw.say(await announced(other, []));
  await eventually(
    "what came after",
    () => swarm.directory.labels(peerIdFromPrivateKey(other).toString()) !== undefined,
  );
  assert.is(swarm.directory.holdingsOf(raw.id), 1);
  assert.is(swarm.directory.labels(raw.id)?.name, "raw");
});

rule("of a peer that announces without end some announcements a second count", async (world) => {
  const member = new Member();
  const swarm = await world.add("node", member);
  await using raw = await RawGossiper.open();
  await raw.peer.enter(swarm);
  const startMs = performance.now();
  for (let sequence = 0; sequence < 300; sequence++) {
    const [digits] = [(sequence % 250).toString(16).padStart(2, "0")];
    await raw.say(await announced(raw.key, [[variantNamed(digits), payloadNamed("bb")]], { sequence }));
  }
  const other = await generateKeyPair("Ed25519");
  await raw.say(await announced(other, held));
  await eventually("what came after", () => swarm.directory.holders(variantNamed("aa")).size > 0);
  const counted = member.heard.count((event) => event.kind === "learnt" && event.peer === raw.id);
  const seconds = (performance.now() - startMs) / 1_000;
  assert.ok(counted <= 11 + seconds, `${counted} in ${seconds} s`);
});

rule("whoever floods us with gossip is let go", async (world) => {
  const refused = new Events<string>();
  const swarm = await world.add("node", new Member(), { onRefused: (_, reason) => refused.add(reason) });
  await using raw = await RawPeer.open();
  const connection = await raw.enter(swarm);
  const stream = await connection.newStream("/meshsub/1.2.0");
  // Frames of a million bytes that mean nothing.
  const frame = new Uint8Array(1_000_003);
  frame.set([0xc0, 0x84, 0x3d]);
  try {
    for (let i = 0; i < 64; i++) {
      const { promise: moved, resolve } = Promise.withResolvers<unknown>();
      for (const event of ["drain", "close"] as const) stream.addEventListener(event, resolve, { once: true });
      if (!stream.send(frame)) await moved;
    }
  } catch {
    // It was reset.
  }
  await refused.until("that it is let go", (reason) => reason === "it floods us with gossip");
  await raw.saw.until("the end of the connection", (event) => event === "closed");
});

rule("a neighbour that answers a question about the directory with garbage teaches nothing", async (world) => {
  const swarm = await world.add("node");
  const victim = await generateKeyPair("Ed25519");
  const broken = (await announced(victim, held)).slice();
  broken[broken.length - 1]! ^= 1;
  const answers: ((frames: FrameStream) => void)[] = [
    (frames) => void frames.send({ kind: "heads", heads: [{ envelope: broken, remainingMs: 60_000 }] }),
    (frames) => void frames.send({ kind: "pairs" }, new Uint8Array(63)),
    (frames) => void frames.send({ kind: "part", envelope: broken, remainingMs: 1 }, new Uint8Array(3)),
    (frames) => void frames.send({ kind: "absent" }),
    (frames) => void frames.close(),
  ];
  for (const answer of answers) {
    await using raw = await RawPeer.open();
    const asked = new Events<string>();
    await raw.host.handle(protocols.directory.id, (stream) => {
      asked.add("asked");
      answer(new FrameStream(stream, protocols.directory.asks));
    });
    await raw.enter(swarm);
    await asked.until("a question", () => true);
  }
  await using honest = await RawGossiper.open();
  await honest.peer.enter(swarm);
  await honest.say(await announced(honest.key, held));
  await eventually("that it still learns", () => swarm.directory.holdingsOf(honest.id) === 1);
  assert.is(swarm.directory.holders(variantNamed("aa")).size, 1);
});

test("an envelope counts in one form only, and from an Ed25519 key", async () => {
  const key = await generateKeyPair("Ed25519");
  const right = await announced(key, held);
  assert.is((await openAnnouncement(right))?.announcement.name, "raw");
  for (const wrong of [
    right.subarray(0, -1),
    Buffer.concat([right, right]),
    Buffer.concat([right, Buffer.from([0x7a, 1, 0])]),
    await announced(await generateKeyPair("secp256k1"), held),
    new Uint8Array(100_000),
  ]) {
    assert.is(await openAnnouncement(wrong), undefined);
  }
});

test.run();
