import { test } from "uvu";
import * as assert from "uvu/assert";
import { Evictor, type EvictorParts } from "../../node/evictor.ts";
import { BusyError } from "../../protocol/errors.ts";
import { parsePayloadId, parseVariantHash, type VariantHash } from "../../protocol/hash.ts";
import { KeepIndex } from "../../protocol/keep-index.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import { variantText } from "../../protocol/variant.ts";
import { signedList } from "../support/keep-lists.ts";
import { failureOf } from "../support/swarm-member.ts";

const nowMs = Date.parse("2026-11-21T08:00:00Z");
const dayMs = 86_400_000;

interface World {
  readonly evictor: Evictor;
  readonly removed: string[];
  readonly used: Map<string, number>;
  readonly leased: Map<VariantHash, string>;
  readonly copies: Map<string, number>;
  /** What runs from which path. */
  readonly programs: Map<string, string>;
  readonly logged: string[];
  index: KeepIndex;
  /** Other packages are named from now on, the most important first. */
  readonly follow: (packages: readonly string[]) => void;
  pinnedBytesMax: number;
  /** How often all last uses were asked for, as a plan does. */
  plans: number;
  /** Called before one is removed. */
  onRemove: (name: string, signal?: AbortSignal) => unknown;
}

/** Variants of 100 bytes each, the first one unused for the longest; `maxBytes` is the cache's limit. */
function world(names: readonly string[], maxBytes: number, keep: readonly string[] = []): World {
  const entries = new Map(
    names.map((name, i) => {
      const variant = { kind: "rez", repository: "studio", name } as const;
      const hash = parseVariantHash(`${i}`.padStart(64, "a"));
      const payload = parsePayloadId(`${i}`.padStart(64, "b"));
      return [hash, { variant, hash, payload, revision: 0, directory: `/${name}`, suffix: "a", bytes: 100, files: 1 }];
    }),
  );
  let all = [...entries.values()];
  const used = new Map(names.map((name, i) => [name, nowMs - (50 - i) * dayMs]));
  const [removed, logged]: [string[], string[]] = [[], []];
  const [leased, copies] = [new Map<VariantHash, string>(), new Map<string, number>()];
  const indexOf = (packages: readonly string[]) =>
    new KeepIndex(packages.length === 0 ? [] : [signedList("fx", 1, packages)], place, nowMs);
  const nameOf = (hash: VariantHash) => entries.get(hash)!.variant.name;
  const scene: Omit<World, "evictor"> & { evictor?: Evictor } = {
    removed,
    logged,
    used,
    leased,
    copies,
    programs: new Map<string, string>(),
    index: indexOf(keep),
    follow: (packages: readonly string[]) => {
      scene.index = indexOf(packages);
    },
    plans: 0,
    pinnedBytesMax: 1e9,
    onRemove: () => undefined,
  };
  const parts = {
    store: {
      retention: {
        entries: () => all,
        entry: (hash: VariantHash) => entries.get(hash),
        lastUsedMs: (hash: VariantHash) => used.get(nameOf(hash)),
        lastUses: async () => {
          scene.plans++;
          return new Map([...entries.keys()].map((hash) => [hash, used.get(nameOf(hash))]));
        },
        isPinned: () => false,
      },
      space: {
        use: async () => {
          const usedBytes = entries.size * 100;
          return { usedBytes, freeBytes: 1e9, freeInodes: undefined, blockBytes: 1, comingVariants: 0 };
        },
      },
      remove: async (hash: VariantHash, { signal }: { readonly signal?: AbortSignal }) => {
        await scene.onRemove(nameOf(hash), signal);
        removed.push(nameOf(hash));
        entries.delete(hash);
        all = [...entries.values()];
      },
    },
    leases: { prune: async () => undefined, holders: () => leased },
    keeps: () => scene.index,
    directory: () => ({ copies: (hash: VariantHash) => copies.get(nameOf(hash)) ?? 0 }),
    programs: { look: async () => undefined, areSeen: true, from: (path: string) => scene.programs.get(path) },
    isFetched: () => false,
    limits: () => ({
      ...{ maxBytes, maxVariants: undefined, maxAgeMs: undefined, freeBytesMin: 0 },
      ...{ pinnedBytesMax: scene.pinnedBytesMax, minIdleMs: dayMs },
    }),
    clock: { monotonicMs: () => 0, wallMs: () => nowMs },
    log: (_level: string, event: string) => logged.push(event),
    announce: () => undefined,
  };
  scene.evictor = new Evictor(parts as unknown as EvictorParts);
  return scene as World;
}

const place = { site: "", rack: "", host: "" };
const need = { bytes: 100, totalBytes: 100, inodes: 1, variants: 1 };
const record = { variant: { kind: "rez", repository: "studio", name: "new" } } as unknown as ReleaseRecord;

