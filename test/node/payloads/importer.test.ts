// runs unprivileged
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openHashEngine } from "../../../node/hasher.ts";
import { type ImportOptions, importTree } from "../../../node/payloads/importer.ts";
import { openTree, walkTree } from "../../../node/payloads/walk-tree.ts";
import type { P2pCacheError } from "../../../protocol/errors.ts";
import { chunkLayouts } from "../../../protocol/layout.ts";
import { MIB } from "../../../protocol/limits.ts";
import { decodeRoot } from "../../../protocol/manifest.ts";
import type { BuiltManifest } from "../../../protocol/manifest-builder.ts";
import { ManifestChecker } from "../../../protocol/manifest-checker.ts";
import { compareUtf8 } from "../../../protocol/paths.ts";
import { decodeSegment, type SegmentPart } from "../../../protocol/segments.ts";
import { needs } from "../../support/needs.ts";
import { noise } from "../../support/noise.ts";

const engine = openHashEngine();
const isRoot = process.getuid?.() === 0;

inTree("a tree comes back from its manifest and chunks: every kind and size of entry", async (tree) => {
  const contents = new Map<string, Uint8Array>();
  const sizes = { empty: 0, one: 1, small: 5000, "nearly-large": MIB - 1, "just-large": MIB, large: 5 * MIB + 7 };
  for (const [i, [name, size]] of Object.entries(sizes).entries()) contents.set(`d/${name}`, noise(i, size));
  for (let i = 0; i < 300; i++) contents.set(`many/${i}`, noise(100 + i, 1000 + i));
  for (const [path, bytes] of contents) write(tree, path, bytes);
  mkdirSync(join(tree, "empty-directory"));
  symlinkSync("d/small", join(tree, "link"));
  symlinkSync("d/not-there", join(tree, "dangling"));
  const imported = await importAll(tree);
  const files = filesOf(imported);
  assert.equal([...files.keys()].sort(), [...contents.keys()].sort());
  for (const [path, bytes] of contents) assert.ok(Buffer.from(bytes).equals(files.get(path)!), path);
  assert.is(imported.root.files, contents.size);
  assert.is(imported.root.entries, contents.size + 5);
  const links = imported.parts.flatMap((part) => (part.kind === "link" ? [[part.path, part.target]] : []));
  assert.equal(links, [
    ["dangling", "d/not-there"],
    ["link", "d/small"],
  ]);
});

inTree("entries stand in the order of their path bytes, not of their directories", async (tree) => {
  const paths = ["a/c", "a-b/x", "a.b", "A", "é", "\u{ffff}", "\u{10000}", "\ufeffmark"];
  for (const path of paths) write(tree, path, "x");
  const found = [...walkTree(openTree(tree))].map(({ path }) => path);
  assert.equal(found, [...paths, "a", "a-b"].sort(compareUtf8));
  assert.equal(
    found
      .map((path) => Buffer.from(path))
      .sort(Buffer.compare)
      .map(String),
    found,
  );
  await importAll(tree);
});

inTree("the same tree gives the same payload, wherever it lies and whatever engine hashes", async (tree) => {
  for (let i = 0; i < 20; i++) write(tree, `f${i}`, noise(i, 50_000));
  write(tree, "large", noise(99, 3 * MIB));
  const first = await importAll(tree);
  const moved = `${tree}-moved`;
  renameSync(tree, moved);
  symlinkSync(moved, tree);
  assert.is((await importAll(tree)).payload, first.payload);
  assert.is((await importAll(tree, { engine: openHashEngine("wasm") })).payload, first.payload);
});

