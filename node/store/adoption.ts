import { lstatSync } from "node:fs";
import { NoSpaceError, NotAdoptedError, UnusableError } from "../../protocol/errors.ts";
import type { ChunkHash, PayloadId, VariantHash } from "../../protocol/hash.ts";
import { ItemIndex, type ManifestRoot } from "../../protocol/manifest.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import type { ChunkDescription } from "../../protocol/transfer.ts";
import { checkNoOtherWriter } from "../path-guard.ts";
import type { AdoptionStore, Holding, StagedTree } from "../ports.ts";
import { type Holdings, holdingOf } from "./holdings.ts";
import type { JobPlace } from "./item-jobs.ts";
import type { ItemWorkers } from "./item-workers.ts";
import type { ObjectsCollector } from "./objects-collector.ts";
import { entryOf, type RecoveryPlace } from "./recovery.ts";
import type { Found } from "./rez-cache.ts";
import { cacheError } from "./rez-guard.ts";
import type { Reservation, SpaceLedger } from "./space.ts";

export interface AdoptionParts {
  readonly place: RecoveryPlace;
  readonly holdings: Holdings;
  readonly workers: ItemWorkers;
  readonly space: SpaceLedger;
  readonly objects: ObjectsCollector;
  /** Keeps the newest record of a variant. */
  readonly keep: (hash: VariantHash, envelope: Uint8Array) => Promise<void>;
  /** Puts a release in force unless a later record was seen. @throws {NotTrustedError} RECORD_OUTDATED */
  readonly unlessOutdated: <Result>(
    hash: VariantHash,
    record: ReleaseRecord,
    place: () => Promise<Result>,
  ) => Promise<Result>;
  /** What lies at a variant's place; undefined where that is nothing, or ours. */
  readonly find: (variant: ReleaseRecord["variant"]) => Found | undefined;
}

/** Takes copies that Rez has made itself for ours, once they were found to be what was released (decision 0035). */
export class Adoption implements AdoptionStore {
  readonly #parts: AdoptionParts;

  constructor(parts: AdoptionParts) {
    this.#parts = parts;
  }

  async open(hash: VariantHash, record: ReleaseRecord, envelope: Uint8Array): Promise<RezCopy> {
    const { place, space, objects, workers } = this.#parts;
    const { objectsPath } = place;
    const found = this.#parts.find(record.variant);
    if (found === undefined) throw new NotAdoptedError("it has gone");
    checkOwned(found);
    const letGo = objects.use(hash, record);
    let reservation: Reservation | undefined;
    try {
      reservation = await reserve(space, record);
      await this.#parts.keep(hash, envelope);
      const hashes = record.root.segments.map((segment) => segment.hash);
      const right = await workers.do<"checkSegments">({ kind: "checkSegments", objectsPath, hashes });
      const end = () => {
        reservation?.release();
        letGo();
      };
      return new RezCopy(record, found, { workers, objectsPath, right, end });
    } catch (error) {
      reservation?.release();
      letGo();
      throw cacheError(place.rez.path, error);
    }
  }

  /** Marks it in its index file, under Rez's lock, and then in the catalogue: after a crash between, the next start does. */
  async adopt(hash: VariantHash, copy: RezCopy, signal?: AbortSignal): Promise<Holding> {
    const { place, holdings, workers } = this.#parts;
    const { record, found } = copy;
    const { segments } = record.root;
    const hashes = segments.map((segment) => segment.hash);
    await workers.do<"syncSegments">({ kind: "syncSegments", objectsPath: place.objectsPath, hashes });
    const mark = async () => {
      const key = { payload: record.payload, variant: hash, adopted: true } as const;
      const isMarked = await place.rez.mark(found, {
        p2pcache: key,
        indexMode: place.indexMode,
        ...(signal === undefined ? {} : { signal }),
      });
      if (!isMarked) throw new NotAdoptedError("it has changed meanwhile");
      return entryOf(hash, record, found, { isAdopted: true });
    };
    const entry = await this.#parts.unlessOutdated(hash, record, () => holdings.replace(hash, mark));
    return holdingOf(entry);
  }

  leave(copy: RezCopy): void {
    copy.end();
  }
}

/**
 * Rez's own copy of a variant as something on its way in: its manifest comes from outside, and then all of its chunks are
 * here, or it is refused. Nothing is written to its tree.
 */
export class RezCopy implements StagedTree {
  readonly record: ReleaseRecord;
  readonly found: Found;
  readonly index: ItemIndex;
  readonly end: () => void;
  readonly #workers: ItemWorkers;
  readonly #at: JobPlace;
  readonly #have = new Set<number>();

