import { readFile, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { UnusableError } from "../../protocol/errors.ts";
import { writeDurably } from "../durable-file.ts";
import { sha256 } from "./sha256.ts";

/** What a machine must never go behind again, of the newest policy that it has verified (P6). */
export interface PolicyFloor {
  /** The newest root, and the SHA-256 of its file: who has an old root key may sign others of its version. */
  readonly root: { readonly version: number; readonly sha256: string };
  /** Key ids that signed the timestamp: a root that has taken all of them away begins to count anew. */
  readonly signers: readonly string[];
  readonly timestamp: number;
  readonly snapshot: number;
  /** Versions of what the snapshot names, by file. */
  readonly meta: Readonly<Record<string, number>>;
  /** The newest time that a timestamp said it was signed at; milliseconds since 1970. */
  readonly newestSignedMs: number;
}

/** The floor as it lies in the cache: a state directory that is deleted takes nothing back (decision 0092). */
export class TrustFloor {
  readonly #path: string;
  readonly #onProblem: (problem: string) => void;
  /** What lies there; "broken" where that says nothing. */
  #kept: PolicyFloor | "broken" | undefined;

  private constructor(path: string, onProblem: (problem: string) => void, kept: PolicyFloor | "broken" | undefined) {
    this.#path = path;
    this.#onProblem = onProblem;
    this.#kept = kept;
  }

  /** Nothing is written. @throws {UnusableError} where it cannot be read. */
  static async open(cachePath: string, onProblem: (problem: string) => void): Promise<TrustFloor> {
    const path = pathIn(cachePath);
    return new TrustFloor(path, onProblem, await read(path));
  }

  /** Whether a policy was followed with this cache; false also for who may not look. */
  static async isAt(cachePath: string): Promise<boolean> {
    return await stat(pathIn(cachePath)).then(
      () => true,
      () => false,
    );
  }

  /** Forgets it: the first step of `trust reset`. Answers what it was. @throws {UnusableError} */
  static async clear(cachePath: string): Promise<PolicyFloor | undefined> {
    const path = pathIn(cachePath);
    const kept = await read(path);
    try {
      await rm(path, { force: true });
    } catch (cause) {
      throw new UnusableError(`what was seen of the policy cannot be forgotten: ${(cause as Error).message}`, {
        cause,
      });
    }
    return kept === "broken" ? undefined : kept;
  }

  get isThere(): boolean {
    return this.#kept !== undefined;
  }

  /** Undefined where there is none. */
  get floor(): PolicyFloor | undefined {
    return this.#kept === "broken" ? undefined : this.#kept;
  }

  /** Before a root is trusted without an older one. @throws {UnusableError} where nobody can tell any more what was seen. */
  checkReadable(): void {
    if (this.#kept !== "broken") return;
    throw new UnusableError(`what this machine has seen of the policy is lost: ${this.#path} is broken`, {
      hint: "begin anew with `p2pcache trust reset`",
    });
  }

  /**
   * Keeps the floor of a policy that was checked against the one before. Never rejects: what was followed counts also
   * where the cache's disk is full, and each look tries again.
   */
  async keep(floor: PolicyFloor): Promise<void> {
    const next = { ...floor, newestSignedMs: Math.max(floor.newestSignedMs, this.floor?.newestSignedMs ?? 0) };
    const bytes = encode(next);
    if (this.floor !== undefined && bytes.equals(encode(this.floor))) return;
    try {
      // Whose directories these are, and of which mode, is the store's to say.
      await stat(dirname(this.#path));
      await writeDurably(this.#path, bytes);
      this.#kept = next;
    } catch (error) {
      this.#onProblem(`the trust floor cannot be kept in the cache: ${(error as Error).message}`);
    }
  }
}

function pathIn(cachePath: string): string {
  return join(cachePath, ".sys", "p2pcache", "trust-floor.json");
}

/** The first line is the digest of the rest. */
function encode({ root, signers, timestamp, snapshot, meta, newestSignedMs }: PolicyFloor): Buffer {
  const sorted = Object.fromEntries(Object.entries(meta).sort(([a], [b]) => (a < b ? -1 : 1)));
  const body = `${JSON.stringify({ version: 1, root, signers, timestamp, snapshot, meta: sorted, newestSignedMs })}\n`;
  return Buffer.from(`${sha256(Buffer.from(body))}\n${body}`);
}

async function read(path: string): Promise<PolicyFloor | "broken" | undefined> {
  try {
    const text = await readFile(path, "utf8");
    const end = text.indexOf("\n");
    const body = text.slice(end + 1);
    if (sha256(Buffer.from(body)) !== text.slice(0, end)) return "broken";
    const { version, ...floor } = JSON.parse(body);
    return version === 1 ? floor : "broken";
  } catch (error) {
    // Where the cache is no directory there is no floor either; the store says so.
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    if (error instanceof SyntaxError) return "broken";
    throw new UnusableError(`what was seen of the policy cannot be read: ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