inTree("a file's mode is its owner's x bit, its time whole seconds rounded down", async (tree) => {
  const cases: readonly (readonly [string, number, number, boolean, number])[] = [
    ["plain", 0o644, 1_700_000_000.9, false, 1_700_000_000],
    ["tool", 0o755, 1_700_000_001.001, true, 1_700_000_001],
    ["odd", 0o645, 5, false, 5],
    ["old", 0o644, -1.5, false, -2],
  ];
  for (const [name, mode, time] of cases) {
    write(tree, name, "x");
    chmodSync(join(tree, name), mode);
    const date = new Date(time * 1000); // A negative number would mean now.
    utimesSync(join(tree, name), date, date);
  }
  const { parts } = await importAll(tree);
  for (const [name, , , executable, seconds] of cases) {
    const part = parts.find((entry) => entry.kind === "small" && entry.path === name);
    assert.ok(part?.kind === "small");
    assert.equal([name, part.executable, part.mtimeSeconds], [name, executable, seconds]);
  }
});

inTree("hard links become separate files with one content", async (tree) => {
  write(tree, "a", noise(1, 2 * MIB));
  linkSync(join(tree, "a"), join(tree, "b"));
  const imported = await importAll(tree);
  assert.is(imported.root.files, 2);
  assert.is(imported.root.bytes, 4 * MIB);
  assert.is(new Set(imported.sent).size, imported.sent.length / 2);
});

inTree("links that leave the tree are refused by name, and kept with externalLinks", async (tree) => {
  mkdirSync(join(tree, "d"));
  symlinkSync("../..", join(tree, "d/up"));
  symlinkSync("d/x/../..", join(tree, "inside"));
  await refused(tree, "UNPUBLISHABLE", /the link "d\/up" -> "\.\.\/\.\." leaves the tree/);
  await importAll(tree, { externalLinks: true });
  rmSync(join(tree, "d/up"));
  await importAll(tree);
  symlinkSync("/usr", join(tree, "absolute"));
  await refused(tree, "UNPUBLISHABLE", /"absolute"/);
});

