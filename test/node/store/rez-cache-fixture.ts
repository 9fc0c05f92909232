import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, type Test } from "uvu";
import * as assert from "uvu/assert";
import { type Found, type Placement, type PlaceResult, RezCache, type Spot } from "../../../node/store/rez-cache.ts";
import { systemTiming } from "../../../node/store/rez-lock.ts";
import { parsePayloadId, parseVariantHash } from "../../../protocol/hash.ts";
import { type RezHandle, rezHandle } from "../../../protocol/rez-handle.ts";

/** What the cache of these tests takes for now. */
const nowMs = 1_800_000_000_000;
export const payload = parsePayloadId("ab".repeat(32));
export const p2pcache = { payload, variant: parseVariantHash("cd".repeat(32)) };
export const handle: RezHandle = rezHandle(
  { kind: "rez", repository: "studio", name: "foo", version: "1.0.0", index: 0 },
  "/srv/rez/packages",
);

/** A fresh cache for each test, and a tree to place: a read-only directory, a tool in it, a dangling link. */
export interface RezCacheContext {
  folder: string;
  cache: RezCache;
  /** The hash directory of `handle`. */
  directory: string;
  tree: string;
}

/** A suite with such a context; the umask is 0, as it is in the node. */
export function rezCacheSuite(name: string): Test<RezCacheContext> {
  const test = suite<RezCacheContext>(name);
  let umask = 0;
  test.before(() => {
    umask = process.umask(0);
  });
  test.after(() => {
    process.umask(umask);
  });
  test.before.each((context) => {
    context.folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-rez-"));
    // The lock is not waited for: held, it is an error at once.
    const lock = { ...systemTiming, waitMs: 0 };
    context.cache = RezCache.open(join(context.folder, "cache"), { lock, wallMs: () => nowMs });
    context.directory = context.cache.directoryOf(handle);
    context.tree = join(context.cache.ownPath, "tree");
    makeDirectory(join(context.tree, "bin"));
    fs.writeFileSync(join(context.tree, "bin", "tool"), "#!/bin/sh\n", { mode: 0o555 });
    fs.symlinkSync("nowhere", join(context.tree, "dangling"));
    fs.chmodSync(join(context.tree, "bin"), 0o555);
  });
  test.after.each(({ folder }) => {
    makeWritable(folder);
    fs.rmSync(folder, { recursive: true, force: true });
  });
  return test;
}

export function makeDirectory(path: string): void {
  fs.mkdirSync(path, { recursive: true, mode: 0o755 });
}

export function placement({ tree }: RezCacheContext, more: Partial<Placement> = {}): Placement {
  return { handle, variantRequires: ["python-3.11"], p2pcache, indexMode: 0o666, tree, ...more };
}

export function place(
  context: RezCacheContext,
  onIntent: (spot: Spot) => Promise<void> = async () => {},
): Promise<PlaceResult> {
  return context.cache.place({ ...placement(context), onIntent });
}

/** An index file as Rez writes it, with its payload directory. */
export function foreign(directory: string, suffix: string, more: object = {}, { root = true } = {}): void {
  makeDirectory(root ? join(directory, suffix) : directory);
  fs.writeFileSync(join(directory, `${suffix}.json`), JSON.stringify({ handle, ...more }));
}

export function copyingSince(directory: string, suffix: string, ageMs: number): void {
  const path = join(directory, `.copying-${suffix}`);
  fs.writeFileSync(path, "");
  fs.utimesSync(path, (nowMs - ageMs) / 1000, (nowMs - ageMs) / 1000);
}

export function located(cache: RezCache): Found {
  const found = cache.locate(handle);
  if (found.kind === "absent") throw new Error("absent");
  return found;
}

export async function rejectionOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => assert.unreachable("was not refused"),
    (error: unknown) => error,
  );
}

export function modeOf(path: string): number {
  return fs.statSync(path).mode & 0o7777;
}

/** Names in `.sys/to_delete`. */
export function toDelete(cache: RezCache): string[] {
  return fs.readdirSync(join(cache.path, ".sys", "to_delete"));
}

function makeWritable(path: string): void {
  fs.chmodSync(path, 0o700);
  for (const entry of fs.readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) makeWritable(join(path, entry.name));
  }
}
