// runs unprivileged
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { FolderRepository } from "../../../node/origins/folder-origin.ts";
import { FolderSource, type FolderSourceOptions } from "../../../node/origins/folder-source.ts";
import type { ItemPlace } from "../../../node/ports.ts";
import type { P2pCacheError } from "../../../protocol/errors.ts";
import { parseChunkHash, parseVariantHash } from "../../../protocol/hash.ts";
import { chunkBytesMax } from "../../../protocol/limits.ts";
import { testRepository } from "../../conformance/origin-conformance.ts";
import { childrenOf, stateOf, until } from "../../support/child-processes.ts";
import { noise } from "../../support/noise.ts";
import { openServed } from "../../support/served-folder.ts";

const hash = parseChunkHash("ab".repeat(32));
const variant = parseVariantHash("cd".repeat(32));

testRepository("folder, read by a child,", () =>
  openServed(async (path) => {
    const origin = await FolderSource.open({ name: "filer", path, network: "studio" });
    return { origin, parts: [origin] };
  }),
);

inFolder("many reads at a time each get their own bytes", async ({ open, writer }) => {
  const names = Array.from({ length: 40 }, (_, i) => parseChunkHash(`${i + 10}`.repeat(32)));
  for (const [i, name] of names.entries()) await writer.putChunk(name, noise(i, 100_000 + i));
  await writer.putChunk(hash, noise(99, chunkBytesMax));
  await using source = await open();
  const large = source.chunk(hash, chunkBytesMax);
  const found = await Promise.all(names.map((name, i) => source.chunk(name, 100_000 + i)));
  for (const [i, bytes] of found.entries()) assert.ok(Buffer.from(noise(i, 100_000 + i)).equals(bytes));
  assert.ok(Buffer.from(noise(99, chunkBytesMax)).equals(await large));
});

inFolder("a folder of another network is refused when it is opened", async ({ open }) => {
  const error = await failureOf(open({ network: "other" }));
  assert.equal([error.code, error.exit], ["OTHER_NETWORK", 2]);
});

inFolder("a folder that is not there is opened all the same, and works once it is", async ({ path, open, writer }) => {
  const mount = join(path, "later");
  await using source = await open({ path: mount });
  assert.is((await failureOf(source.chunk(hash, 10))).code, "UNREACHABLE");
  const later = await FolderRepository.open({ name: "filer", path: mount, network: "studio", publishes: true });
  mkdirSync(mount);
  await later.putChunk(hash, noise(1, 10));
  assert.is((await source.chunk(hash, 10)).length, 10);
  assert.is(await writer.has(hash, 10), false);
});

inFolder(
  "a child that is killed fails what was asked of it; after a rest another one reads",
  async ({ open, writer }) => {
    await writer.putChunk(hash, noise(1, 10));
    await using source = await open();
    const pid = (await source.pid())!;
    process.kill(pid, "SIGSTOP");
    const reads = Promise.all([1, 2, 3].map(() => failureOf(source.chunk(hash, 10))));
    await sleep(50); // So that they are on their way.
    process.kill(pid, "SIGKILL");
    for (const { code, exit, message } of await reads) {
      assert.equal([code, exit], ["UNREACHABLE", 6]);
      assert.match(message, /the origin filer cannot be used: .*chunks\/ab\/.* has ended/);
    }
    await soon(() => source.chunk(hash, 10));
    assert.is.not(await source.pid(), pid);
  },
);

inFolder(
  "a child that says nothing is abandoned, and the failure names the origin and the path",
  async ({ open, writer }) => {
    await writer.putChunk(hash, noise(1, 10));
    const told: string[] = [];
    await using source = await open({ silentMs: 2_000, onAbandoned: (reason) => told.push(reason) });
    const pid = (await source.pid())!;
    process.kill(pid, "SIGSTOP");
    const reads = await Promise.all([source.chunk(hash, 10), source.latestRecord(variant)].map(failureOf));
    assert.equal(
      reads.map(({ code, exit }) => [code, exit]),
      [
        ["ORIGIN_SILENT", 6],
        ["ORIGIN_SILENT", 6],
      ],
    );
    assert.match(reads[0]!.message, /the origin filer cannot be used: .*chunks\/ab\/.* has not answered for 2 s/);
    assert.is(told.length, 1);
    await until("the abandoned child has gone", () => stateOf(pid) === undefined);
    const startedMs = performance.now();
    assert.is((await failureOf(source.chunk(hash, 10))).code, "ORIGIN_SILENT");
    assert.ok(performance.now() - startedMs < 200, "while it rests nobody waits for it");
    await soon(() => source.chunk(hash, 10));
  },
);

