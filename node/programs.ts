import { readdir, readFile, readlink } from "node:fs/promises";
import { dirname } from "node:path";

export interface ProgramsParts {
  /** The cache, by its real path, as programs see it. */
  readonly cachePath: string;
  /** Milliseconds, monotonic. */
  readonly nowMs: () => number;
  /** proc(5); another place in tests. */
  readonly procPath?: string;
}

/**
 * Which programs of this machine run from trees in the cache, without a lease, as `rez-env` starts them (DESIGN section 8).
 * A program counts for a tree that its binary, its working directory or a library of it lies in, or that its
 * environment names, as Rez's `REZ_<NAME>_ROOT` does. Only what this user may read is seen: its own programs, or all for
 * root. Another mount namespace may name the cache otherwise: such programs are not seen.
 */
export class Programs {
  readonly #parts: ProgramsParts;
  /** By path of anything below the cache. */
  #users: ReadonlyMap<string, string> = new Map();
  /** The same, of the look that goes on. */
  #seen = new Map<string, string>();
  #lookedMs = Number.NEGATIVE_INFINITY;
  #hangs = false;
  #looking: Promise<void> | undefined;

  constructor(parts: ProgramsParts) {
    this.#parts = parts;
  }

  /**
   * Looks, unless that was done within `maxAgeMs`. Never rejects: where there is no /proc nothing is seen. What is read of a
   * process that hangs in a system call may never come (a page of a mount that hangs): after a second what was seen by then
   * counts beside what was seen before, and until that one answers nobody waits for it, nor is anything else looked at.
   */
  async look(maxAgeMs: number = freshMs): Promise<void> {
    if (this.#parts.nowMs() - this.#lookedMs < maxAgeMs || this.#hangs) return;
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      this.#hangs = false;
    });
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      this.#hangs = true;
      this.#users = new Map([...this.#users, ...this.#seen]);
      late.resolve();
    }, waitMsMax);
    await Promise.race([this.#looking, late.promise]);
    clearTimeout(timer);
  }

  /** Whether any was seen. */
  get areSeen(): boolean {
    return this.#users.size > 0;
  }

  /** One that ran from a tree when it was looked last: `maya.bin (4711)`. */
  from(treePath: string): string | undefined {
    return this.#users.get(treePath);
  }

  async #look(): Promise<void> {
    const { procPath = "/proc", nowMs } = this.#parts;
    this.#seen = new Map();
    const pids = await readdir(procPath).catch(() => []);
    for (const pid of pids) {
      if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
      const paths = await this.#pathsOf(`${procPath}/${pid}`);
      if (paths.size === 0) continue;
      const name = `${await commandOf(`${procPath}/${pid}`)} (${pid})`;
      for (const path of paths) this.#note(path, name);
    }
    this.#users = this.#seen;
    this.#lookedMs = nowMs();
  }

  /** A tree is used by whoever uses what lies in it. */
  #note(path: string, name: string): void {
    const { cachePath } = this.#parts;
    const seen = this.#seen;
    for (let at = path; at.length > cachePath.length && !seen.has(at); at = dirname(at)) seen.set(at, name);
  }

  async #pathsOf(process: string): Promise<ReadonlySet<string>> {
    const paths = new Set<string>();
    // One after the other: whatever hangs takes one thread of the pool, and not all of them.
    for (const link of ["exe", "cwd"]) this.#find(await readlink(`${process}/${link}`).catch(() => ""), paths);
    for (const file of ["environ", "maps"]) {
      this.#find(await readFile(`${process}/${file}`, "latin1").catch(() => ""), paths);
    }
    return paths;
  }

  /** Paths below the cache in a text, each as far as nothing ends it that separates paths in such texts. */
  #find(text: string, paths: Set<string>): void {
    const prefix = Buffer.from(`${this.#parts.cachePath}/`).toString("latin1");
    for (let at = text.indexOf(prefix); at >= 0; at = text.indexOf(prefix, at + prefix.length)) {
      separator.lastIndex = at + prefix.length;
      const end = separator.exec(text)?.index ?? text.length;
      paths.add(Buffer.from(text.slice(at, end), "latin1").toString().replace(/\/+$/, ""));
    }
  }
}

async function commandOf(process: string): Promise<string> {
  return (await readFile(`${process}/comm`, "utf8").catch(() => "")).trim() || "a program";
}

/** Nothing that Rez lets stand in a package's name or version. */
const separator = /[\0\n:;,"' ]/g;
/** What goes by a plan is based on the plan's own look, at most so old. */
const freshMs = 2_000;
/** 60 ms for 175 processes (Node 26, on this project's machines). */
const waitMsMax = 1_000;
