import type { Connection } from "@libp2p/interface";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FrameStream } from "../../../node/swarm/frame-stream.ts";
import type { Libp2pSwarm } from "../../../node/swarm/libp2p-swarm.ts";
import { protocols } from "../../../node/swarm/protocols.ts";
import { encodeMessage } from "../../../protocol/messages.ts";
import type { RegisterAnswer } from "../../../protocol/register-messages.ts";
import {
  decodeRegisterQuestion,
  decodeRegisterReply,
  encodeRegisterQuestion,
  encodeRegisterReply,
  type RegisterReply,
} from "../../../protocol/register-wire.ts";
import { encodeFrameHead } from "../../../protocol/wire.ts";
import { LoopbackWorld } from "../../support/libp2p-world.ts";
import { RawPeer } from "../../support/raw-peer.ts";
import { Events, failureOf, Member, payloadNamed, registerQuestion, within } from "../../support/swarm-member.ts";

const test = suite("registrars over the wire");
const payload = payloadNamed("bb");
const otherPayload = payloadNamed("bc");
const answer: RegisterAnswer = { peers: ["one"], leases: [], leaseMs: 2_500, retryAfterMs: 1_000 };
const question = encodeRegisterQuestion(payload, registerQuestion);

interface Scene {
  readonly world: LoopbackWorld;
  readonly member: Member;
  readonly swarm: Libp2pSwarm;
  readonly raw: RawPeer;
}

const timings = { helloMs: 1_000, stallMs: 1_000, register: { answerMs: 300, idleMs: 600 } };

function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    const world = new LoopbackWorld();
    await using raw = await RawPeer.open();
    try {
      const member = new Member();
      member.answer = answer;
      const swarm = await world.add("node", member, { timings });
      await within(20_000, text, check({ world, member, swarm, raw }));
    } finally {
      await within(10_000, "closing", world.close());
    }
  });
}

/** A stream on which a raw peer asks, and what came of it. */
class Asking {
  readonly stream: Awaited<ReturnType<RawPeer["stream"]>>;
  readonly frames: FrameStream;
  readonly came: Events<RegisterReply | "unreadable" | "ended"> = new Events();

  private constructor(stream: Asking["stream"]) {
    this.stream = stream;
    this.frames = new FrameStream(stream, protocols.register.answers);
    this.frames.listen(
      ({ header }) => this.came.add(decodeRegisterReply(header) ?? "unreadable"),
      () => this.came.add("ended"),
    );
  }

  static async open(raw: RawPeer, connection: Connection): Promise<Asking> {
    return new Asking(await raw.stream(connection, "register"));
  }

  get replies(): number {
    return this.came.count((event) => event !== "ended");
  }

  ended(): Promise<unknown> {
    return this.came.until("the end of the stream", (event) => event === "ended");
  }
}

/** Somebody else is still answered. */
async function stillAnswers({ world, swarm }: Scene): Promise<void> {
  const friend = new Member();
  const friendSwarm = await world.add("friend", friend);
  await friend.ready(swarm);
  assert.equal(await friendSwarm.register(swarm.id, payload, registerQuestion), answer);
}

rule("a peer that has not said hello is told nothing, and asks nobody", async ({ member, swarm, raw }) => {
  const asking = await Asking.open(raw, await raw.dial(swarm));
  await asking.frames.send(question).catch(() => undefined);
  await asking.ended();
  assert.is(asking.replies, 0);
  assert.equal(member.heard.all, []);
});

rule("a peer that asks without end loses the stream, and the next one too until time has passed", async (scene) => {
  const { member, swarm, raw } = scene;
  const connection = await raw.enter(swarm);
  const sinceMs = performance.now();
  for (const atOnce of [200, 0]) {
    const asking = await Asking.open(raw, connection);
    // It reads its answers before it asks more, so that nothing but its rate is wrong.
    for (let i = 0; i < 100 && asking.came.all.at(-1) !== "ended"; i++) {
      const known = asking.came.all.length;
      for (let j = 0; j < 10; j++) void asking.frames.send(question).catch(() => undefined);
      const isOver = () => asking.came.all.length === known + 10 || asking.came.all.at(-1) === "ended";
      await asking.came.until("ten answers or the end", isOver);
    }
    await asking.ended();
    const most = 200 + (performance.now() - sinceMs) / 10;
    assert.ok(asking.replies >= atOnce - 10 && asking.replies <= most + 1, `${asking.replies} questions were answered`);
  }
  await stillAnswers(scene);
  assert.is(
    member.heard.count(({ kind }) => kind === "left"),
    0,
  );
});

for (const [what, bytes] of [
  ["no CBOR", encodeFrameHead(new Uint8Array([255, 0, 1]), 0)],
  ["too large", new Uint8Array([0, 0, 64, 0, 0, 0, 0, 0])],
  ["a frame with a body", encodeFrameHead(question, 1)],
  ["a message of another protocol", encodeFrameHead(encodeMessage({ kind: "leave", number: 1 }), 0)],
  ["an answer", encodeFrameHead(encodeRegisterReply({ payload, answer }), 0)],
  ["one of no groups", encodeFrameHead(encodeRegisterQuestion(payload, { ...registerQuestion, groups: 0 }), 0)],
] as const) {
  rule(`a question that is ${what} ends its stream and nothing else`, async (scene) => {
    const { member, swarm, raw } = scene;
    const asking = await Asking.open(raw, await raw.enter(swarm));
    asking.stream.send(bytes);
    await asking.ended();
    assert.is(
      member.heard.count(({ kind }) => kind === "registered" || kind === "left"),
      0,
    );
    await stillAnswers(scene);
  });
}

