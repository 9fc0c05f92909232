// runs unprivileged
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { FolderRepository } from "../../../node/origins/folder-origin.ts";
import type { P2pCacheError } from "../../../protocol/errors.ts";
import { parseChunkHash, parseVariantHash } from "../../../protocol/hash.ts";
import { recordBytesMax } from "../../../protocol/limits.ts";
import { testRepository } from "../../conformance/origin-conformance.ts";
import { noise } from "../../support/noise.ts";

const hash = parseChunkHash("ab".repeat(32));
const variant = parseVariantHash("cd".repeat(32));
const isRoot = process.getuid?.() === 0;

testRepository("folder", async () => {
  const path = mkdtempSync(join(tmpdir(), "folder-origin-"));
  const repository = await FolderRepository.open({ name: "filer", path, network: "studio", publishes: true });
  return { repository, root: path, close: async () => rmSync(path, { recursive: true }) };
});

inFolder("a repository says its format and its network from the first publish on", async (path) => {
  const repository = await publisher(path);
  assert.equal(readdirSync(path), []);
  await repository.putChunk(hash, noise(1, 10));
  const description = JSON.parse(readFileSync(join(path, "p2pcache.json"), "utf8"));
  assert.equal(description, { formatVersion: 1, network: "studio" });
});

inFolder("a repository lies as DESIGN says, readable by others whatever the umask, with nothing else", async (path) => {
  const before = process.umask(0o077);
  try {
    const repository = await publisher(path);
    await repository.putChunk(hash, noise(1, 10));
    await repository.putRecord(variant, 0, Buffer.from("zero"));
  } finally {
    process.umask(before);
  }
  const modes = readdirSync(path, { recursive: true, encoding: "utf8" }).map((name) => {
    const stats = statSync(join(path, name));
    return `${(stats.mode & 0o777).toString(8)} ${stats.isDirectory() ? `${name}/` : name}`;
  });
  assert.equal(modes.sort(), [
    `644 chunks/ab/${hash}`,
    "644 p2pcache.json",
    `644 variants/cd/${variant}/0.dsse.json`,
    "755 chunks/",
    "755 chunks/ab/",
    "755 variants/",
    "755 variants/cd/",
    `755 variants/cd/${variant}/`,
  ]);
});

inFolder("a repository of another network is refused", async (path) => {
  await (await publisher(path)).putChunk(hash, noise(1, 10));
  const error = await failureOf(FolderRepository.open({ name: "filer", path, network: "other" }));
  assert.is(error.exit, 2);
  assert.match(error.message, /p2pcache\.json is of the network "studio", not "other"/);
});

inFolder("a repository of an unknown format version is refused", async (path) => {
  writeFileSync(join(path, "p2pcache.json"), '{"formatVersion":2,"network":"studio"}');
  assert.is((await failureOf(reader(path))).code, "UNKNOWN_VERSION");
  writeFileSync(join(path, "p2pcache.json"), "what");
  assert.is((await failureOf(reader(path))).code, "BAD_FORMAT");
});

inFolder(
  "a folder that is missing, or empty to a reader, is unreachable and not merely without chunks",
  async (path) => {
    const mount = join(path, "mount");
    const read = await reader(mount);
    const write = await publisher(mount);
    const works = [
      () => read.chunk(hash, 10),
      () => read.latestRecord(variant),
      () => write.putChunk(hash, noise(1, 10)),
    ];
    for (const work of works) {
      const error = await failureOf(work());
      assert.is(error.code, "UNREACHABLE");
      assert.match(error.message, /filer/);
      assert.ok(error.message.includes(mount));
    }
    mkdirSync(mount);
    assert.is((await failureOf(read.chunk(hash, 10))).code, "UNREACHABLE");
    await write.putChunk(hash, noise(1, 10));
    assert.is((await read.chunk(hash, 10)).length, 10);
  },
);

