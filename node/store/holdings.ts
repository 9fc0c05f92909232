import { statSync } from "node:fs";
import { join } from "node:path";
import type { Hasher, PayloadId, VariantHash } from "../../protocol/hash.ts";
import type { ReleaseRecord } from "../../protocol/record.ts";
import { variantText } from "../../protocol/variant.ts";
import type { Holding } from "../ports.ts";
import type { Catalogue, CatalogueEntry } from "./catalogue.ts";
import { readBootId } from "./owner.ts";
import { forgetHeldRecord, loadRecordOf } from "./record-objects.ts";

export interface HoldingsParts {
  readonly catalogue: Catalogue;
  readonly objectsPath: string;
  readonly hasher: Hasher;
  readonly onProblem: (problem: string) => void;
}

/** What the catalogue says is held, and how far it can be relied on. */
export class Holdings {
  readonly #parts: HoldingsParts;
  readonly #damaged = new Set<VariantHash>();
  /** Placed before an unclean boot: neither served nor announced until checked. */
  readonly #unsure = new Set<VariantHash>();
  /** Another tree takes their place, or they go, just now: what is found of the old one says nothing. */
  readonly #changing = new Map<VariantHash, Promise<void>>();
  /** On their way out: nobody is served from them. */
  readonly #leaving = new Set<VariantHash>();
  /** Called when a holding is found damaged or gone. */
  onLost: (variant: VariantHash, fault: string) => void = () => undefined;

  constructor(parts: HoldingsParts) {
    this.#parts = parts;
    for (const { hash, unsureSinceBoot, isDamaged } of parts.catalogue.all()) {
      if (isDamaged === true) this.#damaged.add(hash);
      else if (unsureSinceBoot !== undefined && unsureSinceBoot !== readBootId()) this.#unsure.add(hash);
    }
  }

  /** Has all checked that must be before they are announced, one after the other. Never rejects. */
  async checkUnsure(verify: (variant: VariantHash) => Promise<unknown>, closing: AbortSignal): Promise<void> {
    for (const variant of [...this.#unsure]) {
      if (closing.aborted) return;
      await verify(variant).catch((error: unknown) => {
        if (!closing.aborted) this.#parts.onProblem(`${variant} could not be checked: ${String(error)}`);
      });
    }
  }

  /** Neither damaged nor unsure. */
  sound(): CatalogueEntry[] {
    return this.#parts.catalogue.all().filter((entry) => this.#isSound(entry));
  }

  /** One that has this tree and can be relied on. */
  soundWith(payload: PayloadId): CatalogueEntry | undefined {
    return this.#parts.catalogue.byPayload(payload).find((entry) => this.#isSound(entry));
  }

  /** It must be checked before it counts. */
  doubt(variant: VariantHash): void {
    this.#damaged.delete(variant);
    this.#unsure.add(variant);
  }

  isDamaged(variant: VariantHash): boolean {
    return this.#damaged.has(variant);
  }

  /** The record by which it is held. Without it nothing can be served: the holding is lost then. */
  async record(entry: CatalogueEntry): Promise<ReleaseRecord | undefined> {
    const { objectsPath, hasher } = this.#parts;
    const record = await loadRecordOf(objectsPath, entry.hash, entry.payload, hasher);
    if (record === undefined) await this.lose(entry, "its release record has gone from this disk");
    return record;
  }

  /** It is damaged or gone. That outlives this process: only a check that finds nothing, or a new fetch, ends it. */
  async lose(entry: CatalogueEntry, fault: string): Promise<void> {
    const { catalogue, onProblem } = this.#parts;
    if (!this.#isCurrent(entry) || this.#damaged.has(entry.hash)) return;
    this.#damaged.add(entry.hash);
    this.#unsure.delete(entry.hash);
    this.onLost(entry.hash, fault);
    try {
      await catalogue.put({ ...entry, isDamaged: true });
    } catch (error) {
      onProblem(`${variantText(entry.variant)} is damaged, which could not be noted: ${String(error)}`);
    }
  }

  /** It was checked, or the machine goes down in good order. */
  async makeSure(entry: CatalogueEntry): Promise<void> {
    if (!this.#isCurrent(entry)) return;
    this.#unsure.delete(entry.hash);
    this.#damaged.delete(entry.hash);
    const { unsureSinceBoot, isDamaged, ...sure } = entry;
    if (unsureSinceBoot !== undefined || isDamaged !== undefined) await this.#parts.catalogue.put(sure);
  }

  /**
   * Puts an entry where there was another, or none, once `place` has put its tree there; undefined where it could not.
   * Until then the old one stays what it was.
   */
  async replace<Entry extends CatalogueEntry | undefined>(
    hash: VariantHash,
    place: () => Promise<Entry>,
  ): Promise<Entry> {
    return await this.#alone(hash, async () => {
      const entry = await place();
      if (entry === undefined) return entry;
      await this.#parts.catalogue.put(entry);
      this.#damaged.delete(hash);
      this.#unsure.delete(hash);
      await forgetHeldRecord(this.#parts.objectsPath, hash);
      return entry;
    });
  }

  /**
   * Takes away what is held as a variant, once `take` has removed it from the disk; meanwhile nobody is served from it.
   * Answers what was held. Where `take` fails, it is what it was.
   */
  async remove(hash: VariantHash, take: (entry: CatalogueEntry) => Promise<void>): Promise<CatalogueEntry | undefined> {
    return await this.#alone(hash, async () => {
      const entry = this.#parts.catalogue.get(hash);
      if (entry === undefined) return undefined;
      this.#leaving.add(hash);
      try {
        await take(entry);
        await this.forget(hash);
        return entry;
      } finally {
        this.#leaving.delete(hash);
      }
    });
  }

