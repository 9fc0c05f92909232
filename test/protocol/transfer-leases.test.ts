import { test } from "uvu";
import * as assert from "uvu/assert";
import { Bitmap } from "../../protocol/bitmap.ts";
import { MIB } from "../../protocol/limits.ts";
import type { Distance, TransferEvent } from "../../protocol/transfer.ts";
import {
  asks,
  halves,
  has,
  joined,
  joining,
  left,
  missing,
  rest,
  stage,
  started,
  stored,
  woke,
} from "../support/transfers.ts";

const leased = (first: number, end: number, isFarOnly = false): TransferEvent => ({
  kind: "leased",
  first,
  end,
  isFarOnly,
});
const lapsed = (first: number, end: number): TransferEvent => ({ kind: "lapsed", first, end });
function at(source: string, distance: Distance, have: readonly number[] | "all" = "all"): TransferEvent {
  if (have === "all") return { kind: "joined", source, have, distance };
  const bitmap = new Bitmap(64);
  for (const item of have) bitmap.add(item);
  return { kind: "joined", source, have: bitmap, distance };
}

test("under leases the origin is asked for what is leased, and for nothing else, joins or not", () => {
  const scene = stage({ chunks: [10, 10, 10, 10], access: "leased" });
  assert.equal(asks(scene.at(0, joining("a"), started, scene.described)), {});
  assert.equal(asks(scene.at(1, leased(2, 4))), { origin: [2, 3] });
  assert.equal(asks(scene.at(2, lapsed(2, 4), leased(1, 2))), { origin: [1] });
});

test("what a near peer has is not read from the origin, lease or not", () => {
  const scene = stage({ chunks: [10, 10, 10], access: "leased" });
  scene.at(0, joined("a", [2]), started, scene.described);
  assert.equal(asks(scene.at(1, leased(1, 4))), { origin: [1, 3] });
});

test("an item of a lease that peers only claim is read from the origin", () => {
  const scene = stage({ chunks: [10], access: "leased" });
  scene.at(0, joined("a"), joined("b"), started, scene.described, leased(1, 2));
  scene.at(1, missing("a", 1));
  const actions = scene.at(2, missing("b", 1));
  assert.equal(asks(actions), { origin: [1] });
});

test("once everything is open the origin gives what no peer has", () => {
  const scene = stage({ chunks: [10, 10], access: "leased" });
  scene.at(0, joined("a", [1]), started, scene.described);
  assert.equal(asks(scene.at(1, { kind: "opened" })), { origin: [2] });
});

test("a far peer is asked under a lease only, and before the origin", () => {
  const scene = stage({ chunks: [10, 10], access: "leased" });
  assert.equal(asks(scene.at(0, at("far", "far"), started, scene.described)), {});
  assert.equal(asks(scene.at(1, leased(1, 3))), { far: [1, 2] });
});

test("a lease on far peers does not open the origin", () => {
  const scene = stage({ chunks: [10, 10], access: "leased" });
  scene.at(0, at("far", "far", [1]), started, scene.described);
  assert.equal(asks(scene.at(1, leased(1, 3, true))), { far: [1] });
  assert.equal(asks(scene.at(2, left("far"))), {});
});

test("a far peer counts for nothing while a near one has the item", () => {
  const scene = stage({ chunks: [10], access: "leased" });
  scene.at(0, at("far", "far"), at("near", "site"), started);
  assert.equal(asks(scene.at(0, scene.described)), { near: [1] });
  assert.equal(asks(scene.at(1, leased(1, 2))), {});
});

test("a peer of the same rack is preferred a little, not exclusively", () => {
  const asked = { rack: 0, site: 0 };
  for (let seed = 0; seed < 100; seed++) {
    const scene = stage({ chunks: halves(3), seed, origins: [] });
    scene.at(0, at("rack", "rack"), at("site", "site"), started);
    const first = asks(scene.at(0, scene.described));
    asked.rack += first.rack?.length ?? 0;
    asked.site += first.site?.length ?? 0;
  }
  assert.ok(asked.rack > asked.site && asked.site >= 100, JSON.stringify(asked));
});

test("what is lacking is what is wanted and no near peer can be relied on for", () => {
  const scene = stage({ chunks: [10, 10, 10], access: "leased" });
  scene.at(0, joined("a", [1]), at("far", "far"), started, scene.described);
  assert.equal(
    [scene.transfer.lacks(1, 2), scene.transfer.lacks(2, 3), scene.transfer.lacks(0, 4)],
    [false, true, true],
  );
  scene.at(1, has("a", 2, 3));
  assert.is(scene.transfer.lacks(0, 4), false);
});

test("at the end a second peer is asked for what is slow, and the slower one is told to stop", () => {
  const scene = stage({ chunks: [10], origins: [] });
  scene.at(0, joined("a"), joined("b"), started, scene.described);
  const [other] = Object.entries(asks(scene.wake()));
  assert.equal([scene.nowMs(), other![1]], [250, [1]]);
  assert.equal(rest(scene.at(260, stored(other![0], 1))), [`cancel ${other![0] === "a" ? "b" : "a"} 1`, "complete"]);
});

test("while there is something else to ask for nobody is asked twice", () => {
  const scene = stage({ chunks: halves(40), origins: [] });
  scene.at(0, joined("a"), joined("b"), started);
  const asked = Object.values(asks(scene.at(0, scene.described))).flat();
  for (let ms = 10; ms < 1_900; ms += 10) asked.push(...Object.values(asks(scene.at(ms, woke))).flat());
  assert.is(new Set(asked).size, asked.length);
});

test("a payload of a few MiB is asked for in one request, of one peer that has it all", () => {
  const scene = stage({ chunks: halves(6), origins: [], bytes: 3 * MIB });
  scene.at(0, joined("a"), joined("b"), joined("c"), started);
  const asked = Object.values(asks(scene.at(0, scene.described)));
  assert.equal(asked, [[1, 2, 3, 4, 5, 6]]);
});

test("peers beyond what a transfer deals with are let go, and may come back later", () => {
  const scene = stage({ chunks: [10] });
  scene.at(0, started);
  const actions = Array.from({ length: 40 }, (_, i) => scene.at(0, joined(`p${i}`))).flat();
  assert.is(actions.filter(({ kind }) => kind === "drop").length, 10);
});

test.run();
