import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { RezCache } from "../../../node/store/rez-cache.ts";
import { type P2pCacheError, UnusableError } from "../../../protocol/errors.ts";
import { needs } from "../../support/needs.ts";
import {
  copyingSince,
  foreign,
  handle,
  located,
  makeDirectory,
  modeOf,
  p2pcache,
  payload,
  place,
  rezCacheSuite,
} from "./rez-cache-fixture.ts";

const test = rezCacheSuite("rez-cache");
const isRoot = process.geteuid?.() === 0;

function refusalOf(action: () => unknown): P2pCacheError {
  try {
    action();
  } catch (error) {
    return error as P2pCacheError;
  }
  throw new Error("was not refused");
}

// Opening

test("opening makes the cache and what Rez wants in .sys", ({ cache }) => {
  for (const name of ["log", "pending", "to_delete"]) assert.is(modeOf(join(cache.path, ".sys", name)), 0o755);
  assert.is(modeOf(cache.path), 0o755);
  assert.is(modeOf(join(cache.path, ".sys", "p2pcache")), 0o700);
  assert.is(RezCache.open(cache.path).path, cache.path);
});

test("a cache is reached by its real path", ({ folder, cache }) => {
  fs.symlinkSync(cache.path, join(folder, "link"));
  assert.is(RezCache.open(join(folder, "link")).path, fs.realpathSync(cache.path));
});

test("a directory on the way that everybody may write is refused by name, a sticky one is not", ({ folder, cache }) => {
  fs.chmodSync(folder, 0o777);
  const error = refusalOf(() => RezCache.open(cache.path));
  assert.instance(error, UnusableError);
  assert.ok(error.message.startsWith(`${folder} `), error.message);
  assert.match(error.message, "mode 0777");
  fs.chmodSync(folder, 0o1777);
  RezCache.open(cache.path);
});

test("the cache itself and what is ours in it may not be open to everybody", ({ cache }) => {
  for (const name of ["", ".sys", ".sys/to_delete", ".sys/p2pcache"]) {
    const path = join(cache.path, name);
    const mode = modeOf(path);
    fs.chmodSync(path, 0o777);
    assert.match(refusalOf(() => RezCache.open(cache.path)).message, path);
    fs.chmodSync(path, mode);
  }
});

test("a group may write only if it is our own", ({ folder, cache }) => {
  fs.chmodSync(folder, 0o775);
  RezCache.open(cache.path);
  if (!isRoot) return;
  fs.chownSync(folder, 0, 4242);
  assert.match(refusalOf(() => RezCache.open(cache.path)).message, "group");
});

test("a directory of another user is refused", ({ folder, cache }) => {
  if (!isRoot) return;
  fs.chownSync(folder, 4242, 0);
  assert.match(refusalOf(() => RezCache.open(cache.path)).message, "another user");
});

test("a cache that we may not write is refused by name", ({ cache }) => {
  if (isRoot) return;
  fs.chmodSync(cache.path, 0o555);
  const error = refusalOf(() => RezCache.open(cache.path));
  assert.instance(error, UnusableError);
  assert.match(error.message, `${cache.path} cannot be used`);
  assert.match(refusalOf(() => RezCache.open("/p2pcache-of-nobody")).message, "/p2pcache-of-nobody cannot be used");
});

test("a file in the place of the cache is refused by name", ({ folder }) => {
  fs.writeFileSync(join(folder, "file"), "");
  assert.instance(
    refusalOf(() => RezCache.open(join(folder, "file"))),
    UnusableError,
  );
});

// What the cache says of a handle: the table of REZ.md section 4

test("nothing there is absent", ({ cache, directory }) => {
  assert.equal(cache.locate(handle), { kind: "absent" });
  makeDirectory(directory);
  assert.equal(cache.locate(handle), { kind: "absent" });
});

test("an index file with this handle and no .copying is cached", ({ cache, directory }) => {
  foreign(directory, "a");
  assert.equal(cache.locate(handle), {
    ...{ kind: "cached", handle, directory, suffix: "a", ours: false },
    ...{ indexPath: join(directory, "a.json"), rootPath: join(directory, "a") },
  });
});

test("a .copying of at most 5 s is copying, an older one stalled", ({ cache, directory }) => {
  foreign(directory, "a");
  copyingSince(directory, "a", 5000);
  assert.is(cache.locate(handle).kind, "copying");
  copyingSince(directory, "a", 5001);
  assert.is(cache.locate(handle).kind, "stalled");
  // The clock was set back a year: whoever copies would have touched it since.
  const nextYear = Date.now() / 1000 + 365 * 24 * 3600;
  fs.utimesSync(join(directory, ".copying-a"), nextYear, nextYear);
  assert.is(cache.locate(handle).kind, "stalled");
});

