import { test } from "uvu";
import * as assert from "uvu/assert";
import { Bitmap } from "../../protocol/bitmap.ts";
import { ItemGroups } from "../../protocol/item-groups.ts";
import { MIB } from "../../protocol/limits.ts";
import type { OriginPolicy } from "../../protocol/origin-plan.ts";
import { PayloadFetch, type PayloadFetchAction, type PayloadFetchEvent } from "../../protocol/payload-fetch.ts";
import { seededRandom } from "../../protocol/random.ts";
import type { GrantedLease, RegisterAnswer } from "../../protocol/register-messages.ts";
import { type Distance, Transfer } from "../../protocol/transfer.ts";
import { defaultTransferLimits } from "../../protocol/transfer-limits.ts";

/** One segment, and 64 chunks of 1 MiB: five groups. */
const items = 65;
const sizesBytes = new Uint32Array(items).fill(MIB);

function scene(more: { readonly policy?: OriginPolicy; readonly far?: string } = {}) {
  const { policy = "auto", far } = more;
  const random = seededRandom(1);
  const origins = policy === "never" ? [] : ["origin"];
  const plan = { items, segmentSizesBytes: [MIB], storedSegments: [], origins, access: "leased" as const };
  const fetch = new PayloadFetch(
    {
      ...{ self: "me", site: "s", key: "k", policy, holdsSlot: () => true },
      groups: new ItemGroups({ segments: 1, items, bytes: 64 * MIB }),
      distanceTo: (peer): Distance => (peer === far ? "far" : "site"),
      transfer: new Transfer(plan, defaultTransferLimits, random),
    },
    random,
  );
  const at = (nowMs: number, ...events: readonly PayloadFetchEvent[]) =>
    events.flatMap((event) => fetch.step(event, nowMs)).filter(({ kind }) => kind !== "wakeAt");
  return { fetch, at };
}

const started: PayloadFetchEvent = { kind: "started" };
const woke: PayloadFetchEvent = { kind: "woke" };
const described: PayloadFetchEvent = {
  kind: "described",
  description: { sizesBytes, copiesOf: new Map(), stored: [] },
};
const registrars = (...members: string[]): PayloadFetchEvent => ({ kind: "registrars", members });
const stored = (item: number, source = "origin"): PayloadFetchEvent => ({ kind: "stored", source, item });
const answer = (leases: readonly GrantedLease[], more: Partial<RegisterAnswer> = {}): PayloadFetchEvent => {
  return { kind: "answer", from: "r", answer: { peers: [], leases, leaseMs: 2500, retryAfterMs: 500, ...more } };
};
const asksOf = (actions: readonly PayloadFetchAction[]) =>
  actions.flatMap((action) => (action.kind === "ask" ? [{ source: action.source, items: action.items }] : []));
const kindsOf = (actions: readonly PayloadFetchAction[]) => actions.map(({ kind }) => kind);

test("whoever is alone reads the origin at once", () => {
  assert.equal(asksOf(scene().at(0, started, registrars())), [{ source: "origin", items: [0] }]);
});

test("where others are nothing is read before a registrar says so, and then what it says", () => {
  const { at } = scene();
  const first = at(0, started, registrars("r"));
  assert.equal(kindsOf(first), ["register"]);
  assert.equal(asksOf(at(1, answer([{ group: 0, from: "origin" }]))), [{ source: "origin", items: [0] }]);
  assert.equal(kindsOf(at(30, stored(0))), ["register", "segmentsComplete"]);
  assert.equal(asksOf(at(31, described)), [], "group 1 is not leased");
  const [{ source, items: asked }] = asksOf(at(60, answer([{ group: 2, from: "origin" }]))) as [
    { source: string; items: number[] },
  ];
  assert.equal([source, Math.min(...asked), asked.every((item) => item >= 17 && item < 33)], ["origin", 17, true]);
});

test("a lease that is not there any more gives no leave", () => {
  const { at } = scene();
  at(0, started, registrars("r"), answer([{ group: 0, from: "origin" }]), stored(0), described);
  const asked = at(30, woke, answer([{ group: 1, from: "origin" }]));
  assert.ok(asksOf(asked).length > 0);
  const lapsed = at(600, answer([]), woke);
  at(900, woke);
  assert.equal(asksOf(at(1_000, answer([]), { kind: "failed", source: "origin", items: [1] })), []);
  assert.equal(asksOf(lapsed), []);
});

