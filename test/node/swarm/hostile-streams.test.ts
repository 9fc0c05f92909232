// mostly waits
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Swarm } from "../../../node/ports.ts";
import { encodeMessage, type SwarmMessage } from "../../../protocol/messages.ts";
import { defaultServiceLimits } from "../../../protocol/service.ts";
import type { Fault } from "../../../protocol/standing.ts";
import { LoopbackWorld } from "../../support/libp2p-world.ts";
import { noise } from "../../support/noise.ts";
import { RawPeer, type RawStream } from "../../support/raw-peer.ts";
import {
  bits,
  failureOf,
  Listener,
  Member,
  payloadNamed,
  servedPayload,
  variantNamed,
  within,
} from "../../support/swarm-member.ts";

const test = suite("streams of a hostile member");
const payload = payloadNamed("bb");
const items = [noise(1, 5_000), noise(2, 600_000), noise(3, 512), noise(4, 2 * 1024 * 1024)];

interface Scene {
  readonly world: LoopbackWorld;
  /** The node under test: it has the payload whole. */
  readonly member: Member;
  readonly swarm: Swarm;
  /** A member of the network, let in, that does as it likes. */
  readonly raw: RawPeer;
  readonly open: () => Promise<RawStream>;
}

function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    const world = new LoopbackWorld();
    await using raw = await RawPeer.open();
    try {
      const member = new Member();
      member.payloads.set(payload, servedPayload(items));
      const swarm = await world.add("node", member, { timings: { stallMs: 1_000, joinMs: 1_500, retryMs: 50 } });
      const connection = await raw.enter(swarm);
      const open = () => raw.swarm(connection);
      await within(20_000, text, check({ world, member, swarm, raw, open }));
    } finally {
      await within(10_000, "closing", world.close());
    }
  });
}

/** The node still serves: the hostile peer on another stream, and somebody else. */
async function stillServes({ world, swarm, open }: Scene): Promise<void> {
  const other = await open();
  await other.say({ kind: "join", number: 0, payload });
  await other.came.until("an answer", ({ kind }) => kind === "joined");
  const friend = await world.add("friend");
  const listener = new Listener();
  while (!friend.peers().some(({ peer }) => peer === swarm.id)) await new Promise(setImmediate);
  const join = await friend.join(swarm.id, payload, 4, listener);
  join?.request([2]);
  assert.is((await listener.bytesOf(2)).length, 512);
  other.frames.abort(new Error("done"));
}

const tricks: Readonly<Record<string, (stream: RawStream) => unknown>> = {
  "a frame whose header is too large": (stream) => stream.stream.send(new Uint8Array([0, 1, 0, 0, 0, 0, 0, 0])),
  "a frame that claims 4 GiB": (stream) => stream.stream.send(new Uint8Array([0, 0, 0, 1, 255, 255, 255, 255])),
  "a body, which only who serves may send": (stream) => stream.raw(header({ kind: "leave", number: 0 }), 1),
  "bytes that are no CBOR": (stream) => stream.raw(new Uint8Array([255, 0, 1])),
  "CBOR that is no message": (stream) => stream.raw(new Uint8Array([0x01])),
  "a message of another protocol": (stream) => stream.frames.send({ kind: "want-record", variant: variantNamed("aa") }),
  "a piece that nobody asked for": (stream) => stream.say({ kind: "piece", number: 0, item: 1 }),
  "a have-map that nobody asked for": (stream) => stream.say({ kind: "joined", number: 0, all: true }),
  "a have from the wrong side": (stream) => stream.say({ kind: "have", number: 0, items: [1] }),
  "a number that is in use": async (stream) => {
    await stream.say({ kind: "join", number: 0, payload });
    await stream.say({ kind: "join", number: 0, payload });
  },
  "more joins than a stream has room for": async (stream) => {
    for (let number = 0; number < 65; number++) await stream.say({ kind: "join", number, payload });
  },
};
for (const [what, trick] of Object.entries(tricks)) {
  rule(`${what} ends that stream and nothing else`, async (scene) => {
    const stream = await scene.open();
    await trick(stream);
    await stream.ended();
    await blamed(scene, "broken");
    await stillServes(scene);
    assert.is(
      scene.member.heard.count(({ kind }) => kind === "left"),
      0,
    );
  });
}

