// runs unprivileged
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { collectOrigin, type OriginGc, type OriginGcRequest } from "../../node/origin-gc.ts";
import { FolderRepository } from "../../node/origins/folder-origin.ts";
import { publish, unpublish } from "../../node/publish.ts";
import type { Settings } from "../../node/settings/schema.ts";
import { parseChunkHash } from "../../protocol/hash.ts";
import { seededRandom } from "../../protocol/random.ts";
import { Studio } from "../support/studio.ts";
import { failureOf } from "../support/swarm-member.ts";
import { makeTree } from "../support/trees.ts";

const test = suite("origin gc");
const day = 24 * 60 * 60 * 1000;
const variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0" } as const;

interface Scene {
  readonly origin: string;
  readonly settings: Settings;
  /** Publishes a tree of its own for each seed. */
  readonly release: (seed: number, name?: string) => Promise<void>;
  readonly collect: (more?: Partial<OriginGcRequest>) => Promise<OriginGc>;
  /** Chunks and segments that lie there. */
  readonly objects: () => string[];
}

/** Of a chunk or segment, in whichever form it lies there. */
function contentOf(path: string): Buffer {
  const bytes = readFileSync(path);
  return path.endsWith(".zst") ? zstdDecompressSync(bytes) : bytes;
}

function rule(text: string, check: (scene: Scene) => Promise<void>): void {
  test(text, async () => {
    await using studio = await Studio.open();
    const settings = studio.settings(studio.configure("publisher"));
    const origin = join(studio.path, "origin");
    await check({
      origin,
      settings,
      release: async (seed, name = "foo") => {
        const treePath = join(studio.path, `tree-${seed}`);
        if (!existsSync(treePath)) {
          mkdirSync(treePath, { mode: 0o755 });
          makeTree(treePath, seededRandom(seed), { smallFiles: 20, largeMib: 2 });
        }
        await publish(settings, { variant: { ...variant, name }, treePath, requires: [], supersede: true });
      },
      collect: (more) => collectOrigin(settings, { minAgeMs: 7 * day, ...more }),
      objects: () => filesIn(join(origin, "chunks")),
    });
  });
}

function filesIn(path: string): string[] {
  const entries = readdirSync(path, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
}

/** Everything in a folder was last touched so long ago. */
function age(path: string, days = 30): void {
  const then = Date.now() / 1000 - days * 86_400;
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) age(join(path, entry.name), days);
    else utimesSync(join(path, entry.name), then, then);
  }
  utimesSync(path, then, then);
}

rule("what the newest releases name stays, what was replaced long ago goes, and records stay", async (scene) => {
  const { origin, release, collect, objects } = scene;
  await release(1);
  const first = objects().length;
  await release(2);
  await release(3, "bar");
  const all = objects().length;
  const records = filesIn(join(origin, "variants"));
  age(origin);
  const looked = await collect({ dryRun: true });
  const { count } = looked.objects;
  // What both have stays.
  assert.ok(count > 5 && count <= first, `${count} of ${first}`);
  assert.is(objects().length, all);
  const done = await collect();
  assert.equal([done.origin, done.variants, done.releases], ["filer", 2, 2]);
  assert.equal([done.objects, done.kept.count, done.young.count], [looked.objects, all - count, 0]);
  assert.equal([objects().length, filesIn(join(origin, "variants"))], [all - count, records]);
  assert.is((await collect()).objects.count, 0);
});

rule(
  "what was replaced, withdrawn or written lately stays",
  async ({ origin, settings, release, collect, objects }) => {
    await release(1);
    await release(3, "bar");
    age(origin);
    await release(2);
    await unpublish(settings, { variant: { ...variant, name: "bar" }, reason: "" });
    const all = objects().length;
    assert.equal([(await collect()).objects.count, objects().length], [0, all]);
    age(join(origin, "variants"));
    const done = await collect();
    assert.ok(done.objects.count > 0 && done.young.count === 0);
    assert.is(objects().length, done.kept.count);
    assert.is(done.releases, 1);
  },
);

