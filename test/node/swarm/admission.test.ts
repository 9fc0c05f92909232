import { suite } from "uvu";
import * as assert from "uvu/assert";
import { networkPrologue } from "../../../node/keys.ts";
import { FrameStream } from "../../../node/swarm/frame-stream.ts";
import { nextFrame } from "../../../node/swarm/frames.ts";
import { protocols } from "../../../node/swarm/protocols.ts";
import { loopbackRules, networkKey } from "../../support/libp2p-world.ts";
import { RawPeer, rightHello } from "../../support/raw-peer.ts";
import { Events, failureOf, Member, variantNamed } from "../../support/swarm-member.ts";

const test = suite("who is let in");
const rule = loopbackRules(test);

for (const [what, prologue] of [
  ["another network key", networkPrologue(new Uint8Array(32).fill(8), "studio")],
  ["no network key", networkPrologue(undefined, "studio")],
  ["the right key for a network of another name", networkPrologue(networkKey, "other")],
] as const) {
  rule(`a peer with ${what} gets nothing, not even identify`, async (world) => {
    const member = new Member();
    const unreachable = new Events<string>();
    const swarm = await world.add("node", member);
    await using raw = await RawPeer.open(prologue);
    const failure = await failureOf(raw.dial(swarm));
    assert.match(failure.name, "EncryptionFailedError");
    const known = (await raw.host.peerStore.all()).filter(({ id }) => id.toString() === swarm.id);
    assert.equal(
      known.flatMap((peer) => peer.protocols),
      [],
    );
    assert.equal(raw.saw.all, []);
    // Neither when it is the one that is dialled.
    const dialling = await world.add("dialling", member, {
      bootstrap: [raw.address],
      onUnreachable: (address) => unreachable.add(address),
    });
    await unreachable.until("that it cannot be reached", (address) => address === raw.address);
    assert.equal(raw.saw.all, []);
    assert.equal([...swarm.peers(), ...dialling.peers()], []);
    assert.equal(member.heard.all, []);
  });
}

rule("a peer with the right key that says no hello is let go in time, and told nothing", async (world) => {
  const member = new Member();
  member.records.set(variantNamed("aa"), new Uint8Array(10));
  const swarm = await world.add("node", member, { timings: { helloMs: 300 } });
  await using raw = await RawPeer.open();
  const connection = await raw.dial(swarm);
  const asked = failureOf(raw.record(connection));
  const sinceMs = performance.now();
  await raw.saw.until("the end of the connection", (event) => event === "closed", 3_000);
  assert.ok(performance.now() - sinceMs < 2_500);
  assert.is((await asked).code, "UNREACHABLE");
  assert.equal(member.heard.all, []);
});

rule("a question that came before the hello is answered after it", async (world) => {
  const member = new Member();
  member.records.set(variantNamed("aa"), new Uint8Array(10));
  const swarm = await world.add("node", member);
  await using raw = await RawPeer.open();
  const connection = await raw.dial(swarm);
  const asked = raw.record(connection);
  assert.is((await raw.hello(connection))?.kind, "hello");
  assert.is(await asked, "record");
  await member.heard.until("that it is ready", ({ kind }) => kind === "ready");
});

for (const [what, hello, reason] of [
  ["another version", { ...rightHello, versions: [2, 3] }, /it speaks versions 2, 3 of the protocol, this node 1/],
  ["another network", { ...rightHello, network: "other" }, /it is in the network other, this node in studio/],
] as const) {
  rule(`a hello of ${what} is refused with the reason, in both directions`, async (world) => {
    const member = new Member();
    const refused = new Events<string>();
    const onRefused = (peer: string, why: string) => refused.add(`${peer} ${why}`);
    const swarm = await world.add("node", member, { onRefused });
    await using raw = await RawPeer.open();
    const answer = await raw.hello(await raw.dial(swarm), hello);
    assert.is(answer?.kind, "refused");
    assert.match(answer?.kind === "refused" ? answer.reason : "", reason);
    await raw.saw.until("the end of the connection", (event) => event === "closed");
    assert.match(refused.all.join("\n"), reason);
    assert.ok(refused.all[0]!.startsWith(raw.host.peerId.toString()));

    await using other = await RawPeer.open();
    await other.serveHello((frames) => void frames.send(hello));
    await world.add("dialling", member, { onRefused, bootstrap: [other.address] });
    await refused.until("its refusal", (text) => text.startsWith(other.host.peerId.toString()));
    assert.match(refused.all.at(-1)!, reason);
    assert.equal(member.heard.all, []);
  });
}

rule("a peer that refuses us is shown with its reason, and dialled less and less often", async (world) => {
  const refused = new Events<number>();
  const reasons: string[] = [];
  await using raw = await RawPeer.open();
  await raw.serveHello((frames) => void frames.send({ kind: "refused", reason: "go away" }));
  await world.add("node", new Member(), {
    bootstrap: [raw.address],
    timings: { retryMs: 50 },
    onRefused: (_, reason) => {
      reasons.push(reason);
      refused.add(performance.now());
    },
  });
  await refused.until("the fifth refusal", () => refused.all.length === 5);
  assert.is(reasons[0], "it refused us: go away");
  assert.ok(refused.all[4]! - refused.all[3]! > 4 * 50, "the waits grow");
});

for (const [what, bytes] of [
  ["garbage", new Uint8Array([0, 0, 0, 4, 0, 0, 0, 0, 255, 255, 255, 255])],
  ["an oversize frame", new Uint8Array([255, 255, 255, 255, 0, 0, 0, 0])],
  ["half a frame", new Uint8Array([0, 0, 0, 4])],
] as const) {
  rule(`a hello that is ${what} ends the connection`, async (world) => {
    const member = new Member();
    const refused: string[] = [];
    const onRefused = (peer: string, reason: string) => refused.push(`${peer} ${reason}`);
    const swarm = await world.add("node", member, { timings: { helloMs: 300 }, onRefused });
    await using raw = await RawPeer.open();
    const stream = await raw.stream(await raw.dial(swarm), "hello");
    stream.send(bytes);
    await raw.saw.until("the end of the connection", (event) => event === "closed", 3_000);
    assert.ok(member.heard.all.every(({ kind }) => kind === "misbehaved"));
    assert.is(refused.length, 1);
    assert.ok(refused[0]!.startsWith(`${raw.host.peerId.toString()} it `), refused[0]);
  });
}

rule("a peer that is dialled and never greets back is let go", async (world) => {
  const member = new Member();
  await using raw = await RawPeer.open();
  await raw.serveHello(() => undefined);
  await world.add("node", member, { bootstrap: [raw.address], timings: { helloMs: 200, retryMs: 60_000 } });
  await raw.saw.until("the end of the connection", (event) => event === "closed", 3_000);
  assert.equal(member.heard.all, []);
});

rule("a second hello changes nothing", async (world) => {
  const member = new Member();
  const swarm = await world.add("node", member);
  await using raw = await RawPeer.open();
  const connection = await raw.enter(swarm);
  await raw.hello(connection, { ...rightHello, name: "somebody else" });
  assert.equal(
    swarm.peers().map(({ name }) => name),
    ["raw"],
  );
  const frames = new FrameStream(await raw.stream(connection, "catalog"), protocols.catalog.answers);
  await frames.send({ kind: "want-record", variant: variantNamed("aa") });
  assert.ok((await nextFrame(frames, AbortSignal.timeout(2_000))).header.length > 0);
  assert.is(
    member.heard.count(({ kind }) => kind === "ready"),
    1,
  );
});

test.run();
