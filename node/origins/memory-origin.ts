import { assert, ChunkCorruptError, ChunkMissingError, NotTrustedError } from "../../protocol/errors.ts";
import { type ChunkHash, compareBytes, type VariantHash } from "../../protocol/hash.ts";
import type { Repository, WaitOptions } from "../ports.ts";

/** A repository that lives as long as the object does: for tests. What it holds may be looked at, and damaged. */
export class MemoryRepository implements Repository {
  readonly name: string;
  readonly chunks: Map<ChunkHash, Uint8Array> = new Map();
  /** By variant: an envelope at the place of its revision. */
  readonly records: Map<VariantHash, Uint8Array[]> = new Map();
  readonly policy: Map<string, Uint8Array> = new Map();
  readonly #failures: Error[] = [];

  constructor(name: string) {
    this.name = name;
  }

  /** One later call fails with this: the next one, or the one after those that fail already. */
  failNext(error: Error): void {
    this.#failures.push(error);
  }

  async latestRecord(variant: VariantHash, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    this.#begin(options);
    return this.records.get(variant)?.at(-1)?.slice();
  }

  async chunk(hash: ChunkHash, sizeBytes: number, options: WaitOptions = {}): Promise<Uint8Array> {
    this.#begin(options);
    const bytes = this.chunks.get(hash);
    if (bytes === undefined) throw new ChunkMissingError(`${this.name} has no chunk ${hash}`);
    if (bytes.length !== sizeBytes) {
      throw new ChunkCorruptError(`${this.name} has ${bytes.length} bytes for chunk ${hash}, which has ${sizeBytes}`);
    }
    return new Uint8Array(bytes);
  }

  async policyFile(name: string, options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    this.#begin(options);
    return this.policy.get(name)?.slice();
  }

  async has(hash: ChunkHash, sizeBytes: number): Promise<boolean> {
    this.#begin();
    return this.chunks.get(hash)?.length === sizeBytes;
  }

  async reuse(hash: ChunkHash, sizeBytes: number): Promise<boolean> {
    return await this.has(hash, sizeBytes);
  }

  async putChunk(hash: ChunkHash, bytes: Uint8Array): Promise<void> {
    this.#begin();
    if (this.chunks.get(hash)?.length !== bytes.length) this.chunks.set(hash, new Uint8Array(bytes));
  }

  async putRecord(variant: VariantHash, revision: number, envelope: Uint8Array): Promise<void> {
    this.#begin();
    const revisions = this.records.get(variant) ?? [];
    assert(revision <= revisions.length, "revisions leave no gap, or readers would not find them");
    const existing = revisions[revision];
    if (existing === undefined) {
      this.records.set(variant, [...revisions, new Uint8Array(envelope)]);
    } else if (compareBytes(existing, envelope) !== 0) {
      throw new NotTrustedError(`${this.name} has another record of variant ${variant} as revision ${revision}`, {
        code: "RECORD_CONFLICT",
      });
    }
  }

  #begin(options: WaitOptions = {}): void {
    options.signal?.throwIfAborted();
    const failure = this.#failures.shift();
    if (failure !== undefined) throw failure;
  }
}
