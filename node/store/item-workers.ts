import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import {
  ChunkCorruptError,
  ChunkMissingError,
  FormatError,
  NoSpaceError,
  TreeDamagedError,
  UnusableError,
} from "../../protocol/errors.ts";
import { giveBuffer } from "../chunk-buffers.ts";
import type { ItemJob, ItemJobResults, JobAnswer, JobFailure } from "./item-jobs.ts";

/** The threads that touch payload bytes. Jobs of one thread run one after the other. */
export class ItemWorkers implements AsyncDisposable {
  readonly #threads: Thread[];

  private constructor(threads: Thread[]) {
    this.#threads = threads;
  }

  /** Starts the threads: two are enough, since nearly all of their time is the kernel's (PERFORMANCE section 4). */
  static open(count: number = Math.min(2, availableParallelism())): ItemWorkers {
    return new ItemWorkers(Array.from({ length: count }, () => new Thread()));
  }

  /**
   * Does a job in the thread with the least to do, or in the one that `affinity` names, so that what it remembers is
   * of use. The buffers of `transfer` belong to the thread from then on.
   * @throws what the job throws, by its own class.
   */
  do<Kind extends ItemJob["kind"]>(
    job: Extract<ItemJob, { kind: Kind }>,
    options: { readonly transfer?: readonly ArrayBuffer[]; readonly affinity?: number } = {},
  ): Promise<ItemJobResults[Kind]> {
    const { affinity } = options;
    const least = this.#threads.reduce((a, b) => (b.waiting < a.waiting ? b : a));
    const thread = affinity === undefined ? least : this.#threads[affinity % this.#threads.length]!;
    return thread.do(job, options.transfer ?? []) as Promise<ItemJobResults[Kind]>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.end()));
  }
}

/**
 * Decoding 100,000 entries leaves 70 MB of garbage a thread where the old generation may grow as it likes, and 30 MB with
 * this bound (measured); a directory of a million names still fits.
 */
const resourceLimits = { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 192 };

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

class Thread {
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | undefined;
  #nextId = 0;
  #ended = false;

  get waiting(): number {
    return this.#waiting.size;
  }

  do(job: ItemJob, transfer: readonly ArrayBuffer[]): Promise<unknown> {
    if (this.#ended) return Promise.reject(new Error("the store is closed"));
    this.#worker ??= this.#start();
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject });
    // A process ends only when nobody waits for its threads any more.
    this.#worker.ref();
    try {
      this.#worker.postMessage({ id, job }, transfer);
    } catch (error) {
      this.#settle(id)?.reject(error as Error); // A buffer that was given away before.
    }
    return promise;
  }

  async end(): Promise<void> {
    this.#ended = true;
    await this.#worker?.terminate();
    this.#failAll(new Error("the store was closed"));
  }

  #start(): Worker {
    // tsc does not rewrite the names in `new URL`: the worker's ending is that of this very file.
    const ending = import.meta.url.endsWith(".ts") ? "ts" : "js";
    const worker = new Worker(new URL(`./item-worker.${ending}`, import.meta.url), { resourceLimits });
    worker.on("message", ({ id, result, failure, given }: JobAnswer) => {
      if (given !== undefined) giveBuffer(given);
      const waiting = this.#settle(id);
      if (failure === undefined) waiting?.resolve(result);
      else waiting?.reject(errorOf(failure));
    });
    const died = (error: Error) => {
      // What it had in hand has failed; the next job starts a new thread.
      if (this.#worker !== worker) return;
      this.#worker = undefined;
      this.#failAll(error);
    };
    worker.on("error", (error) => died(error instanceof Error ? error : new Error(String(error))));
    worker.on("exit", (code) => died(new Error(`a worker thread of the store ended with code ${code}`)));
    return worker;
  }

  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    // Whoever closes waits for the thread's end, also when its last answer comes meanwhile.
    if (this.#waiting.size === 0 && !this.#ended) this.#worker?.unref();
    return waiting;
  }

  #failAll(error: Error): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}

function errorOf(failure: JobFailure): Error {
  const { message, code, hint, details } = failure;
  const options = {
    ...(code === undefined ? {} : { code }),
    ...(hint === undefined ? {} : { hint }),
    ...(details === undefined ? {} : { details }),
  };
  switch (failure.class) {
    case "ChunkCorruptError":
      return new ChunkCorruptError(message, options);
    case "ChunkMissingError":
      return new ChunkMissingError(message, options);
    case "TreeDamagedError":
      return new TreeDamagedError(message, options);
    case "FormatError":
      return new FormatError(message, options);
    case "NoSpaceError":
      return new NoSpaceError(message, options);
    case "UnusableError":
      return new UnusableError(message, options);
    default:
      return Object.assign(new Error(message), { code });
  }
}
