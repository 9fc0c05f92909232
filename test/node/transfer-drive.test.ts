import { suite } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../../node/clock.ts";
import type { Origin } from "../../node/ports.ts";
import { Bitmap } from "../../protocol/bitmap.ts";
import { ChunkMissingError, NoSpaceError } from "../../protocol/errors.ts";
import { type DriveScene, openDriveScene, repository } from "../support/drive-scene.ts";
import { limits, never, WatchedOrigin } from "../support/fetch-world.ts";
import { failureOf, within } from "../support/swarm-member.ts";

const test = suite("the transfer drive");

function rule(text: string, check: (scene: DriveScene) => Promise<void>): void {
  test(text, async () => {
    const scene = await openDriveScene();
    const before = timers();
    await within(15_000, text, check(scene));
    scene.stop.abort(new Error("the test is over"));
    await new Promise(setImmediate);
    assert.is(scene.puts.open, 0);
    assert.is(timers() <= before, true, "a timer is left");
  });
}

const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
const wrong = (bytes: Uint8Array<ArrayBuffer>) => bytes.map((byte) => byte ^ 1);
const turn = () => new Promise(setImmediate);

rule("all items come from a peer that has them, and others are told of each", async (scene) => {
  const { swarm, drive, give, target, standing } = scene;
  swarm.here = ["p"];
  swarm.onJoin = (asked) => asked.answer("all");
  swarm.onRequest = give;
  const bytes = await drive().run(["p"]);
  assert.ok(bytes.peers > 0 && bytes.origin === 0);
  assert.equal([...new Set(swarm.told)].length, target.index.items);
  assert.is(standing.summary("p").bytesFrom, bytes.peers);
  assert.is(swarm.joins[0]!.left, 1);
});

rule("nobody joins a transfer without a swarm: it would hear of nothing", async ({ drive }) => {
  const alone = drive({ swarm: undefined });
  assert.equal([alone.mayJoin("p"), [...alone.joiners]], [false, []]);
});

rule("an abort waits for what is being written, and touches nothing after", async (scene) => {
  const { swarm, drive, puts, stop, target, give } = scene;
  const open = Promise.withResolvers<void>();
  swarm.onJoin = (asked) => asked.answer("all");
  swarm.onRequest = (asked, items) => {
    puts.hold = open.promise;
    give(asked, items);
  };
  let hasEnded = false;
  const running = failureOf(drive().run(["p"])).finally(() => {
    hasEnded = true;
  });
  while (puts.open === 0) await turn();
  const reason = new Error("enough");
  stop.abort(reason);
  await turn();
  assert.is(hasEnded, false, "a put is still at work");
  open.resolve();
  assert.is(await running, reason);
  assert.is(puts.open, 0);
  const stored = target.storedSegments().length;
  swarm.joins[0]!.listener.piece(0, scene.bytesOf(0));
  await turn();
  assert.equal([puts.open, target.storedSegments().length, swarm.joins[0]!.left], [0, stored, 1]);
});

rule("an abort that came before ends it at once", async ({ drive, stop, swarm }) => {
  const reason = new Error("before");
  stop.abort(reason);
  assert.is(await failureOf(drive().run(["p"])), reason);
  assert.equal(swarm.joins, []);
});

rule("an answer to a join that comes after the end is left at once", async ({ drive, stop, swarm }) => {
  const running = failureOf(drive().run(["p", "q"]));
  stop.abort(new Error("enough"));
  await running;
  let asks = 0;
  swarm.onRequest = () => asks++;
  swarm.joins[0]!.answer("all");
  swarm.joins[1]!.refuse();
  await turn();
  assert.equal([swarm.joins[0]!.left, asks], [1, 0]);
});

rule("one item that comes twice is written once at a time, and once in all", async (scene) => {
  const { swarm, drive, puts, give } = scene;
  const open = Promise.withResolvers<void>();
  swarm.onJoin = (asked) => asked.answer("all");
  swarm.onRequest = (asked, items) => {
    puts.hold = open.promise;
    give(asked, items);
    give(asked, items);
    setImmediate(open.resolve);
  };
  await drive().run(["p"]);
  assert.is(puts.clashes, 0);
});

