import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Join, ServedPayload } from "../../node/ports.ts";
import { UnreachableError } from "../../protocol/errors.ts";
import { MIB, smallPayloadBytesMax } from "../../protocol/limits.ts";
import type { RegisterAnswer } from "../../protocol/register-messages.ts";
import { noise } from "../support/noise.ts";
import {
  bits,
  eventually,
  failureOf,
  Listener,
  Member,
  payloadNamed,
  registerQuestion as question,
  servedPayload,
  within,
} from "../support/swarm-member.ts";
import { meet, type Pair, type Rule, type SwarmWorld } from "./swarm-conformance.ts";

/** Runs the rules of what a crowd says to each other, which every swarm keeps. */
export function testCrowd(name: string, open: () => Promise<SwarmWorld>): void {
  const test = suite(`${name} as a swarm in a crowd`);
  const rule: Rule = (text, check) => {
    test(text, async () => {
      const world = await open();
      try {
        await within(20_000, text, meet(world).then(check));
      } finally {
        await within(10_000, "closing", world.close());
      }
    });
  };
  registerRules(rule);
  linkRules(rule);
  takeRules(rule);
  turnRules(rule);
  test.run();
}

const payload = payloadNamed("bb");
const otherPayload = payloadNamed("bc");
const items = [noise(1, 5_000), noise(2, 600_000), noise(3, 512), noise(4, 2 * MIB)];
const answer: RegisterAnswer = {
  peers: ["one", "other"],
  leases: [{ group: 3, from: "far" }],
  leaseMs: 2_500,
  retryAfterMs: 1_000,
};

function registerRules(rule: Rule): void {
  rule("a registrar's answer comes to who asked", async ({ server, askerSwarm, serverSwarm }) => {
    server.answer = answer;
    assert.equal(await askerSwarm.register(serverSwarm.id, payload, question), answer);
    const heard = await server.heard.until("the question", ({ kind }) => kind === "registered");
    assert.equal(heard, { kind: "registered", peer: askerSwarm.id, question });
  });

  rule("each of many questions gets its own answer", async ({ server, askerSwarm, serverSwarm }) => {
    const registered = (_: string, __: unknown, { wants }: typeof question) => ({ ...answer, leaseMs: wants });
    Object.assign(server.handlers, { registered });
    const asked = [0, 1, 2, 0, 2, 1].map((wants, i) =>
      askerSwarm.register(serverSwarm.id, i % 2 === 0 ? payload : otherPayload, { ...question, wants }),
    );
    assert.equal(
      (await Promise.all(asked)).map(({ leaseMs }) => leaseMs),
      [0, 1, 2, 0, 2, 1],
    );
  });

  rule("a registrar without an answer says so, and answers the next question", async (pair) => {
    const { server, askerSwarm, serverSwarm } = pair;
    assert.instance(await failureOf(askerSwarm.register(serverSwarm.id, payload, question)), UnreachableError);
    server.answer = answer;
    assert.equal(await askerSwarm.register(serverSwarm.id, payload, question), answer);
  });

  rule("a registrar that is not there cannot be reached", async ({ askerSwarm, serverSwarm }) => {
    assert.instance(await failureOf(askerSwarm.register("nobody", payload, question)), UnreachableError);
    await serverSwarm[Symbol.asyncDispose]();
    assert.instance(await failureOf(askerSwarm.register(serverSwarm.id, payload, question)), UnreachableError);
  });

  rule("members are known with oneself, and all agree since when each is up", async ({ askerSwarm, serverSwarm }) => {
    const seen = (swarm: typeof askerSwarm) =>
      [...swarm.members()].sort((a, b) => (a.name < b.name ? -1 : 1)).map(({ name, upSinceMs }) => [name, upSinceMs]);
    await eventually("both on both sides", () => seen(askerSwarm).length === 2 && seen(serverSwarm).length === 2);
    assert.equal(seen(askerSwarm), seen(serverSwarm));
    assert.is([...askerSwarm.members()][0]!.name, askerSwarm.id);
  });
}

