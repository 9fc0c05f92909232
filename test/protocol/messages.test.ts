import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodeCanonical } from "../../protocol/cbor.ts";
import { hexToBytes } from "../../protocol/hash.ts";
import { envelopeBytesMax, frameHeaderBytesMax, partsPerAskMax } from "../../protocol/limits.ts";
import {
  decodeCatalog,
  decodeDirectoryAnswer,
  decodeDirectoryAsk,
  decodeHello,
  decodeSwarm,
  encodeMessage,
  type Message,
} from "../../protocol/messages.ts";
import { catalog, directoryAnswer, directoryAsk, hello, swarm } from "../support/arbitrary-messages.ts";

const decoders = {
  hello: decodeHello,
  asks: decodeDirectoryAsk,
  answers: decodeDirectoryAnswer,
  catalog: decodeCatalog,
  swarm: decodeSwarm,
};
const hash = "ab".repeat(32);
const digest = hexToBytes(hash);

for (const [name, arbitrary, decode] of [
  ["hello", hello, decodeHello],
  ["asks", directoryAsk, decodeDirectoryAsk],
  ["answers", directoryAnswer, decodeDirectoryAnswer],
  ["catalog", catalog, decodeCatalog],
  ["swarm", swarm, decodeSwarm],
] as const) {
  test(`every message of the ${name} protocol comes back from its bytes, and no other protocol takes it`, () => {
    const kinds = new Set<string>();
    fc.assert(
      fc.property(arbitrary as fc.Arbitrary<Message>, (message) => {
        const bytes = encodeMessage(message);
        kinds.add(message.kind);
        assert.ok(bytes.length <= frameHeaderBytesMax);
        assert.equal(decode(bytes), message);
        for (const [other, decoder] of Object.entries(decoders)) {
          if (other !== name) assert.is(decoder(bytes), undefined);
        }
      }),
      { numRuns: 500, seed: 1 },
    );
    assert.is(kinds.size, { hello: 2, asks: 2, answers: 4, catalog: 6, swarm: 10 }[name]);
  });
}

test("messages encode as they always did", () => {
  const request = encodeMessage({ kind: "request", number: 3, items: [1, 300] });
  assert.is(Buffer.from(request).toString("hex"), "a3646b696e646772657175657374656974656d73820119012c666e756d62657203");
  const part = encodeMessage({ kind: "part", envelope: Uint8Array.of(1, 2), remainingMs: 60_000 });
  assert.is(
    Buffer.from(part).toString("hex"),
    "a3646b696e64647061727468656e76656c6f70654201026b72656d61696e696e674d7319ea60",
  );
  const join = encodeMessage({ kind: "join", number: 0, payload: hash as never });
  assert.is(Buffer.from(join).toString("hex"), `a3646b696e64646a6f696e666e756d62657200677061796c6f61645820${hash}`);
  const background = encodeMessage({ kind: "join", number: 0, payload: hash as never, traffic: "prefetch" });
  assert.is(
    Buffer.from(background).toString("hex"),
    `a4646b696e64646a6f696e666e756d62657200677061796c6f61645820${hash}677472616666696302`,
  );
  const take = encodeMessage({ kind: "take", number: 1, payload: hash as never, items: [0, 2] });
  assert.is(
    Buffer.from(take).toString("hex"),
    `a4646b696e646474616b65656974656d73820002666e756d62657201677061796c6f61645820${hash}`,
  );
});

test("the largest messages of a directory fit a frame", () => {
  const heads = Array.from({ length: 128 }, () => ({ envelope: new Uint8Array(512), remainingMs: 86_400_000 }));
  const last = { envelope: new Uint8Array(envelopeBytesMax), remainingMs: 86_400_000 };
  for (const message of [
    { kind: "heads", heads: [...heads.slice(1), last] },
    { kind: "want-parts", peers: Array.from({ length: partsPerAskMax }, () => "1".repeat(54)) },
  ] as const) {
    assert.ok(encodeMessage(message).length <= frameHeaderBytesMax, message.kind);
  }
});

const okHello = { kind: "hello", versions: [1], network: "n", name: "a", site: "", rack: "" };
const strangers: readonly (readonly [string, (header: Uint8Array) => unknown, unknown])[] = [
  ["a text", decodeHello, "hello"],
  ["a list", decodeHello, [okHello]],
  ["a hello without versions", decodeHello, { ...okHello, versions: 1 }],
  ["a hello of too many versions", decodeHello, { ...okHello, versions: Array.from({ length: 17 }, () => 1) }],
  ["a hello of a strange version", decodeHello, { ...okHello, versions: [1.5] }],
  ["a hello whose name is no text", decodeHello, { ...okHello, name: 1 }],
  ["a hello whose name is too long", decodeHello, { ...okHello, name: "x".repeat(257) }],
  ["a hello whose name has too many bytes", decodeHello, { ...okHello, name: "é".repeat(129) }],
  ["a hello whose name plays with terminals", decodeHello, { ...okHello, name: "\u001b[2J" }],
  ["a refusal of two lines", decodeHello, { kind: "refused", reason: "a\nb" }],
  ["a refusal without reason", decodeHello, { kind: "refused" }],
  ["a wish without variant", decodeCatalog, { kind: "want-record" }],
  ["a wish for a short hash", decodeCatalog, { kind: "want-record", variant: digest.subarray(1) }],
  ["a join for no known reason", decodeSwarm, { kind: "join", number: 1, payload: digest, traffic: 4 }],
  ["a join for a reason in words", decodeSwarm, { kind: "join", number: 1, payload: digest, traffic: "repair" }],
  ["a take without payload", decodeSwarm, { kind: "take", number: 1, items: [1] }],
  ["a take without items", decodeSwarm, { kind: "take", number: 1, payload: digest }],
  ["a take of too many items", decodeSwarm, { kind: "take", number: 1, payload: digest, items: Array(257).fill(1) }],
  ["a join without payload", decodeSwarm, { kind: "join", number: 1 }],
  ["a swarm message without number", decodeSwarm, { kind: "leave" }],
  ["a swarm message of a large number", decodeSwarm, { kind: "leave", number: 64_000_001 }],
  ["a request without items", decodeSwarm, { kind: "request", number: 1 }],
  ["a request of too many items", decodeSwarm, { kind: "request", number: 1, items: Array(257).fill(1) }],
  ["a request of a negative item", decodeSwarm, { kind: "request", number: 1, items: [-1] }],
  ["a request of half an item", decodeSwarm, { kind: "request", number: 1, items: [0.5] }],
  ["a piece of an impossible item", decodeSwarm, { kind: "piece", number: 1, item: 8_000_001 }],
  ["a busy that lasts for ever", decodeSwarm, { kind: "busy", number: 1, items: [], retryAfterMs: 60_001 }],
  ["a join's answer that is neither", decodeSwarm, { kind: "joined", number: 1, all: 1 }],
  ["a message of another kind", decodeSwarm, { kind: "toString", number: 1 }],
  ["a message that hides behind a prototype", decodeHello, JSON.parse('{"__proto__":{"kind":"hello"}}')],
];
for (const [what, decode, value] of strangers) {
  test(`${what} is no message`, () => {
    assert.is(decode(encodeCanonical(value)), undefined);
  });
}

test("a message past the size of a header is none", () => {
  const bytes = encodeCanonical({ ...okHello, more: "x".repeat(frameHeaderBytesMax) });
  assert.is(decodeHello(bytes), undefined);
});

test("a field that a newer version added does not matter", () => {
  assert.equal(decodeHello(encodeCanonical({ ...okHello, lanes: [1] })), okHello);
});

test.run();
