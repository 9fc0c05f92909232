import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import * as assert from "uvu/assert";
import { ownerData } from "../../../node/store/owner.ts";
import { BusyError, UnusableError } from "../../../protocol/errors.ts";
import { parsePayloadId } from "../../../protocol/hash.ts";
import { rezHandle } from "../../../protocol/rez-handle.ts";
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
  placement,
  rejectionOf,
  rezCacheSuite,
  toDelete,
} from "./rez-cache-fixture.ts";

const test = rezCacheSuite("rez-cache-placing");

// Placing

test("a placed tree is where Rez finds it, read-only, and its index file is for everybody", async (context) => {
  const { cache, directory, tree } = context;
  const before = Date.now();
  assert.equal(await place(context), { kind: "placed", path: join(directory, "a"), suffix: "a" });
  assert.not.ok(fs.existsSync(tree));
  assert.is(modeOf(join(directory, "a")), 0o555);
  assert.is(fs.readlinkSync(join(directory, "a", "dangling")), "nowhere");
  assert.is(modeOf(join(directory, "a.json")), 0o666);
  assert.ok(fs.statSync(join(directory, "a.json")).mtimeMs >= before - 1000, "Rez takes it for the last use");
  assert.equal(fs.readdirSync(directory).sort(), ["a", "a.json"]);
  assert.equal(JSON.parse(fs.readFileSync(join(directory, "a.json"), "utf8")), {
    ...{ handle, data: ["python-3.11"], p2pcache },
  });
  for (let path = directory; path !== cache.path; path = dirname(path)) assert.is(modeOf(path), 0o755);
  const found = located(cache);
  assert.equal([found.kind, found.ours, found.payload], ["cached", true, payload]);
  assert.equal(fs.readdirSync(cache.ownPath), []);
  assert.not.ok(fs.existsSync(join(cache.path, ".sys", ".lock.lock")));
});

test("the mode of the index file does not hang on the umask", async (context) => {
  process.umask(0o077);
  await place(context);
  process.umask(0);
  assert.is(modeOf(join(context.directory, "a.json")), 0o666);
});

test("requires are written only for variants with an index", async (context) => {
  const plain = rezHandle({ kind: "rez", repository: "studio", name: "nover" }, "/srv/rez/packages");
  const placed = await context.cache.place({ ...placement(context, { handle: plain }), onIntent: async () => {} });
  assert.is(placed.kind === "placed" && placed.path, join(context.cache.path, "nover/_NO_VERSION/7c90/a"));
  const index = JSON.parse(fs.readFileSync(join(context.cache.path, "nover/_NO_VERSION/7c90/a.json"), "utf8"));
  assert.equal(index, { handle: plain, p2pcache });
});

test("what others have there, or are doing, is taken and the tree stays", async (context) => {
  const { cache, directory, tree } = context;
  foreign(directory, "a");
  const kinds: string[] = [];
  for (const ageMs of [undefined, 100, 60_000]) {
    if (ageMs !== undefined) copyingSince(directory, "a", ageMs);
    const result = await place(context, () => assert.unreachable("nothing is intended") as never);
    if (result.kind === "taken") kinds.push(result.found.kind);
  }
  assert.equal(kinds, ["cached", "copying", "stalled"]);
  assert.ok(fs.existsSync(tree));
  assert.is(await cache.remove(located(cache)), "removed");
  assert.is((await place(context)).kind, "placed");
});

test("our own entry is taken while it is whole and replaced when its payload has gone", async (context) => {
  const { cache, directory, tree } = context;
  foreign(directory, "a", { p2pcache });
  assert.is((await place(context)).kind, "taken");
  fs.rmdirSync(join(directory, "a"));
  assert.equal(await place(context), { kind: "placed", path: join(directory, "b"), suffix: "b" });
  assert.not.ok(fs.existsSync(tree));
  assert.equal(fs.readdirSync(directory).sort(), ["b", "b.json"]);
  assert.is(located(cache).kind, "cached");
});

test("the intent is told under the lock, before anything moves", async (context) => {
  const { cache, directory, tree } = context;
  await place(context, async (spot) => {
    assert.equal(spot, { directory, suffix: "a" });
    assert.ok(fs.existsSync(tree));
    assert.not.ok(fs.existsSync(join(directory, "a")));
    assert.ok(fs.existsSync(join(cache.path, ".sys", ".lock.lock")));
  });
});

