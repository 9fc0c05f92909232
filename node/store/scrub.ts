import { readFile } from "node:fs/promises";
import { P2pCacheError } from "../../protocol/errors.ts";
import { type PayloadId, parseVariantHash, type VariantHash } from "../../protocol/hash.ts";
import type { ManifestRoot } from "../../protocol/manifest.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import type { ScrubCandidate, ScrubPosition } from "../../protocol/scrub-round.ts";
import { writeDurably } from "../durable-file.ts";
import type { CatalogueEntry } from "./catalogue.ts";
import { type Holdings, pathOf } from "./holdings.ts";
import type { IndexFiles } from "./index-files.ts";
import type { TreeFault } from "./item-jobs.ts";
import type { ItemWorkers } from "./item-workers.ts";

export interface ScrubParts {
  readonly objectsPath: string;
  /** Where it says how far it has come. */
  readonly positionPath: string;
  readonly holdings: Holdings;
  readonly workers: ItemWorkers;
  readonly indexFiles: Pick<IndexFiles, "mend">;
  readonly verify: (hash: VariantHash, signal?: AbortSignal) => Promise<readonly TreeFault[]>;
}

/** Looks at what is held, a few chunks at a time; `ScrubRound` says when. */
export class Scrub {
  readonly #parts: ScrubParts;
  /** Steps by variant, as far as they were asked for: of records this needs the least. */
  readonly #counts = new Map<VariantHash, { readonly payload: PayloadId; readonly steps: number }>();

  constructor(parts: ScrubParts) {
    this.#parts = parts;
  }

  /** What can be looked at: neither damaged nor gone. */
  async candidates(): Promise<ScrubCandidate[]> {
    const candidates: ScrubCandidate[] = [];
    const sound = this.#parts.holdings.sound();
    for (const entry of sound) {
      const known = this.#counts.get(entry.hash);
      const steps = known?.payload === entry.payload ? known.steps : await this.#count(entry);
      if (steps !== undefined) candidates.push({ variant: entry.hash, bytes: entry.bytes, steps });
    }
    const held = new Set(sound.map(({ hash }) => hash));
    for (const hash of this.#counts.keys()) if (!held.has(hash)) this.#counts.delete(hash);
    return candidates;
  }

  async #count(entry: CatalogueEntry): Promise<number | undefined> {
    const record = await this.#parts.holdings.record(entry);
    if (record === undefined) return undefined;
    const steps = stepsOf(record.root).length;
    this.#counts.set(entry.hash, { payload: entry.payload, steps });
    return steps;
  }

  /**
   * Looks at one step of a variant. Where something is wrong there, the whole of it is compared, and counts as damaged.
   * Answers whether it is right as far as was seen.
   */
  async look(variant: VariantHash, step: number, signal?: AbortSignal): Promise<boolean> {
    const entry = this.#parts.holdings.sound().find(({ hash }) => hash === variant);
    // It has gone, or is known to be damaged.
    if (entry === undefined) return false;
    const record = await this.#parts.holdings.record(entry);
    if (record === undefined) return false;
    const part = stepsOf(record.root)[step];
    if (part === undefined) return true;
    if (step === 0) await this.#parts.indexFiles.mend(variant, signal);
    if (await this.#isRight(entry, record, part)) return true;
    return (await this.#parts.verify(variant, signal)).length === 0;
  }

  /** How far an earlier process came. */
  async load(): Promise<ScrubPosition | undefined> {
    try {
      const { startedMs, variant, step } = JSON.parse(
        await readFile(this.#parts.positionPath, "utf8"),
      ) as ScrubPosition;
      if (!Number.isSafeInteger(startedMs) || !Number.isSafeInteger(step) || step < 0) return undefined;
      return { startedMs, variant: variant === "" ? "" : parseVariantHash(variant), step };
    } catch {
      // There is none, or it cannot be read: then it begins anew.
      return undefined;
    }
  }

  async save(position: ScrubPosition): Promise<void> {
    await writeDurably(this.#parts.positionPath, JSON.stringify(position));
  }

  async #isRight(entry: CatalogueEntry, record: ScrubbedRecord, part: Step): Promise<boolean> {
    const { workers, objectsPath } = this.#parts;
    const at = { objectsPath, treePath: pathOf(entry) };
    const segment = record.root.segments[part.segment]!.hash;
    const asPlaced = entry.isAdopted !== true;
    try {
      if (part.isLast && asPlaced) {
        const { rootBytes } = record;
        const names = await workers.do<"verifyNames">({ kind: "verifyNames", at, rootBytes, asPlaced });
        if (names.length > 0) return false;
      }
      if (part.from === 0) {
        const fault = await workers.do<"compareEntries">({ kind: "compareEntries", at, segment, asPlaced });
        if (fault !== undefined) return false;
      }
      const { from, to } = part;
      return (await workers.do<"compareChunks">({ kind: "compareChunks", at, segment, from, to })) === undefined;
    } catch (error) {
      // A segment of its manifest is not what it was. Too many open files say nothing.
      if (error instanceof P2pCacheError) return false;
      throw error;
    }
  }
}

/** Some of a segment's chunks, `to` not included. */
interface Step {
  readonly segment: number;
  readonly from: number;
  readonly to: number;
  readonly isLast: boolean;
}

type ScrubbedRecord = Pick<ReleaseRecord, "root" | "rootBytes">;

function stepsOf({ segments }: ManifestRoot): Step[] {
  const steps: Step[] = [];
  for (const [segment, { chunks }] of segments.entries()) {
    for (let from = 0; from === 0 || from < chunks; from += chunksAtOnce) {
      const to = Math.min(chunks, from + chunksAtOnce);
      steps.push({ segment, from, to, isLast: segment === segments.length - 1 && to >= chunks });
    }
  }
  return steps;
}

/** About 8 MiB, at most 32: whoever fetches or is served waits for 10 ms behind it. */
const chunksAtOnce = 16;
