import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openHashEngine } from "../../../node/hasher.ts";
import { FolderRepository } from "../../../node/origins/folder-origin.ts";
import { MemoryRepository } from "../../../node/origins/memory-origin.ts";
import { type Published, type PublishOptions, publishVariant } from "../../../node/payloads/publisher.ts";
import { type P2pCacheError, UnreachableError } from "../../../protocol/errors.ts";
import type { ChunkHash } from "../../../protocol/hash.ts";
import { MIB } from "../../../protocol/limits.ts";
import {
  decodeEnvelope,
  decodeRelease,
  defaultAttributes,
  type ReleaseRecord,
  type SignedRecord,
  trustedRecord,
} from "../../../protocol/record.ts";
import { variantHash } from "../../../protocol/variant.ts";
import { noise } from "../../support/noise.ts";

const engine = openHashEngine();
const variant = { kind: "rez", repository: "studio", name: "tool", version: "1.0.0", index: 0 } as const;
const now = "2026-07-01T08:00:00Z";
/** A signature that a check can recompute: the hash of the message. */
const sign = { keyid: "aa".repeat(32), sign: (message: Uint8Array) => engine.hash(message) };

inTree("a release can be read back, checked and trusted", async (tree, publish) => {
  const repository = new MemoryRepository("memory");
  const published = await publish(repository);
  assert.equal([published.revision, published.files, published.variant], [0, 201, variantHash(variant, engine.hash)]);
  assert.is(published.newChunks, published.chunks);
  assert.is(published.newBytes, published.bytes);
  const envelope = decodeEnvelope((await repository.latestRecord(published.variant))!);
  const isRight = (_: Uint8Array, message: Uint8Array, sig: Uint8Array): boolean =>
    Buffer.from(engine.hash(message)).equals(sig);
  const record = releaseOf(trustedRecord(envelope, new Map([[sign.keyid, new Uint8Array(32)]]), isRight, engine.hash));
  assert.equal([record.payload, record.releasedAt, record.variant], [published.payload, now, variant]);
  for (const { hash, sizeBytes } of record.root.segments) {
    assert.is((await repository.chunk(hash, sizeBytes)).length, sizeBytes);
  }
  assert.ok(tree.length > 0);
});

inTree("a second publish of the same tree writes nothing", async (_tree, publish) => {
  const path = mkdtempSync(join(tmpdir(), "publisher-repository-"));
  try {
    const options = { name: "filer", path, network: "studio", publishes: true };
    const first = await publish(await FolderRepository.open(options));
    const before = listing(path);
    const second = await publish(await FolderRepository.open(options), { now: "2026-07-02T08:00:00Z" });
    assert.equal(second, { ...first, newChunks: 0, newBytes: 0 });
    assert.equal(listing(path), before);
  } finally {
    rmSync(path, { recursive: true });
  }
});

for (const supersede of [false, true]) {
  const how = supersede ? "with supersede" : "without supersede";
  inTree(`a second publish ${how} writes what the repository has lost, and no record`, async (_tree, publish) => {
    const repository = new MemoryRepository("memory");
    const first = await publish(repository);
    const [record] = repository.records.get(first.variant)!;
    const { root } = decodeRelease(decodeEnvelope(record!).body, engine.hash);
    const whole = new Map(repository.chunks);
    const segments = new Set(root.segments.map((segment) => segment.hash));
    const [lost, short] = [...whole.keys()].filter((hash) => !segments.has(hash));
    repository.chunks.delete(lost!);
    repository.chunks.delete(root.segments[0]!.hash);
    repository.chunks.set(short!, whole.get(short!)!.subarray(1));
    const second = await publish(repository, { supersede, now: "2026-07-02T08:00:00Z" });
    const newBytes = whole.get(lost!)!.length + whole.get(short!)!.length;
    assert.equal(second, { ...first, newChunks: 2, newBytes });
    for (const [hash, bytes] of whole) assert.ok(Buffer.from(repository.chunks.get(hash)!).equals(bytes));
    assert.equal([repository.chunks.size, repository.records.get(first.variant)], [whole.size, [record]]);
  });
}

for (const form of ["plain", "compressed"]) {
  const name = `a ${form} chunk that was cut short in a folder is mended in place, and nothing else lies there then`;
  inTree(name, async (tree, publish) => {
    const path = mkdtempSync(join(tmpdir(), "publisher-repository-"));
    try {
      writeFileSync(join(tree, "lines"), "a line of a text that is there many times\n".repeat(100_000));
      const options = { name: "filer", path, network: "studio", publishes: true };
      await publish(await FolderRepository.open(options));
      const before = readdirSync(path, { recursive: true, encoding: "utf8" }).sort();
      const pattern = form === "plain" ? /^chunks\/..\/\w+$/ : /^chunks\/..\/\w+\.zst$/;
      for (const chunk of before.filter((each) => pattern.test(each)).map((each) => join(path, each))) {
        const whole = readFileSync(chunk);
        truncateSync(chunk, whole.length - 1);
        await publish(await FolderRepository.open(options));
        assert.ok(readFileSync(chunk).equals(whole), chunk);
      }
      assert.equal(readdirSync(path, { recursive: true, encoding: "utf8" }).sort(), before);
    } finally {
      rmSync(path, { recursive: true });
    }
  });
}