rule("a wrong piece and then the right one of the same item: the right one counts", async (scene) => {
  const { swarm, drive, give, bytesOf, standing } = scene;
  const [liar, honest] = ["liar", "honest"];
  swarm.onJoin = (asked) => asked.answer("all");
  swarm.onRequest = (asked, items) => {
    if (asked.peer === honest) return give(asked, items);
    for (const item of items) asked.listener.piece(item, wrong(bytesOf(item)));
  };
  await drive().run([liar, honest]);
  assert.is(standing.summary(honest).strikes, 0);
  assert.ok(standing.summary(liar).strikes >= 1);
});

rule("three wrong pieces: the peer is left and not asked again", async (scene) => {
  const { swarm, drive, bytesOf, standing } = scene;
  swarm.here = ["liar"];
  swarm.onJoin = (asked) => asked.answer("all");
  swarm.onRequest = (asked, items) => {
    for (const item of items) {
      const isSegment = item < scene.target.index.segments;
      asked.listener.piece(item, isSegment ? bytesOf(item) : wrong(bytesOf(item)));
    }
  };
  const running = drive();
  const failure = await failureOf(running.run(["liar"]));
  assert.is(failure.code, "NOT_FOUND");
  assert.is(standing.level("liar", systemClock.monotonicMs()), "quarantined");
  assert.equal([swarm.joins.length, swarm.joins[0]!.left > 0], [1, true]);
});

rule("pieces of a wrong size, or empty, are wrong pieces", async (scene) => {
  const { swarm, drive, give, standing } = scene;
  swarm.onJoin = (asked) => asked.answer("all");
  let tricks = 2;
  swarm.onRequest = (asked, items) => {
    if (asked.peer === "honest" || tricks === 0) return give(asked, items);
    for (const item of items) asked.listener.piece(item, new Uint8Array(tricks-- === 2 ? 0 : 2_000_000));
  };
  await drive().run(["liar", "honest"]);
  assert.equal([standing.summary("honest").strikes > 0, standing.summary("liar").strikes > 0], [false, true]);
});

rule("a peer that goes is forgotten, and what it was asked for is asked of another", async (scene) => {
  const { swarm, drive, give } = scene;
  const running = drive();
  swarm.onJoin = (asked) => asked.answer("all");
  swarm.onRequest = (asked, items) => {
    if (asked.peer === "honest") return give(asked, items);
    setImmediate(() => running.left("goes"));
  };
  const done = running.run(["goes"]);
  await turn();
  running.offer(["honest"], "likely");
  running.offer(["honest"], "likely");
  const bytes = await done;
  assert.ok(bytes.peers > 0);
  assert.equal(
    swarm.joins.map(({ peer }) => peer),
    ["goes", "honest"],
  );
});

rule("the end of an old stream does not end the new one of the same peer", async (scene) => {
  const { swarm, drive, give } = scene;
  const running = drive();
  swarm.onJoin = (asked) => {
    if (swarm.joins.length > 1) asked.answer("all");
  };
  let served = 0;
  swarm.onRequest = (asked, items) => {
    if (served++ === 0) {
      const [old] = swarm.joins;
      old!.listener.ended();
      old!.listener.gone([]);
      old!.listener.piece(0, wrong(scene.bytesOf(0)));
      old!.answer("all");
    }
    setImmediate(() => give(asked, items));
  };
  const done = running.run(["p"]);
  running.left("p");
  running.offer(["p"], "likely");
  await done;
  assert.equal([swarm.joins.length, swarm.joins[0]!.left], [2, 1]);
  assert.is(scene.standing.summary("p").strikes, 0);
});

rule("a peer that has nothing any more is asked again after a while", async (scene) => {
  const { swarm, drive, give } = scene;
  swarm.here = ["p"];
  swarm.onJoin = (asked) => asked.answer("all");
  swarm.onRequest = (asked, items) => (swarm.joins.length === 1 ? asked.listener.gone([]) : give(asked, items));
  const patient = { ...limits, hopelessMs: 3_000, patienceMs: 3_000 };
  const bytes = await drive({ limits: patient }).run(["p"]);
  assert.ok(bytes.peers > 0);
  assert.is(swarm.joins.length, 2);
});

