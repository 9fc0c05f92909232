import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { getEnvironmentData, isMainThread, setEnvironmentData } from "node:worker_threads";

// The filesystem of all threads of a process, of which any call may fail: to be loaded by `--import`, before all else.
// What changes nothing is let through and not counted; a recursive removal counts each file.

/** What a call that fails does. "crash": neither it nor any after it has an effect. */
const faults = ["crash", "EIO", "ENOSPC", "EROFS", "slow"] as const;
type Fault = (typeof faults)[number];

const key = "p2pcache-faulty-disk";
/** Calls until the fault, the fault, calls made, and how many the fault lasts. */
const [left, kind, made, lasts] = [0, 1, 2, 3];
const never = 1 << 30;
const shared = isMainThread
  ? new Int32Array(new SharedArrayBuffer(16))
  : new Int32Array(getEnvironmentData(key) as SharedArrayBuffer);
if (isMainThread) {
  shared[left] = never;
  setEnvironmentData(key, shared.buffer);
}

/** How the disk of this process is told what to do. */
export const disk = {
  /** From now on the call after `count` others fails; with it `calls` of them, all when it is a crash. */
  fail(fault: Fault, count: number, calls = 1): void {
    Atomics.store(shared, made, 0);
    Atomics.store(shared, kind, faults.indexOf(fault));
    Atomics.store(shared, lasts, fault === "crash" ? never : calls);
    Atomics.store(shared, left, count);
  },
  calm(): void {
    Atomics.store(shared, left, never);
  },
  /** Whether the call that was to fail has come. */
  hasFailed(): boolean {
    return Atomics.load(shared, left) < 0;
  },
  calls(): number {
    return Atomics.load(shared, made);
  },
  /** Counts a call of another kind: the database's. */
  step,
};

/** @throws what the call is to fail with. */
function step(name: string, path: unknown): void {
  Atomics.add(shared, made, 1);
  const before = Atomics.sub(shared, left, 1);
  if (before > 0 || before <= -Atomics.load(shared, lasts)) return;
  const fault = faults[Atomics.load(shared, kind)]!;
  if (fault === "slow") return void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, slowMs);
  const code = fault === "crash" ? "ECRASHED" : fault;
  throw Object.assign(new Error(`${code}: ${name} '${String(path)}'`), { code, syscall: name, path: String(path) });
}

/** As a disk that has much else to do. */
const slowMs = 20;

const changing =
  "writeSync writeFileSync renameSync linkSync unlinkSync rmdirSync mkdirSync chmodSync fchmodSync lchownSync utimesSync futimesSync symlinkSync truncateSync ftruncateSync fsyncSync".split(
    " ",
  );
const promised = "writeFile rename link unlink rmdir mkdir chmod utimes symlink truncate".split(" ");
const ofHandles = "write writeFile truncate sync chmod utimes".split(" ");

type Callable = (...parameters: unknown[]) => unknown;

function wrap(holder: object, name: string, isAsync: boolean): void {
  // A process that ends takes nothing along that it has written: only time would be lost by syncing.
  const real = name === "fsyncSync" || name === "sync" ? () => undefined : (holder as Record<string, Callable>)[name]!;
  const wrapped = isAsync
    ? async function (this: unknown, ...parameters: unknown[]) {
        step(name, parameters[0]);
        return await real.apply(this, parameters);
      }
    : function (this: unknown, ...parameters: unknown[]) {
        step(name, parameters[0]);
        return real.apply(this, parameters);
      };
  Object.assign(holder, { [name]: wrapped });
}

function opens(flags: unknown): boolean {
  return typeof flags === "number"
    ? (flags & (fs.constants.O_CREAT | fs.constants.O_TRUNC)) !== 0
    : (flags ?? "r") !== "r";
}

const { openSync, promises } = fs;
const { open } = promises;
for (const name of changing) wrap(fs, name, false);
for (const name of promised) wrap(promises, name, true);
Object.assign(fs, {
  openSync: (...parameters: Parameters<typeof openSync>) => {
    if (opens(parameters[1])) step("openSync", parameters[0]);
    return openSync(...parameters);
  },
  rmSync: remove,
});
Object.assign(promises, {
  open: async (...parameters: Parameters<typeof open>) => {
    if (opens(parameters[1])) step("open", parameters[0]);
    const handle = await open(...parameters);
    for (const name of ofHandles) wrap(handle, name, true);
    return handle;
  },
  rm: async (path: string, options?: fs.RmOptions) => remove(path, options),
});
syncBuiltinESMExports();

/** One call a file, as a crash may come after any of them. */
function remove(path: string, { recursive = false, force = false }: fs.RmOptions = {}): void {
  const stat = fs.lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined && force) return;
  if (stat?.isDirectory() !== true) return fs.unlinkSync(path);
  if (recursive) for (const name of fs.readdirSync(path)) remove(join(path, name), { recursive });
  fs.rmdirSync(path);
}
