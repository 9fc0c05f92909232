import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Join, Swarm } from "../../node/ports.ts";
import { UnreachableError } from "../../protocol/errors.ts";
import { noise } from "../support/noise.ts";
import {
  bits,
  eventually,
  failureOf,
  Listener,
  Member,
  payloadNamed,
  servedPayload,
  variantNamed,
  within,
} from "../support/swarm-member.ts";

/** A network that a test has for itself. */
export interface SwarmWorld {
  /** A member that meets all who are there already. */
  add(name: string, member: Member): Promise<Swarm>;
  close(): Promise<void>;
}

/** Two members that have met. */
export interface Pair {
  readonly world: SwarmWorld;
  readonly asker: Member;
  readonly server: Member;
  readonly askerSwarm: Swarm;
  readonly serverSwarm: Swarm;
}

export type Rule = (text: string, check: (pair: Pair) => Promise<void>) => void;

/** Runs the rules that every swarm keeps. */
export function testSwarm(name: string, open: () => Promise<SwarmWorld>): void {
  const test = suite(`${name} as a swarm`);
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
  meetingRules(rule);
  recordRules(rule);
  joinRules(rule);
  pieceRules(rule);
  endRules(rule);
  test.run();
}

/** The items that a peer says it has; undefined for all, or for none at all. */
function have(join: Join | undefined): number[] | undefined {
  const known = join?.have;
  if (known === undefined || known === "all") return undefined;
  return Array.from({ length: known.length }, (_, item) => item).filter((item) => known.has(item));
}

export async function meet(world: SwarmWorld): Promise<Pair> {
  const [server, asker] = [new Member(), new Member()];
  const serverSwarm = await world.add("server", server);
  const askerSwarm = await world.add("asker", asker);
  await Promise.all([asker.ready(serverSwarm), server.ready(askerSwarm)]);
  return { world, asker, server, askerSwarm, serverSwarm };
}

const variant = variantNamed("aa");
const payload = payloadNamed("bb");
const otherPayload = payloadNamed("bc");
const items = [noise(1, 5_000), noise(2, 600_000), noise(3, 512), noise(4, 2 * 1024 * 1024)];

function meetingRules(rule: Rule): void {
  rule("two members become ready both ways", async ({ askerSwarm, serverSwarm }) => {
    assert.equal(
      askerSwarm.peers().map(({ peer, name }) => [peer, name]),
      [[serverSwarm.id, "server"]],
    );
    assert.equal(
      serverSwarm.peers().map(({ peer, name }) => [peer, name]),
      [[askerSwarm.id, "asker"]],
    );
    assert.is(askerSwarm.peers()[0]!.addresses.length, 1);
  });

  rule("what a member holds is announced to all, at the meeting and at each change", async (pair) => {
    const { world, asker, server, askerSwarm, serverSwarm } = pair;
    const third = new Member();
    const thirdSwarm = await world.add("third", third);
    await third.ready(serverSwarm);
    const learns = (member: Member, swarm: Swarm, held: string) =>
      member.heard.until(`that ${held} is held`, () => swarm.directory.holders(variantNamed(held)).has(serverSwarm.id));
    server.holdings = [[variant, payload]];
    serverSwarm.announce();
    await Promise.all([learns(asker, askerSwarm, "aa"), learns(third, thirdSwarm, "aa")]);
    server.holdings = [...server.holdings, [variantNamed("ab"), otherPayload]];
    serverSwarm.announce();
    await Promise.all([learns(asker, askerSwarm, "ab"), learns(third, thirdSwarm, "ab")]);
    // Whoever comes later hears of it all, from anyone.
    const fourth = new Member();
    const fourthSwarm = await world.add("fourth", fourth);
    await Promise.all([learns(fourth, fourthSwarm, "aa"), learns(fourth, fourthSwarm, "ab")]);
    server.holdings = [[variantNamed("ab"), otherPayload]];
    serverSwarm.announce();
    await eventually("that aa is held no more", () => fourthSwarm.directory.holders(variant).size === 0);
    assert.equal([...fourthSwarm.directory.holders(variantNamed("ab"))], [[serverSwarm.id, otherPayload]]);
  });

  rule("a member that goes is gone for the others", async ({ asker, askerSwarm, serverSwarm }) => {
    await serverSwarm[Symbol.asyncDispose]();
    await asker.heard.until("that it left", ({ kind }) => kind === "left");
    assert.equal(askerSwarm.peers(), []);
    await eventually("that it is forgotten", () => ![...askerSwarm.directory.peers()].includes(serverSwarm.id));
  });
}

