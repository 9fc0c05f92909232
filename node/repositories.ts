import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { lookAtPaths } from "./path-looks.ts";

/** By repository id: where this machine mounts it. */
type Mounts = ReadonlyMap<string, string>;

/**
 * The same with links resolved, as Rez has it in its handles (REZ.md section 3). What does not exist stays as it is
 * written, and so does what says nothing in time.
 */
export async function realRepositories(mounts: Mounts, waitMs: number = lookMs): Promise<Map<string, string>> {
  return (await resolve(mounts, waitMs)).real;
}

/**
 * Where a node's repositories really lie. A mount that hangs while the node starts must not keep it from starting: the
 * place that it had last time is taken, or else what is written, until it answers.
 */
export class RealRepositories implements Disposable {
  /** Changes when a mount that was silent answers, and when the configuration does. */
  readonly paths: Map<string, string> = new Map();
  readonly #file: string;
  #mounts: Mounts = new Map();
  /** The ids of those that have not answered yet. */
  #silent: readonly string[] = [];
  #waking: NodeJS.Timeout | undefined;

  private constructor(file: string) {
    this.#file = file;
  }

  /** `state`: the node's directory, where real paths are remembered. */
  static async open(mounts: Mounts, state: string, waitMs: number = startMs): Promise<RealRepositories> {
    const repositories = new RealRepositories(join(state, "repositories.json"));
    await repositories.change(mounts, waitMs);
    return repositories;
  }

  /** One line for each mount that does not answer. */
  get warnings(): readonly string[] {
    return this.#silent.map((id) => {
      const known = this.paths.get(id)!;
      return `the mount of the repository ${id} (${this.#mounts.get(id)}) does not answer: ${known} is taken for its place`;
    });
  }

  /** Other mounts, or the same ones once more. */
  async change(mounts: Mounts, waitMs: number = startMs): Promise<void> {
    const [{ real, silent }, remembered] = await Promise.all([resolve(mounts, waitMs), recall(this.#file)]);
    for (const id of silent) real.set(id, remembered[mounts.get(id)!] ?? mounts.get(id)!);
    this.#mounts = mounts;
    this.#take(real, silent);
  }

  /** To be called once the state directory is there. Never rejects: what is not remembered is asked again. */
  async remember(): Promise<void> {
    if (this.#silent.length === 0) await store(this.#file, this.#mounts, this.paths);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#waking);
  }

  #take(real: Mounts, silent: readonly string[]): void {
    for (const id of this.paths.keys()) if (!real.has(id)) this.paths.delete(id);
    for (const [id, path] of real) this.paths.set(id, path);
    this.#silent = silent;
    clearInterval(this.#waking);
    if (silent.length > 0) this.#waking = setInterval(() => void this.#again(), againMs).unref();
  }

  /** Never rejects. */
  async #again(): Promise<void> {
    const mounts = this.#mounts;
    const { real, silent } = await resolve(mounts, againMs / 2);
    if (silent.length > 0 || mounts !== this.#mounts) return;
    this.#take(real, silent);
    await this.remember();
  }
}

async function resolve(mounts: Mounts, waitMs: number): Promise<{ real: Map<string, string>; silent: string[] }> {
  const looks = await lookAtPaths([...mounts.values()], waitMs);
  const silent: string[] = [];
  const real = new Map<string, string>();
  for (const [id, path] of mounts) {
    const look = looks.get(path)!;
    real.set(id, "realPath" in look ? look.realPath : path);
    if (look.kind === "silent") silent.push(id);
  }
  return { real, silent };
}

/** What was remembered, by path as written; nothing where the file is missing or strange. */
async function recall(file: string): Promise<Readonly<Record<string, string>>> {
  try {
    const value: unknown = JSON.parse(await readFile(file, "utf8"));
    const isTexts =
      typeof value === "object" && value !== null && Object.values(value).every((path) => typeof path === "string");
    return isTexts ? (value as Record<string, string>) : {};
  } catch {
    return {};
  }
}

async function store(file: string, mounts: Mounts, paths: Mounts): Promise<void> {
  const value = Object.fromEntries([...mounts].map(([id, path]) => [path, paths.get(id)!]));
  try {
    if (JSON.stringify(await recall(file)) === JSON.stringify(value)) return;
    await writeFile(`${file}.new`, `${JSON.stringify(value)}\n`, { mode: 0o600 });
    await rename(`${file}.new`, file);
  } catch {
    // A full disk, perhaps: nothing but the next start with a hanging mount needs it.
  }
}

/** What a command waits for a mount before it takes what is written for the place. */
const lookMs = 2_000;
/** A node is ready 2 s after its start (P2). */
const startMs = 700;
const againMs = 30_000;
