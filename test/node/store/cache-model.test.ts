// deadline: 300 s
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { generatePublisherKey, type PublisherKey } from "../../../node/keys.ts";
import { importTree } from "../../../node/payloads/importer.ts";
import { ItemWorkers } from "../../../node/store/item-workers.ts";
import { P2pCacheError } from "../../../protocol/errors.ts";
import type { ChunkHash, VariantHash } from "../../../protocol/hash.ts";
import type { SignedKeepList } from "../../../protocol/keep-alive.ts";
import { compareNamings } from "../../../protocol/keep-index.ts";
import { variantHash } from "../../../protocol/variant.ts";
import { signedList } from "../../support/keep-lists.ts";
import { DiskMachine, hourMs, limits, type Machine, MemoryMachine, toolset } from "../../support/model-machines.ts";
import { noise } from "../../support/noise.ts";
import {
  describe,
  engine,
  itemBytes,
  missingChunks,
  type Payload,
  releaseOf,
  removeTree,
  variantOf,
} from "../../support/payloads.ts";

const test = suite("a cache and its model");
const isLong = process.env.P2PCACHE_LONG !== undefined;
const runs = isLong ? { memory: 50_000, disk: 1_000 } : { memory: 2_000, disk: 50 };
const seed = Number(process.env.P2PCACHE_SEED ?? Date.now() % 1_000_000);

const names = ["ant", "bee", "cat", "dog", "eel"];
const variants = names.map((name) => variantOf(name));
const hashes = variants.map((variant) => variantHash(variant, engine.hash));
type Content = Omit<Payload, "hash" | "record" | "envelope"> & { readonly built: Parameters<typeof releaseOf>[0] };
let contents: Content[] = [];
let workers: ItemWorkers;
let owner: PublisherKey;

/** What must be so, as simple as it can be said. */
interface Model {
  /** What was released of each variant, oldest first. */
  readonly releases: Payload[][];
  /** The newest revision of each that the machine has seen. */
  readonly seen: number[];
  /** What it holds: which release. */
  readonly held: Map<number, Payload>;
  readonly leased: Map<number, "connection" | "process">;
  readonly pinned: Set<number>;
  readonly used: Map<number, number>;
  /** The newest version of the list that the machine has seen. */
  list: number;
}

type Step = (model: Model, machine: Machine) => Promise<void>;

test.before(async () => {
  process.umask(0);
  workers = ItemWorkers.open();
  const folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-contents-"));
  for (const [i, sizeBytes] of [2_000, 7_000, 12_000].entries()) {
    const path = join(folder, `${i}`);
    fs.mkdirSync(path);
    for (let file = 0; file < 2; file++) fs.writeFileSync(join(path, `${file}.py`), noise(i * 10 + file, sizeBytes));
    const items = new Map<ChunkHash, Uint8Array>();
    const keep = async (hash: ChunkHash, bytes: Uint8Array) => void items.set(hash, bytes);
    contents.push({ items, built: await importTree(path, { engine, onChunk: keep, onSegment: keep }) });
  }
  owner = await generatePublisherKey(join(folder, "owner.pem"));
  removeTree(folder);
});
test.after(async () => {
  contents = [];
  await workers[Symbol.asyncDispose]();
});

/** Nothing that the model does not expect has gone or come, and the promises hold. */
async function check(model: Model, machine: Machine): Promise<void> {
  const held = new Map(machine.store.holdings().map((each) => [each.variant, each.payload]));
  const expected = new Map([...model.held].map(([, { hash, record }]) => [hash, record.payload]));
  assert.equal(held, expected);
  const bytes = machine.store.holdings().reduce((sum, each) => sum + each.bytes, 0);
  assert.ok(bytes <= limits.maxBytes, `P4: ${bytes} bytes are held`);
  for (const [i, { record }] of model.held) assert.ok(record.revision <= model.seen[i]!, "nothing unseen is held");
  assert.is(machine.listVersion, model.list, "P6: the newest list counts");
}

