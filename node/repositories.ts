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
  /** Changes when a mount that was silent answers. */
  readonly paths: Map<string, string>;
  /** One line for each mount that was silent at the start. */
  readonly warnings: readonly string[];
  readonly #mounts: Mounts;
  readonly #file: string;
  readonly #waking: NodeJS.Timeout | undefined;

  private constructor(mounts: Mounts, paths: Map<string, string>, silent: readonly string[], file: string) {
    this.#mounts = mounts;
    this.#file = file;
    this.paths = paths;
    this.warnings = silent.map((id) => {
      const known = paths.get(id)!;
      return `the mount of the repository ${id} (${mounts.get(id)}) does not answer: ${known} is taken for its place`;
    });
    if (silent.length > 0) this.#waking = setInterval(() => void this.#again(), againMs).unref();
  }

  /** `state`: the node's directory, where real paths are remembered. */
  static async open(mounts: Mounts, state: string, waitMs: number = startMs): Promise<RealRepositories> {
    const file = join(state, "repositories.json");
    const [{ real, silent }, remembered] = await Promise.all([resolve(mounts, waitMs), recall(file)]);
    for (const id of silent) real.set(id, remembered[mounts.get(id)!] ?? mounts.get(id)!);
    return new RealRepositories(mounts, real, silent, file);
  }

  /** To be called once the state directory is there. Never rejects: what is not remembered is asked again. */
  async remember(): Promise<void> {
    if (this.warnings.length === 0) await store(this.#file, this.#mounts, this.paths);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#waking);
  }

  /** Never rejects. */
  async #again(): Promise<void> {
    const { real, silent } = await resolve(this.#mounts, againMs / 2);
    if (silent.length > 0) return;
    for (const [id, path] of real) this.paths.set(id, path);
    clearInterval(this.#waking);
    await store(this.#file, this.#mounts, this.paths);
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