test("peers that a registrar names are joined, and what they have is asked of them", () => {
  const { at } = scene();
  const joins = at(0, started, registrars("r"), answer([], { peers: ["p"] }));
  assert.equal(joins.at(-1), { kind: "join", peer: "p", isHolder: false });
  const have = new Bitmap(items);
  have.add(0);
  assert.equal(asksOf(at(2, { kind: "joined", source: "p", have })), [{ source: "p", items: [0] }]);
});

test("while somebody who holds all of it is being asked, a lease waits", () => {
  const { at } = scene();
  const first = at(0, started, { kind: "offered", peers: ["h"], as: "holders" }, registrars("r"));
  assert.equal(first[0], { kind: "join", peer: "h", isHolder: true });
  assert.equal(asksOf(at(1, answer([{ group: 0, from: "origin" }]))), []);
  assert.equal(asksOf(at(2, { kind: "joined", source: "h", have: "all" })), [{ source: "h", items: [0] }]);
});

test("a holder that does not answer, or has gone, does not keep a lease waiting for long", () => {
  for (const [nowMs, event] of [
    [2, { kind: "left", source: "h" }],
    [1_000, woke],
  ] as const) {
    const { at } = scene();
    at(0, started, { kind: "offered", peers: ["h"], as: "holders" }, registrars("r"));
    at(1, answer([{ group: 0, from: "origin" }]));
    assert.equal(asksOf(at(nowMs, event)), [{ source: "origin", items: [0] }]);
  }
});

test("a lease waits for peers that are likely to have something, too, and not for others", () => {
  for (const [as, asked] of [
    ["likely", 0],
    [undefined, 1],
  ] as const) {
    const { at } = scene();
    const first = at(
      0,
      started,
      { kind: "offered", peers: ["h"], ...(as === undefined ? {} : { as }) },
      registrars("r"),
    );
    assert.equal(first[0], { kind: "join", peer: "h", isHolder: false });
    assert.is(asksOf(at(1, answer([{ group: 0, from: "origin" }]))).length, asked);
  }
});

test("a peer that joins us is joined in return, and one too many is refused", () => {
  const { at } = scene();
  at(0, started, registrars("r"));
  assert.equal(kindsOf(at(1, { kind: "asked", peer: "a" })), ["accept", "join"]);
  assert.equal(kindsOf(at(2, { kind: "asked", peer: "a" })), ["accept"]);
  for (let i = 0; i < 20; i++) at(3, { kind: "asked", peer: `p${i}` });
  assert.equal(kindsOf(at(3, { kind: "asked", peer: "late" })), ["refuse"]);
});

test("a peer that wants no news, and that we have not joined, frees its place", () => {
  const { fetch, at } = scene();
  at(0, started, registrars("r"), answer([], { peers: ["p"] }), { kind: "joined", source: "p", have: "all" });
  at(1, { kind: "unjoined", peer: "p" });
  assert.is(fetch.transfer.heldBy("p"), items);
  at(2, { kind: "left", source: "p" });
  assert.is(fetch.transfer.heldBy("p"), undefined);
});

test("a peer that keeps failing is parted from, and not joined again at once", () => {
  const { at } = scene();
  at(0, started, registrars("r"), answer([], { peers: ["p"] }));
  at(1, { kind: "joined", source: "p", have: "all" });
  const parted = at(2, { kind: "failed", source: "p", items: [0] });
  assert.equal(parted[0], { kind: "part", peer: "p" });
  assert.equal(kindsOf(at(3, answer([], { peers: ["p"] }))).includes("join"), false);
});

test("far peers are asked under a lease only", () => {
  const { at } = scene({ far: "f" });
  at(0, started, registrars("r"), answer([], { peers: ["f"] }));
  assert.equal(asksOf(at(1, { kind: "joined", source: "f", have: "all" })), []);
  at(40, woke);
  const asked = at(41, answer([{ group: 0, from: "far" }]));
  assert.equal(asksOf(asked), [{ source: "f", items: [0] }]);
});

test("whoever has enough near peers links to a far one under a lease for what is there", () => {
  const { at } = scene({ far: "f" });
  const near = Array.from({ length: 12 }, (_, i) => `n${i}`);
  at(0, started, registrars("r"));
  for (const peer of near) at(1, { kind: "asked", peer });
  const joins = (actions: readonly PayloadFetchAction[]) =>
    actions.flatMap((action) => (action.kind === "join" ? [action.peer] : []));
  assert.equal(joins(at(2, answer([], { peers: ["f"] }))), [], "it has no need of it");
  assert.equal(joins(at(600, woke, answer([{ group: 0, from: "far" }]))), ["f"]);
});