test("an intent that cannot be kept leaves all as it was", async (context) => {
  const reason = new Error("disk");
  assert.is(await rejectionOf(place(context, () => Promise.reject(reason))), reason);
  assert.ok(fs.existsSync(context.tree));
  assert.equal(fs.readdirSync(context.directory), []);
  assert.is((await place(context)).kind, "placed");
});

test("an index file that cannot be written brings the tree back", async (context) => {
  const { directory, tree } = context;
  // A directory in the draft's place: it can be neither removed as a file nor made.
  const blocked = place(context, async () => fs.mkdirSync(join(directory, ".a.json.tmp")));
  assert.instance(await rejectionOf(blocked), Error);
  assert.ok(fs.existsSync(join(tree, "bin", "tool")));
  assert.not.ok(fs.existsSync(join(directory, "a")));
});

test("while Rez holds its lock nothing is placed and the tree stays", async (context) => {
  fs.writeFileSync(join(context.cache.path, ".sys", ".lock.lock"), "");
  const error = await rejectionOf(place(context));
  assert.instance(error, BusyError);
  assert.is((error as BusyError).code, "REZ_LOCK_HELD");
  assert.ok(fs.existsSync(context.tree));
});

test("an abort before the lock leaves all as it was", async (context) => {
  const reason = new Error("enough");
  const request = { ...placement(context), onIntent: async () => {}, signal: AbortSignal.abort(reason) };
  assert.is(await rejectionOf(context.cache.place(request)), reason);
  assert.ok(fs.existsSync(context.tree));
});

test("nothing is placed below a directory that another may write, or a link", async (context) => {
  const { cache, tree } = context;
  fs.mkdirSync(join(cache.path, "foo"), { mode: 0o777 });
  assert.instance(await rejectionOf(place(context)), UnusableError);
  fs.rmdirSync(join(cache.path, "foo"));
  fs.symlinkSync(tmpdir(), join(cache.path, "foo"));
  assert.instance(await rejectionOf(place(context)), UnusableError);
  assert.ok(fs.existsSync(tree));
});

test("the old entry goes when the new one is in its place, and not before", async (context) => {
  const { cache, directory, tree } = context;
  const old = { ...p2pcache, payload: parsePayloadId("12".repeat(32)) };
  foreign(directory, "a", { p2pcache: old });
  const index = fs.readFileSync(join(directory, "a.json"), "utf8");
  const request = { ...placement(context), replaces: () => true };
  const untouched = () => {
    assert.equal(fs.readdirSync(directory).sort(), ["a", "a.json"]);
    assert.is(fs.readFileSync(join(directory, "a.json"), "utf8"), index);
    assert.ok(fs.existsSync(join(tree, "bin", "tool")));
  };
  const failing = { ...request, onIntent: () => Promise.reject(new Error("disk")) };
  assert.instance(await rejectionOf(cache.place(failing)), Error);
  untouched();
  const lock = join(cache.path, ".sys", ".lock.lock");
  fs.writeFileSync(lock, "");
  const waiting = { ...request, onIntent: async () => {} };
  assert.instance(await rejectionOf(cache.place(waiting)), BusyError);
  untouched();
  fs.rmSync(lock);
  const onIntent = async (spot: object) => {
    assert.equal(spot, { directory, suffix: "b", replaces: [`a ${old.payload}`] });
    untouched();
  };
  assert.is((await cache.place({ ...request, onIntent })).kind, "placed");
  assert.equal(fs.readdirSync(directory).sort(), ["b", "b.json"]);
  assert.equal(toDelete(cache), []);
});

test("a copy of ours under way, and what others have, is not replaced", async (context) => {
  const { cache, directory } = context;
  const request = { ...placement(context), replaces: () => true, onIntent: async () => {} };
  foreign(directory, "a", { p2pcache });
  copyingSince(directory, "a", 100);
  assert.is((await cache.place(request)).kind, "taken");
  fs.rmSync(join(directory, ".copying-a"));
  foreign(directory, "b");
  assert.is((await cache.place(request)).kind, "taken");
  assert.equal(fs.readdirSync(directory).sort(), ["a", "a.json", "b", "b.json"]);
});

// After a crash

