import { test } from "uvu";
import * as assert from "uvu/assert";
import { Politeness } from "../../protocol/politeness.ts";
import { TokenBucket } from "../../protocol/token-bucket.ts";
import type { TransferAction } from "../../protocol/transfer.ts";
import {
  asks,
  busy,
  failed,
  half,
  halves,
  joined,
  rest,
  type Staged,
  stage,
  started,
  stored,
  wakeAt,
  woke,
} from "../support/transfers.ts";

/** Bytes of half a mebibyte each, so many a second. */
const perSecond = (chunks: number) => (chunks * half) / 1000;

test("a transfer asks for what its class may have, and wakes when there is more", () => {
  const pace = new TokenBucket(perSecond(1), 2 * half);
  const scene = stage({ chunks: halves(6), pace });
  const first = scene.at(0, joined("a"), started, scene.described);
  assert.is(asks(first).a?.length, 2);
  const [one, other] = asks(first).a!;
  const borrowed = asks(scene.at(10, stored("a", one!))).a;
  assert.is(borrowed?.length, 1, "the last one is borrowed");
  assert.equal(asks(scene.at(20, stored("a", other!), stored("a", borrowed![0]!))), {});
  assert.is(asks(scene.wake()).a?.length, 1);
  assert.ok(scene.nowMs() >= 1000 && scene.nowMs() < 1011, `${scene.nowMs()}`);
});

test("origins are paced like peers", () => {
  const pace = new TokenBucket(perSecond(1), half);
  const scene = stage({ chunks: halves(6), pace });
  assert.is(asks(scene.at(0, started, scene.described)).origin?.length, 1);
  assert.equal(asks(scene.at(1, stored("origin", 1))).origin?.length, 1);
  assert.equal(asks(scene.at(2, stored("origin", 2))), {});
});

test("what was asked for in vain is asked elsewhere at no cost", () => {
  const pace = new TokenBucket(perSecond(0.001), half);
  const scene = stage({ chunks: [half], pace, origins: [] });
  assert.equal(asks(scene.at(0, joined("a"), joined("b"), started, scene.described)), { a: [1] });
  assert.equal(asks(scene.at(10, failed("a", 1))), { b: [1] });
});

test("an ask has its own time to be answered, however long it waited for its turn", () => {
  const pace = new TokenBucket(perSecond(0.01), half);
  const scene = stage({ chunks: halves(3), pace, origins: [] });
  let actions = scene.at(0, joined("a"), started, scene.described);
  for (let i = 0; i < 2; i++) {
    actions = scene.at(scene.nowMs() + 10, stored("a", asks(actions).a![0]!));
    if (asks(actions).a === undefined) actions = wakeUntilAsked(scene);
  }
  assert.ok(scene.nowMs() > 90_000, `a chunk in a hundred seconds: ${scene.nowMs()}`);
  const [last] = asks(actions).a!;
  assert.equal(rest(scene.at(scene.nowMs() + 1_900, woke)), [], "nothing is given up");
  assert.equal(rest(scene.at(scene.nowMs() + 50, stored("a", last!))), ["complete"]);
});

test("a transfer that its pace holds back does not give up; one whose sources fail does", () => {
  const slow = stage({ chunks: halves(3), pace: new TokenBucket(perSecond(0.001), half) });
  let actions = slow.at(0, started, slow.described);
  for (let i = 0; i < 2; i++) {
    actions = slow.at(slow.nowMs() + 10, stored("origin", asks(actions).origin![0]!));
    if (asks(actions).origin === undefined) actions = wakeUntilAsked(slow);
  }
  assert.ok(slow.nowMs() > 900_000, `${slow.nowMs()}`);
  const dead = stage({ chunks: halves(3), pace: new TokenBucket(perSecond(0.001), half) });
  actions = dead.at(0, started, dead.described);
  while (rest(actions).length === 0) {
    const { origin = [] } = asks(actions);
    actions = origin.length === 0 ? dead.wake() : dead.at(dead.nowMs() + 1, failed("origin", ...origin));
  }
  assert.equal(rest(actions), ["gaveUp unreachable 1 of 3"]);
  assert.ok(dead.nowMs() < 60_000, `${dead.nowMs()}`);
});