test("questions for more peers come ever more seldom, however many are named meanwhile", () => {
  const { at } = scene();
  const askedMs: number[] = [];
  let wakeMs = 0;
  for (let nowMs = 0; nowMs < 1_000; nowMs++) {
    if (nowMs > 0 && nowMs < wakeMs) continue;
    const events = nowMs === 0 ? [started, registrars("r")] : [woke];
    for (const action of at(nowMs, ...events)) {
      if (action.kind !== "register") continue;
      askedMs.push(nowMs);
      at(nowMs, answer([], { peers: ["p"], retryAfterMs: 5_000 }));
    }
    wakeMs = nowMs + 1;
  }
  assert.equal(askedMs, [0, 40, 120, 280, 600]);
});

test("whoever may not read the origin asks far peers for what they have, with a registrar or without", () => {
  const first = scene({ policy: "never", far: "f" });
  const [asked] = first.at(0, started, registrars("r"));
  assert.equal(asked?.kind === "register" && [asked.question.wants, asked.question.isFarOnly], [2, true]);
  first.at(1, answer([], { peers: ["f"] }), { kind: "joined", source: "f", have: "all" });
  first.at(40, woke);
  assert.equal(asksOf(first.at(600, woke, answer([{ group: 0, from: "far" }]))), [{ source: "f", items: [0] }]);
  const alone = scene({ policy: "never", far: "f" });
  const all = alone.at(0, started, registrars(), { kind: "offered", peers: ["f"] });
  all.push(...alone.at(1, { kind: "joined", source: "f", have: "all" }), ...alone.at(1_000, woke));
  for (let nowMs = 1_250; nowMs < 4_000; nowMs += 250) all.push(...alone.at(nowMs, woke));
  assert.equal(asksOf(all), [{ source: "f", items: [0] }]);
});

test("never: whatever a registrar says, and when none answers, the origin is not asked", () => {
  const { at } = scene({ policy: "never" });
  const all = [...at(0, started, registrars("r")), ...at(1, answer([{ group: 0, from: "origin" }]))];
  for (let nowMs = 250; nowMs < 19_000; nowMs += 250) all.push(...at(nowMs, woke));
  assert.equal(asksOf(all), []);
});

test("when no registrar answers peers are looked for, and a turn by rank gives leave", () => {
  const { at } = scene();
  const all = at(0, started, registrars("r"), { kind: "unreachable", from: "r" });
  for (let nowMs = 250; nowMs <= 2_750; nowMs += 250) all.push(...at(nowMs, woke));
  assert.ok(kindsOf(all).includes("searchNeighbours"));
  assert.equal(asksOf(all), [{ source: "origin", items: [0] }]);
});

test("whoever was alone, and hears of others, asks them for leases from then on", () => {
  const { at } = scene();
  at(0, started, registrars(), stored(0));
  assert.ok(asksOf(at(1, described)).length > 0);
  assert.equal(kindsOf(at(100, registrars("r"))), ["register"]);
  at(101, answer([]));
  const more = [1, 2, 3, 4, 5, 6, 7, 8].flatMap((item) => at(110 + item, stored(item)));
  assert.equal(asksOf(more), []);
});

test("the end is told to the registrar and to complete peers, and later peers are still let in", () => {
  const { at } = scene();
  at(0, started, registrars("r"), answer([], { peers: ["p"] }), { kind: "joined", source: "p", have: "all" });
  at(1, stored(0, "p"), described);
  const all = Array.from({ length: 64 }, (_, i) => at(2, stored(1 + i, "p"))).flat();
  assert.equal(kindsOf(all).slice(-3), ["register", "complete", "part"]);
  const last = all.at(-3) as Extract<PayloadFetchAction, { kind: "register" }>;
  assert.equal([...last.question.held], [31]);
  assert.equal(kindsOf(at(3, { kind: "asked", peer: "late" })), ["accept"]);
});