const unjoined = (member: Member) => member.heard.count(({ kind }) => kind === "unjoined");

function linkRules(rule: Rule): void {
  rule("a peer that may not join is told that nothing is here", async ({ server, askerSwarm, serverSwarm }) => {
    server.payloads.set(payload, servedPayload(items));
    const asked: unknown[] = [];
    const mayJoin = (...who: unknown[]) => asked.push(who) > 1;
    Object.assign(server.handlers, { mayJoin });
    const listener = new Listener();
    assert.is(await askerSwarm.join(serverSwarm.id, payload, 4, listener), undefined);
    assert.ok(await askerSwarm.join(serverSwarm.id, payload, 4, listener));
    assert.is(await askerSwarm.join(serverSwarm.id, otherPayload, 4, listener), undefined);
    assert.equal(asked, [
      [askerSwarm.id, payload],
      [askerSwarm.id, payload],
    ]);
    assert.is(unjoined(server), 0);
  });

  rule("the end of a join is told, be it by leaving or because the peer is gone", async (pair) => {
    const { server, askerSwarm, serverSwarm } = pair;
    server.payloads.set(payload, servedPayload(items));
    const join = await askerSwarm.join(serverSwarm.id, payload, 4, new Listener());
    join?.leave();
    const heard = await server.heard.until("the end", ({ kind }) => kind === "unjoined");
    assert.equal(heard, { kind: "unjoined", peer: askerSwarm.id, payload });
    await askerSwarm.join(serverSwarm.id, payload, 4, new Listener());
    await askerSwarm[Symbol.asyncDispose]();
    await server.heard.until("the second end", () => unjoined(server) === 2);
  });

  rule("of two joins of one peer the last one's end counts", async ({ server, askerSwarm, serverSwarm }) => {
    server.payloads.set(payload, servedPayload(items));
    server.payloads.set(otherPayload, servedPayload(items));
    const joins: (Join | undefined)[] = [];
    for (let i = 0; i < 2; i++) joins.push(await askerSwarm.join(serverSwarm.id, payload, 4, new Listener()));
    joins[0]?.leave();
    // In order: its answer means that the leaving has been heard.
    await askerSwarm.join(serverSwarm.id, otherPayload, 4, new Listener());
    assert.is(unjoined(server), 0);
    joins[1]?.leave();
    await server.heard.until("the end", () => unjoined(server) === 1);
  });

  rule("a peer that is parted hears it, gets nothing more, and may join again", async (pair) => {
    const { server, askerSwarm, serverSwarm } = pair;
    const have = bits(4, [0, 2]);
    server.payloads.set(payload, servedPayload(items, { have }));
    const [listener, second] = [new Listener(), new Listener()];
    const join = await askerSwarm.join(serverSwarm.id, payload, 4, listener);
    serverSwarm.part("nobody", payload);
    serverSwarm.part(askerSwarm.id, otherPayload);
    serverSwarm.part(askerSwarm.id, payload);
    await listener.until("that it was parted", (event) => event.kind === "gone" && event.items.length === 0);
    join?.request([2]);
    await listener.until("that 2 is gone", (event) => event.kind === "gone" && event.items.includes(2));
    have.add(3);
    serverSwarm.stored(payload, [3]);
    const again = await askerSwarm.join(serverSwarm.id, payload, 4, second);
    again?.request([3]);
    await second.bytesOf(3);
    assert.equal([listener.all.length, unjoined(server)], [2, 0]);
    join?.leave();
    again?.leave();
    await server.heard.until("the end", () => unjoined(server) === 1);
  });
}

const ofBytes = (served: ServedPayload, bytes: number): ServedPayload => ({
  ...served,
  root: { ...served.root, bytes },
});

