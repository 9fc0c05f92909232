import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { UnusableError } from "../../protocol/errors.ts";
import { MIB } from "../../protocol/limits.ts";
import { writeDurably } from "../durable-file.ts";
import type { PolicyFacts } from "./policy-facts.ts";
import { sha256 } from "./sha256.ts";

/** What is remembered of a policy that was found right. */
export interface StoredPolicy {
  /** Grows with every write. */
  readonly sequence: number;
  /** The newest time that a timestamp said it was signed at; 0 where none did. Milliseconds since 1970. */
  readonly newestSignedMs: number;
  /** When its root was taken for right without an older one that leads to it, and which one it was. ISO 8601. */
  readonly since: string;
  /** Every file by its name. Without a timestamp only roots: nothing has been followed yet. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** What its metadata says; empty while nothing has been followed yet. */
  readonly facts: PolicyFacts;
}

/**
 * The policy that this machine has verified, kept durably and twice: no loss of one file makes it believe something
 * older (P6). Each copy is one file that is replaced whole.
 */
export class PolicyState {
  readonly #paths: readonly [string, string];
  #stored: StoredPolicy | undefined;

  private constructor(paths: readonly [string, string], stored: StoredPolicy | undefined) {
    this.#paths = paths;
    this.#stored = stored;
  }

  /**
   * Reads what is there, and makes a copy anew that is missing, broken or older.
   * @param name of the directories in `statePath`. @throws {UnusableError} where it cannot be read or written.
   */
  static async open(statePath: string, name = "policy"): Promise<PolicyState> {
    const paths = placesOf(statePath, name);
    const [first, second] = await Promise.all([read(paths[0]), read(paths[1])]);
    const stored = (first?.sequence ?? -1) >= (second?.sequence ?? -1) ? first : second;
    const state = new PolicyState(paths, stored);
    if (stored !== undefined && first?.sequence !== second?.sequence) await state.#write(stored);
    return state;
  }

  /** The same, for those who only look: nothing is written. */
  static async look(statePath: string, name = "policy"): Promise<StoredPolicy | undefined> {
    const paths = placesOf(statePath, name);
    const [first, second] = await Promise.all([read(paths[0]), read(paths[1])]);
    return (first?.sequence ?? -1) >= (second?.sequence ?? -1) ? first : second;
  }

  get stored(): StoredPolicy | undefined {
    return this.#stored;
  }

  /** Both copies are durable when it ends. @throws {UnusableError} */
  async save(policy: Omit<StoredPolicy, "sequence">): Promise<void> {
    const stored = { ...policy, sequence: (this.#stored?.sequence ?? 0) + 1 };
    await this.#write(stored);
    this.#stored = stored;
  }

  async #write(stored: StoredPolicy): Promise<void> {
    const bytes = encode(stored);
    // One after the other: a crash leaves at least one of them whole.
    for (const path of this.#paths) {
      try {
        await writeDurably(path, bytes);
      } catch (cause) {
        throw new UnusableError(`the policy cannot be kept: ${path}: ${(cause as Error).message}`, { cause });
      }
    }
  }
}

function placesOf(statePath: string, name: string): [string, string] {
  return [join(statePath, name, "verified.json"), join(statePath, `${name}.copy`, "verified.json")];
}

/** The first line is the digest of the rest, so that half a file is noticed. */
function encode({ files, ...rest }: StoredPolicy): Uint8Array {
  const texts = Object.fromEntries([...files].map(([name, bytes]) => [name, Buffer.from(bytes).toString("base64")]));
  const body = `${JSON.stringify({ version: 1, ...rest, files: texts })}\n`;
  return Buffer.from(`${sha256(Buffer.from(body))}\n${body}`);
}

/** Undefined where there is none, or a broken one. */
async function read(path: string): Promise<StoredPolicy | undefined> {
  try {
    if ((await stat(path)).size > stateBytesMax) return undefined;
    const text = await readFile(path, "utf8");
    const end = text.indexOf("\n");
    const body = text.slice(end + 1);
    if (sha256(Buffer.from(body)) !== text.slice(0, end)) return undefined;
    const { version, files, ...rest } = JSON.parse(body);
    if (version !== 1) return undefined;
    const bytes = Object.entries(files as Record<string, string>).map(([name, base64]) => {
      return [name, new Uint8Array(Buffer.from(base64, "base64"))] as const;
    });
    return { ...rest, files: new Map(bytes) };
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    // What cannot be read must not be taken for nothing: an older policy would count again.
    throw new UnusableError(`the policy cannot be read: ${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** Two thousand delegated files of middling size; more than any studio has. */
const stateBytesMax: number = 256 * MIB;