  /** Changes what lies at a variant's place, while nobody else does. What is found wrong of it meanwhile says nothing. */
  async change<Result>(hash: VariantHash, work: () => Promise<Result>): Promise<Result> {
    return await this.#alone(hash, work);
  }

  isLeaving(variant: VariantHash): boolean {
    return this.#leaving.has(variant);
  }

  /** It is no longer held. */
  async forget(variant: VariantHash): Promise<void> {
    await this.#parts.catalogue.remove(variant);
    await forgetHeldRecord(this.#parts.objectsPath, variant);
    this.#damaged.delete(variant);
    this.#unsure.delete(variant);
  }

  /** Whether an entry still says what is held, and is not about to change. */
  #isCurrent(entry: CatalogueEntry): boolean {
    return this.#parts.catalogue.get(entry.hash) === entry && !this.#changing.has(entry.hash);
  }

  /** One change of a variant after the other. */
  async #alone<Result>(hash: VariantHash, change: () => Promise<Result>): Promise<Result> {
    while (this.#changing.has(hash)) await this.#changing.get(hash);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#changing.set(hash, promise);
    try {
      return await change();
    } finally {
      this.#changing.delete(hash);
      resolve();
    }
  }

  #isSound({ hash }: CatalogueEntry): boolean {
    return !this.#damaged.has(hash) && !this.#unsure.has(hash) && !this.#leaving.has(hash);
  }
}

/** Where an entry's tree lies. */
export function pathOf({ directory, suffix }: { readonly directory: string; readonly suffix: string }): string {
  return join(directory, suffix);
}

export function holdingOf(entry: CatalogueEntry): Holding {
  const { hash, payload, bytes, files, variant } = entry;
  const { name, version } = variant;
  return { variant: hash, payload, text: variantText(variant), name, version, path: pathOf(entry), bytes, files };
}

/** When Rez, or we, used it last: the time of its index file (REZ.md section 7). */
export function lastUseOf(entry: CatalogueEntry): Date | undefined {
  return statSync(`${pathOf(entry)}.json`, { throwIfNoEntry: false })?.mtime;
}