inTree("names that a manifest cannot hold are refused, and shown", async (tree) => {
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/caf`), Buffer.from([0xe9])]), "x");
  await refused(tree, "UNPUBLISHABLE", /the name "caf\\xe9" in ".*" is not UTF-8/);
  rmSync(Buffer.concat([Buffer.from(`${tree}/caf`), Buffer.from([0xe9])]));
  write(tree, "two\nlines", "x");
  await refused(tree, "UNPUBLISHABLE", /"two\\nlines" has a newline in it/);
});

inTree("setuid, setgid and special files are refused, and stripped when asked", async (tree) => {
  if (!needs("mkfifo", "coreutils")) return;
  write(tree, "tool", "x");
  for (const mode of [0o4755, 0o2755]) {
    chmodSync(join(tree, "tool"), mode);
    await refused(tree, "UNPUBLISHABLE", /"tool" is setuid or setgid/);
  }
  execFileSync("mkfifo", [join(tree, "pipe")]);
  await refused(tree, "UNPUBLISHABLE", /"pipe" is a device, a socket or a FIFO/);
  const { root, parts } = await importAll(tree, { stripSpecial: true });
  assert.is(root.entries, 1);
  assert.ok(parts.some((part) => part.kind === "small" && part.path === "tool" && part.executable));
});

inTree("files and directories that others may not read are refused, and kept with allowPrivate", async (tree) => {
  write(tree, "d/secret", "x");
  chmodSync(join(tree, "d/secret"), 0o640);
  await refused(tree, "UNPUBLISHABLE", /"d\/secret" may not be read by others/);
  chmodSync(join(tree, "d"), 0o750);
  await refused(tree, "UNPUBLISHABLE", /"d" may not be read by others/);
  await importAll(tree, { allowPrivate: true });
});

inTree("what cannot be read is named", async (tree) => {
  write(tree, "d/closed", "x");
  chmodSync(join(tree, "d/closed"), 0);
  if (isRoot) return; // Root reads everything.
  const error = await failureOf(importAll(tree, { allowPrivate: true }));
  // A checkout that only root may read gives the runner's user the capability to read everything.
  if (error !== undefined) assert.match(error.message, /^"d\/closed" cannot be read: permission denied$/);
});

inTree("a tree must be a directory that is there, of no more entries than the limit", async (tree) => {
  write(tree, "file", "x");
  await refused(join(tree, "file"), "UNPUBLISHABLE", /is not a directory/);
  await refused(join(tree, "none"), "UNPUBLISHABLE", /there is no tree at/);
  write(tree, "other", "x");
  assert.match((await failureOf(importAll(tree, { entriesMax: 1 }))).message, /has more than 1 entries/);
  await importAll(tree, { entriesMax: 2 });
});

inTree("an empty tree, and one of directories only, can be kept", async (tree) => {
  assert.equal((await importAll(tree)).root.entries, 0);
  mkdirSync(join(tree, "a/b/c"), { recursive: true });
  assert.equal((await importAll(tree)).root.entries, 3);
});

inTree("a file that grows, shrinks or is replaced while it is read is refused by name", async (tree) => {
  const path = join(tree, "large");
  const changes: readonly (() => void)[] = [
    () => appendFileSync(path, "more"),
    () => writeFileSync(path, noise(1, 2 * MIB)),
    () => utimesSync(path, 1, 1),
  ];
  for (const change of changes) {
    write(tree, "large", noise(1, 9 * MIB));
    const once = new Set([change]);
    const onChunk = async (): Promise<void> => {
      for (const act of once) act();
      once.clear();
    };
    const error = await failureOf(importTree(tree, { ...sinks, onChunk }));
    assert.equal([error.code, error.exit, error.message], ["TREE_CHANGED", 4, '"large" changed while it was read']);
  }
});

inTree("a name that comes or goes while the tree is read is a change", async (tree) => {
  write(tree, "a/x", noise(1, MIB));
  write(tree, "z", noise(2, MIB));
  let calls = 0;
  const onChunk = async (): Promise<void> => {
    if (calls++ === 0) write(tree, "a/late", "x");
  };
  const error = await failureOf(importTree(tree, { ...sinks, onChunk }));
  assert.is(error.code, "TREE_CHANGED");
});

inTree("names that differ by case or Unicode form alone are kept, and the manifest says so", async (tree) => {
  write(tree, "plain", "x");
  assert.is((await importAll(tree)).root.caseSensitive, false);
  write(tree, "Plain", "y");
  assert.equal([(await importAll(tree)).root.caseSensitive, (await importAll(tree)).root.files], [true, 2]);
  rmSync(join(tree, "Plain"));
  write(tree, "caf\u00e9", "x");
  write(tree, "cafe\u0301", "y");
  assert.equal([(await importAll(tree)).root.caseSensitive, (await importAll(tree)).root.files], [true, 3]);
});

inTree("a socket is refused like every special file", async (tree) => {
  const server = createServer();
  // Its name must fit into sockaddr_un.
  const listening = once(server, "listening");
  server.listen(join(tree, "s"));
  await listening;
  await refused(tree, "UNPUBLISHABLE", /"s" is a device, a socket or a FIFO/);
  server.close();
  await once(server, "close");
});

inTree("at most eight items are under way, and a failure of one ends the import with it", async (tree) => {
  write(tree, "large", noise(1, 24 * MIB));
  let underway = 0;
  let most = 0;
  const onChunk = async (): Promise<void> => {
    most = Math.max(most, ++underway);
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    underway--;
  };
  await importTree(tree, { ...sinks, onChunk });
  assert.ok(most >= 2 && most <= 8, `${most} at a time`);
  const failure = new Error("no room");
  const failing = importTree(tree, { ...sinks, onChunk: () => Promise.reject(failure) });
  assert.is(await failing.catch((error: unknown) => error), failure);
});

inTree("an abort ends an import with its reason, and progress ends with the totals", async (tree) => {
  for (let i = 0; i < 10; i++) write(tree, `f${i}`, noise(i, MIB));
  const stop = new AbortController();
  const reason = new Error("enough");
  const onProgress = (_: number, files: number): void => void (files === 3 && stop.abort(reason));
  const aborted = importTree(tree, { ...sinks, onProgress, signal: stop.signal });
  assert.is(await aborted.catch((error: unknown) => error), reason);
  let last: number[] = [];
  await importTree(tree, { ...sinks, onProgress: (...progress) => (last = progress) });
  assert.equal(last, [10 * MIB, 10]);
});

inTree("directories between the files of a run never make it too long for a segment", async (tree) => {
  const long = "d".repeat(200);
  for (let i = 0; i < 1500; i++) mkdirSync(join(tree, `b${long}${i}`));
  write(tree, "a", "x");
  write(tree, "c", "y");
  const { root } = await importAll(tree);
  assert.is(root.chunks, 2);
  assert.ok(root.segments.length >= 2);
});

test.run();

/** A built manifest, its decoded parts, and what was sent. */
interface Imported extends BuiltManifest {
  readonly parts: readonly SegmentPart[];
  readonly chunks: ReadonlyMap<string, Uint8Array>;
  /** Hashes in the order of their sending. */
  readonly sent: readonly string[];
}

/** Imports a tree; decodes and checks what came out, as a receiver would. */
async function importAll(tree: string, options: Partial<ImportOptions> = {}): Promise<Imported> {
  const chunks = new Map<string, Uint8Array>();
  const segments = new Map<string, Uint8Array>();
  const sent: string[] = [];
  const built = await importTree(tree, {
    engine,
    onChunk: async (hash, bytes) => {
      sent.push(hash);
      chunks.set(hash, bytes);
    },
    onSegment: async (hash, bytes) => void segments.set(hash, bytes),
    ...options,
  });
  const root = decodeRoot(built.rootBytes);
  assert.equal(root, built.root);
  const checker = new ManifestChecker(root, { externalLinks: options.externalLinks ?? false });
  const parts = root.segments.flatMap((ref) => {
    const bytes = segments.get(ref.hash)!;
    assert.is(bytes.length, ref.sizeBytes);
    const decoded = decodeSegment(bytes);
    checker.add(decoded, ref);
    return decoded;
  });
  checker.finish();
  return { ...built, parts, chunks, sent };
}

/** The contents of all files, put together from the chunks as a receiver would; each byte must be covered once. */
function filesOf({ parts, chunks }: Imported): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const facts = parts.flatMap((part) => (part.kind === "small" || part.kind === "large" ? [part] : []));
  for (const { path, sizeBytes } of facts) files.set(path, new Uint8Array(sizeBytes));
  let covered = 0;
  for (const { chunk, ranges } of chunkLayouts(parts)) {
    const bytes = chunks.get(Buffer.from(chunk.digest).toString("hex"))!;
    let at = 0;
    for (const { path, offsetBytes, sizeBytes } of ranges) {
      files.get(path)!.set(bytes.subarray(at, at + sizeBytes), offsetBytes);
      at += sizeBytes;
    }
    assert.is(at, bytes.length);
    covered += at;
  }
  assert.is(
    covered,
    facts.reduce((total, { sizeBytes }) => total + sizeBytes, 0),
  );
  for (const { path, digest } of facts) assert.equal([...engine.hash(files.get(path)!)], [...digest], path);
  return files;
}

const sinks = { engine, onChunk: async (): Promise<void> => {}, onSegment: async (): Promise<void> => {} };

async function refused(tree: string, code: string, message: RegExp): Promise<void> {
  const error = await failureOf(importAll(tree));
  assert.ok(error !== undefined, `nothing was refused, instead of ${message}`);
  assert.is(error.code, code);
  assert.match(error.message, message);
  assert.not.match(error.message, /\n/);
}

/** What a call rejects with; undefined where it does not. */
async function failureOf(work: Promise<unknown>): Promise<P2pCacheError> {
  return await work.then(
    () => undefined as unknown as P2pCacheError,
    (error: unknown) => error as P2pCacheError,
  );
}

function write(tree: string, path: string, content: string | Uint8Array): void {
  mkdirSync(join(tree, path, ".."), { recursive: true });
  writeFileSync(join(tree, path), content);
}

function inTree(name: string, check: (tree: string) => Promise<void>): void {
  test(name, async () => {
    const directory = mkdtempSync(join(tmpdir(), "importer-"));
    process.umask(0o022);
    try {
      const tree = join(directory, "tree");
      mkdirSync(tree);
      await check(tree);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
}