function recordRules(rule: Rule): void {
  rule("a record that a peer has is given, another is not", async ({ server, askerSwarm, serverSwarm }) => {
    const envelope = noise(9, 100_000);
    server.records.set(variant, envelope);
    const answer = await askerSwarm.record(serverSwarm.id, variant);
    assert.ok(answer !== undefined && Buffer.from(envelope).equals(answer));
    assert.is(await askerSwarm.record(serverSwarm.id, variantNamed("00")), undefined);
  });

  rule(
    "a peer that fails to answer about a record counts as unreachable",
    async ({ server, askerSwarm, serverSwarm }) => {
      Object.assign(server.handlers, { record: () => Promise.reject(new Error("the disk is gone")) });
      assert.instance(await failureOf(askerSwarm.record(serverSwarm.id, variant)), UnreachableError);
    },
  );

  rule("a question about a record ends with its caller's reason", async ({ server, askerSwarm, serverSwarm }) => {
    Object.assign(server.handlers, { record: () => new Promise(() => undefined) });
    const stop = new AbortController();
    const reason = new Error("enough");
    const failure = failureOf(askerSwarm.record(serverSwarm.id, variant, { signal: stop.signal }));
    setImmediate(() => stop.abort(reason));
    assert.is(await failure, reason);
    assert.is(
      await failureOf(askerSwarm.record(serverSwarm.id, variant, { signal: AbortSignal.abort(reason) })),
      reason,
    );
  });

  rule("nothing can be asked of a stranger", async ({ askerSwarm }) => {
    assert.instance(await failureOf(askerSwarm.record("nobody", variant)), UnreachableError);
    assert.instance(await failureOf(askerSwarm.join("nobody", payload, 1, new Listener())), UnreachableError);
  });
}

function joinRules(rule: Rule): void {
  rule("a peer says that it has all of a payload, a part of it, or nothing", async (pair) => {
    const { server, asker, askerSwarm, serverSwarm } = pair;
    server.payloads.set(payload, servedPayload(items));
    server.payloads.set(otherPayload, servedPayload(items, { have: bits(4, [0, 2]) }));
    const whole = await askerSwarm.join(serverSwarm.id, payload, 4, new Listener());
    assert.is(whole?.have, "all");
    const part = await askerSwarm.join(serverSwarm.id, otherPayload, 4, new Listener());
    assert.equal(have(part), [0, 2]);
    const nothing = new Listener();
    assert.is(await askerSwarm.join(serverSwarm.id, payloadNamed("00"), 4, nothing), undefined);
    assert.equal(nothing.all, []);
    assert.is(
      server.heard.count(({ kind }) => kind === "wanted"),
      3,
    );
    assert.is(
      asker.heard.count(({ kind }) => kind === "wanted"),
      0,
    );
  });

  rule("a payload that cannot be looked up is not there", async ({ server, askerSwarm, serverSwarm }) => {
    Object.assign(server.handlers, { serve: () => Promise.reject(new Error("the disk is gone")) });
    assert.is(await askerSwarm.join(serverSwarm.id, payload, 4, new Listener()), undefined);
  });

  rule("who joined hears what has been stored since", async ({ server, askerSwarm, serverSwarm }) => {
    const have = bits(700, [0]);
    server.payloads.set(
      payload,
      servedPayload(
        Array.from({ length: 700 }, () => items[2]!),
        { have },
      ),
    );
    const listener = new Listener();
    const join = await askerSwarm.join(serverSwarm.id, payload, 700, listener);
    const fresh = Array.from({ length: 600 }, (_, i) => i + 1);
    for (const item of fresh) have.add(item);
    serverSwarm.stored(payload, fresh);
    serverSwarm.stored(otherPayload, [1]);
    await listener.until("the last of them", (event) => event.kind === "have" && event.items.includes(600));
    const told = listener.all.flatMap((event) => (event.kind === "have" ? event.items : []));
    assert.equal(told, fresh);
    join?.request([600]);
    assert.is((await listener.bytesOf(600)).length, 512);
  });

  rule("two members may ask each other at once", async ({ server, asker, askerSwarm, serverSwarm }) => {
    server.payloads.set(payload, servedPayload(items, { have: bits(4, [0, 1]) }));
    asker.payloads.set(payload, servedPayload(items, { have: bits(4, [2, 3]) }));
    const [there, here] = [new Listener(), new Listener()];
    const [a, b] = await Promise.all([
      askerSwarm.join(serverSwarm.id, payload, 4, there),
      serverSwarm.join(askerSwarm.id, payload, 4, here),
    ]);
    a?.request([1]);
    b?.request([3]);
    assert.equal([(await there.bytesOf(1)).length, (await here.bytesOf(3)).length], [600_000, 2 * 1024 * 1024]);
  });
}

