import { unlinkSync } from "node:fs";
import { join } from "node:path";
import type { Hasher, PayloadId, VariantHash } from "../../protocol/hash.ts";
import { decodeEnvelope, decodeRelease, type ReleaseRecord } from "../../protocol/record.ts";
import type { Catalogue } from "./catalogue.ts";
import { loadEnvelope } from "./record-objects.ts";
import { namesIn } from "./rez-index.ts";

export interface CollectorParts {
  readonly objectsPath: string;
  readonly stagingPath: string;
  readonly catalogue: Catalogue;
  readonly hasher: Hasher;
  /** Payloads that lie in the cache and are not in the catalogue: with their records they may be taken up later. */
  readonly strangers: ReadonlySet<PayloadId>;
}

/**
 * Deletes records and manifest segments under `objects/` that nothing names any more: no holding, and no payload on its
 * way in or left in staging. What it cannot read as a release stays: that is somebody else's to judge, or a withdrawal;
 * and so does the newest record of a variant that was released anew, since nothing older may count here again (P6).
 */
export class ObjectsCollector {
  readonly #parts: CollectorParts;
  /** Those that are being staged or worked on just now. */
  readonly #users = new Set<{ readonly variant: VariantHash; readonly record: ReleaseRecord }>();
  #strangers: ReadonlySet<PayloadId>;
  /** What the collection under way must leave: names of segments, and variants. */
  #kept: Set<string> | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(parts: CollectorParts) {
    this.#parts = parts;
    this.#strangers = parts.strangers;
  }

  /** Keeps a payload's objects from now on, before anybody relies on what lies there. Answers how to let go of them. */
  use(variant: VariantHash, record: ReleaseRecord): () => void {
    const user = { variant, record };
    this.#users.add(user);
    if (this.#kept !== undefined) keep(this.#kept, variant, record);
    return () => void this.#users.delete(user);
  }

  /** A variant's record is being written: a collection under way must not take it for the one that was there. */
  touch(variant: VariantHash): void {
    this.#kept?.add(variant);
  }

  /** Deletes what nothing names, after any collection before. An abort ends it early, with less deleted. */
  collect(signal?: AbortSignal): Promise<void> {
    const collection = this.#last.then(() => this.#collect(signal));
    this.#last = collection.catch(() => undefined);
    return collection;
  }

  /**
   * Lets the catalogue be emptied and filled again while nothing is collected, since meanwhile it names nothing. Answers
   * with what `work` does: it says which payloads are strangers from then on.
   */
  without(work: () => Promise<ReadonlySet<PayloadId>>): Promise<void> {
    const done = this.#last.then(work).then((strangers) => {
      this.#strangers = strangers;
    });
    this.#last = done.catch(() => undefined);
    return done;
  }

  async #collect(signal: AbortSignal | undefined): Promise<void> {
    const kept = new Set<string>();
    this.#kept = kept;
    try {
      for (const { variant, record } of this.#users) keep(kept, variant, record);
      const left = new Set<string>([...namesIn(this.#parts.stagingPath), ...this.#strangers]);
      const [records, segments]: [string[], string[]] = [[], []];
      for (const directory of namesIn(this.#parts.objectsPath)) {
        for (const name of namesIn(join(this.#parts.objectsPath, directory))) {
          if (recordName.test(name)) records.push(join(directory, name));
          else if (segmentName.test(name)) segments.push(join(directory, name));
        }
      }
      const unnamed: string[] = [];
      for (const path of records) {
        if (signal?.aborted) return;
        if (!(await this.#isNamed(path, left, kept))) unnamed.push(path);
      }
      await this.#delete([...unnamed, ...segments], kept, signal);
    } finally {
      this.#kept = undefined;
    }
  }

  /** Whether a record's file must stay; what a held or staged payload's record names is kept too. */
  async #isNamed(path: string, left: ReadonlySet<string>, kept: Set<string>): Promise<boolean> {
    const variant = nameOf(path) as VariantHash;
    const record = await this.#read(path);
    if (record === undefined) return true;
    const isStaged = left.has(record.payload);
    if (isStaged || this.#held(variant) === record.payload) keep(kept, variant, record);
    const isFloor = record.revision > 0 && path.endsWith(".json");
    return isStaged || isFloor || this.#held(variant) !== undefined;
  }

  /** What was named meanwhile is looked at before each deletion: nothing comes between the two. */
  async #delete(paths: readonly string[], kept: ReadonlySet<string>, signal: AbortSignal | undefined): Promise<void> {
    for (const [at, path] of paths.entries()) {
      if (at % pauseEvery === 0) await new Promise((resolve) => setImmediate(resolve));
      if (signal?.aborted) return;
      if (!kept.has(nameOf(path))) unlinkSync(join(this.#parts.objectsPath, path));
    }
  }

  #held(variant: VariantHash): PayloadId | undefined {
    return this.#parts.catalogue.get(variant)?.payload;
  }

  async #read(path: string): Promise<ReleaseRecord | undefined> {
    try {
      const envelope = await loadEnvelope(join(this.#parts.objectsPath, path));
      return envelope && decodeRelease(decodeEnvelope(envelope).body, this.#parts.hasher);
    } catch {
      return undefined;
    }
  }
}

/** The hash that a file is named by: a variant's, or a segment's. */
function nameOf(path: string): string {
  return path.slice("hh/".length, "hh/".length + 64);
}

function keep(kept: Set<string>, variant: VariantHash, { root }: ReleaseRecord): void {
  kept.add(variant);
  for (const { hash } of root.segments) kept.add(hash);
}

const recordName = /^[0-9a-f]{64}\.dsse\.json(\.held)?$/;
/** Segments, and what a crash left of writing one. */
const segmentName = /^[0-9a-f]{64}(\.\d+-\d+)?$/;
const pauseEvery = 256;