/** P5: what went while something was done might go, and nothing lesser stayed for it. */
function checkGone(
  model: Model,
  machine: Machine,
  before: ReadonlyMap<number, Payload>,
  comes: number | undefined,
): void {
  const here = new Set(machine.store.holdings().map(({ variant }) => variant));
  const gone = [...before].filter(([i, { hash }]) => i !== comes && !here.has(hash)).map(([i]) => i);
  const keeps = machine.keeps();
  const namingOf = (i: number) => {
    const naming = keeps.best(variants[i]!);
    return naming?.isExpired === true ? undefined : naming;
  };
  const copiesOf = (i: number) => machine.copies.get(hashes[i]!) ?? 0;
  const isHeldFast = (i: number) => {
    const isRecent = machine.nowMs - (model.used.get(i) ?? 0) < limits.minIdleMs;
    return model.leased.has(i) || model.pinned.has(i) || isRecent;
  };
  /** Lists keep `pinnedBytesMax` only: what is pinned counts first, then what is at least as important. */
  const isBeyondPinned = (i: number) => {
    const counts = (other: number) => {
      const naming = namingOf(other);
      if (model.pinned.has(other)) return true;
      if (naming === undefined) return false;
      const order = compareNamings(naming, namingOf(i)!);
      return order < 0 || (order === 0 && hashes[other]! <= hashes[i]!);
    };
    const first = [...before].filter(([other]) => counts(other));
    return first.reduce((sum, [, { record }]) => sum + record.root.bytes, 0) > limits.pinnedBytesMax;
  };
  for (const i of gone) {
    assert.not(isHeldFast(i), `P5: ${names[i]} was evicted, and is leased, pinned or was used just now`);
    const naming = namingOf(i);
    if (naming === undefined) continue;
    const coming = comes === undefined ? undefined : namingOf(comes);
    if (comes !== undefined) {
      const hasNoForce = coming === undefined && copiesOf(i) > 0 && isBeyondPinned(i);
      if (hasNoForce) beyond++;
      assert.ok(
        hasNoForce || (coming !== undefined && compareNamings(coming, naming) < 0),
        `P5: listed ${names[i]} went for a lesser one`,
      );
    }
    const copied = [...before.keys()].filter((other) => namingOf(other) !== undefined && copiesOf(other) > 0);
    if (comes === undefined && copiesOf(i) === 0) {
      assert.ok(
        copied.every((other) => gone.includes(other) || isHeldFast(other)),
        `P5: the last copy of ${names[i]} went before one of which there are more`,
      );
    }
    const lesser = [...before.keys()].filter((other) => !gone.includes(other) && other !== comes && !isHeldFast(other));
    assert.not(
      lesser.some((other) => namingOf(other) === undefined),
      `P5: ${names[i]} went before an unlisted one`,
    );
  }
  for (const i of gone) model.held.delete(i);
  evictions += gone.length;
}

/** A test in which nothing ever goes would say nothing. */
let evictions = 0;
/** Of them, what a list names beyond what lists may keep. */
let beyond = 0;
/** Fetches that would have taken a tree from under a program. */
let refusals = 0;

async function codeOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => "done",
    (error: unknown) => {
      if (error instanceof P2pCacheError) return error.code;
      throw error;
    },
  );
}

/** Fetches one of the releases, the newest or an older one. */
async function fetchRelease(model: Model, machine: Machine, i: number, payload: Payload, cut: boolean): Promise<void> {
  const before = new Map(model.held);
  const code = await codeOf(machine.fetch(payload, cut));
  checkGone(model, machine, before, i);
  const { revision } = payload.record;
  if (before.has(i) && model.leased.get(i) === "process" && revision >= model.seen[i]!) {
    assert.is(code, "LEASED", "P5: a program runs from what would be replaced");
    refusals++;
    return;
  }
  if (revision < model.seen[i]!) return assert.ok(["RECORD_OUTDATED", "NO_SPACE"].includes(code), `P6: ${code}`);
  assert.ok(["done", "NO_SPACE"].includes(code), code);
  // Its old revision may have made room for it.
  if (!machine.store.holdings().some(({ variant }) => variant === payload.hash)) model.held.delete(i);
  if (code !== "done") return;
  model.seen[i] = revision;
  if (cut) return;
  assert.ok((await machine.freeBytes()) >= limits.freeBytesMin, "P4: the disk has too little left");
  model.held.set(i, payload);
  model.used.set(i, machine.nowMs);
}