test("what was here before, comes twice or comes with its copy counts once, and no lease is asked for it", () => {
  const { at } = scene();
  const heldIn = (actions: readonly PayloadFetchAction[]) =>
    actions.flatMap((action) => (action.kind === "register" ? [action.question.held[0]] : []));
  at(0, started, registrars("r"), answer([]), stored(0), stored(0));
  const copiesOf = new Map([[17, [33, 34]]]);
  const rest = Array.from({ length: 16 }, (_, i) => 1 + i);
  at(1, { kind: "described", description: { sizesBytes, copiesOf, stored: [...rest, 18] } });
  for (let item = 19; item < 33; item++) at(2, stored(item), stored(item));
  assert.equal(heldIn(at(20, woke)), [0b00011]);
  at(21, answer([]), stored(17));
  assert.equal(heldIn(at(521, woke)), [0b00111]);
});

test("copies of what is missing are waited for by no lease, and a group of nothing else is nobody's to bring", () => {
  const { at } = scene();
  at(0, started, registrars("r"), answer([{ group: 0, from: "origin" }]), stored(0));
  // Group 3 is a copy of group 2; half of group 4 one of the other half.
  const copiesOf = new Map<number, number[]>();
  for (let i = 0; i < 16; i++) copiesOf.set(17 + i, [33 + i]);
  for (let i = 0; i < 8; i++) copiesOf.set(49 + i, [57 + i]);
  const reports = (actions: readonly PayloadFetchAction[]) =>
    actions.flatMap((action) => (action.kind === "register" ? [action.question] : []));
  const [first] = reports(at(30, { kind: "described", description: { sizesBytes, copiesOf, stored: [] } }));
  assert.equal([...first!.held], [0b01001], "group 3 counts as held");
  at(31, answer([2, 3, 4].map((group) => ({ group, from: "origin" }) as const)));
  const [second] = reports([...Array.from({ length: 8 }, (_, i) => at(60, stored(49 + i))).flat(), ...at(90, woke)]);
  assert.equal([...second!.held], [0b11001], "half of group 4 brings all of it");
  assert.equal(
    second!.leases.map(({ group }) => group),
    [2],
  );
});

test("whoever learns that a lease is for copies only asks at once for another, and says that it knows the chunks", () => {
  const { at } = scene();
  const leases = [0, 3].map((group) => ({ group, from: "origin" }) as const);
  at(0, started, registrars("r"), answer(leases), stored(0));
  at(25, woke, answer([leases[1]!]));
  const copiesOf = new Map(Array.from({ length: 16 }, (_, i) => [17 + i, [33 + i]]));
  const described: PayloadFetchEvent = { kind: "described", description: { sizesBytes, copiesOf, stored: [] } };
  const questions = at(60, described).flatMap((action) => (action.kind === "register" ? [action.question] : []));
  assert.equal(
    questions.map(({ isReady, leases: kept }) => [isReady, kept]),
    [[true, []]],
  );
});

test("a copy whose first is here is missing by itself, and one that is here too is not", () => {
  const copiesOf = new Map(Array.from({ length: 16 }, (_, i) => [17 + i, [33 + i]]));
  const all = Array.from({ length: 16 }, (_, i) => 17 + i);
  const heldAfter = (copies: number[]) => {
    const other = scene();
    other.at(0, started, registrars("r"), answer([{ group: 0, from: "origin" }]), stored(0));
    const description = { sizesBytes, copiesOf, stored: [...all, ...copies] };
    const actions = other.at(30, { kind: "described", description });
    return actions.flatMap((action) => (action.kind === "register" ? [action.question.held[0]] : []));
  };
  assert.equal(heldAfter([]), [0b00101]);
  assert.equal(heldAfter(all.map((item) => item + 16)), [0b01101]);
});

test("what is all here when its chunks are known is said to be, in the last question", () => {
  const { at } = scene();
  at(0, started, registrars("r"), answer([{ group: 0, from: "origin" }]), stored(0));
  const all = Array.from({ length: items }, (_, i) => i);
  const actions = at(30, { kind: "described", description: { sizesBytes, copiesOf: new Map(), stored: all } });
  const questions = actions.flatMap((action) => (action.kind === "register" ? [action.question.held[0]] : []));
  assert.equal([questions.at(-1), actions.at(-1)!.kind], [0b11111, "complete"]);
});

test("one time to wake is enough for all, and waking early only asks for the next", () => {
  const { fetch } = scene();
  const times = [started, registrars("r")].flatMap((event) => fetch.step(event, 0));
  const wakeAtMs = times.flatMap((action) => (action.kind === "wakeAt" ? [action.atMs] : []));
  assert.is(wakeAtMs.at(-1), 250, "the registrar's silence");
  assert.equal(fetch.step(woke, 249), [{ kind: "wakeAt", atMs: 250 }]);
});

test.run();
