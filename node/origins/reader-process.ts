import { type ChildProcessByStdio, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { type FileHandle, open, unlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { assert } from "../../protocol/errors.ts";
import { takeBuffer } from "../chunk-buffers.ts";
import { type ChildAnswer, type ChildQuestion, LineReader, slotBytes, slots, windowDescriptor } from "./child-calls.ts";

/** Without its number and its room for bytes, which the process gives it. */
export type Question = ChildQuestion extends infer Each
  ? Each extends ChildQuestion
    ? Omit<Each, "id" | "slot">
    : never
  : never;

/** An answer, with what lay in the slot. */
export interface Answered {
  readonly answer: ChildAnswer;
  /** In a buffer of its own. */
  readonly bytes: Uint8Array | undefined;
}

/** How long a process may be silent. */
export interface Patience {
  /** Without any word while something was asked. */
  readonly silentMs: number;
  /** For one answer, whatever else it says meanwhile. */
  readonly answerMs: number;
}

interface Waiting {
  readonly question: ChildQuestion;
  readonly askedMs: number;
  readonly resolve: (answered: Answered) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * A child process that makes system calls for us. One that hangs in them can be given up: it is killed, and neither the
 * event loop nor the end of this process waits until the kernel has got rid of it.
 */
export class ReaderProcess {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #window: FileHandle;
  readonly #patience: Patience;
  readonly #waiting = new Map<number, Waiting>();
  readonly #freeSlots: number[] = Array.from({ length: slots }, (_, slot) => slot);
  readonly #exited = Promise.withResolvers<void>();
  #nextId = 0;
  #lastWordMs = 0;
  #watch: NodeJS.Timeout | undefined;
  #isOver = false;
  /** It has said nothing for too long, or has ended: whoever uses it gives it up. */
  onOver: (why: "silent" | "ended") => void = () => undefined;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>, window: FileHandle, patience: Patience) {
    this.#child = child;
    this.#window = window;
    this.#patience = patience;
  }

  static async start(patience: Patience): Promise<ReaderProcess> {
    const window = await openWindow();
    const stdio = ["pipe", "pipe", "ignore", window.fd] as const;
    assert(stdio.indexOf(window.fd) === windowDescriptor, "the child finds the window where it looks for it");
    // stderr is no pipe of ours either: who waits for its end would wait for a process that hangs. The working directory
    // keeps no mount busy, and of the environment the child needs nothing.
    const options = { cwd: "/", env: { UV_THREADPOOL_SIZE: `${slots}` }, windowsHide: true };
    const child = spawn(process.execPath, [...childFlags, childPath], { ...options, stdio: [...stdio] });
    const reader = new ReaderProcess(
      child as unknown as ChildProcessByStdio<Writable, Readable, null>,
      window,
      patience,
    );
    reader.#listen();
    return reader;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Resolves once the kernel has got rid of it. */
  get exited(): Promise<void> {
    return this.#exited.promise;
  }

  /** Asks for one thing; `slots` of them at a time. @throws what `giveUp` is given. */
  ask(asked: Question): Promise<Answered> {
    const slot = this.#freeSlots.pop();
    assert(slot !== undefined && !this.#isOver, "no more is asked of a reader than it has room for");
    const { promise, resolve, reject } = Promise.withResolvers<Answered>();
    const question = { ...asked, id: this.#nextId++, slot } as ChildQuestion;
    this.#waiting.set(question.id, { question, askedMs: performance.now(), resolve, reject });
    this.#child.stdin.write(`${JSON.stringify(question)}\n`);
    this.#watch ??= setTimeout(() => this.#look(), this.#patience.silentMs);
    return promise;
  }

  /** Waits for it no more: what was asked fails with what `reasonOf` makes of each path. */
  giveUp(reasonOf: (path: string) => Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#watch);
    this.#child.kill("SIGKILL");
    this.#child.stdin.destroy();
    this.#child.stdout.destroy();
    this.#child.unref();
    // Its memory goes now; the process that keeps it open may stay for ever.
    void this.#closeWindow();
    for (const { question, reject } of this.#waiting.values()) {
      reject(reasonOf(question.kind === "readInPlace" ? join(question.mount, question.root) : question.path));
    }
    this.#waiting.clear();
  }

  /** Lets it end by itself, for a moment. */
  async end(reasonOf: (path: string) => Error): Promise<void> {
    if (this.#isOver) return;
    this.onOver = () => undefined;
    this.#child.stdin.end();
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, endMs);
    await Promise.race([this.exited, late]);
    clearTimeout(timer);
    this.giveUp(reasonOf);
  }

  #listen(): void {
    const { stdin, stdout } = this.#child;
    const lines = new LineReader();
    // A pipe that breaks belongs to a process that ends, which is told by its exit.
    stdin.on("error", () => undefined);
    stdout.on("error", () => undefined);
    stdout.setEncoding("utf8").on("data", (text: string) => {
      this.#lastWordMs = performance.now();
      for (const line of lines.push(text)) void this.#take(JSON.parse(line) as ChildAnswer);
    });
    const ended = () => {
      this.#exited.resolve();
      if (!this.#isOver) this.onOver("ended");
    };
    this.#child.once("exit", ended);
    this.#child.once("error", ended);
  }

  /** Never rejects. */
  async #take(answer: ChildAnswer): Promise<void> {
    const waiting = this.#waiting.get(answer.id);
    if (waiting === undefined || this.#isOver) return;
    const { slot } = waiting.question;
    try {
      const bytes = answer.kind === "bytes" ? await this.#bytesOf(slot, answer.sizeBytes) : undefined;
      waiting.resolve({ answer, bytes });
    } catch (error) {
      waiting.reject(error);
    }
    this.#waiting.delete(answer.id);
    this.#freeSlots.push(slot);
  }

  async #bytesOf(slot: number, sizeBytes: number): Promise<Uint8Array> {
    const bytes = takeBuffer(sizeBytes);
    const { bytesRead } = await this.#window.read(bytes, 0, sizeBytes, slot * slotBytes);
    assert(bytesRead === sizeBytes, "what a reader says that it wrote is there");
    return bytes;
  }

  /** Looks whether it is silent; if it seems so, a second time after what has arrived meanwhile was taken in. */
  #look(isSecond = false): void {
    const [oldest] = this.#waiting.values();
    this.#watch = undefined;
    if (oldest === undefined || this.#isOver) return;
    const { silentMs, answerMs } = this.#patience;
    const dueMs = Math.min(Math.max(this.#lastWordMs, oldest.askedMs) + silentMs, oldest.askedMs + answerMs);
    const leftMs = dueMs - performance.now();
    if (leftMs > 0) this.#watch = setTimeout(() => this.#look(), Math.ceil(leftMs));
    else if (isSecond) this.onOver("silent");
    else this.#watch = setTimeout(() => setImmediate(() => this.#look(true)), 0);
  }

  /** Never rejects. */
  async #closeWindow(): Promise<void> {
    await this.#window.truncate(0).catch(() => undefined);
    await this.#window.close().catch(() => undefined);
  }
}

/** A file without a name, in memory where there is a place for that, that a child can be given. */
async function openWindow(): Promise<FileHandle> {
  const name = `p2pcache-window-${randomBytes(12).toString("hex")}`;
  let path = join("/dev/shm", name);
  const flags = "wx+";
  const window = await open(path, flags, 0o600).catch(() => {
    path = join(tmpdir(), name);
    return open(path, flags, 0o600);
  });
  await unlink(path);
  return window;
}

/** The child's heap holds next to nothing: its bytes lie outside of it. */
const childFlags = ["--max-old-space-size=64", "--max-semi-space-size=1"];
// tsc does not rewrite the names in `new URL`: the child's ending is that of this very file.
const ending = import.meta.url.endsWith(".ts") ? "ts" : "js";
const childPath = fileURLToPath(new URL(`./folder-child.${ending}`, import.meta.url));
/** A child with nothing in hand ends within milliseconds. */
const endMs = 500;
