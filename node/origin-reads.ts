import { ReleaseChangedError } from "../protocol/errors.ts";
import type { PayloadFetchEvent } from "../protocol/payload-fetch.ts";
import type { SourceName } from "../protocol/transfer-source.ts";
import { isOwnBuffer } from "./chunk-buffers.ts";
import { originRefused } from "./origin-access.ts";
import type { Origin, StagedTree } from "./ports.ts";

export interface OriginReadParts {
  readonly target: StagedTree;
  readonly origins: readonly Origin[];
  readonly sizeOf: (item: number) => number;
  readonly post: (event: PayloadFetchEvent) => void;
  /** Takes what came, and never rejects; `inPlace` is the release that it was read from. */
  readonly onBytes: (
    source: SourceName,
    item: number,
    bytes: Uint8Array<ArrayBuffer>,
    inPlace: string | undefined,
  ) => Promise<void>;
}

/** The items of one payload that are being read from origins, and what origins said when they did not give them. */
export class OriginReads {
  readonly #parts: OriginReadParts;
  readonly #origins: ReadonlyMap<SourceName, Origin>;
  readonly #reading = new Map<number, AbortController>();
  /** What an origin said last when it did not give what it was asked for. */
  readonly refusals: Map<SourceName, Error> = new Map();
  /** By item: what an origin found changed that reads releases where they were published. */
  readonly changes: Map<number, ReleaseChangedError> = new Map();

  constructor(parts: OriginReadParts) {
    this.#parts = parts;
    this.#origins = new Map(parts.origins.map((origin) => [`origin:${origin.name}`, origin]));
  }

  /** The names under which a transfer knows them. */
  get names(): SourceName[] {
    return [...this.#origins.keys()];
  }

  has(source: SourceName): boolean {
    return this.#origins.has(source);
  }

  ask(source: SourceName, items: readonly number[]): void {
    for (const item of items) void this.#read(source, item);
  }

  cancel(items: readonly number[]): void {
    for (const item of items) this.#reading.get(item)?.abort();
  }

  close(): void {
    for (const controller of this.#reading.values()) controller.abort();
  }

  /** Never rejects. */
  async #read(source: SourceName, item: number): Promise<void> {
    const { target, sizeOf, post, onBytes } = this.#parts;
    const controller = new AbortController();
    this.#reading.set(item, controller);
    let inPlace: string | undefined;
    const place = target.placeOf(item);
    const onInPlace = (root: string) => {
      inPlace = root;
    };
    try {
      const options = { signal: controller.signal, onInPlace, ...(place === undefined ? {} : { place }) };
      const bytes = await this.#origins.get(source)!.chunk(target.hashOf(item), sizeOf(item), options);
      await onBytes(source, item, ownBuffer(bytes), inPlace);
    } catch (error) {
      if (controller.signal.aborted) return;
      this.refusals.set(source, error as Error);
      if (error instanceof ReleaseChangedError) this.changes.set(item, error);
      post(originRefused(error, source, item));
    } finally {
      if (this.#reading.get(item) === controller) this.#reading.delete(item);
    }
  }
}

/** The same bytes in a buffer of their own, which can be given to a worker thread. */
function ownBuffer(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return isOwnBuffer(bytes) ? bytes : new Uint8Array(bytes);
}