for (const step of ["moved", "indexed", "marked"] as const) {
  test(`of two entries the newer stays after a crash when it was ${step}`, async (context) => {
    const { cache, directory, tree } = context;
    const old = parsePayloadId("12".repeat(32));
    foreign(directory, "a", { p2pcache: { ...p2pcache, payload: old } });
    const spot = { directory, suffix: "b", replaces: [`a ${old}`] };
    if (step === "moved") fs.renameSync(tree, join(directory, "b"));
    else {
      await cache.place({ ...placement(context), replaces: () => true, onIntent: async () => {} });
      foreign(directory, "a", { p2pcache: { ...p2pcache, payload: old } });
    }
    if (step === "marked") fs.renameSync(join(directory, "a.json"), join(directory, ".a.json.removing"));
    assert.is(await cache.finishPlacing(spot, placement(context)), "finished");
    await cache.emptyOwnLeftovers();
    assert.equal(fs.readdirSync(directory).sort(), ["b", "b.json"]);
    assert.is(located(cache).payload, payload);
    assert.equal(toDelete(cache), []);
  });
}

test("an intent never costs an entry that has come after it", async (context) => {
  const { cache, directory, tree } = context;
  const newer = parsePayloadId("34".repeat(32));
  foreign(directory, "a", { p2pcache: { ...p2pcache, payload: newer } });
  fs.renameSync(tree, join(directory, "b"));
  const spot = { directory, suffix: "b", replaces: [`a ${payload}`] };
  assert.is(await cache.finishPlacing(spot, placement(context)), "undone");
  assert.equal(fs.readdirSync(directory).sort(), ["a", "a.json"]);
  assert.is(located(cache).payload, newer);
});

test("a tree that was moved but has no index file yet is finished", async (context) => {
  const { cache, directory, tree } = context;
  makeDirectory(directory);
  fs.renameSync(tree, join(directory, "a"));
  fs.writeFileSync(join(directory, ".a.json.tmp"), "{");
  const spot = { directory, suffix: "a" };
  assert.is(await cache.finishPlacing(spot, placement(context)), "finished");
  assert.is(modeOf(join(directory, "a")), 0o555);
  assert.is(modeOf(join(directory, "a.json")), 0o666);
  assert.is(located(cache).payload, payload);
  assert.equal(fs.readdirSync(directory).sort(), ["a", "a.json"]);
  assert.is(await cache.finishPlacing(spot, placement(context)), "finished", "also when it was done before the crash");
});

test("a tree that was never moved is undone", async (context) => {
  const { cache, directory, tree } = context;
  makeDirectory(directory);
  assert.is(await cache.finishPlacing({ directory, suffix: "a" }, placement(context)), "undone");
  assert.ok(fs.existsSync(tree));
  fs.mkdirSync(join(directory, "a"));
  assert.is(await cache.finishPlacing({ directory, suffix: "a" }, placement(context)), "undone", "a is another's");
  assert.ok(fs.existsSync(join(directory, "a")));
});

test("a name that Rez has taken meanwhile is not touched", async (context) => {
  const { cache, directory, tree } = context;
  foreign(directory, "a");
  fs.chmodSync(join(tree, "bin"), 0o755);
  fs.rmSync(tree, { recursive: true });
  assert.is(await cache.finishPlacing({ directory, suffix: "a" }, placement(context)), "undone");
  assert.is(located(cache).kind, "cached");
  assert.not.ok(located(cache).ours);
});

test("a tree whose handle Rez has placed meanwhile under another name goes", async (context) => {
  const { cache, directory, tree } = context;
  makeDirectory(directory);
  fs.renameSync(tree, join(directory, "a"));
  foreign(directory, "b");
  assert.is(await cache.finishPlacing({ directory, suffix: "a" }, placement(context)), "undone");
  assert.equal(fs.readdirSync(directory).sort(), ["b", "b.json"]);
  assert.equal(toDelete(cache), []);
});

test("an intent that points elsewhere is undone and nothing is touched", async (context) => {
  const { cache, folder, directory } = context;
  const elsewhere = join(folder, "elsewhere");
  fs.mkdirSync(join(elsewhere, "a"), { recursive: true, mode: 0o755 });
  const gone = placement(context, { tree: join(folder, "none") });
  assert.is(await cache.finishPlacing({ directory: elsewhere, suffix: "a" }, gone), "undone");
  assert.is(await cache.finishPlacing({ directory, suffix: "../../../.." }, gone), "undone");
  assert.is(modeOf(join(elsewhere, "a")), 0o755);
});

test("a lock that a crash of ours left does not stop the next start", async (context) => {
  const { pid } = spawnSync(process.execPath, ["-e", ""]);
  const dead = JSON.stringify({ ...ownerData(), pid, started: "1" });
  fs.writeFileSync(join(context.cache.path, ".sys", ".lock.lock"), dead);
  assert.is((await place(context)).kind, "placed");
});