test("an index file without payload is rootless, unless the copy is about to begin", ({ cache, directory }) => {
  foreign(directory, "a", {}, { root: false });
  assert.is(cache.locate(handle).kind, "rootless");
  copyingSince(directory, "a", 100);
  assert.is(cache.locate(handle).kind, "copying");
});

test("a payload without index file is nothing, but its suffix is taken", async (context) => {
  makeDirectory(join(context.directory, "a"));
  assert.is(context.cache.locate(handle).kind, "absent");
  assert.equal(await place(context), { kind: "placed", path: join(context.directory, "b"), suffix: "b" });
});

test("index files that are empty, bad or without handle match nothing, but their suffixes are taken", async (context) => {
  if (!needs("mkfifo", "coreutils")) return;
  const { directory, cache } = context;
  makeDirectory(directory);
  fs.writeFileSync(join(directory, "a.json"), "");
  fs.writeFileSync(join(directory, "b.json"), "{");
  fs.writeFileSync(join(directory, "c.json"), "{}");
  fs.writeFileSync(join(directory, "d.json"), "[]");
  fs.mkdirSync(join(directory, "e.json"));
  assert.is(spawnSync("mkfifo", [join(directory, "f.json")]).status, 0);
  fs.writeFileSync(join(directory, ".copying-g"), "");
  fs.writeFileSync(join(directory, ".h.json.removing"), "");
  assert.is(cache.locate(handle).kind, "absent");
  const placed = await place(context);
  assert.is(placed.kind === "placed" && placed.suffix, "i");
});

test("drafts, other dot files and stray things are ignored", async (context) => {
  const { directory, cache } = context;
  makeDirectory(join(directory, "README"));
  fs.writeFileSync(join(directory, ".a.json.tmp"), JSON.stringify({ handle }));
  fs.writeFileSync(join(directory, ".nfs0001"), "");
  assert.is(cache.locate(handle).kind, "absent");
  const placed = await place(context);
  assert.is(placed.kind === "placed" && placed.suffix, "a");
});

test("of two entries the usable one is told, ours before Rez's", async (context) => {
  const { cache, directory } = context;
  foreign(directory, "a");
  copyingSince(directory, "a", 60_000);
  foreign(directory, "b");
  assert.is(located(cache).suffix, "b");
  foreign(directory, "c", { p2pcache });
  const ours = located(cache);
  assert.is(ours.suffix, "c");
  assert.is(await cache.remove(ours), "removed");
  assert.is(located(cache).suffix, "b", "removing one uncovers the other");
});

test("a file in .sys/pending alone is absent", ({ cache }) => {
  fs.writeFileSync(join(cache.path, ".sys", "pending", `foo-1.0.0-${"0".repeat(32)}.json`), JSON.stringify(handle));
  assert.is(cache.locate(handle).kind, "absent");
});

test("an entry is ours by a whole p2pcache key only", ({ cache, directory }) => {
  foreign(directory, "a", { p2pcache });
  assert.ok(located(cache).ours);
  assert.is(located(cache).payload, payload);
  for (const key of [{ payload }, { ...p2pcache, payload: "../.." }, [], "x", null]) {
    foreign(directory, "a", { p2pcache: key });
    assert.not.ok(located(cache).ours);
  }
});

test("our own entries are found without their handles, where they belong", async (context) => {
  const { cache, directory } = context;
  await place(context);
  foreign(directory, "b");
  foreign(join(cache.path, "foo", "1.0.0", "0000"), "a", { p2pcache });
  foreign(directory, "c", { p2pcache, handle: { key: "filesystem.variant", variables: { name: "../.." } } });
  assert.equal(
    [...cache.ownEntries()].map(({ rootPath, kind }) => [rootPath, kind]),
    [[join(directory, "a"), "cached"]],
  );
});

test("another handle in the same hash directory is another's", async (context) => {
  const other = { ...handle, variables: { ...handle.variables, location: "/elsewhere" } };
  foreign(context.directory, "a", { handle: other });
  assert.is(context.cache.locate(handle).kind, "absent");
  const placed = await place(context);
  assert.is(placed.kind === "placed" && placed.suffix, "b");
});

test.run();