function pieceRules(rule: Rule): void {
  rule("requested items come as they are", async ({ server, asker, askerSwarm, serverSwarm }) => {
    server.payloads.set(payload, servedPayload(items));
    const listener = new Listener();
    const join = await askerSwarm.join(serverSwarm.id, payload, 4, listener);
    join?.request([3, 0, 1, 2]);
    for (const [item, bytes] of items.entries()) assert.ok(Buffer.from(bytes).equals(await listener.bytesOf(item)));
    await server.heard.until("the last of four", () => server.heard.count(({ kind }) => kind === "gave") === 4);
    assert.is(
      asker.heard.count(({ kind }) => kind === "gave"),
      0,
    );
  });

  rule("many items at once all come, as pieces or as busy", async ({ server, askerSwarm, serverSwarm }) => {
    const many = Array.from({ length: 1_000 }, (_, i) => noise(i, 300));
    server.payloads.set(payload, servedPayload(many));
    const listener = new Listener();
    const join = await askerSwarm.join(serverSwarm.id, payload, 1_000, listener);
    const open = new Set(many.keys());
    join?.request([...open]);
    let looked = 0;
    while (open.size > 0) {
      await listener.until("more", () => listener.all.length > looked);
      for (const event of listener.all.slice(looked)) {
        if (event.kind === "piece") open.delete(event.item);
        else if (event.kind === "busy") join?.request(event.items);
        else assert.unreachable(event.kind);
      }
      looked = Math.max(looked, listener.all.length);
    }
    assert.ok(listener.count(({ kind }) => kind === "busy") > 0, "a queue is short");
  });

  rule("two payloads over one pair of peers do not mix", async ({ server, askerSwarm, serverSwarm }) => {
    const others = items.map((bytes) => bytes.map((byte) => byte ^ 255));
    server.payloads.set(payload, servedPayload(items));
    server.payloads.set(otherPayload, servedPayload(others));
    const [one, other] = [new Listener(), new Listener()];
    const joins = await Promise.all([
      askerSwarm.join(serverSwarm.id, payload, 4, one),
      askerSwarm.join(serverSwarm.id, otherPayload, 4, other),
    ]);
    for (const join of joins) join?.request([0, 1, 2, 3]);
    for (let item = 0; item < 4; item++) {
      assert.ok(Buffer.from(items[item]!).equals(await one.bytesOf(item)));
      assert.ok(Buffer.from(others[item]!).equals(await other.bytesOf(item)));
    }
    joins[0]?.leave();
    joins[1]?.request([2]);
    await other.until("it once more", () => other.pieces() === 5);
    assert.is(
      one.count(({ kind }) => kind === "ended"),
      0,
    );
  });

  rule("items that are lacking, or cannot be, are gone", async ({ server, askerSwarm, serverSwarm }) => {
    const load = async (item: number) => {
      if (item === 0) throw new Error("rotten");
      return new Uint8Array(items[item]!);
    };
    server.payloads.set(payload, servedPayload(items, { have: bits(4, [0, 1]), load }));
    const listener = new Listener();
    const join = await askerSwarm.join(serverSwarm.id, payload, 4, listener);
    join?.request([0, 1, 2, 4_000_000]);
    await listener.bytesOf(1);
    await listener.until("that 0 is gone", (event) => event.kind === "gone" && event.items.includes(0));
    const gone = listener.all.flatMap((event) => (event.kind === "gone" ? event.items : []));
    assert.equal([...gone].sort(), [0, 2, 4_000_000]);
  });

  rule("what is cancelled before its turn does not come", async ({ server, askerSwarm, serverSwarm }) => {
    const turn = Promise.withResolvers<void>();
    const load = async (item: number) => {
      await turn.promise;
      return new Uint8Array(items[item % 4]!);
    };
    server.payloads.set(
      payload,
      servedPayload(
        Array.from({ length: 40 }, () => items[2]!),
        { load },
      ),
    );
    const listener = new Listener();
    const join = await askerSwarm.join(serverSwarm.id, payload, 40, listener);
    join?.request([10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    join?.cancel([18, 10]);
    join?.request([2]);
    turn.resolve();
    await listener.bytesOf(2);
    await listener.bytesOf(19);
    assert.equal(
      listener.all.flatMap((event) => (event.kind === "piece" ? [event.item] : [])).sort((a, b) => a - b),
      [2, 11, 12, 13, 14, 15, 16, 17, 19],
    );
  });
}

function endRules(rule: Rule): void {
  rule("after leaving nothing more comes, and one may join again", async ({ server, askerSwarm, serverSwarm }) => {
    server.payloads.set(payload, servedPayload(items));
    const [first, second] = [new Listener(), new Listener()];
    const join = await askerSwarm.join(serverSwarm.id, payload, 4, first);
    join?.request([0, 1, 2, 3]);
    join?.leave();
    join?.leave();
    join?.request([0]);
    const again = await askerSwarm.join(serverSwarm.id, payload, 4, second);
    again?.request([1]);
    await second.bytesOf(1);
    assert.equal(first.all, []);
  });

  rule("one may join more often than a stream has room for, one after the other", async (pair) => {
    const { server, askerSwarm, serverSwarm } = pair;
    server.payloads.set(payload, servedPayload(items));
    const first = await askerSwarm.join(serverSwarm.id, payload, 4, new Listener());
    for (let i = 0; i < 150; i++) {
      const other = await askerSwarm.join(serverSwarm.id, payload, 4, new Listener());
      other?.leave();
    }
    assert.is(first?.have, "all");
    assert.is(await askerSwarm.join(serverSwarm.id, payloadNamed("00"), 4, new Listener()), undefined);
  });

  rule("joins end when their peer goes", async ({ server, askerSwarm, serverSwarm }) => {
    server.payloads.set(payload, servedPayload(items));
    const listener = new Listener();
    const join = await askerSwarm.join(serverSwarm.id, payload, 4, listener);
    await serverSwarm[Symbol.asyncDispose]();
    await listener.until("the end", ({ kind }) => kind === "ended");
    join?.request([1]);
    join?.leave();
    assert.is(
      listener.count(({ kind }) => kind === "ended"),
      1,
    );
    assert.instance(await failureOf(askerSwarm.join(serverSwarm.id, payload, 4, listener)), UnreachableError);
  });

  rule("joins end when their own swarm is closed, and a join under way fails", async (pair) => {
    const { server, askerSwarm, serverSwarm } = pair;
    server.payloads.set(payload, servedPayload(items));
    const listener = new Listener();
    await askerSwarm.join(serverSwarm.id, payload, 4, listener);
    Object.assign(server.handlers, { serve: () => new Promise(() => undefined) });
    const failure = failureOf(askerSwarm.join(serverSwarm.id, otherPayload, 4, new Listener()));
    await server.heard.until("the second join", (event) => event.kind === "wanted" && event.payload === otherPayload);
    await askerSwarm[Symbol.asyncDispose]();
    assert.instance(await failure, UnreachableError);
    await listener.until("the end", ({ kind }) => kind === "ended");
  });
}
