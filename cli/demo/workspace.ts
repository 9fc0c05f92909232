import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readdirSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A temporary directory and the processes that work in it: both go when it is closed, and when this process ends. */
export class Workspace implements AsyncDisposable {
  readonly path: string;
  readonly #children = new Set<ChildProcess>();
  readonly #onExit = (): void => this.#removeNow();

  private constructor(path: string) {
    this.path = path;
    process.once("exit", this.#onExit);
  }

  static open(): Workspace {
    return new Workspace(realpathSync(mkdtempSync(join(tmpdir(), "p2pcache-demo-"))));
  }

  /** Ends with the workspace. */
  adopt(child: ChildProcess): void {
    this.#children.add(child);
    child.once("exit", () => this.#children.delete(child));
  }

  /** From now on the user looks after directory and processes. */
  leave(): void {
    this.#children.clear();
    process.removeListener("exit", this.#onExit);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!process.listeners("exit").includes(this.#onExit)) return;
    const killAll = () => {
      for (const child of this.#children) child.kill("SIGKILL");
    };
    const tooLate = setTimeout(killAll, graceMs);
    await Promise.all([...this.#children].map((child) => end(child)));
    clearTimeout(tooLate);
    process.removeListener("exit", this.#onExit);
    removeTree(this.path);
  }

  /** Without waiting for anything: the process is on its way out. */
  #removeNow(): void {
    for (const child of this.#children) child.kill("SIGKILL");
    removeTree(this.path);
  }
}

/** Removes a tree, also one whose directories nobody may write. Files are left as they are: they may have other names. */
export function removeTree(path: string): void {
  makeWritable(path);
  rmSync(path, { recursive: true, force: true, maxRetries: 5 });
}

function makeWritable(directory: string): void {
  try {
    chmodSync(directory, 0o700);
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) makeWritable(join(directory, entry.name));
    }
  } catch (error) {
    // A process that is being killed may still take something away.
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

async function end(child: ChildProcess): Promise<void> {
  // It was let go of when it had started.
  child.ref();
  child.kill("SIGTERM");
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

/** A node ends within 10 s of SIGTERM (DESIGN section 10); nothing of these is worth that wait. */
const graceMs = 5_000;