function takeRules(rule: Rule): void {
  rule("a small payload is taken without a join", async ({ server, askerSwarm, serverSwarm }) => {
    server.payloads.set(payload, ofBytes(servedPayload(items), smallPayloadBytesMax));
    Object.assign(server.handlers, { mayJoin: () => assert.unreachable("it is no link") });
    const listener = new Listener();
    const join = askerSwarm.take(serverSwarm.id, payload, 4, listener);
    assert.is(join.have, "all");
    join.request([0, 3]);
    join.request([1]);
    for (const item of [0, 1, 3]) assert.ok(Buffer.from(items[item]!).equals(await listener.bytesOf(item)));
    join.request([2]);
    await listener.bytesOf(2);
    join.leave();
    assert.is(
      server.heard.count(({ kind }) => kind === "wanted"),
      1,
    );
    assert.equal([listener.all.length, unjoined(server)], [4, 0]);
  });

  rule("of a payload that is not small nothing can be taken", async ({ server, askerSwarm, serverSwarm }) => {
    server.payloads.set(payload, ofBytes(servedPayload(items), smallPayloadBytesMax + 1));
    const listener = new Listener();
    askerSwarm.take(serverSwarm.id, payload, 4, listener).request([0]);
    await listener.until("the refusal", () => listener.all.length > 0);
    assert.equal(listener.all, [{ kind: "gone", items: [] }]);
  });

  rule("what is lacking of a taken payload is gone, and what comes is told", async (pair) => {
    const { server, askerSwarm, serverSwarm } = pair;
    const have = bits(4, [0]);
    server.payloads.set(payload, servedPayload(items, { have }));
    const [listener, nothing] = [new Listener(), new Listener()];
    const join = askerSwarm.take(serverSwarm.id, payload, 4, listener);
    join.request([0, 2]);
    await listener.until("that 2 is gone", (event) => event.kind === "gone" && event.items.includes(2));
    have.add(2);
    serverSwarm.stored(payload, [2]);
    await listener.until("that 2 is there", (event) => event.kind === "have" && event.items.includes(2));
    join.request([2]);
    await listener.bytesOf(2);
    askerSwarm.take(serverSwarm.id, otherPayload, 4, nothing).request([0]);
    await nothing.until("that nothing is there", (event) => event.kind === "gone" && event.items.length === 0);
  });

  rule("more than a message holds may be taken at once", async ({ server, askerSwarm, serverSwarm }) => {
    const many = Array.from({ length: 300 }, (_, i) => noise(i, 300));
    server.payloads.set(payload, servedPayload(many));
    const listener = new Listener();
    const join = askerSwarm.take(serverSwarm.id, payload, 300, listener);
    join.request([...many.keys()]);
    let looked = 0;
    while (listener.pieces() < 300) {
      await listener.until("more", () => listener.all.length > looked);
      for (const event of listener.all.slice(looked)) if (event.kind === "busy") join.request(event.items);
      looked = listener.all.length;
    }
  });

  rule("a take that was left, or cancelled, brings nothing", async ({ server, askerSwarm, serverSwarm }) => {
    server.payloads.set(payload, servedPayload(items));
    const [left, listener] = [new Listener(), new Listener()];
    const gone = askerSwarm.take(serverSwarm.id, payload, 4, left);
    gone.request([0]);
    gone.leave();
    const join = askerSwarm.take(serverSwarm.id, payload, 4, listener);
    join.request([0, 1]);
    join.cancel([0]);
    await listener.bytesOf(1);
    assert.equal([left.all.length, listener.all.length], [0, 1]);
  });

  rule("a take at a peer that is not there ends", async ({ askerSwarm }) => {
    const listener = new Listener();
    askerSwarm.take("nobody", payload, 4, listener).request([0]);
    await listener.until("the end", ({ kind }) => kind === "ended");
  });
}

/** A payload of many items, whose readings wait until the test lets them go on, in the order in which they began. */
function slowPayload() {
  const waiting: (() => void)[] = [];
  const load = async (item: number) => {
    await new Promise<void>((resolve) => waiting.push(resolve));
    return new Uint8Array([item]);
  };
  const served = servedPayload(
    Array.from({ length: 40 }, () => items[2]!),
    { load },
  );
  return { served, waiting };
}

