import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import {
  ChunkCorruptError,
  ChunkMissingError,
  FormatError,
  NoSpaceError,
  TreeDamagedError,
} from "../../protocol/errors.ts";
import type { ItemJob, ItemJobResults, JobFailure } from "./item-jobs.ts";

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
    this.#worker.postMessage({ id, job }, transfer);
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
    const worker = new Worker(new URL(`./item-worker.${ending}`, import.meta.url));
    worker.on("message", ({ id, result, failure }: { id: number; result?: unknown; failure?: JobFailure }) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (failure === undefined) waiting?.resolve(result);
      else waiting?.reject(errorOf(failure));
    });
    worker.on("error", (error) => {
      // What it had in hand has failed; the next job starts a new thread.
      this.#worker = undefined;
      this.#failAll(error instanceof Error ? error : new Error(String(error)));
    });
    worker.unref();
    return worker;
  }

  #failAll(error: Error): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}

function errorOf(failure: JobFailure): Error {
  const { message, code } = failure;
  switch (failure.class) {
    case "ChunkCorruptError":
      return new ChunkCorruptError(message);
    case "ChunkMissingError":
      return new ChunkMissingError(message);
    case "TreeDamagedError":
      return new TreeDamagedError(message, code === undefined ? {} : { code });
    case "FormatError":
      return new FormatError(message, code === undefined ? {} : { code });
    case "NoSpaceError":
      return new NoSpaceError(message);
    default:
      return Object.assign(new Error(message), { code });
  }
}
