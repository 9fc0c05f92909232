import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, fstatSync, mkdirSync, openSync, readSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { type ErrorShape, P2pCacheError, UnreachableError, UnusableError } from "../node/index.ts";
import { launcherPath } from "./context.ts";

/** What a node says of itself once it answers: `node run --json`. */
export interface ReadyNode {
  readonly node: string;
  readonly socket: string;
  readonly addresses: readonly string[];
}

export interface SpawnOptions {
  /** What follows `node run`. */
  readonly words: readonly string[];
  /** The node's messages are appended to it. */
  readonly logPath: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
  /** Told of the process as soon as there is one. */
  readonly onProcess?: (child: ChildProcess) => void;
}

/**
 * Starts a node as a process of its own, out of reach of the terminal's Ctrl-C, and waits until it answers. Nothing of
 * ours stays open in it.
 * @throws the error with which it failed to start; {UnreachableError} when it says nothing for too long; the signal's
 * reason, and then the node is left to itself.
 */
export async function spawnNode(options: SpawnOptions): Promise<ReadyNode> {
  const log = openLog(options.logPath);
  const child = startChild(options, log.descriptor);
  options.onProcess?.(child);
  const late = AbortSignal.timeout(readyMs);
  const signal = options.signal === undefined ? late : AbortSignal.any([late, options.signal]);
  try {
    const exited = once(child, "exit", { signal }).then(([code]) => code as number | null);
    const ready = await Promise.race([firstLine(child, signal), exited]);
    if (typeof ready === "string") return JSON.parse(ready) as ReadyNode;
    throw startError(await exited, log);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (!late.aborted) throw error;
    child.kill();
    throw new UnreachableError(`the node did not start within ${readyMs / 1000} s`, { hint: `see ${log.path}` });
  } finally {
    closeSync(log.descriptor);
    child.stdout?.destroy();
    child.unref();
  }
}

interface OpenLog {
  readonly path: string;
  readonly descriptor: number;
  /** Where this start's messages begin. */
  readonly offset: number;
}

function openLog(path: string): OpenLog {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > logBytesMax) renameSync(path, `${path}.1`);
    const descriptor = openSync(path, "a+", 0o600);
    return { path, descriptor, offset: fstatSync(descriptor).size };
  } catch (cause) {
    throw new UnusableError(`the node's log ${path} cannot be written: ${(cause as Error).message}`, { cause });
  }
}

function startChild({ words, env }: SpawnOptions, descriptor: number): ChildProcess {
  return spawn(process.execPath, [launcherPath, "node", "run", "--json", ...words], {
    detached: true,
    stdio: ["ignore", "pipe", descriptor],
    ...(env === undefined ? {} : { env }),
  });
}

/** Its first line; undefined when it ends without one. */
async function firstLine(child: ChildProcess, signal: AbortSignal): Promise<string | undefined> {
  const lines = createInterface({ input: child.stdout! });
  try {
    const [line] = (await Promise.race([once(lines, "line", { signal }), once(lines, "close", { signal })])) as [
      string | undefined,
    ];
    return line;
  } finally {
    lines.close();
  }
}

/** Another start may write into the same log: ours is the error with our exit code. */
function startError(code: number | null, { path, descriptor, offset }: OpenLog): Error {
  const text = Buffer.alloc(logTailBytes);
  const end = fstatSync(descriptor).size;
  const from = Math.max(offset, end - logTailBytes);
  const length = readSync(descriptor, text, 0, Math.min(logTailBytes, end - from), from);
  const errors = text
    .toString("utf8", 0, length)
    .split("\n")
    .flatMap((line) => parseError(line) ?? []);
  const found = errors.findLast((error) => error.exit === code);
  if (found === undefined) {
    return new P2pCacheError("NODE_FAILED", 1, "a node could not be started", { hint: `see ${path}` });
  }
  const { hint, ...details } = (found.details ?? {}) as { hint?: string };
  const options = { details, ...(hint === undefined ? {} : { hint }) };
  return new P2pCacheError(found.code, found.exit as P2pCacheError["exit"], found.message, options);
}

function parseError(line: string): ErrorShape | undefined {
  try {
    return (JSON.parse(line) as { error?: ErrorShape }).error;
  } catch {
    return undefined;
  }
}

/** A node answers within 2 s of its start (DESIGN section 2), and a busy machine is ten times slower. */
const readyMs = 30_000;
/** A node writes some hundred bytes for each variant that it places; one older log is kept beside. */
const logBytesMax: number = 10 * 1024 * 1024;
const logTailBytes: number = 64 * 1024;