const steps: Readonly<Record<string, (i: number, more: number) => Step>> = {
  publish: (i, more) => async (model) => {
    const releases = model.releases[i]!;
    const before = releases.at(-1);
    const { built, items } = contents[more % contents.length]!;
    const supersedes = before === undefined ? {} : { supersedes: before.record };
    releases.push({ ...releaseOf(built, { variant: variants[i]!, revision: releases.length, ...supersedes }), items });
  },
  fetch: (i, more) => async (model, machine) => {
    if (model.releases[i]!.length === 0) await steps.publish!(i, more)(model, machine);
    const payload = model.releases[i]!.at(-1);
    if (payload !== undefined) await fetchRelease(model, machine, i, payload, more % 8 === 7);
  },
  fetchOlder: (i, more) => async (model, machine) => {
    const payload = model.releases[i]![more % Math.max(1, model.releases[i]!.length)];
    if (payload !== undefined) await fetchRelease(model, machine, i, payload, false);
  },
  use: (i) => async (model, machine) => {
    if (!model.held.has(i)) return;
    machine.use(model.held.get(i)!.hash);
    model.used.set(i, machine.nowMs);
  },
  lease: (i, more) => async (model, machine) => {
    const payload = model.held.get(i);
    if (payload === undefined || model.leased.has(i)) return;
    await machine.lease(payload.hash, more % 4 === 0);
    model.leased.set(i, more % 4 === 0 ? "process" : "connection");
  },
  endLease: (i) => async (model, machine) => {
    if (model.leased.get(i) !== "connection") return;
    await machine.endLease(hashOf(model, i));
    model.leased.delete(i);
  },
  pin: (i) => async (model, machine) => {
    if (!model.held.has(i)) return;
    await machine.pin(model.held.get(i)!.hash);
    model.pinned.add(i);
  },
  unpin: (i) => async (model, machine) => {
    if (!model.pinned.delete(i)) return;
    await machine.unpin(hashOf(model, i));
  },
  list: (i, more) => async (model, machine) => {
    await machine.takeList(listOf(machine, ++model.list, i, 1 + (more % 3)));
  },
  listOlder: (i, more) => async (model, machine) => {
    const version = model.list - (more % 3);
    if (version < 1) return;
    const code = await codeOf(machine.takeList(listOf(machine, version, i, 4)));
    assert.is(code, version < model.list ? "LIST_OUTDATED" : "LIST_CONFLICT", "P6");
  },
  copies: (i, more) => async (_, machine) => {
    machine.copies.set(hashes[i]!, more % 3);
  },
  passTime: (_, more) => async (__, machine) => {
    machine.nowMs += (more % 40) * hourMs;
  },
  fillDisk: (i, more) => async (_, machine) => {
    machine.filledBytes = i % 2 === 0 ? 0 : 800_000 + (more % 20) * 10_000;
  },
  tidy: () => async (model, machine) => {
    const before = new Map(model.held);
    await machine.evictor.collect({ toLow: true });
    checkGone(model, machine, before, undefined);
  },
  explain: (i) => async (model, machine) => {
    const payload = model.held.get(i);
    if (payload === undefined) return;
    await machine.evictor.explain(payload.hash);
    // Lists that have changed are looked up by itself.
    await machine.evictor.settled();
    const fresh = await machine.newEvictor().explain(payload.hash);
    assert.equal(await machine.evictor.explain(payload.hash), fresh, "what was remembered changes no explanation");
  },
  remove: (i) => async (model, machine) => {
    const payload = model.held.get(i);
    if (payload === undefined) return;
    await machine.store.remove(payload.hash);
    model.held.delete(i);
  },
  repair: (i) => async (model, machine) => {
    const payload = model.held.get(i);
    if (payload === undefined) return;
    await machine.damage(payload.hash);
    assert.is(machine.store.isDamaged(payload.hash), true);
    assert.not(machine.store.announced().some(([variant]) => variant === payload.hash));
    const tree = (await machine.store.repairs.open(payload.hash, payload.record))!;
    const code = await codeOf(mend(machine, tree, payload));
    // On a full disk it stays damaged, until somebody takes it away.
    if (code === "NO_SPACE") await steps.remove!(i, 0)(model, machine);
    else assert.equal([code, machine.store.isDamaged(payload.hash)], ["done", false]);
  },
  restart: () => async (model, machine) => {
    await machine.restart();
    for (const [i, how] of model.leased) if (how === "connection") model.leased.delete(i);
  },
  crash: () => async (model, machine) => {
    await machine.crash();
    for (const [i, how] of model.leased) if (how === "connection") model.leased.delete(i);
  },
};

