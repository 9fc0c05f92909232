import { test } from "uvu";
import * as assert from "uvu/assert";
import { MemoryRepository } from "../../../node/origins/memory-origin.ts";
import { HealthyOrigin } from "../../../node/origins/with-health.ts";
import { UnreachableError } from "../../../protocol/errors.ts";
import { parseChunkHash } from "../../../protocol/hash.ts";
import { WatchedOrigin } from "../../support/fetch-world.ts";
import { failureOf } from "../../support/swarm-member.ts";

const hash = parseChunkHash("ab".repeat(32));

/** An origin of which each call may fail, a clock that is set by hand, and whether there is another origin. */
function watchedOrigin() {
  const memory = new MemoryRepository("web");
  void memory.putChunk(hash, Buffer.from("bytes"));
  const inner = new WatchedOrigin(memory);
  const states: string[] = [];
  const scene = { inner, states, nowMs: 0, hasOther: true, failure: undefined as Error | undefined };
  inner.before = () => {
    scene.nowMs++;
    if (scene.failure !== undefined) throw scene.failure;
  };
  const clock = { monotonicMs: () => scene.nowMs, wallMs: () => 0 };
  const onState = ({ state, reason }: HealthyOrigin) =>
    states.push(reason === undefined ? state : `${state}: ${reason}`);
  return { scene, origin: new HealthyOrigin(inner, clock, () => scene.hasOther, onState) };
}

const away = new UnreachableError("web is away");

test("an origin in trouble is left alone while there is another one, is probed, and used again", async () => {
  const { scene, origin } = watchedOrigin();
  await origin.chunk(hash, 5);
  scene.failure = away;
  for (let i = 0; i < 5; i++) assert.is((await failureOf(origin.chunk(hash, 5))).message, "web is away");
  assert.is(scene.inner.chunks, 3);
  scene.nowMs += 1_000;
  await Promise.all([1, 2, 3].map(() => failureOf(origin.chunk(hash, 5))));
  assert.is(scene.inner.chunks, 4);
  scene.failure = undefined;
  scene.nowMs += 2_000;
  assert.is((await origin.chunk(hash, 5)).length, 5);
  assert.is((await origin.chunk(hash, 5)).length, 5);
  assert.equal(scene.states, ["ok", "unsteady: web is away", "down: web is away", "ok"]);
});

test("the only origin that works is always asked", async () => {
  const { scene, origin } = watchedOrigin();
  scene.hasOther = false;
  scene.failure = away;
  for (let i = 0; i < 5; i++) await failureOf(origin.chunk(hash, 5));
  assert.is(scene.inner.chunks, 5);
  scene.failure = undefined;
  assert.is((await origin.chunk(hash, 5)).length, 5);
});

test("the only origin is left alone as long as it asks for, a minute at most, and each call says why at once", async () => {
  const { scene, origin } = watchedOrigin();
  scene.hasOther = false;
  const asksBefore = () => scene.inner.chunks;
  for (const [retryAfterMs, restMs] of [
    [30_000, 30_000],
    [3_600_000, 60_000],
  ] as const) {
    scene.failure = new UnreachableError("web answers 503", { retryAfterMs });
    await failureOf(origin.chunk(hash, 5));
    const [asked, fromMs] = [asksBefore(), scene.nowMs];
    scene.nowMs = fromMs + restMs - 1;
    for (let i = 0; i < 3; i++) {
      const error = await failureOf(origin.chunk(hash, 5));
      assert.equal([error.code, error.message, asksBefore()], ["UNREACHABLE", "web answers 503", asked]);
    }
    scene.failure = undefined;
    scene.nowMs = fromMs + restMs;
    assert.is((await origin.chunk(hash, 5)).length, 5);
  }
});

test("an answer to what was asked before does not end the rest that an origin asked for", async () => {
  const { scene, origin } = watchedOrigin();
  scene.hasOther = false;
  const [begun, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  scene.inner.before = async () => {
    begun.resolve();
    await answer.promise;
  };
  const early = origin.chunk(hash, 5);
  await begun.promise;
  scene.inner.before = () => {
    throw new UnreachableError("web answers 429", { retryAfterMs: 30_000 });
  };
  await failureOf(origin.chunk(hash, 5));
  answer.resolve();
  assert.is((await early).length, 5);
  assert.is((await failureOf(origin.chunk(hash, 5))).message, "web answers 429");
});

test("an origin that lacks something, or has it wrongly, has answered", async () => {
  const { scene, origin } = watchedOrigin();
  await failureOf(origin.chunk(parseChunkHash("ac".repeat(32)), 5));
  await failureOf(origin.chunk(hash, 6));
  assert.equal([origin.state, scene.states], ["ok", ["ok"]]);
});

test("who leaves early says nothing of an origin; who was kept waiting does", async () => {
  const { scene, origin } = watchedOrigin();
  const leave = async (waitMs: number) => {
    const controller = new AbortController();
    scene.inner.before = () => {
      scene.nowMs += waitMs;
      controller.abort();
      throw controller.signal.reason;
    };
    await failureOf(origin.chunk(hash, 5, controller));
  };
  await leave(1_400);
  assert.equal(scene.states, []);
  await leave(1_900);
  assert.equal(scene.states, ["unsteady: the origin web gave no answer in 2 s"]);
});

test.run();