/** The node says who it was. */
async function blamed({ member, raw }: Scene, fault: Fault | undefined): Promise<string> {
  const id = raw.host.peerId.toString();
  const event = await member.heard.until(`that ${id} is blamed`, (heard) => {
    return heard.kind === "misbehaved" && heard.peer === id && heard.fault === fault;
  });
  return event.kind === "misbehaved" ? event.reason : "";
}

rule("a flood of joins that are left again ends the stream, and the peer is named", async (scene) => {
  const stream = await scene.open();
  for (let number = 0; number < 2_000; number++) {
    stream.say({ kind: "join", number, payload }).catch(() => undefined);
    stream.say({ kind: "leave", number }).catch(() => undefined);
    if (number % 100 === 0) await new Promise(setImmediate);
  }
  await stream.ended();
  assert.is(await blamed(scene, "broken"), "it joins over and over");
});

rule("a flood of messages ends the stream, and the peer is named", async (scene) => {
  const stream = await scene.open();
  await stream.say({ kind: "join", number: 0, payload });
  for (let i = 0; i < 60_000 && stream.stream.status === "open"; i++) {
    const said = stream.say({ kind: "cancel", number: 0, items: [1] }).catch(() => undefined);
    if (i % 100 === 0) await said;
  }
  await stream.ended();
  assert.is(await blamed(scene, "broken"), "it floods us with messages");
});

rule("a flood of streams is named, and who goes on with it goes", async (scene) => {
  const { raw, member } = scene;
  const [connection] = raw.host.getConnections();
  for (let i = 0; i < 2_000 && connection!.status === "open"; i++) {
    await raw.stream(connection!, "swarm").catch(() => undefined);
  }
  assert.match(await blamed(scene, "broken"), "it opens more streams at a time than a protocol has");
  await member.heard.until("that it has gone", ({ kind }) => kind === "left");
});

rule("sixty-four joins are let through, and free again after leaving", async ({ open }) => {
  const stream = await open();
  for (let number = 0; number < 64; number++) await stream.say({ kind: "join", number, payload });
  await stream.came.until("the last answer", (event) => event.kind === "joined" && event.number === 63);
  for (let number = 0; number < 64; number++) await stream.say({ kind: "leave", number });
  for (let number = 64; number < 128; number++) await stream.say({ kind: "join", number, payload });
  await stream.came.until("the last answer", (event) => event.kind === "joined" && event.number === 127);
  assert.is(
    stream.came.count(({ kind }) => kind === "joined"),
    128,
  );
});

rule("a join that is left before it was answered leaves nothing behind", async ({ member, open }) => {
  const stream = await open();
  const turn = Promise.withResolvers<void>();
  const { serve } = member.handlers;
  Object.assign(member.handlers, { serve: async () => turn.promise.then(() => serve(payload)) });
  for (let number = 0; number < 200; number++) {
    await stream.say({ kind: "join", number, payload });
    await stream.say({ kind: "leave", number });
  }
  await member.heard.until("all joins", () => member.heard.count(({ kind }) => kind === "wanted") === 200);
  turn.resolve();
  await stream.say({ kind: "join", number: 999, payload });
  await stream.came.until("an answer", (event) => event.kind === "joined" && event.number === 999);
  await stream.say({ kind: "request", number: 5, items: [0] });
  await stream.came.until("that it is gone", (event) => event.kind === "gone" && event.number === 5);
});