inFolder("a folder that goes away while it is in use is unreachable, and works again once it is back", async (path) => {
  const mount = join(path, "mount");
  mkdirSync(mount);
  await (await publisher(mount)).putChunk(hash, noise(1, 10));
  const repository = await reader(mount);
  assert.is((await repository.chunk(hash, 10)).length, 10);
  renameSync(mount, `${mount}-gone`);
  assert.is((await failureOf(repository.chunk(hash, 10))).code, "UNREACHABLE");
  assert.is((await failureOf(repository.latestRecord(variant))).code, "UNREACHABLE");
  renameSync(`${mount}-gone`, mount);
  assert.is((await repository.chunk(hash, 10)).length, 10);
});

inFolder("a chunk that was cut short or grew is corrupt", async (path) => {
  const repository = await publisher(path);
  await repository.putChunk(hash, noise(1, 10));
  for (const length of [9, 11, 0]) {
    truncateSync(join(path, `chunks/ab/${hash}`), length);
    assert.is((await failureOf(repository.chunk(hash, 10))).code, "CHUNK_CORRUPT");
  }
});

inFolder(
  "a compressed chunk that was cut short gives way to a plain one, for readers that look for it first too",
  async (path) => {
    const lines = Buffer.alloc(100_000, "a line of a text that is there many times\n");
    const open = (compress: boolean) =>
      FolderRepository.open({ name: "filer", path, network: "studio", publishes: true, compress });
    const names = ["a1", "a2", "a3", "a4", "ab"].map((start) => parseChunkHash(start.repeat(32)));
    const repository = await open(true);
    for (const name of names) await repository.putChunk(name, lines);
    truncateSync(join(path, `chunks/ab/${hash}.zst`), 20);
    // It has seen that chunks are compressed here.
    for (const name of names.slice(0, 4)) assert.ok(lines.equals(await repository.chunk(name, lines.length)));
    assert.not(await repository.has(hash, lines.length));
    await (await open(false)).putChunk(hash, lines);
    assert.equal(readdirSync(join(path, "chunks/ab")), [hash]);
    assert.ok(lines.equals(await repository.chunk(hash, lines.length)));
  },
);

inFolder("a record past its limit is refused before it is read", async (path) => {
  const repository = await publisher(path);
  await repository.putRecord(variant, 0, Buffer.from("zero"));
  truncateSync(join(path, `variants/cd/${variant}/0.dsse.json`), recordBytesMax + 1);
  assert.is((await failureOf(repository.latestRecord(variant))).code, "BAD_FORMAT");
});

inFolder("what may not be read is unreachable, what may not be written unusable, and both are named", async (path) => {
  if (isRoot) return; // Nothing is forbidden to root.
  const repository = await publisher(path);
  await repository.putChunk(hash, noise(1, 10));
  chmodSync(join(path, `chunks/ab/${hash}`), 0);
  const error = await failureOf(repository.chunk(hash, 10));
  // A checkout that only root may read gives the runner's user the capability to read everything.
  if (error !== undefined) assert.match(error.message, /filer cannot be used: .*chunks\/ab\/.* fails with EACCES/);
  chmodSync(join(path, "chunks"), 0o555);
  const other = parseChunkHash("aa".repeat(32));
  const refused = await failureOf(repository.putChunk(other, noise(1, 10)));
  assert.equal([refused.code, refused.exit], ["UNUSABLE", 1]);
  assert.match(refused.message, /^the origin filer cannot be written: .*: EACCES$/);
  chmodSync(join(path, "chunks"), 0o755);
  await repository.putChunk(other, noise(1, 10));
});

test.run();

function publisher(path: string): Promise<FolderRepository> {
  return FolderRepository.open({ name: "filer", path, network: "studio", publishes: true });
}

function reader(path: string): Promise<FolderRepository> {
  return FolderRepository.open({ name: "filer", path, network: "studio" });
}

function inFolder(name: string, check: (path: string) => Promise<void>): void {
  test(name, async () => {
    const path = mkdtempSync(join(tmpdir(), "folder-origin-"));
    try {
      await check(path);
    } finally {
      rmSync(path, { recursive: true, force: true });
    }
  });
}

/** What a call rejects with; undefined where it does not. */
async function failureOf(work: Promise<unknown>): Promise<P2pCacheError> {
  return await work.then(
    () => undefined as unknown as P2pCacheError,
    (error: unknown) => error as P2pCacheError,
  );
}
