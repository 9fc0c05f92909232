import type { ChunkHash, PayloadId, VariantHash } from "../protocol/hash.ts";

/** Time, as the shell reads it. */
export interface Clock {
  /** Milliseconds that never go back; their zero means nothing. */
  monotonicMs(): number;
  /** Milliseconds since 1970, which an admin may set wrongly. */
  wallMs(): number;
}

/** What every wait may be given: an abort rejects with the signal's reason. */
export interface WaitOptions {
  readonly signal?: AbortSignal;
}

/** The central server, read: the last resort. Nothing that it answers is verified yet. */
export interface Origin {
  readonly name: string;
  /**
   * The envelope of the highest revision of a variant's release record; undefined where there is none.
   * @throws {UnreachableError} when the origin cannot be asked; {FormatError} when what lies there is too large.
   */
  latestRecord(variant: VariantHash, options?: WaitOptions): Promise<Uint8Array | undefined>;
  /**
   * A chunk or a manifest segment of `sizeBytes` bytes, not verified.
   * @throws {ChunkMissingError} when it has none by that name; {ChunkCorruptError} when it has another size;
   * {UnreachableError} when it cannot be asked.
   */
  chunk(hash: ChunkHash, sizeBytes: number, options?: WaitOptions): Promise<Uint8Array>;
}

/** An origin that this machine may publish to. Nothing in it is ever changed or removed. */
export interface Repository extends Origin {
  /** Whether a chunk or segment lies there already. */
  has(hash: ChunkHash): Promise<boolean>;
  /** Writes a chunk or segment durably; one that is there already is left alone. */
  putChunk(hash: ChunkHash, bytes: Uint8Array): Promise<void>;
  /**
   * Writes a record exclusively, once all that it names has been written.
   * @throws {NotTrustedError} (code RECORD_CONFLICT) when that revision exists with other bytes.
   */
  putRecord(variant: VariantHash, revision: number, envelope: Uint8Array): Promise<void>;
}

/** A variant that lies whole in the cache. */
export interface Holding {
  readonly variant: VariantHash;
  readonly payload: PayloadId;
  /** `studio:foo-1.0.0[0]`, for people. */
  readonly text: string;
  /** Where its tree lies. */
  readonly path: string;
  readonly bytes: number;
  readonly files: number;
}