async function mend(
  machine: Machine,
  tree: Awaited<ReturnType<Machine["store"]["stage"]>>,
  payload: Payload,
): Promise<void> {
  try {
    const missing = missingChunks(tree, await describe(tree, payload));
    for (const item of missing) await tree.put(item, itemBytes(payload, tree.hashOf(item)));
    await machine.store.repairs.mend(payload.hash, tree);
  } finally {
    await machine.store.repairs.leave(tree);
  }
}

function hashOf(model: Model, i: number): VariantHash {
  return model.releases[i]![0]!.hash;
}

/** A list that keeps `count` variants for two days, from the one with that number on. */
function listOf(machine: Machine, version: number, i: number, count: number): SignedKeepList {
  const keep = Array.from({ length: count }, (_, k) => `studio:${names[(i + k) % names.length]}-1.0.0`);
  const expires = `${new Date(machine.nowMs + 48 * hourMs).toISOString().slice(0, 19)}Z`;
  return signedList(toolset, version, keep, { expires });
}

/** Fetches and what fills the cache come more often than the rest. */
const words = [
  ...Array<string>(9).fill("fetch"),
  ...Array<string>(4).fill("passTime"),
  ...["publish", "list", "list", "copies"],
  ...Object.keys(steps),
];

async function holds(open: () => Promise<Machine>, numRuns: number): Promise<void> {
  const step = fc.noBias(fc.tuple(fc.constantFrom(...words), fc.nat(names.length - 1), fc.nat(100)));
  const property = fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60, size: "max" }), async (script) => {
    await using machine = await open();
    const model: Model = {
      releases: names.map(() => []),
      seen: names.map(() => 0),
      ...{ held: new Map(), leased: new Map(), pinned: new Set(), used: new Map(), list: 0 },
    };
    for (const [word, i, more] of script) {
      await steps[word]!(i, more)(model, machine);
      await check(model, machine);
    }
  });
  evictions = 0;
  beyond = 0;
  refusals = 0;
  await fc.assert(property, { numRuns, seed });
  assert.ok(evictions >= numRuns / 4, `${evictions} evictions in ${numRuns} runs`);
  assert.ok(numRuns < 1_000 || (beyond > 0 && refusals > 0), `${beyond} beyond what lists keep, ${refusals} refusals`);
}

test(`P4, P5 and P6 hold whatever is done, without a disk (seed ${seed})`, async () => {
  await holds(() => MemoryMachine.open(), runs.memory);
});

test(`P4, P5 and P6 hold whatever is done, with a real store (seed ${seed})`, async () => {
  await holds(() => DiskMachine.open(workers, owner), runs.disk);
});

test.run();