test("what is used or leased while others are being removed stays after all (P5)", async () => {
  const scene = world(["a", "b", "c", "d"], 100);
  scene.onRemove = (name) => {
    if (name !== "a") return;
    scene.used.set("b", nowMs);
    scene.leased.set(parseVariantHash("2".padStart(64, "a")), "pid 1 (nuke)");
  };
  const { lines } = await scene.evictor.collect({ toLow: false });
  assert.equal(scene.removed, ["a", "d"]);
  assert.equal(
    lines.map(({ handle, reason }) => [handle, reason.split(",")[0]]),
    [
      ["studio:a", "goes: last used 50 days ago"],
      ["studio:b", "kept: used just now"],
      ["studio:c", "kept: leased by pid 1 (nuke)"],
      ["studio:d", "goes: last used 47 days ago"],
    ],
  );
});

test("what a program runs from goes neither by a plan nor when it was begun meanwhile, and makes no room", async () => {
  const scene = world(["a", "b", "c"], 100);
  scene.programs.set("/a/a", "maya.bin (4711)");
  scene.onRemove = () => scene.programs.set("/c/a", "nuke (4712)");
  const { lines } = await scene.evictor.collect({ toLow: false });
  assert.equal(scene.removed, ["b"]);
  assert.equal(lines.map(({ reason }) => reason.split(",")[0]!).sort(), [
    "goes: last used 49 days ago",
    "kept: maya.bin (4711) runs from it",
    "kept: nuke (4712) runs from it",
  ]);
  const a = parseVariantHash("0".padStart(64, "a"));
  assert.is((await scene.evictor.explain(a))!.reason, "kept: maya.bin (4711) runs from it");
  assert.is((await failureOf(scene.evictor.makeRoom(record, need))).code, "NO_SPACE");
});

test("lists that have changed count in what is explained of one at once, and of what comes before it soon, by itself", async () => {
  const scene = world(["a", "b", "c"], 1_000, ["studio:a", "studio:b", "studio:c"]);
  scene.pinnedBytesMax = 200;
  const c = parseVariantHash("2".padStart(64, "a"));
  assert.match((await scene.evictor.explain(c))!.reason, /rank 3, signed by pipeline, but beyond pinned_bytes_max/);
  scene.follow(["studio:x", "studio:c"]);
  assert.match((await scene.evictor.explain(c))!.reason, /rank 2/);
  await scene.evictor.settled();
  assert.is((await scene.evictor.explain(c))!.reason, "kept: toolset fx, version 1, rank 2, signed by pipeline");
  scene.follow(["studio:a"]);
  assert.match((await scene.evictor.explain(c))!.reason, /^kept: no room is needed/);
});

test("what a list names and has become the last copy meanwhile stays for this time", async () => {
  const scene = world(["a", "b"], 50, ["studio:b", "studio:a"]);
  for (const name of ["a", "b"]) scene.copies.set(name, 1);
  // While the first one goes, the other machine lets go of the second.
  scene.onRemove = () => scene.copies.set("b", 0);
  const { lines } = await scene.evictor.collect({ toLow: false });
  assert.equal(scene.removed, ["a"]);
  assert.equal(
    lines.map(({ handle, outcome }) => [handle, outcome]),
    [
      ["studio:a", "removed"],
      ["studio:b", "kept"],
    ],
  );
});

test("one that cannot be removed keeps no other from going, and says why", async () => {
  const scene = world(["a", "b"], 50);
  scene.onRemove = (name) => {
    if (name === "a") throw new BusyError("Rez's lock is held", { code: "REZ_LOCK_HELD" });
  };
  const { lines, freedBytes } = await scene.evictor.collect({ toLow: false });
  assert.equal(
    lines.map(({ outcome, reason }) => [outcome, reason]),
    [
      ["failed", "kept: Rez's lock is held"],
      ["removed", "goes: last used 49 days ago, 0 replicas"],
    ],
  );
  assert.is(freedBytes, 100);
});

test("an evictor that is stopped removes no more of what it has planned, and says nothing of it", async () => {
  const scene = world(["a", "b", "c", "d"], 100);
  scene.onRemove = (name) => name === "b" && scene.evictor.stop(new Error("the node stops"));
  await scene.evictor.collectIfHigh();
  await scene.evictor.tidy();
  assert.equal(scene.removed, ["a", "b"]);
  assert.equal(scene.logged, ["variant-evicted", "variant-evicted"]);
});

