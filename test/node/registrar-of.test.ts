import { test } from "uvu";
import * as assert from "uvu/assert";
import { registrarOf } from "../../node/registrar-of.ts";
import { seededRandom } from "../../protocol/random.ts";
import { payloadNamed, registerQuestion } from "../support/swarm-member.ts";

const payload = payloadNamed("bb");

test("a node as a registrar leases groups by its own clock, and gives those of a peer that has left to others", () => {
  let nowMs = 0;
  const registrar = registrarOf({ monotonicMs: () => nowMs, wallMs: () => 0 }, seededRandom(1), {
    isFirstFor: () => true,
  });
  const ask = (peer: string, groups = 2) =>
    registrar.registered(peer, payload, { ...registerQuestion, groups, held: new Uint8Array(1) });
  const groupsOf = (peer: string) => (ask(peer)?.leases ?? []).map(({ group }) => group).sort();
  assert.equal(groupsOf("one"), [0, 1]);
  assert.equal(groupsOf("other"), []);
  assert.ok(ask("other")?.peers.includes("one"));
  registrar.left("one");
  assert.equal(groupsOf("other"), [0, 1]);
  nowMs += 60_000;
  assert.equal(groupsOf("third"), [0, 1]);
  assert.equal(ask("fourth", 3)?.peers, [], "who counts the groups otherwise is by itself");
});

test("whether it is the first for a payload is looked up once a second", () => {
  let nowMs = 0;
  let looks = 0;
  const isFirstFor = () => {
    looks++;
    return false;
  };
  const registrar = registrarOf({ monotonicMs: () => nowMs, wallMs: () => 0 }, seededRandom(1), { isFirstFor });
  const question = { ...registerQuestion, groups: 80, held: new Uint8Array(10) };
  for (nowMs = 0; nowMs < 2_500; nowMs += 100) registrar.registered(`peer${nowMs}`, payload, question);
  assert.is(looks, 3);
});

test.run();
