import { generateKeyPair } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { answerPacket, questionPacket, readPacket } from "../../../node/swarm/mdns-packets.ts";

const test = suite("packets of multicast DNS");

const service = "_p2pc-0123456789._udp.local";
const [one, two] = await Promise.all([newPeer(), newPeer()]);
const address = "/ip4/10.77.0.1/tcp/4001";

async function newPeer(): Promise<string> {
  return peerIdFromPrivateKey(await generateKeyPair("Ed25519")).toString();
}

/** An answer as it comes off the wire, with a part of it replaced. */
function answer(more: Readonly<Record<string, unknown>> = {}, addresses: readonly string[] = [address]): unknown {
  const { answers } = answerPacket(service, one, addresses);
  const [pointer, text] = answers as unknown as [object, { data: string[] }];
  const data = text.data.map((line) => Buffer.from(line));
  return { type: "response", answers: [pointer, { ...text, data, ...more }] };
}

test("a question and an answer are read as they were meant", () => {
  assert.equal(readPacket({ type: "query", ...questionPacket(service, [one, two]) }, service), {
    kind: "question",
    known: [one, two],
  });
  assert.equal(readPacket(answer(), service), { kind: "answer", peer: one, addresses: [address] });
});

test("a packet of another network is none of ours", () => {
  const other = "_p2pc-9876543210._udp.local";
  assert.is(readPacket({ type: "query", ...questionPacket(other, []) }, service), undefined);
  assert.is(readPacket({ type: "response", ...answerPacket(other, one, [address]) }, service), undefined);
  assert.is(readPacket({ type: "query", questions: [{ name: "_http._tcp.local", type: "PTR" }] }, service), undefined);
});

test("an answer without an address that can be dialled says nothing", () => {
  for (const text of ["/dns4/evil.example/tcp/80", "/ip4/10.0.0.1/udp/53", `${address}/ws`, "/ip4/0.0.0.0/tcp/1", ""]) {
    assert.is(readPacket(answer({}, [text]), service), undefined, text);
  }
  assert.is(readPacket(answer({}, [`${address}/p2p/${two}`]), service), undefined);
  assert.is(readPacket(answer({ data: [Buffer.alloc(255, "x")] }), service), undefined);
  assert.is(readPacket(answer({ name: `${two}.${service}` }), service), undefined);
  assert.is(readPacket(answer({ type: "A" }), service), undefined);
});

test("of an answer with many addresses the first four are taken", () => {
  const many = Array.from({ length: 60 }, (_, i) => Buffer.from(`dnsaddr=/ip4/10.77.0.${i + 1}/tcp/4001`));
  const read = readPacket(answer({ data: many }), service);
  assert.is(read?.kind === "answer" ? read.addresses.length : 0, 4);
});

test("a name that is no peer id is nobody's", () => {
  for (const name of ["", "me", "../etc", "x".repeat(63), `${one}.${one}`, one.toLowerCase()]) {
    const packet = { type: "response", answers: [{ name: service, type: "PTR", data: `${name}.${service}` }] };
    assert.is(readPacket(packet, service), undefined, name);
  }
});

test("a question fits into one frame on the wire, however many are known", () => {
  const { answers } = questionPacket(
    service,
    Array.from({ length: 500 }, () => one),
  );
  assert.is((answers as unknown[]).length, 8);
});

test("whatever a packet holds, it is read as one of ours or as nothing", () => {
  const record = fc.record({ name: fc.anything(), type: fc.anything(), data: fc.anything() }, { requiredKeys: [] });
  const text = fc.constantFrom(service, `${one}.${service}`, "PTR", "TXT", "dnsaddr=", Buffer.from("dnsaddr=/ip4/"));
  const near = fc.record({ name: text, type: text, data: fc.oneof(text, fc.array(text), fc.uint8Array()) });
  const records = fc.oneof(fc.anything(), fc.array(fc.oneof(record, near), { maxLength: 8 }));
  const packets = fc.record({ type: fc.constantFrom("query", "response", 1), questions: records, answers: records });
  fc.assert(
    fc.property(fc.oneof(packets, fc.anything()), (packet) => {
      const read = readPacket(packet, service);
      return read === undefined || read.kind === "question" || read.addresses.every((each) => each.startsWith("/ip"));
    }),
  );
});

test.run();