test("an evictor that is stopped waits no longer for Rez's lock, for a fetch neither, and nobody gets room after that", async () => {
  for (const way of ["watermark", "fetch"]) {
    const scene = world(["a", "b", "c", "d"], 400);
    scene.onRemove = async (_name, signal) => {
      const gone = Promise.withResolvers<never>();
      signal?.addEventListener("abort", () => gone.reject(signal.reason));
      scene.evictor.stop(new Error("the node stops"));
      await gone.promise;
    };
    if (way === "watermark") await scene.evictor.collectIfHigh();
    else assert.is((await failed(scene.evictor.makeRoom(record, need))).message, "the node stops");
    assert.is((await failed(scene.evictor.makeRoom(record, need))).message, "the node stops");
    await scene.evictor.settled();
    assert.equal([scene.removed, scene.logged], [[], []], way);
  }
});

test("room is made for a fetch, and for two at once no more than both need", async () => {
  const scene = world(["a", "b", "c", "d"], 400);
  assert.ok(await scene.evictor.makeRoom(record, need));
  assert.equal(scene.removed, ["a"]);
  assert.not(await scene.evictor.makeRoom(record, need), "there is room");
  const both = await Promise.all([
    scene.evictor.makeRoom(record, { ...need, totalBytes: 200, bytes: 200 }),
    scene.evictor.makeRoom(record, { ...need, totalBytes: 200, bytes: 200 }),
  ]);
  assert.equal(
    [both, scene.removed],
    [
      [true, false],
      ["a", "b"],
    ],
  );
});

test("where there is too little that may go nothing goes, and the error names what is missing", async () => {
  const scene = world(["a", "b"], 200);
  scene.used.set("b", nowMs);
  const error = await failureOf(scene.evictor.makeRoom(record, { ...need, totalBytes: 150 }));
  assert.equal([error.code, scene.removed], ["NO_SPACE", []]);
  assert.match(
    error.message,
    new RegExp(`^there is no room for ${variantText(record.variant)}: 50 bytes below max_bytes`),
  );
});

test("a dry run removes nothing, and explains like the run itself", async () => {
  const scene = world(["a", "b"], 100);
  const { lines } = await scene.evictor.dryRun();
  assert.equal(
    lines.map(({ outcome }) => outcome),
    ["goes", "goes"],
  );
  assert.equal(scene.removed, []);
});

const many = Array.from({ length: 5_001 }, (_, i) => `n${i}`);
const hashOf = (i: number) => parseVariantHash(`${i}`.padStart(64, "a"));

test("past the high watermark one of many is explained by the last plan, and the next one is made behind it", async () => {
  const scene = world(many, 500_000);
  for (const name of many) scene.used.set(name, nowMs - 50 * dayMs);
  const reason = async (i: number) => (await scene.evictor.explain(hashOf(i)))!.reason.split(",")[0];
  assert.is(await reason(1_003), "goes: last used 50 days ago");
  assert.is(scene.plans, 1);
  // What has become of the one that is asked for is as it is now.
  scene.used.set("n1003", nowMs);
  scene.leased.set(hashOf(1_004), "pid 1 (nuke)");
  scene.evictor.forgetPlan();
  assert.equal([await reason(1_003), await reason(1_004)], ["kept: used just now", "kept: leased by pid 1 (nuke)"]);
  assert.equal([await reason(1_005), scene.plans], ["goes: last used 50 days ago", 1]);
  await scene.evictor.settled();
  assert.is(scene.plans, 2);
  assert.equal([await reason(1_005), scene.plans], ["goes: last used 50 days ago", 2]);
});

test("where a node has cleaned, what it has planned explains what is left", async () => {
  const scene = world(many, 500_000);
  // Nothing may go.
  for (const name of many) scene.used.set(name, nowMs);
  await scene.evictor.collectIfHigh();
  scene.used.set("n3", nowMs - 2 * dayMs);
  assert.is((await scene.evictor.explain(hashOf(3)))!.outcome, "kept");
  assert.is(scene.plans, 1);
  await scene.evictor.settled();
  assert.is((await scene.evictor.explain(hashOf(3)))!.outcome, "goes");
  assert.is(scene.plans, 2);
});

test("of few each is explained as it is now", async () => {
  const scene = world(["a", "b"], 100);
  assert.is((await scene.evictor.explain(hashOf(1)))!.outcome, "goes");
  scene.used.set("a", nowMs - 40 * dayMs);
  scene.used.set("b", nowMs - 30 * dayMs);
  scene.leased.set(hashOf(0), "pid 1 (nuke)");
  assert.is((await scene.evictor.explain(hashOf(1)))!.outcome, "goes");
  assert.is(scene.plans, 2);
});

async function failed(work: Promise<unknown>): Promise<Error> {
  return await work.then(
    () => new Error("it did not fail"),
    (error: Error) => error,
  );
}

test.run();