  constructor(
    record: ReleaseRecord,
    found: Found,
    parts: { workers: ItemWorkers; objectsPath: string; right: Uint8Array; end: () => void },
  ) {
    this.record = record;
    this.found = found;
    this.index = new ItemIndex(record.root);
    this.end = parts.end;
    this.#workers = parts.workers;
    this.#at = { objectsPath: parts.objectsPath, treePath: found.rootPath };
    for (const [item, isRight] of parts.right.entries()) if (isRight === 1) this.#have.add(item);
  }

  get payload(): PayloadId {
    return this.record.payload;
  }

  get root(): ManifestRoot {
    return this.record.root;
  }

  storedSegments(): number[] {
    return [...this.#have];
  }

  /** Compares the whole copy with the manifest. @throws {NotAdoptedError} naming the first difference; {FormatError} */
  async describe(signal?: AbortSignal): Promise<ChunkDescription> {
    const { rootBytes, attributes } = this.record;
    const job = { kind: "prepare", at: this.#at, rootBytes, externalLinks: attributes.externalLinks } as const;
    const { sizesBytes } = await this.#workers.do<"prepare">({ ...job, makesTree: false });
    await this.#compare(signal);
    const { segments, items } = this.index;
    const stored = Array.from({ length: items - segments }, (_, chunk) => segments + chunk);
    return { sizesBytes, copiesOf: new Map(), stored };
  }

  /** Segments only: nothing else is ever asked for. */
  hashOf(item: number): ChunkHash {
    return this.root.segments[item]!.hash;
  }

  /** Segments lie at origins only. */
  placeOf(): undefined {
    return undefined;
  }

  withCopies(item: number): readonly number[] {
    return [item];
  }

  async put(item: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.#have.has(item)) return;
    const { objectsPath } = this.#at;
    const job = { kind: "storeSegment", objectsPath, hash: this.hashOf(item), bytes } as const;
    await this.#workers.do<"storeSegment">(job, { transfer: [bytes.buffer] });
    this.#have.add(item);
  }

  /** What is quick first: names, then types and sizes, then contents, in steps that a signal can end. */
  async #compare(signal: AbortSignal | undefined): Promise<void> {
    const at = this.#at;
    const { rootBytes, root } = this.record;
    const names = await this.#workers.do<"verifyNames">({ kind: "verifyNames", at, rootBytes, asPlaced: false });
    if (names[0] !== undefined) throw differs(names[0]);
    for (const { hash: segment } of root.segments) {
      signal?.throwIfAborted();
      const job = { kind: "compareEntries", at, segment, asPlaced: false } as const;
      const fault = await this.#workers.do<"compareEntries">(job);
      if (fault !== undefined) throw differs(fault);
    }
    for (const { hash: segment, chunks } of root.segments) {
      for (let from = 0; from < chunks; from += chunksAtOnce) {
        signal?.throwIfAborted();
        const job = { kind: "compareChunks", at, segment, from, to: Math.min(chunks, from + chunksAtOnce) } as const;
        const fault = await this.#workers.do<"compareChunks">(job);
        if (fault !== undefined) throw differs(fault);
      }
    }
  }
}

/** Chunks that one job hashes: about 32 MiB, so that other jobs get their turn and a deadline is kept. */
const chunksAtOnce = 64;

function differs({ path, fault }: { readonly path: string; readonly fault: string }): NotAdoptedError {
  return new NotAdoptedError(`${path === "" ? "its top" : path} ${fault}`);
}

/** What belongs to somebody else could be neither removed nor relied on. @throws {NotAdoptedError} */
function checkOwned({ kind, directory, rootPath, indexPath }: Found): void {
  if (kind !== "cached") throw new NotAdoptedError(`it is ${kind}`);
  try {
    checkNoOtherWriter(directory);
    checkNoOtherWriter(rootPath);
  } catch (error) {
    if (error instanceof UnusableError) throw new NotAdoptedError(error.message);
    throw error;
  }
  for (const path of [rootPath, indexPath]) {
    const uid = lstatSync(path, { throwIfNoEntry: false })?.uid;
    if (uid !== process.geteuid?.()) throw new NotAdoptedError(`${path} belongs to user ${uid}`);
  }
}

/** All of it will count as held; only its segments are written. @throws {NotAdoptedError} */
async function reserve(space: SpaceLedger, { root }: ReleaseRecord): Promise<Reservation> {
  const bytes = root.segments.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  try {
    const need = { bytes, totalBytes: root.bytes, inodes: root.segments.length };
    return await space.reserve("its adoption", need);
  } catch (error) {
    if (error instanceof NoSpaceError) throw new NotAdoptedError(error.message);
    throw error;
  }
}
