import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { Studio } from "./studio.ts";

/** How a command ended. */
export interface Ended {
  /** Undefined when a signal killed it. */
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string;
  /** Words that start it: as somebody else, or with disks of its own. */
  readonly prefix?: readonly string[];
  /** Told of the process once it runs. */
  readonly onProcess?: (child: ChildProcess) => void;
}

/** Runs `p2pcache` as a process of its own, until it ends. */
export async function p2pcache(words: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const [command, ...all] = [...(options.prefix ?? []), process.execPath, launcher, ...words] as [string, ...string[]];
  const child = spawn(command, all, { env: { ...process.env, ...options.env } });
  options.onProcess?.(child);
  // A command that reads nothing closes its end before we have written.
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? "");
  // A test may close an end too.
  const stdoutText = text(child.stdout).catch(() => "");
  const [stdout, stderr, [code]] = await Promise.all([stdoutText, text(child.stderr), once(child, "exit")]);
  return { code: code ?? undefined, stdout, stderr };
}

/** One machine of a studio, on which commands are typed; the node that they start ends with it. */
export class Machine implements AsyncDisposable {
  readonly studio: Studio;
  readonly config: string;
  readonly path: string;

  private constructor(studio: Studio, name: string) {
    this.studio = studio;
    this.config = studio.configure(name);
    this.path = join(studio.path, name);
  }

  static async open(): Promise<Machine> {
    return new Machine(await Studio.open(), "machine");
  }

  run(words: readonly string[], options: RunOptions = {}): Promise<Ended> {
    return p2pcache([...words, "--config", this.config], options);
  }

  /** Runs with `--json`. */
  async json(words: readonly string[], options: RunOptions = {}): Promise<{ code: number | undefined; out: unknown }> {
    const { code, stdout } = await this.run([...words, "--json"], options);
    return { code, out: stdout === "" ? undefined : JSON.parse(stdout) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.run(["node", "stop"]);
    await this.studio[Symbol.asyncDispose]();
  }
}

/** What `--json` says on stderr of an error. */
export function errorIn({ stderr }: Ended): { code: string; message: string; exit: number; details: object } {
  const line = stderr.trimEnd().split("\n").at(-1) ?? "";
  return (JSON.parse(line) as { error: { code: string; message: string; exit: number; details: object } }).error;
}

const launcher = fileURLToPath(new URL("../../cli/launcher.js", import.meta.url));