test("of several transfers of one class none is left out, and another class does not wait", () => {
  const politeness = new Politeness({ prefetch: perSecond(4) });
  const scenes = [1, 2, 3].map((seed) => {
    return stage({ seed, chunks: halves(40), pace: politeness.paceOf(() => "prefetch"), origins: [] });
  });
  for (const scene of scenes) scene.at(0, joined("a"), started);
  const wakes: (number | undefined)[] = scenes.map(() => 0);
  const got = scenes.map(() => 0);
  for (let nowMs = 0; nowMs < 20_000; nowMs++) {
    for (const [i, scene] of scenes.entries()) {
      if (wakes[i] === undefined || nowMs < wakes[i]) continue;
      let actions = scene.at(nowMs, nowMs === 0 ? scene.described : woke);
      wakes[i] = wakeAt(actions);
      while (asks(actions).a !== undefined) {
        const items = asks(actions).a!;
        got[i]! += items.length;
        actions = scene.at(nowMs, ...items.map((item) => stored("a", item)));
        wakes[i] = wakeAt(actions) ?? wakes[i];
      }
    }
  }
  const all = got.reduce((sum, one) => sum + one, 0);
  assert.ok(all <= 4 * 20 + 8 + 1, `${got}`);
  assert.ok(Math.min(...got) >= 10, `${got}`);
  const urgent = stage({ chunks: halves(8), pace: politeness.paceOf(() => "interactive"), origins: [] });
  assert.is(
    asks(urgent.at(20_000, joined("a"), started, urgent.described)).a?.length,
    2,
    "its window is all that counts",
  );
});

test("a transfer that becomes more urgent goes on at once", () => {
  const politeness = new Politeness({ prefetch: 0.001 });
  let traffic: "prefetch" | "interactive" = "prefetch";
  const scene = stage({ chunks: Array(12).fill(half), pace: politeness.paceOf(() => traffic) });
  const first = asks(scene.at(0, started, scene.described)).origin!;
  assert.is(first.length, 2);
  let flying = first;
  let nowMs = 0;
  while (flying.length > 0) {
    nowMs += 10;
    flying = asks(scene.at(nowMs, ...flying.map((item) => stored("origin", item)))).origin ?? [];
  }
  assert.ok(nowMs < 100, "what it may borrow is used up");
  traffic = "interactive";
  assert.ok(asks(scene.wake()).origin!.length >= 2);
  assert.ok(scene.nowMs() <= nowMs + 1_020, `${scene.nowMs()}`);
});

test("an origin whose turn is not ours is asked again when it said, and another one meanwhile", () => {
  const scene = stage({ chunks: [half], origins: ["filer", "mirror"] });
  assert.equal(asks(scene.at(0, started, scene.described)), { filer: [1] });
  assert.equal(asks(scene.at(1, busy("filer", 20_000, 1))), { mirror: [1] });
  const alone = stage({ chunks: [half] });
  alone.at(0, started, alone.described);
  assert.equal(asks(alone.at(1, busy("origin", 20_000, 1))), {});
  assert.equal(asks(alone.wake()), { origin: [1] });
  assert.is(alone.nowMs(), 20_001);
});

test("turns are waited for as long as it takes, and no longer than they are to be hoped for", () => {
  const scene = stage({ chunks: halves(2) });
  let actions = scene.at(0, started, scene.described);
  for (let turn = 0; turn < 200; turn++) {
    assert.equal(asks(actions), { origin: [1, 2] });
    scene.at(scene.nowMs() + 1, busy("origin", 30_000, 1, 2));
    actions = scene.wake();
  }
  assert.ok(scene.nowMs() > 5_000_000);
  scene.at(scene.nowMs() + 1, stored("origin", 1), failed("origin", 2));
  while (rest(actions).length === 0) {
    actions = scene.wake();
    if (asks(actions).origin !== undefined) actions = scene.at(scene.nowMs() + 1, failed("origin", 2));
  }
  assert.equal(rest(actions), ["gaveUp unreachable 2 of 1"]);
});

test("who waits for a lease that its turn keeps from it does not give up either", () => {
  let isHeldBack = true;
  const scene = stage({ chunks: [half], access: "leased", isHeldBack: () => isHeldBack });
  scene.at(0, started, scene.described);
  for (let ms = 0; ms < 1_000_000; ms += 5_000) assert.equal(rest(scene.at(ms, woke)), []);
  isHeldBack = false;
  assert.equal(rest(scene.wake()), ["gaveUp unreachable 1 of 1"]);
});

test.run();

/** From one wake-up to the next until something is asked for; nothing else may happen before. */
function wakeUntilAsked(scene: Staged): TransferAction[] {
  for (let i = 0; i < 1_000; i++) {
    const actions = scene.wake();
    assert.equal(rest(actions), []);
    if (Object.keys(asks(actions)).length > 0) return actions;
  }
  throw new Error("nothing was asked for");
}
