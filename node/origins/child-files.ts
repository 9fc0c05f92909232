import type { UnreachableError } from "../../protocol/errors.ts";
import { Turns } from "../turns.ts";
import { slots } from "./child-calls.ts";
import { abortable } from "./direct-files.ts";
import { folderUnreachable } from "./folder-faults.ts";
import type { FolderFiles, FoundFile, InPlaceFound, InPlaceRequest } from "./folder-files.ts";
import { type Answered, type Patience, type Question, ReaderProcess } from "./reader-process.ts";

export interface ChildFilesOptions extends Partial<Patience> {
  /** The origin's name, and its folder: named in errors. */
  readonly name: string;
  readonly path: string;
  /** A child was given up. */
  readonly onAbandoned?: (reason: string) => void;
  /** How long it rests after the first trouble, and how a process is started; given by tests. */
  readonly restMs?: number;
  readonly start?: (patience: Patience) => Promise<ReaderProcess>;
}

/**
 * Calls made in a child process, which is started when the first one comes. A mount that hangs blocks its caller for
 * ever, cannot be interrupted, and must hold neither our threads nor our end: a child that says nothing for too long is
 * abandoned, all that was asked of it fails, and after a rest the next call starts a new one.
 */
export class ChildFiles implements FolderFiles, AsyncDisposable {
  readonly #options: ChildFilesOptions;
  readonly #patience: Patience;
  readonly #turns = new Turns(slots);
  #current: Promise<ReaderProcess> | undefined;
  /** Given up, and not gone yet. */
  #abandoned = 0;
  #troubles = 0;
  #restsUntilMs = 0;
  #isClosed = false;
  #asked = 0;
  #idle: NodeJS.Timeout | undefined;

  constructor(options: ChildFilesOptions) {
    this.#options = options;
    this.#patience = { silentMs: options.silentMs ?? defaultSilentMs, answerMs: options.answerMs ?? defaultAnswerMs };
  }

  async read(path: string, bytesMax: number, signal?: AbortSignal): Promise<FoundFile> {
    const { answer, bytes } = await this.#ask({ kind: "read", path, bytesMax }, path, signal);
    if (answer.kind === "bytes") return { kind: "bytes", bytes: bytes! };
    return answer as FoundFile;
  }

  async exists(path: string, signal?: AbortSignal): Promise<boolean> {
    const { answer } = await this.#ask({ kind: "exists", path }, path, signal);
    return answer.kind === "exists" && answer.exists;
  }

  async readInPlace(request: InPlaceRequest, signal?: AbortSignal): Promise<InPlaceFound> {
    const { answer, bytes } = await this.#ask({ kind: "readInPlace", ...request }, request.mount, signal);
    if (answer.kind === "bytes") return { kind: "bytes", bytes: bytes! };
    return answer as InPlaceFound;
  }

  /** The process that reads just now, for tests that trouble it. */
  async pid(): Promise<number | undefined> {
    return (await this.#current)?.pid;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await this.#rest();
  }

  /** Lets the child end; it takes memory. */
  async #rest(): Promise<void> {
    clearTimeout(this.#idle);
    const current = this.#current;
    this.#current = undefined;
    const reader = await current?.catch(() => undefined);
    await reader?.end((path) => this.#unreachable(path, "was being read when the node stopped"));
  }

  async #ask(question: Question, path: string, signal: AbortSignal | undefined): Promise<Answered> {
    const release = await this.#turns.take(signal ?? unlimited);
    clearTimeout(this.#idle);
    this.#asked++;
    const end = () => {
      release();
      if (--this.#asked === 0) this.#idle = setTimeout(() => void this.#rest(), idleMs).unref();
    };
    // Who leaves leaves at once; its turn ends when its answer has come, since until then it takes up a slot.
    return await abortable(this.#askNow(question, path).finally(end), signal);
  }

  async #askNow(question: Question, path: string): Promise<Answered> {
    const reader = await this.#reader(path);
    const answered = await reader.ask(question);
    this.#troubles = 0;
    const { answer } = answered;
    if (answer.kind === "failed") throw Object.assign(new Error(answer.message), { code: answer.code });
    return answered;
  }

  #reader(path: string): Promise<ReaderProcess> {
    if (this.#current !== undefined) return this.#current;
    if (this.#isClosed) return Promise.reject(this.#unreachable(path, "is not read any more: the node stops"));
    const restMs = this.#restsUntilMs - performance.now();
    if (this.#abandoned >= abandonedMax || restMs > 0) return Promise.reject(this.#silent(path, "does not answer"));
    const start = this.#options.start ?? ReaderProcess.start;
    const starting = start(this.#patience).then(
      (reader) => {
        reader.onOver = (why) => this.#over(reader, why);
        return reader;
      },
      (error: unknown) => {
        this.#current = undefined;
        throw error;
      },
    );
    this.#current = starting;
    return starting;
  }

  #over(reader: ReaderProcess, why: "silent" | "ended"): void {
    this.#current = undefined;
    this.#troubles++;
    const restMs = (this.#options.restMs ?? restMsMin) * 2 ** (this.#troubles - 1);
    this.#restsUntilMs = performance.now() + Math.min(restMsMax, restMs);
    const seconds = this.#patience.silentMs / 1000;
    const text =
      why === "silent" ? `has not answered for ${seconds} s` : "cannot be read: the process that does has ended";
    if (why === "silent") {
      this.#abandoned++;
      void reader.exited.then(() => this.#abandoned--);
    }
    reader.giveUp((path) => (why === "silent" ? this.#silent(path, text) : this.#unreachable(path, text)));
    this.#options.onAbandoned?.(`${this.#options.path} ${text}`);
  }

  #silent(path: string, why: string): UnreachableError {
    const hint = "its mount seems to hang: see whether its server is up; it is tried again by itself";
    return folderUnreachable(this.#options.name, path, why, { code: "ORIGIN_SILENT", hint, isLasting: true });
  }

  #unreachable(path: string, why: string): UnreachableError {
    return folderUnreachable(this.#options.name, path, why);
  }
}

/** A filer that is only busy says something within this time; searches for a record end after 15 s. */
const defaultSilentMs = 10_000;
/** One call of many that hangs for this long takes its process with it: no chunk is awaited for longer. */
const defaultAnswerMs = 30_000;
const restMsMin = 1_000;
const restMsMax = 60_000;
/** One that hangs in the kernel may stay for as long as its mount does. */
const abandonedMax = 3;
/** An idle child takes 45 MB; starting one takes 50 ms. */
const idleMs = 60_000;
const unlimited: AbortSignal = new AbortController().signal;
