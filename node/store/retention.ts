import { utimesSync } from "node:fs";
import { isMap } from "../../protocol/cbor.ts";
import type { VariantHash } from "../../protocol/hash.ts";
import type { Catalogue, CatalogueEntry } from "./catalogue.ts";
import { lastUseOf, pathOf } from "./holdings.ts";

/** What we ourselves have set the time of an index file to, and when it was really used last before that. */
interface Touch {
  /** Milliseconds since 1970, whole seconds; the newest one may not have reached the file. */
  readonly setMs: readonly number[];
  readonly usedMs: number;
}

/**
 * What is known of held variants beside their trees: when they were used, who pinned them, who leases them. Rez deletes
 * what was not used for a month (REZ.md section 7), so the index files of what must stay are touched, without losing when
 * they were really used.
 */
export class Retention {
  /** The program that runs from a variant now, for people. */
  runnerOf: (variant: VariantHash) => string | undefined = () => undefined;
  readonly #catalogue: Catalogue;
  readonly #onProblem: (problem: string) => void;
  readonly #pins: Set<string>;
  readonly #touches: Map<string, Touch>;

  private constructor(
    catalogue: Catalogue,
    onProblem: (problem: string) => void,
    facts: { readonly pins: Set<string>; readonly touches: Map<string, Touch> },
  ) {
    this.#catalogue = catalogue;
    this.#onProblem = onProblem;
    this.#pins = facts.pins;
    this.#touches = facts.touches;
  }

  static async open(catalogue: Catalogue, onProblem: (problem: string) => void): Promise<Retention> {
    const pins = new Set((await catalogue.facts("pin")).keys());
    const touches = new Map<string, Touch>();
    for (const [hash, value] of await catalogue.facts("touch")) if (isTouch(value)) touches.set(hash, value);
    return new Retention(catalogue, onProblem, { pins, touches });
  }

  /** All that is held; the same array until that changes. */
  entries(): readonly CatalogueEntry[] {
    return this.#catalogue.all();
  }

  entry(variant: VariantHash): CatalogueEntry | undefined {
    return this.#catalogue.get(variant);
  }

  /** When Rez, or we, used a held variant last, milliseconds since 1970: not when we touched it for its own sake. */
  lastUsedMs(variant: VariantHash): number | undefined {
    const entry = this.#catalogue.get(variant);
    return entry === undefined ? undefined : this.#lastUse(entry);
  }

  /** The same of all that is held; lets others have their turn in between. */
  async lastUses(): Promise<Map<VariantHash, number | undefined>> {
    const uses = new Map<VariantHash, number | undefined>();
    for (const [at, entry] of this.#catalogue.all().entries()) {
      await breath(at);
      uses.set(entry.hash, this.#lastUse(entry));
    }
    return uses;
  }

  isPinned(variant: VariantHash): boolean {
    return this.#pins.has(variant);
  }

  /** Durable when it returns. @throws {NoSpaceError} */
  async pin(variant: VariantHash, at: string): Promise<void> {
    await this.#catalogue.putFacts("pin", new Map([[variant, { at }]]));
    this.#pins.add(variant);
  }

  /** Answers whether it was pinned. */
  async unpin(variant: VariantHash): Promise<boolean> {
    await this.#catalogue.putFacts("pin", new Map([[variant, undefined]]));
    return this.#pins.delete(variant);
  }

  /** Makes index files young, so that Rez's own cleaning spares them. What cannot be touched is told, once a call. */
  async touch(variants: readonly VariantHash[], wallMs: number): Promise<void> {
    const setMs = Math.floor(wallMs / 1000) * 1000;
    const facts = new Map<string, Touch | undefined>();
    for (const hash of this.#touches.keys()) if (!this.#catalogue.get(hash as VariantHash)) facts.set(hash, undefined);
    for (const [at, hash] of variants.entries()) {
      await breath(at);
      const usedMs = this.lastUsedMs(hash);
      // The time before may still be that of the file, should we crash between here and there.
      const before = this.#touches.get(hash)?.setMs.at(-1);
      if (usedMs !== undefined) facts.set(hash, { setMs: before === undefined ? [setMs] : [before, setMs], usedMs });
    }
    await this.#catalogue.putFacts("touch", facts);
    let problem: string | undefined;
    for (const [at, [hash, touch]] of [...facts].entries()) {
      await breath(at);
      if (touch === undefined) this.#touches.delete(hash);
      else problem = this.#touchFile(hash as VariantHash, touch, setMs) ?? problem;
    }
    if (problem !== undefined) this.#onProblem(`index files could not be touched, so Rez may delete them: ${problem}`);
  }

  /** What is written down of leases: they outlive this process as long as theirs do. */
  leases(): Promise<Map<string, unknown>> {
    return this.#catalogue.facts("lease");
  }

  /** Undefined takes it away. @throws {NoSpaceError} */
  async noteLease(id: string, lease: object | undefined): Promise<void> {
    await this.#catalogue.putFacts("lease", new Map([[id, lease]]));
  }

  #touchFile(hash: VariantHash, touch: Touch, setMs: number): string | undefined {
    const entry = this.#catalogue.get(hash);
    if (entry === undefined) return undefined;
    const path = `${pathOf(entry)}.json`;
    // Somebody used it since it was looked at: that is young enough, and must not be lost.
    if (this.#lastUse(entry) !== touch.usedMs) return undefined;
    this.#touches.set(hash, touch);
    try {
      utimesSync(path, new Date(setMs), new Date(setMs));
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  }

  #lastUse(entry: CatalogueEntry): number | undefined {
    const mtimeMs = lastUseOf(entry)?.getTime();
    const touch = this.#touches.get(entry.hash);
    return mtimeMs !== undefined && touch?.setMs.includes(mtimeMs) ? touch.usedMs : mtimeMs;
  }
}

function isTouch(value: unknown): value is Touch {
  const isTime = (time: unknown) => typeof time === "number";
  return isMap(value) && isTime(value.usedMs) && Array.isArray(value.setMs) && value.setMs.every(isTime);
}

/** Lets others have their turn, now and then. */
async function breath(at: number): Promise<void> {
  if (at % pauseEvery === pauseEvery - 1) await new Promise((resolve) => setImmediate(resolve));
}

const pauseEvery = 500;
