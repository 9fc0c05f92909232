import { test } from "uvu";
import * as assert from "uvu/assert";
import { Memberships } from "../../node/memberships.ts";
import type { Join, JoinListener, StagedTree, Swarm } from "../../node/ports.ts";
import type { PayloadFetchEvent } from "../../protocol/payload-fetch.ts";
import { Standing } from "../../protocol/standing.ts";
import { eventually, payloadNamed } from "../support/swarm-member.ts";

/** One peer that has joined, and what it owes at the end of the transfer for so many milliseconds more. */
async function ended(owesMs: number | undefined, gaveBytes = 0) {
  const standing = new Standing();
  if (gaveBytes > 0) standing.served("a", gaveBytes, 0);
  let listener: JoinListener | undefined;
  let hasLeft = false;
  const join = { have: "all", request: () => undefined, cancel: () => undefined, leave: () => (hasLeft = true) };
  const swarm = {
    join: (_peer: string, _payload: string, _items: number, heard: JoinListener) => {
      listener = heard;
      return Promise.resolve(join as unknown as Join);
    },
  } as unknown as Swarm;
  const posted: PayloadFetchEvent[] = [];
  const members = new Memberships({
    ...{ swarm, standing, isSmall: false, traffic: () => undefined, onPiece: () => undefined },
    target: { payload: payloadNamed("aa"), index: { items: 3 } } as unknown as StagedTree,
    clock: { monotonicMs: () => 0, wallMs: () => 0 },
    post: (event) => posted.push(event),
  });
  members.join("a", false);
  await eventually("that it has joined", () => posted.length > 0);
  members.close(owesMs === undefined ? new Map() : new Map([["a", owesMs]]));
  const strikes = () => standing.summary("a").strikes;
  return { listener: listener!, strikes, hasLeft: () => hasLeft, posted };
}

test("a stranger that owes something at the end is struck when its time has passed, and left", async () => {
  const { strikes, hasLeft, posted } = await ended(20);
  assert.equal([strikes(), hasLeft()], [0, false]);
  await eventually("that it is struck", () => strikes() === 1);
  assert.equal([hasLeft(), posted.length], [true, 1]);
});

test("one that has said anything by then but that it has nothing is left without a strike", async () => {
  const says: readonly ((listener: JoinListener) => void)[] = [
    (listener) => listener.piece(1, new Uint8Array(1)),
    (listener) => listener.busy([1], 100),
    (listener) => listener.ended(),
    (listener) => listener.gone([]),
  ];
  for (const say of says) {
    const { listener, strikes, hasLeft } = await ended(60_000);
    say(listener);
    assert.equal([strikes(), hasLeft()], [0, true]);
  }
});

test("one that says then that it does not have what it claimed is struck at once, and once only", async () => {
  const { listener, strikes, hasLeft } = await ended(60_000);
  listener.gone([1]);
  listener.gone([2]);
  assert.equal([strikes(), hasLeft()], [1, true]);
});

test("who gave us something before, or owes nothing, is left at the end", async () => {
  for (const one of [await ended(60_000, 10), await ended(undefined)]) {
    assert.equal([one.strikes(), one.hasLeft()], [0, true]);
    one.listener.gone([1]);
    assert.is(one.strikes(), 0);
  }
});

test.run();
