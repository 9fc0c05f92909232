import { type Random, randomBelow } from "./random.ts";

/** Copies that are told apart: what is held more often than this is not rare in any sense. */
const classMax = 31;

/**
 * The items that nobody has been asked for, in classes by how many peers are known to have them. A class is a stretch of
 * one list, so that an item changes its class, comes and goes without a search.
 */
export class WantedItems {
  /** Items in order of their class. */
  readonly #order: Uint32Array;
  /** By item: where it stands in the order; -1 for one that is not wanted. */
  readonly #place: Int32Array;
  /** By class: where it begins. The one after the last is the length of the list. */
  readonly #starts: Uint32Array = new Uint32Array(classMax + 2);
  readonly #random: Random;

  constructor(items: number, random: Random) {
    this.#order = new Uint32Array(items);
    this.#place = new Int32Array(items).fill(-1);
    this.#random = random;
  }

  get length(): number {
    return this.#starts[classMax + 1]!;
  }

  has(item: number): boolean {
    return this.#place[item]! >= 0;
  }

  /** An item is wanted that so many peers have. */
  add(item: number, copies: number): void {
    const own = Math.min(copies, classMax);
    const starts = this.#starts;
    let at = starts[classMax + 1]!++;
    for (let c = classMax; c > own; c--) {
      const first = starts[c]!++;
      if (first !== at) this.#put(this.#order[first]!, at);
      at = first;
    }
    this.#put(item, at);
  }

  /** An item is not wanted any more, which so many peers have. */
  remove(item: number, copies: number): void {
    let at = this.#place[item]!;
    if (at < 0) return;
    const starts = this.#starts;
    for (let c = Math.min(copies, classMax) + 1; c <= classMax + 1; c++) {
      const last = --starts[c]!;
      if (last !== at) this.#put(this.#order[last]!, at);
      at = last;
    }
    this.#place[item] = -1;
  }

  /** One peer more has an item: so many now. */
  raise(item: number, copies: number): void {
    const at = this.#place[item]!;
    if (at < 0 || copies > classMax) return;
    const last = --this.#starts[copies]!;
    const other = this.#order[last]!;
    this.#put(other, at);
    this.#put(item, last);
  }

  /** One peer fewer has an item: so many now. */
  lower(item: number, copies: number): void {
    const at = this.#place[item]!;
    if (at < 0 || copies >= classMax) return;
    const first = this.#starts[copies + 1]!++;
    const other = this.#order[first]!;
    this.#put(other, at);
    this.#put(item, first);
  }

  /** Of the rarest that any of some sources has, one at random: `masks` says by item who has it, `sources` who counts. */
  rarest(masks: Uint32Array, sources: number): number | undefined {
    for (let c = 1; c <= classMax; c++) {
      const found = this.#among(this.#starts[c]!, this.#starts[c + 1]!, masks, sources);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Any that one of some sources has, at random. */
  any(masks: Uint32Array, sources: number): number | undefined {
    return this.#among(this.#starts[1]!, this.length, masks, sources);
  }

  /** The first, from a random one on, for which `test` holds: among those that nobody has, or among all. */
  find(where: "nobody's" | "all", test: (item: number) => boolean): number | undefined {
    const end = where === "all" ? this.length : this.#starts[1]!;
    if (end === 0) return undefined;
    const from = randomBelow(end, this.#random);
    for (let i = 0; i < end; i++) {
      const item = this.#order[(from + i) % end]!;
      if (test(item)) return item;
    }
    return undefined;
  }

  #among(start: number, end: number, masks: Uint32Array, sources: number): number | undefined {
    if (start === end) return undefined;
    const order = this.#order;
    const from = start + randomBelow(end - start, this.#random);
    for (let i = from; i < end; i++) if ((masks[order[i]!]! & sources) !== 0) return order[i]!;
    for (let i = start; i < from; i++) if ((masks[order[i]!]! & sources) !== 0) return order[i]!;
    return undefined;
  }

  #put(item: number, at: number): void {
    this.#order[at] = item;
    this.#place[item] = at;
  }
}