inTree("another tree needs supersede, and nothing is written without it", async (tree, publish) => {
  const repository = new MemoryRepository("memory");
  const first = await publish(repository);
  const chunks = repository.chunks.size;
  writeFileSync(join(tree, "small/7"), "changed");
  const error = await failureOf(publish(repository));
  assert.equal([error.code, error.exit], ["ALREADY_RELEASED", 5]);
  assert.match(error.message, /studio:tool-1\.0\.0\[0\] is already released with another tree/);
  assert.is(repository.chunks.size, chunks);
  const second = await publish(repository, { supersede: true });
  assert.is(second.revision, 1);
  const record = decodeRelease(decodeEnvelope((await repository.latestRecord(first.variant))!).body, engine.hash);
  assert.equal([record.revision, record.payload, record.supersedes], [1, second.payload, first.payload]);
  assert.is((await publish(repository, { supersede: true })).revision, 1);
});

inTree("one changed small file writes one or two chunks of many", async (tree, publish) => {
  const repository = new MemoryRepository("memory");
  const first = await publish(repository);
  writeFileSync(join(tree, "small/70"), noise(9999, 50_000));
  const second = await publish(repository, { supersede: true });
  assert.ok(first.newChunks > 15);
  assert.ok(second.newChunks >= 1 && second.newChunks <= 2, `${second.newChunks} new chunks`);
});

inTree("content that repeats is written and counted once", async (tree, publish) => {
  writeFileSync(join(tree, "large-again"), noise(1, 5 * MIB));
  const published = await publish(new MemoryRepository("memory"));
  assert.is(published.bytes - published.newBytes, 5 * MIB);
  assert.ok(published.newChunks < published.chunks);
});

inTree("other attributes or another publisher differ, too", async (_tree, publish) => {
  const repository = new MemoryRepository("memory");
  await publish(repository);
  const attributes = { ...defaultAttributes, relocatable: false };
  assert.match((await failureOf(publish(repository, { attributes }))).message, /released with other attributes/);
  const other = { ...sign, keyid: "bb".repeat(32) };
  assert.match((await failureOf(publish(repository, { sign: other }))).message, /released by another publisher/);
  assert.is((await publish(repository, { attributes, supersede: true })).revision, 1);
});

inTree("a publish that dies midway leaves no record, and the next one reuses its chunks", async (_tree, publish) => {
  class DyingRepository extends MemoryRepository {
    puts = 0;
    override async putChunk(hash: ChunkHash, bytes: Uint8Array): Promise<void> {
      if (++this.puts > 10) throw new UnreachableError("the filer went away");
      await super.putChunk(hash, bytes);
    }
  }
  const repository = new DyingRepository("memory");
  assert.is((await failureOf(publish(repository))).code, "UNREACHABLE");
  assert.is(repository.records.size, 0);
  assert.is(repository.chunks.size, 10);
  repository.puts = Number.NEGATIVE_INFINITY;
  const published = await publish(repository);
  assert.is(published.revision, 0);
  assert.ok(published.newChunks <= published.chunks - 9);
});

inTree("a record that would break a rule is refused before anything is read or written", async (_tree, publish) => {
  const repository = new MemoryRepository("memory");
  assert.is((await failureOf(publish(repository, { now: "yesterday" }))).code, "BAD_FORMAT");
  assert.is((await failureOf(publish(repository, { variant: { ...variant, name: "../x" } }))).code, "BAD_FORMAT");
  assert.is(repository.chunks.size, 0);
});

inTree("an aborted publish releases nothing", async (_tree, publish) => {
  const repository = new MemoryRepository("memory");
  const stop = new AbortController();
  const reason = new Error("enough");
  const onProgress = (): void => stop.abort(reason);
  const error = await failureOf(publish(repository, { onProgress, signal: stop.signal }));
  assert.is(error as unknown, reason);
  assert.is(repository.records.size, 0);
});

test.run();

type Publish = (repository: PublishOptions["repository"], more?: Partial<PublishOptions>) => Promise<Published>;

/** A tree of 200 small files, 10 MB of them, and a large one. */
function inTree(name: string, check: (tree: string, publish: Publish) => Promise<void>): void {
  test(name, async () => {
    const directory = mkdtempSync(join(tmpdir(), "publisher-"));
    try {
      process.umask(0o022);
      const tree = join(directory, "tree");
      mkdirSync(join(tree, "small"), { recursive: true });
      for (let i = 0; i < 200; i++) writeFileSync(join(tree, `small/${i}`), noise(1000 + i, 50_000));
      writeFileSync(join(tree, "large"), noise(1, 5 * MIB));
      const fixed = { variant, treePath: tree, engine, sign, attributes: defaultAttributes, now };
      await check(tree, (repository, more) => publishVariant({ ...fixed, repository, ...more }));
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
}

function releaseOf(record: SignedRecord): ReleaseRecord {
  assert.not(record.withdrawn);
  return record as ReleaseRecord;
}

function listing(path: string): string[] {
  const names = readdirSync(path, { recursive: true, encoding: "utf8" }).sort();
  return names.map((name) => `${name} ${statSync(join(path, name)).mtimeMs}`);
}

/** What a call rejects with; undefined where it does not. */
async function failureOf(work: Promise<unknown>): Promise<P2pCacheError> {
  return await work.then(
    () => undefined as unknown as P2pCacheError,
    (error: unknown) => error as P2pCacheError,
  );
}