inFolder(
  "a release is read in place where the repository lacks a chunk, and never outside of its tree",
  async (folder) => {
    const { path, open, writer } = folder;
    const tree = join(path, "packages", "foo", "1.0.0");
    mkdirSync(join(tree, "lib"), { recursive: true });
    writeFileSync(join(tree, "lib", "a"), noise(1, 100));
    writeFileSync(join(tree, "b"), noise(2, 1000));
    writeFileSync(join(path, "packages", "outside"), noise(2, 1000));
    const inPlace = new Map([["studio", join(path, "packages")]]);
    await using source = await open({ inPlace });
    const ranges = [
      { path: "lib/a", offsetBytes: 0, sizeBytes: 100 },
      { path: "b", offsetBytes: 500, sizeBytes: 500 },
    ];
    const told: string[] = [];
    const read = (more: Partial<ItemPlace> = {}) => {
      const place = { repository: "studio", root: "foo/1.0.0", ranges, ...more };
      return source.chunk(hash, 600, { place: () => Promise.resolve(place), onInPlace: (root) => told.push(root) });
    };
    const expected = Buffer.concat([noise(1, 100), noise(2, 1000).subarray(500)]);
    assert.ok(expected.equals(await read()));
    assert.equal(told, [tree]);
    assert.is((await failureOf(read({ repository: "other" }))).code, "CHUNK_MISSING");
    const changes: [() => void, RegExp][] = [
      [() => truncateSync(join(tree, "b"), 700), /: b is shorter now/],
      [() => rmSync(join(tree, "b")), /: b is not there any more/],
      [() => symlinkSync("../../outside", join(tree, "b")), /: b is a link now/],
      [
        () => {
          rmSync(join(tree, "b"));
          mkdirSync(join(tree, "b"));
        },
        /: b is not a regular file any more/,
      ],
      [
        () => {
          renameSync(join(tree, "lib"), join(path, "lib"));
          symlinkSync(join(path, "lib"), join(tree, "lib"));
        },
        /: lib\/a is reached by a link/,
      ],
      [
        () => {
          renameSync(tree, join(path, "away"));
          symlinkSync(join(path, "away"), tree);
        },
        /: it leads out of the repository/,
      ],
      [() => rmSync(tree), /: it is not there any more/],
    ];
    for (const [change, message] of changes) {
      change();
      const error = await failureOf(read());
      assert.equal([error.code, error.exit], ["RELEASE_CHANGED", 4]);
      assert.match(error.message, message);
    }
    rmSync(join(path, "packages"), { recursive: true });
    assert.match((await failureOf(read())).message, /packages is not mounted/);
    await writer.putChunk(hash, noise(5, 600));
    assert.ok(Buffer.from(noise(5, 600)).equals(await read()));
    assert.is(told.length, 1);
  },
);

inFolder("who leaves a read that hangs leaves at once", async ({ open }) => {
  await using source = await open();
  process.kill((await source.pid())!, "SIGSTOP");
  const reason = new Error("enough");
  const leaving = new AbortController();
  setTimeout(() => leaving.abort(reason), 50);
  assert.is(await source.chunk(hash, 10, { signal: leaving.signal }).catch((error: unknown) => error), reason);
  assert.is(
    await source.chunk(hash, 10, { signal: AbortSignal.abort(reason) }).catch((error: unknown) => error),
    reason,
  );
});

inFolder(
  "an origin is closed within a moment, also while its child hangs, and no child is left",
  async ({ open, writer }) => {
    await writer.putChunk(hash, noise(1, 10));
    for (const trouble of ["SIGCONT", "SIGSTOP"] as const) {
      const source = await open();
      const pid = (await source.pid())!;
      process.kill(pid, trouble);
      const read = trouble === "SIGSTOP" ? failureOf(source.chunk(hash, 10)) : undefined;
      const startedMs = performance.now();
      await source[Symbol.asyncDispose]();
      assert.ok(performance.now() - startedMs < 2_000);
      assert.is((await read)?.exit ?? 6, 6);
      await until("the child has gone", () => stateOf(pid) === undefined);
      assert.is((await failureOf(source.chunk(hash, 10))).code, "UNREACHABLE");
    }
  },
);

inFolder("a child is not ended by Ctrl-C, and ends when its parent dies", async ({ path }) => {
  const program = join(path, "parent.mjs");
  const module = new URL("../../../node/origins/folder-source.ts", import.meta.url);
  writeFileSync(
    program,
    `const { FolderSource } = await import(${JSON.stringify(module)});
     const source = await FolderSource.open({ name: "filer", path: ${JSON.stringify(path)}, network: "studio" });
     await source.check();
     console.log(await source.pid());`,
  );
  const parent = spawn(process.execPath, [program], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(createInterface({ input: parent.stdout }), "line")) as [string];
  const pid = Number(line);
  assert.equal(childrenOf(parent.pid!, "folder-child"), [pid]);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.kill(pid, signal);
  await sleep(100);
  assert.is.not(stateOf(pid), undefined);
  const exited = once(parent, "exit");
  parent.kill("SIGKILL");
  await exited;
  await until("the child has gone with its parent", () => [undefined, "Z"].includes(stateOf(pid)));
});

test.run();

interface Folder {
  readonly path: string;
  readonly writer: FolderRepository;
  readonly open: (options?: Partial<FolderSourceOptions>) => Promise<FolderSource>;
}

/** In a repository that has a chunk of its own. */
function inFolder(name: string, check: (folder: Folder) => Promise<void>): void {
  test(name, async () => {
    const path = mkdtempSync(join(tmpdir(), "folder-source-"));
    try {
      const writer = await FolderRepository.open({ name: "filer", path, network: "studio", publishes: true });
      await writer.putChunk(parseChunkHash("99".repeat(32)), noise(9, 9));
      await check({
        path,
        writer,
        open: (options) => FolderSource.open({ name: "filer", path, network: "studio", ...options }),
      });
    } finally {
      rmSync(path, { recursive: true, force: true });
    }
  });
}

/** Tries until it works: a child that failed is followed by another one after a rest. */
async function soon<Result>(ask: () => Promise<Result>): Promise<Result> {
  for (let tries = 0; tries < 20; tries++) {
    const answer = await ask().catch(() => undefined);
    if (answer !== undefined) return answer;
    await sleep(500);
  }
  return await ask();
}

/** What a call rejects with. */
async function failureOf(work: Promise<unknown>): Promise<P2pCacheError> {
  return (await work.then(
    () => assert.unreachable("nothing failed"),
    (error: unknown) => error,
  )) as P2pCacheError;
}
