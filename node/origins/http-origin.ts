import { ChunkCorruptError, ChunkMissingError, FormatError } from "../../protocol/errors.ts";
import type { ChunkHash, VariantHash } from "../../protocol/hash.ts";
import { originIndexBytesMax, policyFileBytesMax, recordBytesMax } from "../../protocol/limits.ts";
import { originIndexPath } from "../../protocol/origin-index.ts";
import type { Origin, WaitOptions } from "../ports.ts";
import { FormGuess } from "./form-guess.ts";
import { HttpClient, type HttpOptions } from "./http-client.ts";
import { fault } from "./http-faults.ts";
import {
  type ChunkForm,
  checkDescription,
  chunkPath,
  descriptionBytesMax,
  descriptionPath,
  policyPath,
  recordPath,
  unpackChunk,
} from "./objects.ts";

export interface HttpOriginOptions extends HttpOptions {
  /** `network.name`: a repository of another network is refused. */
  readonly network: string;
}

/**
 * A repository behind any static HTTP(S) server (DESIGN section 4). Nothing is asked of it before it is first used, so
 * that a server that is away keeps no node from starting.
 */
export class HttpOrigin implements Origin, AsyncDisposable {
  readonly name: string;
  readonly #network: string;
  readonly #client: HttpClient;
  readonly #forms = new FormGuess();
  /** The highest revision seen of a variant: where to begin to look. */
  readonly #revisions = new Map<VariantHash, number>();
  #isChecked = false;

  constructor(options: HttpOriginOptions) {
    this.name = options.name;
    this.#network = options.network;
    this.#client = new HttpClient(options);
  }

  async latestRecord(variant: VariantHash, { signal }: WaitOptions = {}): Promise<Uint8Array | undefined> {
    signal?.throwIfAborted();
    await this.#check(signal);
    const known = this.#revisions.get(variant) ?? 0;
    const latest =
      (await this.#latestFrom(variant, known, signal)) ??
      (known > 0 ? await this.#latestFrom(variant, 0, signal) : undefined);
    if (latest === undefined) {
      await this.#checkAgain(signal);
      return undefined;
    }
    this.#remember(variant, latest.revision);
    return latest.envelope;
  }

  async chunk(hash: ChunkHash, sizeBytes: number, { signal }: WaitOptions = {}): Promise<Uint8Array> {
    signal?.throwIfAborted();
    await this.#check(signal);
    for (const form of this.#forms.inOrder()) {
      const bytes = await this.#chunkAs(form, hash, sizeBytes, signal);
      if (bytes === undefined) continue;
      this.#forms.found(form);
      return bytes;
    }
    await this.#checkAgain(signal);
    throw new ChunkMissingError(`${this.name} has no chunk ${hash}`);
  }

  async index({ signal }: WaitOptions = {}): Promise<Uint8Array | undefined> {
    signal?.throwIfAborted();
    await this.#check(signal);
    return (await this.#client.read(originIndexPath, { bytesMax: originIndexBytesMax, signal, isFresh: true }))?.bytes;
  }

  async policyFile(name: string, { signal }: WaitOptions = {}): Promise<Uint8Array | undefined> {
    signal?.throwIfAborted();
    await this.#check(signal);
    const body = await this.#client.read(policyPath(name), { bytesMax: policyFileBytesMax, signal, isFresh: true });
    if (body === undefined) await this.#checkAgain(signal);
    return body?.bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }

  async #chunkAs(
    form: ChunkForm,
    hash: ChunkHash,
    sizeBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array | undefined> {
    const path = chunkPath(hash, form);
    try {
      const body = await this.#client.read(path, { bytesMax: sizeBytes, signal });
      if (body === undefined) return undefined;
      if (form === "zst") return await unpackChunk(body.bytes, sizeBytes, `${this.name}'s ${path}`);
      if (body.bytes.length === sizeBytes) return body.bytes;
      throw new ChunkCorruptError(
        `${this.name} has ${body.bytes.length} bytes for chunk ${hash}, which has ${sizeBytes}`,
      );
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      throw new ChunkCorruptError(error.message, { cause: error });
    }
  }

  /**
   * The highest revision from `first` on: revisions leave no gap, so one round trip is enough where there is no newer
   * one. Undefined where there is no `first`.
   */
  async #latestFrom(
    variant: VariantHash,
    first: number,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly revision: number; readonly envelope: Uint8Array } | undefined> {
    const has = (revision: number) => this.#client.has(recordPath(variant, revision), signal);
    const read = async (revision: number) => {
      const path = recordPath(variant, revision);
      return (await this.#client.read(path, { bytesMax: recordBytesMax, signal, isFresh: true }))?.bytes;
    };
    const [envelope, hasNewer] = await Promise.all([read(first), has(first + 1)]);
    if (envelope === undefined) return undefined;
    if (!hasNewer) return { revision: first, envelope };
    let revision = first + 1;
    for (let steps = [...strides]; steps.length > 0; ) {
      const found = await Promise.all(steps.map((stride) => has(revision + stride)));
      const missing = found.indexOf(false);
      if (missing === 0) break;
      steps = steps.slice(0, missing < 0 ? steps.length : missing);
      revision += steps.at(-1)!;
      if (revision > revisionsMax) break;
    }
    const newest = await read(revision);
    if (newest !== undefined) return { revision, envelope: newest };
    throw new FormatError(`${this.#client.place(recordPath(variant, revision))} is there, and then it is not`);
  }

  /** Makes sure that the tree is a repository of our network, once. */
  async #check(signal: AbortSignal | undefined): Promise<void> {
    if (this.#isChecked) return;
    const body = await this.#client.read(descriptionPath, { bytesMax: descriptionBytesMax, signal, isFresh: true });
    const place = this.#client.place(descriptionPath);
    if (body === undefined) {
      throw fault(this.name, place, "is not there: this is no repository", {
        isLasting: true,
        hint: "check the origin's url: p2pcache.json stands at the top of a repository",
      });
    }
    checkDescription(body.bytes, place, this.#network);
    this.#isChecked = true;
  }

  /** Something is missing: is it only that, or has the whole tree gone? */
  async #checkAgain(signal: AbortSignal | undefined): Promise<void> {
    this.#isChecked = false;
    await this.#check(signal);
  }

  #remember(variant: VariantHash, revision: number): void {
    this.#revisions.delete(variant);
    if (revision === 0) return;
    this.#revisions.set(variant, revision);
    const [oldest] = this.#revisions.keys();
    if (this.#revisions.size > revisionsRemembered) this.#revisions.delete(oldest!);
  }
}

/** How far ahead is looked, all at a time: most variants have few revisions, and a thousand take some twenty looks. */
const strides: readonly number[] = [1, 16, 256, 4096, 65_536];
/** A record's own limit: a server that has everything is not asked for ever. */
const revisionsMax = 1_000_000;
const revisionsRemembered = 10_000;
