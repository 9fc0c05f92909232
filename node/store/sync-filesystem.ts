import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Node has no syncfs: one child that syncs the filesystem beats an fsync for each of 100,000 files. */
export async function syncFilesystem(path: string, signal: AbortSignal | undefined): Promise<void> {
  const timeout = AbortSignal.timeout(syncMs);
  const either = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
  const run = promisify(execFile)("sync", ["-f", path], { signal: either, killSignal: "SIGKILL" });
  try {
    await run;
  } catch (error) {
    // One that waits for a disk cannot be killed; this process can end without it.
    run.child.unref();
    throw error;
  }
}

/** Longer than a disk takes for what one fetch wrote; with much more than that to write, each file is synced by itself. */
const syncMs = 60_000;
