import { generateKeyPair } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Admission, PolicyHandlers } from "../../../node/ports.ts";
import type { PolicyHead } from "../../../protocol/messages.ts";
import { loopbackRules } from "../../support/libp2p-world.ts";
import { RawPeer } from "../../support/raw-peer.ts";
import { Events, Member, payloadNamed, variantNamed } from "../../support/swarm-member.ts";

const test = suite("members by policy");
const rule = loopbackRules(test);

/** What a member's policy says of others, and what it heard. */
class Gatekeeper implements PolicyHandlers {
  readonly said: Map<string, Admission> = new Map();
  readonly events: Events<{
    readonly kind: "heard" | "reached";
    readonly peer: string;
    readonly heads?: readonly PolicyHead[];
  }> = new Events();
  own: readonly PolicyHead[] = [];
  readonly files: Map<string, Uint8Array> = new Map();
  rest: Admission = "stranger";

  admits = (peer: string): Admission => this.said.get(peer) ?? this.rest;
  heads = () => this.own;
  file = (hash: string) => this.files.get(hash);
  heard = (peer: string, heads: readonly PolicyHead[]) => this.events.add({ kind: "heard", peer, heads });
  reached = (peer: string) => this.events.add({ kind: "reached", peer });
}

function guarded(gatekeeper: Gatekeeper): Member {
  const member = new Member();
  Object.assign(member.handlers, { policy: gatekeeper });
  member.holdings = [[variantNamed("aa"), payloadNamed("bb")]];
  return member;
}

rule("a peer that is no member gets not one byte after the handshake, whoever dials", async (world) => {
  const gatekeeper = new Gatekeeper();
  const swarm = await world.add("node", guarded(gatekeeper));
  let received = 0;
  await using raw = await RawPeer.open(undefined, {
    onBytes: (bytes) => {
      received += bytes;
    },
  });
  // The dialling side ends its part of the handshake first, and may think that it is in.
  const connection = await raw.dial(swarm).catch(() => undefined);
  if (connection !== undefined) await raw.saw.until("the end of the connection", (event) => event === "closed");
  assert.is(received, 0);
  const unreachable = new Events<string>();
  await world.add("dialling", guarded(gatekeeper), {
    bootstrap: [raw.address],
    onUnreachable: (address) => unreachable.add(address),
  });
  await unreachable.until("that it cannot be reached", (address) => address === raw.address);
  assert.is(received, 0);
  assert.equal([swarm.peers(), raw.saw.all.filter((event) => event.startsWith("protocols"))], [[], []]);
  assert.equal([...swarm.directory.peers()].length, 0);
});

rule("the same peer as a member is let in, and hears what is held", async (world) => {
  const gatekeeper = new Gatekeeper();
  const swarm = await world.add("node", guarded(gatekeeper));
  let received = 0;
  const privateKey = await generateKeyPair("Ed25519");
  await using raw = await RawPeer.open(undefined, {
    privateKey,
    onBytes: (bytes) => {
      received += bytes;
    },
  });
  gatekeeper.said.set(peerIdFromPrivateKey(privateKey).toString(), "member");
  await raw.enter(swarm);
  await raw.saw.until("what the member can do", (event) => event === "identify");
  assert.is(swarm.peers().length, 1);
  assert.ok(received > 0);
});

rule("who is no member any more goes at once", async (world) => {
  const [one, two] = [new Gatekeeper(), new Gatekeeper()];
  one.rest = two.rest = "member";
  const [first, second] = [guarded(one), guarded(two)];
  const swarm = await world.add("first", first);
  const other = await world.add("second", second);
  await first.ready(other);
  one.said.set(other.id, "stranger");
  swarm.policy.recheck();
  await first.heard.until("that it has gone", (event) => event.kind === "left" && event.peer === other.id);
  assert.equal(swarm.peers(), []);
});

rule(
  "a node without a policy asks members for it, and nothing else goes between them until it has one",
  async (world) => {
    const [keeper, newcomer] = [new Gatekeeper(), new Gatekeeper()];
    keeper.rest = "member";
    newcomer.rest = "policy";
    keeper.own = [{ role: "timestamp", version: 7, hash: "ab".repeat(32) }];
    keeper.files.set("ab".repeat(32), new Uint8Array([1, 2, 3]));
    const [first, second] = [guarded(keeper), guarded(newcomer)];
    const swarm = await world.add("first", first);
    const other = await world.add("second", second);
    const { peer } = await newcomer.events.until("that it can be asked", ({ kind }) => kind === "reached");
    assert.equal([peer, other.peers()], [swarm.id, []]);
    assert.equal(await other.policy.exchange(peer), keeper.own);
    assert.equal(await other.policy.file(peer, "ab".repeat(32)), new Uint8Array([1, 2, 3]));
    assert.is(await other.policy.file(peer, "cd".repeat(32)), undefined);
    assert.equal(second.heard.all, []);
    newcomer.rest = "member";
    other.policy.recheck();
    await second.ready(swarm);
  },
);

rule("a node without a policy lets nobody in", async (world) => {
  const newcomer = new Gatekeeper();
  newcomer.rest = "policy";
  const swarm = await world.add("node", guarded(newcomer));
  let received = 0;
  await using raw = await RawPeer.open(undefined, {
    onBytes: (bytes) => {
      received += bytes;
    },
  });
  const connection = await raw.dial(swarm).catch(() => undefined);
  if (connection !== undefined) await raw.saw.until("the end of the connection", (event) => event === "closed");
  assert.equal([received, swarm.peers()], [0, []]);
});

test.run();