const tenItems = Array.from({ length: 10 }, (_, item) => item);

/** Two peers ask for ten items each of a server that reads slowly. */
async function twoAsk({ server, world, askerSwarm, serverSwarm }: Pair, other: Member) {
  const { served, waiting } = slowPayload();
  server.payloads.set(payload, served);
  const otherSwarm = await world.add("other", other);
  await other.ready(serverSwarm);
  const listeners = [new Listener(), new Listener()] as const;
  for (const [i, swarm] of [askerSwarm, otherSwarm].entries()) {
    const join = await swarm.join(serverSwarm.id, payload, 40, listeners[i]!);
    join?.request(tenItems);
    await eventually("that it reads", () => waiting.length >= 4);
    // In order behind the request: its answer means that the request has been heard.
    await swarm.join(serverSwarm.id, otherPayload, 4, new Listener());
  }
  return { waiting, listeners, otherId: otherSwarm.id };
}

function turnRules(rule: Rule): void {
  for (const [copies, reads] of [
    [2, 4],
    [3, 8],
  ] as const) {
    rule(`items of which ${copies} copies are known are read ${reads} at a time`, async (pair) => {
      const { server } = pair;
      Object.assign(server.handlers, { demand: () => ({ copies: () => copies, heldBy: () => 0 }) });
      const { waiting } = await twoAsk(pair, new Member());
      assert.is(waiting.length, reads);
    });
  }

  for (const isFirst of [true, false]) {
    rule(
      `the next turn is the one's that has least, be it the ${isFirst ? "first" : "second"} to ask`,
      async (pair) => {
        const { server, askerSwarm } = pair;
        const heldBy = (peer: string) => ((peer === askerSwarm.id) === isFirst ? 1 : 20);
        Object.assign(server.handlers, { demand: () => ({ copies: () => 1, heldBy }) });
        const { waiting, listeners } = await twoAsk(pair, new Member());
        // Four of the first one's are being read; two more readings follow on the first two.
        for (const go of waiting.slice(0, 2)) go();
        await eventually("that two more are read", () => waiting.length === 6);
        for (const go of waiting.slice(2)) go();
        await eventually("all six", () => listeners[0].pieces() + listeners[1].pieces() >= 6);
        assert.equal(listeners[1].pieces() === 0, isFirst);
      },
    );
  }

  rule("a class that has used up its rate is told to ask later, and an interactive one is served", async (pair) => {
    const { server, askerSwarm, serverSwarm } = pair;
    server.payloads.set(payload, { ...servedPayload(items), sizeOf: () => 4 * MIB });
    serverSwarm.setRates({ prefetch: 0 });
    const [slow, quick] = [new Listener(), new Listener()];
    const background = await askerSwarm.join(serverSwarm.id, payload, 4, slow, "prefetch");
    background?.request([1, 2, 3]);
    await slow.bytesOf(1);
    const waited = askerSwarm.take(serverSwarm.id, payload, 4, quick);
    waited.request([3, 1, 2]);
    for (const item of [1, 2, 3]) await quick.bytesOf(item);
    assert.is(slow.pieces(), 1);
    serverSwarm.setRates({});
    background?.request([2, 3]);
    for (const item of [2, 3]) await slow.bytesOf(item);
  });

  rule("what waits for its rate goes by itself when it may", async ({ server, askerSwarm, serverSwarm }) => {
    server.payloads.set(payload, { ...servedPayload(items), sizeOf: () => 4 * MIB });
    serverSwarm.setRates({ repair: 100_000 });
    const listener = new Listener();
    const sinceMs = performance.now();
    askerSwarm.take(serverSwarm.id, payload, 4, listener, "repair").request([1, 2, 3]);
    for (const item of [1, 2, 3]) await listener.bytesOf(item);
    assert.ok(performance.now() - sinceMs >= 40, "4 MiB at 100 MB/s take 42 ms");
  });
}
