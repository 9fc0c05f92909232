import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, type Test } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../../../node/clock.ts";
import { PayloadStore } from "../../../node/store/payload-store.ts";
import { systemTiming } from "../../../node/store/rez-lock.ts";
import type { StoreOptions } from "../../../node/store/store-options.ts";
import { P2pCacheError } from "../../../protocol/errors.ts";
import type { PayloadId } from "../../../protocol/hash.ts";
import {
  engine,
  fill,
  type Payload,
  release,
  removeTree,
  repository,
  writeSampleTree,
} from "../../support/payloads.ts";

export const location = "/mnt/sw/packages";

/** A fresh cache and state for each test, and a released tree on this disk. */
export interface StoreContext {
  folder: string;
  /** The tree that `payload` was made of. */
  source: string;
  payload: Payload;
  /** What the store said that it mended or could not. */
  problems: string[];
  /** Opens the store on the cache and state of this test; what is open at its end is closed. */
  open: (more?: Partial<StoreOptions>) => Promise<PayloadStore>;
  cachePath: string;
  statePath: string;
  stagingPath: string;
}

/** A suite with such a context; the umask is 0, as it is in the node. */
export function storeSuite(name: string): Test<StoreContext> {
  const test = suite<StoreContext>(name);
  let shared = "";
  let payload: Payload;
  let umask = 0;
  let opened: PayloadStore[] = [];
  test.before(async () => {
    umask = process.umask(0);
    shared = fs.mkdtempSync(join(tmpdir(), "p2pcache-source-"));
    writeSampleTree(join(shared, "tree"));
    payload = await release(join(shared, "tree"));
  });
  test.after(() => {
    process.umask(umask);
    removeTree(shared);
  });
  test.before.each((context) => {
    const folder = fs.mkdtempSync(join(tmpdir(), "p2pcache-store-"));
    const [cachePath, statePath] = [join(folder, "cache"), join(folder, "state")];
    const stagingPath = join(cachePath, ".sys", "p2pcache", "staging");
    const problems: string[] = [];
    const open = async (more: Partial<StoreOptions> = {}) => {
      const store = await PayloadStore.open({
        ...storeOptions(folder),
        onProblem: (each) => problems.push(each),
        ...more,
      });
      opened.push(store);
      return store;
    };
    Object.assign(context, {
      folder,
      source: join(shared, "tree"),
      payload,
      problems,
      open,
      cachePath,
      statePath,
      stagingPath,
    });
  });
  test.after.each(async ({ folder }) => {
    for (const store of opened) await store[Symbol.asyncDispose]();
    opened = [];
    removeTree(folder);
  });
  return test;
}

/** Options for a cache and a state in one folder; Rez's lock is not waited for: held, it is an error at once. */
export function storeOptions(folder: string): StoreOptions {
  return {
    cachePath: join(folder, "cache"),
    statePath: join(folder, "state"),
    limits: { maxBytes: 1e12, freeBytesMin: 0 },
    indexMode: 0o666,
    clock: systemClock,
    hasher: engine.hash,
    repositories: new Map([[repository, location]]),
    lock: { ...systemTiming, waitMs: 0 },
  };
}

export function stage(store: PayloadStore, { hash, record, envelope }: Payload) {
  return store.stage(hash, record, envelope);
}

/** Fetches a payload in one go. Answers where its tree lies. */
export async function fetch(store: PayloadStore, payload: Payload): Promise<string> {
  const staged = await stage(store, payload);
  await fill(staged, payload);
  const result = await store.commit(payload.hash, staged);
  if (result.kind !== "placed") throw new Error("taken");
  return result.holding.path;
}

export function stagedPath({ stagingPath }: StoreContext, payload: PayloadId): string {
  return join(stagingPath, payload);
}

/** Changes one byte of a file, whatever its mode is, and nothing else about it. */
export function flipByte(path: string, at = 0): void {
  const { mode, atime, mtime } = fs.statSync(path);
  fs.chmodSync(path, 0o600);
  const file = fs.openSync(path, "r+");
  const byte = Buffer.alloc(1);
  fs.readSync(file, byte, 0, 1, at);
  byte[0]! ^= 1;
  fs.writeSync(file, byte, 0, 1, at);
  fs.closeSync(file);
  fs.chmodSync(path, mode & 0o7777);
  fs.utimesSync(path, atime, mtime);
}

/** Does something in a directory that is read-only. */
export function within(directory: string, change: () => void): void {
  const mode = fs.statSync(directory).mode & 0o7777;
  fs.chmodSync(directory, 0o700);
  change();
  fs.chmodSync(directory, mode);
}

export async function rejects(promise: Promise<unknown>, code: string): Promise<P2pCacheError> {
  const error = await promise.then(
    () => assert.unreachable(`nothing was refused, instead of ${code}`),
    (reason: unknown) => reason,
  );
  assert.instance(error, P2pCacheError, String(error));
  assert.is((error as P2pCacheError).code, code);
  return error as P2pCacheError;
}

export function modeOf(path: string): number {
  return fs.lstatSync(path).mode & 0o7777;
}