rule("leftovers of publishers that were cut off go once they are old, and so do empty directories", async (scene) => {
  const { origin, release, collect } = scene;
  await release(1);
  const leftover = `.${"ab".repeat(12)}.tmp`;
  const places = ["chunks/00", "variants/00", "index"].map((place) => join(origin, place));
  for (const place of places) mkdirSync(place, { recursive: true });
  for (const place of ["", "chunks/00", "index"]) writeFileSync(join(origin, place, leftover), "half");
  writeFileSync(join(origin, "chunks/00", "notes.txt"), "somebody's");
  assert.equal((await collect()).leftovers, { count: 0, bytes: 0 });
  age(origin);
  const done = await collect();
  assert.equal(done.leftovers, { count: 3, bytes: 12 });
  assert.equal(readdirSync(join(origin, "chunks/00")), ["notes.txt"]);
  assert.equal([done.directories, readdirSync(join(origin, "variants")).includes("00")], [1, false]);
});

rule("nothing goes when a record or a manifest cannot be read", async ({ origin, release, collect, objects }) => {
  await release(1);
  await release(2);
  age(origin);
  const all = objects().length;
  const [record] = filesIn(join(origin, "variants")).filter((path) => path.endsWith("/0.dsse.json"));
  const refused = async (): Promise<void> => {
    const error = await failureOf(collect());
    assert.equal([error.code, error.exit, objects().length], ["ORIGIN_UNREADABLE", 4, all]);
  };
  chmodSync(record!, 0o644);
  writeFileSync(record!, "{}");
  await refused();
  rmSync(record!);
  assert.is((await failureOf(collect())).exit, 4);
  assert.is(objects().length, all);
});

rule("nothing goes when a segment is missing, or all records are", async ({ origin, release, collect, objects }) => {
  await release(1);
  age(origin);
  const segment = objects().find((path) => contentOf(path).subarray(0, 2).equals(Buffer.of(0x82, 1)));
  rmSync(segment!);
  const all = objects().length;
  assert.equal([(await failureOf(collect())).code, objects().length], ["ORIGIN_UNREADABLE", all]);
  rmSync(join(origin, "variants"), { recursive: true });
  assert.equal([(await failureOf(collect())).code, objects().length], ["ORIGIN_UNREADABLE", all]);
  rmSync(join(origin, "p2pcache.json"));
  assert.is((await failureOf(collect())).code, "UNREACHABLE");
});

rule(
  "what was signed by nobody whom we trust replaces nothing",
  async ({ origin, settings, release, collect, objects }) => {
    await release(1);
    await release(2);
    age(origin);
    const all = objects().length;
    const request = { minAgeMs: 7 * day };
    const stranger = { ...settings, trust: { ...settings.trust, publishers: [] } };
    assert.is((await collectOrigin(stranger, request)).releases, 2);
    assert.is(objects().length, all);
    assert.is((await collect()).releases, 1);
  },
);

rule("a publisher that uses an object while it is removed keeps it, or writes it again", async (scene) => {
  const { origin, settings, release, collect, objects } = scene;
  await release(1);
  await release(2);
  age(origin);
  const filer = { name: "filer", path: origin, network: settings.network.name!, publishes: true };
  const publisher = await FolderRepository.open(filer);
  const used: string[] = [];
  await collect({
    onRemove: async (path) => {
      if (used.length === 3) return;
      used.push(path);
      assert.ok(await publisher.reuse(parseChunkHash(basename(path, ".zst")), contentOf(path).length));
    },
  });
  assert.is(used.length, 3);
  for (const path of used) assert.ok(objects().includes(path));
  await release(1);
  age(origin);
  const before = objects().length;
  const done = await collect();
  assert.is(done.kept.count, before - done.objects.count);
});

rule("what is reused becomes young again, and so stays until its record is there", async (scene) => {
  const { origin, settings, release, collect, objects } = scene;
  await release(1);
  await unpublish(settings, { variant, reason: "" });
  age(origin);
  await release(1);
  age(join(origin, "variants"));
  const all = objects().length;
  assert.ok(objects().every((path) => statSync(path).mtimeMs > Date.now() - day));
  assert.equal([(await collect()).objects.count, objects().length], [0, all]);
});

rule("an age floor of minutes is refused", async ({ collect }) => {
  assert.equal((await failureOf(collect({ minAgeMs: 60_000 }))).code, "USAGE");
});

test.run();
