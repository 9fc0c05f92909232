import type { Holding, HoldingsChanges, PackedHoldings } from "./announcement.ts";
import { hashFromBytes, type PayloadId } from "./hash.ts";
import { IdLists } from "./id-lists.ts";
import { pairBytes } from "./pair-array.ts";
import { PairTable } from "./pair-table.ts";
import type { Random } from "./random.ts";

export interface HeldListsLimits {
  readonly holdingsPerPeerMax: number;
  readonly pairsMax: number;
  readonly holdingsMax: number;
}

/** What each peer holds: a list of numbers of pairs, sorted by the pairs' bytes; each pair is kept once. */
export class HeldLists {
  readonly #limits: HeldListsLimits;
  readonly #table: PairTable;
  readonly #lists = new IdLists();

  constructor(random: Random, limits: HeldListsLimits) {
    this.#table = new PairTable(random);
    this.#limits = limits;
  }

  lengthOf(list: number): number {
    return this.#lists.lengthOf(list);
  }

  /** The list's length at most, once pairs are added. */
  lengthWith(list: number, added: PackedHoldings): number {
    return this.lengthOf(list) + added.length / pairBytes;
  }

  packed(list: number): PackedHoldings {
    return this.#table.pairs.gather(this.#lists.view(list));
  }

  /** The variant and the payload of a pair. */
  pair(number: number): Holding {
    const at = number * pairBytes;
    const { bytes } = this.#table.pairs;
    return [
      hashFromBytes<"variant">(bytes.subarray(at, at + 32)),
      hashFromBytes<"payload">(bytes.subarray(at + 32, at + pairBytes)),
    ];
  }

  /** The pairs with a variant, and what payload each says it is. */
  withVariant(variant: Uint8Array): Map<number, PayloadId> {
    return new Map(this.#table.withVariant(variant).map((number) => [number, this.pair(number)[1]]));
  }

  /** The pairs with a payload. */
  withPayload(payload: Uint8Array): number[] {
    return this.#table.withPayload(payload);
  }

  /** How many lists have a pair. */
  listsWith(pair: PackedHoldings): number {
    return this.#table.references(pair, 0);
  }

  /** The pair with this variant in a list. */
  find(list: number, variant: Uint8Array): number | undefined {
    const index = this.#indexOf(list, variant, 0);
    return index === undefined ? undefined : this.#lists.at(list, index);
  }

  hasRoomFor(count: number): boolean {
    const { pairsMax, holdingsMax } = this.#limits;
    return this.#table.size + count <= pairsMax && this.#lists.total + count <= holdingsMax;
  }

  /** Whether these pairs may be added to a list: without counting them one by one where that is plain. */
  hasRoom(list: number, added: PackedHoldings): boolean {
    const { holdingsPerPeerMax, pairsMax, holdingsMax } = this.#limits;
    const count = added.length / pairBytes;
    if (count > holdingsPerPeerMax) return false;
    if (this.hasRoomFor(count)) return true;
    let fresh = 0;
    for (let at = 0; at < added.length; at += pairBytes) if (!this.#table.has(added, at)) fresh++;
    const total = this.#lists.total - this.lengthOf(list) + count;
    return this.#table.size + fresh <= pairsMax && total <= holdingsMax;
  }

  replace(list: number, whole: PackedHoldings): void {
    const numbers = this.#intern(whole);
    this.#releaseAll(list);
    this.#lists.set(list, numbers);
  }

  /** Applies changes to the list, or to an empty one, if that gives `count` pairs that are right; else does nothing. */
  change(
    list: number,
    base: "known" | "none",
    { added, removed }: HoldingsChanges,
    count: number,
    isRight: (packed: PackedHoldings) => boolean,
  ): boolean {
    const kept = base === "none" ? new Uint32Array(0) : this.#without(list, added, removed);
    const fresh = this.#intern(added);
    const numbers = this.#merged(kept, fresh);
    if (numbers.length !== count || !isRight(this.#table.pairs.gather(numbers))) {
      for (const number of fresh) this.#table.release(number);
      return false;
    }
    // The kept ones are referred to twice until what the list had is released.
    for (const number of kept) this.#table.addReference(number);
    this.#releaseAll(list);
    this.#lists.set(list, numbers);
    return true;
  }

  clear(list: number): void {
    this.#releaseAll(list);
    this.#lists.clear(list);
  }

  #intern(packed: PackedHoldings): Uint32Array {
    const numbers = new Uint32Array(packed.length / pairBytes);
    for (let index = 0; index < numbers.length; index++) numbers[index] = this.#table.intern(packed, index * pairBytes);
    return numbers;
  }

  #releaseAll(list: number): void {
    for (const number of this.#lists.view(list)) this.#table.release(number);
  }

  /** The list without the variants that are removed, or added anew. */
  #without(list: number, added: PackedHoldings, removed: Uint8Array): Uint32Array {
    const gone = new Set<number>();
    for (const [bytes, stride] of [[added, pairBytes] as const, [removed, 32] as const]) {
      for (let at = 0; at < bytes.length; at += stride) {
        const index = this.#indexOf(list, bytes, at);
        if (index !== undefined) gone.add(index);
      }
    }
    const numbers = this.#lists.view(list);
    const kept = new Uint32Array(numbers.length - gone.size);
    let length = 0;
    for (let index = 0; index < numbers.length; index++) if (!gone.has(index)) kept[length++] = numbers[index]!;
    return kept;
  }

  #merged(a: Uint32Array, b: Uint32Array): Uint32Array {
    const merged = new Uint32Array(a.length + b.length);
    let inA = 0;
    let inB = 0;
    for (let at = 0; at < merged.length; at++) {
      const takesA = inB === b.length || (inA < a.length && this.#table.pairs.compare(a[inA]!, b[inB]!) < 0);
      merged[at] = takesA ? a[inA++]! : b[inB++]!;
    }
    return merged;
  }

  /** Where in a list the variant at `offset` stands. */
  #indexOf(list: number, variant: Uint8Array, offset: number): number | undefined {
    let low = 0;
    let high = this.#lists.lengthOf(list);
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = this.#table.pairs.compareVariant(this.#lists.at(list, middle), variant, offset);
      if (order === 0) return middle;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return undefined;
  }
}