rule("a peer with nothing is asked again once it says that it has something", async (scene) => {
  const { swarm, drive, give } = scene;
  swarm.onJoin = (asked) => asked.answer(swarm.joins.length === 1 ? undefined : "all");
  swarm.onRequest = give;
  const running = drive();
  const done = running.run(["p"]);
  await turn();
  running.offer(["p"], "likely");
  await done;
  assert.is(swarm.joins.length, 2);
});

rule("what a peer stores meanwhile is asked of it", async (scene) => {
  const { swarm, drive, give, target } = scene;
  swarm.onJoin = (asked) => {
    asked.answer(new Bitmap(target.index.items));
    setImmediate(() => asked.listener.have([...Array(target.index.items).keys(), 4_000_000]));
  };
  swarm.onRequest = give;
  assert.ok((await drive().run(["p"])).peers > 0);
});

rule("a peer in quarantine, and one that is being asked, are not asked", async ({ swarm, drive, standing, stop }) => {
  for (let i = 0; i < 3; i++) standing.strike("bad", "corrupt", systemClock.monotonicMs());
  const running = drive();
  const done = failureOf(running.run(["bad", "good", "good"]));
  running.offer(["good"], "likely");
  assert.equal(
    swarm.joins.map(({ peer }) => peer),
    ["good"],
  );
  stop.abort(new Error("enough"));
  await done;
  running.offer(["late"], "likely");
  assert.is(swarm.joins.length, 1);
});

rule("a full disk ends it with its error, after the other writes", async (scene) => {
  const { swarm, drive, give, target } = scene;
  const { put } = target;
  let puts = 0;
  target.put = async (item, bytes) => {
    if (puts++ > 3) throw new NoSpaceError("full");
    await put(item, bytes);
  };
  swarm.onJoin = (asked) => asked.answer("all");
  swarm.onRequest = give;
  assert.is((await failureOf(drive().run(["p"]))).code, "NO_SPACE");
});

rule("a manifest that cannot be described ends it with its error", async ({ swarm, drive, give, target }) => {
  target.describe = async () => {
    throw new ChunkMissingError("a segment has gone");
  };
  swarm.onJoin = (asked) => asked.answer("all");
  swarm.onRequest = give;
  assert.is((await failureOf(drive().run(["p"]))).code, "CHUNK_MISSING");
});

rule("an abort while the manifest is checked waits for the check", async ({ swarm, drive, give, target, stop }) => {
  const open = Promise.withResolvers<void>();
  const describe = target.describe.bind(target);
  let state = "not begun";
  target.describe = async () => {
    state = "begun";
    await open.promise;
    const described = await describe();
    state = "done";
    return described;
  };
  swarm.onJoin = (asked) => asked.answer("all");
  swarm.onRequest = give;
  const running = failureOf(drive().run(["p"]));
  while (state === "not begun") await turn();
  stop.abort(new Error("enough"));
  setImmediate(open.resolve);
  await running;
  assert.is(state, "done");
});

rule("an origin's chunk that comes after the end is not written", async ({ drive, stop, puts }) => {
  const origin = new WatchedOrigin(repository);
  const open = Promise.withResolvers<void>();
  origin.before = () => open.promise;
  const running = failureOf(drive({ origins: [origin], swarm: undefined }).run([]));
  while (origin.chunks === 0) await turn();
  stop.abort(new Error("enough"));
  await running;
  open.resolve();
  await turn();
  assert.is(puts.open, 0);
});

rule("an origin that ignores being told to stop does not hold up the end", async ({ drive, stop }) => {
  const origin = new WatchedOrigin(repository);
  origin.before = () => never;
  const running = failureOf(drive({ origins: [origin] as readonly Origin[] }).run([]));
  while (origin.chunks === 0) await turn();
  stop.abort(new Error("enough"));
  await within(1_500, "the end", running);
});

rule("a progress listener that throws ends the transfer, not the process", async ({ swarm, drive, give }) => {
  swarm.onJoin = (asked) => asked.answer("all");
  swarm.onRequest = give;
  const onProgress = () => {
    throw new Error("no terminal");
  };
  assert.is((await failureOf(drive({ onProgress }).run(["p"]))).message, "no terminal");
});

test.run();