rule("a peer that asks and does not read the answers loses the stream", async (scene) => {
  const { member, swarm, raw } = scene;
  const asking = await Asking.open(raw, await raw.enter(swarm));
  member.answer = { ...answer, peers: Array.from({ length: 500 }, () => "P".repeat(64)) };
  asking.stream.pause();
  for (let i = 0; i < 100; i++) await asking.frames.send(question).catch(() => undefined);
  await asking.ended();
  const answered = member.heard.count(({ kind }) => kind === "registered");
  assert.ok(answered < 40, `${answered} answers were made`);
  member.answer = answer;
  await stillAnswers(scene);
});

/** A raw registrar: the streams that were opened to it, and the questions that came. */
async function registrar(raw: RawPeer, onQuestion: (frames: FrameStream, questions: number) => void) {
  const saw: Events<"opened" | "asked" | "ended"> = new Events();
  await raw.host.handle(protocols.register.id, (stream) => {
    saw.add("opened");
    const frames = new FrameStream(stream, protocols.register.asks);
    const take = ({ header }: { readonly header: Uint8Array }) => {
      assert.ok(decodeRegisterQuestion(header));
      saw.add("asked");
      onQuestion(
        frames,
        saw.count((event) => event === "asked"),
      );
    };
    frames.listen(take, () => saw.add("ended"));
  });
  return { saw, peer: raw.host.peerId.toString() };
}

const reply = (about = payload, leaseMs = 1) => encodeRegisterReply({ payload: about, answer: { ...answer, leaseMs } });

rule("a registrar that is silent has failed by the deadline", async ({ swarm, raw }) => {
  const { peer } = await registrar(raw, () => undefined);
  await raw.enter(swarm);
  const sinceMs = performance.now();
  assert.is((await failureOf(swarm.register(peer, payload, registerQuestion))).code, "UNREACHABLE");
  const tookMs = performance.now() - sinceMs;
  assert.ok(tookMs >= 299 && tookMs < 2_000, `it took ${tookMs} ms`);
});

rule("an answer that comes late is not taken for the next question's", async ({ swarm, raw }) => {
  const { saw, peer } = await registrar(raw, (frames, questions) => {
    if (questions === 2) for (const leaseMs of [1, 2]) void frames.send(reply(payload, leaseMs));
  });
  await raw.enter(swarm);
  assert.is((await failureOf(swarm.register(peer, payload, registerQuestion))).code, "UNREACHABLE");
  assert.is((await swarm.register(peer, payload, registerQuestion)).leaseMs, 2);
  assert.is(
    saw.count((event) => event === "opened"),
    1,
  );
});

rule("no more than sixteen questions wait for a registrar, whose stream is ended then", async ({ swarm, raw }) => {
  const { saw, peer } = await registrar(raw, () => undefined);
  await raw.enter(swarm);
  const sinceMs = performance.now();
  const asked = Array.from({ length: 17 }, () => failureOf(swarm.register(peer, payload, registerQuestion)));
  for (const { code } of await Promise.all(asked)) assert.is(code, "UNREACHABLE");
  assert.ok(performance.now() - sinceMs < 299, "long before the deadline of each");
  await saw.until("the end of the stream", (event) => event === "ended");
});

for (const [what, answers] of [
  ["garbage", [new Uint8Array([255])]],
  ["about another payload", [reply(otherPayload)]],
  ["two answers", [reply(), reply()]],
] as const) {
  rule(`a registrar whose answer is ${what} loses the stream, and the next question has another`, async (scene) => {
    const { swarm, raw } = scene;
    let isRight = false;
    const { saw, peer } = await registrar(raw, (frames) => {
      for (const bytes of isRight ? [reply()] : answers) void frames.send(bytes).catch(() => undefined);
    });
    await raw.enter(swarm);
    const first = await swarm.register(peer, payload, registerQuestion).catch((error: { code: string }) => error.code);
    if (answers.length === 1) assert.is(first, "UNREACHABLE");
    await saw.until("the end of the stream", (event) => event === "ended");
    isRight = true;
    assert.is((await swarm.register(peer, payload, registerQuestion)).leaseMs, 1);
  });
}

rule("questions share a stream, which goes when nobody asks any more", async ({ swarm, raw }) => {
  const { saw, peer } = await registrar(raw, (frames) => void frames.send(reply()));
  await raw.enter(swarm);
  for (let i = 0; i < 5; i++) await swarm.register(peer, payload, registerQuestion);
  assert.equal([...new Set(saw.all)], ["opened", "asked"]);
  assert.is(
    saw.count((event) => event === "opened"),
    1,
  );
  await saw.until("the end of the stream", (event) => event === "ended");
  await swarm.register(peer, payload, registerQuestion);
  assert.is(
    saw.count((event) => event === "opened"),
    2,
  );
});

test.run();