rule("a request for what was not joined is gone, and a flood of requests is busy", async ({ member, open }) => {
  const slots = defaultServiceLimits.slotsPerStreamMax;
  let loads = 0;
  const turn = Promise.withResolvers<void>();
  const many = Array.from({ length: 4_000 }, () => items[2]!);
  const load = async (item: number) => {
    loads++;
    await turn.promise;
    return new Uint8Array(many[item]!);
  };
  member.payloads.set(payload, servedPayload(many, { load }));
  const stream = await open();
  await stream.say({ kind: "request", number: 0, items: [1, 2] });
  await stream.came.until("that they are gone", (event) => event.kind === "gone" && event.items.length === 2);
  await stream.say({ kind: "join", number: 0, payload });
  await stream.came.until("an answer", ({ kind }) => kind === "joined");
  for (let i = 0; i < 4_000; i += 250) {
    await stream.say({ kind: "request", number: 0, items: Array.from({ length: 250 }, (_, k) => i + k) });
  }
  const busy = () => stream.came.all.reduce((sum, event) => sum + (event.kind === "busy" ? event.items.length : 0), 0);
  await stream.came.until("refusals", () => busy() === 4_000 - 64 - slots);
  assert.is(loads, slots);
  turn.resolve();
  await stream.came.until("all pieces", () => stream.came.count(({ kind }) => kind === "piece") === 64 + slots);
});

rule("a peer that asks and never reads loses the stream, and others get their turn", async (scene) => {
  const { member, open } = scene;
  let loads = 0;
  const big = Array.from({ length: 60 }, (_, i) => (i === 2 ? items[2]! : noise(i, 1_500_000)));
  const load = async (item: number) => {
    loads++;
    return new Uint8Array(big[item]!);
  };
  member.payloads.set(payload, servedPayload(big, { load }));
  const stream = await open();
  await stream.say({ kind: "join", number: 0, payload });
  await stream.came.until("an answer", ({ kind }) => kind === "joined");
  stream.stream.pause();
  await stream.say({ kind: "request", number: 0, items: [...big.keys()].filter((item) => item !== 2) });
  await stream.ended();
  await stillServes(scene);
  // Eight slots, what filled the peer's window before it stopped, and one by the friend.
  assert.ok(loads <= 8 + 3 + 1, `${loads} items were read for a peer that took none`);
});

rule("a peer that reads in sips does not make the node pile up what it asked for", async ({ member, open }) => {
  let loaded = 0;
  const big = Array.from({ length: 60 }, (_, i) => noise(i, 1_500_000));
  const load = async (item: number) => {
    loaded++;
    return new Uint8Array(big[item]!);
  };
  member.payloads.set(payload, servedPayload(big, { load }));
  const stream = await open();
  await stream.say({ kind: "join", number: 0, payload });
  await stream.came.until("an answer", ({ kind }) => kind === "joined");
  await stream.say({ kind: "request", number: 0, items: [...big.keys()] });
  for (let sips = 0; sips < 15; sips++) {
    stream.stream.pause();
    await new Promise((resolve) => setTimeout(resolve, 20));
    const gave = member.heard.count(({ kind }) => kind === "gave");
    assert.ok(loaded - gave <= 8, `${loaded} items were read, ${gave} have left`);
    // libp2p itself gives up a reader that pauses with a full window.
    if (stream.stream.status !== "open") break;
    stream.stream.resume();
    await new Promise(setImmediate);
  }
});

rule("a peer that asks for what is lacking and never reads the answers loses the stream", async (scene) => {
  const { member, open } = scene;
  member.payloads.set(
    payload,
    servedPayload(
      Array.from({ length: 300 }, () => items[2]!),
      { have: bits(300, [2]) },
    ),
  );
  const stream = await open();
  await stream.say({ kind: "join", number: 0, payload });
  await stream.came.until("an answer", ({ kind }) => kind === "joined");
  stream.stream.pause();
  const lacking = Array.from({ length: 250 }, (_, i) => i + 10);
  let refused = 0;
  for (let i = 0; i < 20_000 && refused === 0; i++) {
    await stream.say({ kind: "request", number: 0, items: lacking }).catch(() => refused++);
  }
  await stream.ended();
  member.payloads.set(payload, servedPayload(items));
  await stillServes(scene);
});

rule("more streams than a protocol allows are reset", async ({ raw, swarm, open }) => {
  const [connection] = raw.host.getConnections();
  const streams = await Promise.all(Array.from({ length: 4 }, open));
  for (const stream of streams) await stream.say({ kind: "join", number: 0, payload });
  await Promise.all(streams.map((stream) => stream.came.until("an answer", ({ kind }) => kind === "joined")));
  for (let i = 0; i < 8; i++) {
    const extra = await open();
    await Promise.all([extra.say({ kind: "join", number: 0, payload }).catch(() => undefined), extra.ended()]);
    assert.is(
      extra.came.count(({ kind }) => kind === "joined"),
      0,
    );
  }
  await streams[3]!.say({ kind: "request", number: 0, items: [2] });
  await streams[3]!.came.until("a piece", ({ kind }) => kind === "piece");
  assert.ok(connection !== undefined && swarm.peers().length === 1);
});