// Removing

test("a removed payload is gone with its empty directories, read-only as it was", async (context) => {
  const { cache, directory } = context;
  await place(context);
  assert.is(await cache.remove(located(cache)), "removed");
  assert.is(cache.locate(handle).kind, "absent");
  assert.not.ok(fs.existsSync(dirname(dirname(directory))));
  assert.equal(toDelete(cache), []);
  assert.not.ok(fs.existsSync(join(cache.path, ".sys", ".lock.lock")));
});

test("what links in a payload lead to outlives it", async (context) => {
  const { cache, folder, tree } = context;
  const outside = join(folder, "outside");
  fs.mkdirSync(outside, { mode: 0o755 });
  fs.writeFileSync(join(outside, "file"), "kept", { mode: 0o444 });
  fs.symlinkSync(outside, join(tree, "external"));
  await place(context);
  await cache.remove(located(cache));
  assert.is(fs.readFileSync(join(outside, "file"), "utf8"), "kept");
  assert.is(modeOf(outside), 0o755);
  assert.is(modeOf(join(outside, "file")), 0o444);
});

test("a payload beside others goes alone", async (context) => {
  const { cache, directory } = context;
  foreign(directory, "a", { handle: { ...handle, key: "other" } });
  await place(context);
  assert.is(await cache.remove(located(cache)), "removed");
  assert.equal(fs.readdirSync(directory).sort(), ["a", "a.json"]);
});

test("stalled and rootless entries of others can be removed, a copy under way cannot", async ({ cache, directory }) => {
  foreign(directory, "a");
  copyingSince(directory, "a", 60_000);
  const stalled = located(cache);
  copyingSince(directory, "a", 100);
  assert.is(await cache.remove(stalled), "copying");
  copyingSince(directory, "a", 60_000);
  assert.is(await cache.remove(stalled), "removed");
  foreign(directory, "a", {}, { root: false });
  assert.is(await cache.remove(located(cache)), "removed");
  assert.not.ok(fs.existsSync(directory));
});

test("what has changed since it was found is not removed", async (context) => {
  const { cache, directory } = context;
  await place(context);
  const found = located(cache);
  foreign(directory, "b");
  fs.renameSync(join(directory, "b.json"), join(directory, "a.json"));
  assert.is(await cache.remove(found), "gone");
  assert.ok(fs.existsSync(join(directory, "a", "bin", "tool")));
  fs.unlinkSync(join(directory, "a.json"));
  assert.is(await cache.remove(found), "gone");
});

test("leftovers of ours are cleared, everything of Rez's stays", async (context) => {
  const { cache, directory } = context;
  await place(context);
  const system = join(cache.path, ".sys");
  const rezTrash = `foo-1.0.0-${"0".repeat(32)}`;
  const ownTrash = `foo-1.0.0-70327063${"0".repeat(24)}`;
  for (const name of [rezTrash, ownTrash]) fs.mkdirSync(join(system, "to_delete", name, "bin"), { recursive: true });
  fs.chmodSync(join(system, "to_delete", ownTrash, "bin"), 0o555);
  fs.writeFileSync(join(directory, ".b.json.tmp"), "{");
  foreign(directory, "c");
  copyingSince(directory, "c", 60_000);
  await cache.emptyOwnLeftovers();
  assert.equal(toDelete(cache), [rezTrash]);
  assert.equal(fs.readdirSync(directory).sort(), [".copying-c", "a", "a.json", "c", "c.json"]);
});

test("a removal that a crash cut off is carried on", async (context) => {
  const { cache, directory } = context;
  await place(context);
  fs.renameSync(join(directory, "a.json"), join(directory, ".a.json.removing"));
  assert.is(cache.locate(handle).kind, "absent");
  await cache.emptyOwnLeftovers();
  assert.equal(fs.readdirSync(directory), []);
  assert.equal(toDelete(cache), []);
});

test("the mark of a removal never costs an entry that has the name again", async ({ cache, directory }) => {
  foreign(directory, "a");
  fs.writeFileSync(join(directory, ".a.json.removing"), "");
  await cache.emptyOwnLeftovers();
  assert.is(located(cache).kind, "cached");
  assert.equal(fs.readdirSync(directory).sort(), ["a", "a.json"]);
});

test.run();