/** The hostile peer serves: the node asks it. */
function serving(
  text: string,
  serve: (stream: RawStream) => void,
  check: (scene: Scene, from: string) => Promise<void>,
) {
  rule(text, async (scene) => {
    await scene.raw.serveSwarm(serve);
    await check(scene, scene.raw.host.peerId.toString());
  });
}

const answers: Readonly<Record<string, (stream: RawStream) => void>> = {
  garbage: (stream: RawStream) => stream.raw(new Uint8Array([255])),
  "a have-map of another length": (stream: RawStream) =>
    void stream.frames.send({ kind: "joined", number: 0, all: false }, new Uint8Array(2)),
  "a have-map with bits beyond the payload": (stream: RawStream) =>
    void stream.frames.send({ kind: "joined", number: 0, all: false }, new Uint8Array([0xff])),
  "a frame that is too large": (stream: RawStream) =>
    stream.raw(header({ kind: "piece", number: 0, item: 0 }), 2 ** 30),
  "a message from the wrong side": (stream: RawStream) => void stream.say({ kind: "request", number: 0, items: [1] }),
  nothing: () => undefined,
};
for (const [what, answer] of Object.entries(answers)) {
  serving(`a join that is answered by ${what} fails`, answer, async (scene, from) => {
    const { swarm } = scene;
    const listener = new Listener();
    assert.is((await failureOf(swarm.join(from, payload, 4, listener))).code, "UNREACHABLE");
    assert.ok(listener.pieces() === 0);
    assert.is(swarm.peers().length, 1);
    await blamed(scene, what === "nothing" ? "silent" : "broken");
  });
}

serving(
  "pieces that nobody asked for are not handed on, those that were asked for are handed on once",
  (stream) => {
    void stream.say({ kind: "joined", number: 0, all: true });
    const piece = (number: number, item: number) =>
      void stream.frames.send({ kind: "piece", number, item }, new Uint8Array([item]));
    piece(0, 1);
    piece(7, 1);
    void stream.came
      .until("a request", ({ kind }) => kind === "request")
      .then(() => {
        for (const item of [3, 2, 2, 3]) piece(0, item);
        void stream.say({ kind: "gone", number: 0, items: [] });
      });
  },
  async ({ swarm }, from) => {
    const listener = new Listener();
    const join = await swarm.join(from, payload, 4, listener);
    join?.request([2]);
    await listener.until("the end", ({ kind }) => kind === "gone");
    assert.equal(
      listener.all.map(({ kind }) => kind),
      ["piece", "gone"],
    );
    assert.is((await listener.bytesOf(2)).length, 1);
  },
);

const floods: Readonly<Record<string, (stream: RawStream) => Promise<void>>> = {
  "what it has, over and over": (stream) => stream.say({ kind: "have", number: 0, items: [1, 2, 3] }),
  "pieces that nobody asked for": (stream) =>
    stream.frames.send({ kind: "piece", number: 0, item: 1 }, new Uint8Array(1)),
  "frames of a payload that nobody joined": (stream) => stream.say({ kind: "have", number: 7, items: [1] }),
};
for (const [what, flood] of Object.entries(floods)) {
  serving(
    `a peer that floods us with ${what} loses the stream, and is named`,
    async (stream) => {
      await stream.say({ kind: "joined", number: 0, all: true });
      for (let i = 0; i < 10_000 && stream.stream.status === "open"; i++) await flood(stream).catch(() => undefined);
    },
    async (scene, from) => {
      const listener = new Listener();
      await scene.swarm.join(from, payload, 4, listener);
      await listener.until("the end", ({ kind }) => kind === "ended");
      assert.is(await blamed(scene, "broken"), `it floods us with ${what}`);
    },
  );
}

test.run();

function header(message: SwarmMessage): Uint8Array {
  return encodeMessage(message);
}
