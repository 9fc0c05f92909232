import { chunkBytesTarget, requestItemsMax } from "./limits.ts";
import { type Random, randomBelow } from "./random.ts";
import type { TransferAction } from "./transfer-events.ts";
import type { TransferSource } from "./transfer-source.ts";
import type { TransferSources } from "./transfer-sources.ts";
import type { WantedItems } from "./wanted-items.ts";

/** What a choice of asks looks at, and how it says what it chose. */
export interface AskParts {
  readonly sources: TransferSources;
  readonly wanted: WantedItems;
  readonly random: Random;
  readonly sizeOf: (item: number) => number;
  /** Whether latency matters more than sharing the work: as much as may be is asked of one peer. */
  readonly isSmall: boolean;
  /** Whether so many bytes more may be on their way, and asked for now. */
  readonly mayCarry: (sizeBytes: number) => boolean;
  /** The item is on its way now. */
  readonly onAsked: (source: TransferSource, item: number) => void;
}

/** Stretches of items that may be asked of origins and far peers. */
export interface Stretch {
  readonly first: number;
  readonly end: number;
  /** Only of far peers: others bring it from the origin. */
  readonly isFarOnly: boolean;
}

/** What is asked of whom in one step. */
export class TransferAsks {
  readonly #parts: AskParts;
  readonly #bySource = new Map<TransferSource, number[]>();

  constructor(parts: AskParts) {
    this.#parts = parts;
  }

  /** What was chosen since the last time, as actions. */
  take(): TransferAction[] {
    if (this.#bySource.size === 0) return [];
    const actions: TransferAction[] = [];
    for (const [{ name: source }, items] of this.#bySource) actions.push({ kind: "ask", source, items });
    this.#bySource.clear();
    return actions;
  }

  /** Asks near peers for what they have: any item at first, then the rarest, until nobody has room. */
  askNear(nowMs: number, isFirst: boolean): void {
    const { sources, wanted, sizeOf, mayCarry, isSmall } = this.#parts;
    if (wanted.length === 0) return;
    let room = sources.room(nowMs) & sources.nearBits;
    let last: TransferSource | undefined;
    while (room !== 0 && mayCarry(1)) {
      const source = last !== undefined && isSmall ? last : this.#better(room, chunkBytesTarget);
      last = undefined;
      const item = isFirst ? wanted.any(sources.masks, source.bit) : wanted.rarest(sources.masks, source.bit);
      if (item === undefined) {
        room &= ~source.bit;
        continue;
      }
      if (!mayCarry(sizeOf(item))) return;
      if (!source.hasRoom(sizeOf(item)) || this.#count(source) >= requestItemsMax) {
        room &= ~source.bit;
        continue;
      }
      this.#ask(source, item, nowMs);
      if (source.hasRoom(1)) last = source;
      else room &= ~source.bit;
    }
  }

  /** Asks far peers and origins (or far peers only) for what no near peer has, within some stretches or everywhere. */
  askOutside(nowMs: number, stretches: readonly Stretch[] | "all" | "far"): void {
    const { wanted, sources, mayCarry } = this.#parts;
    if (wanted.length === 0 || !this.#isRoomOutside(nowMs) || !mayCarry(1)) return;
    let isFreshLeft = false;
    const tryFresh = (item: number, isFarOnly: boolean) => {
      if (sources.hasFailedOutside(item)) return false;
      // It may not fit what is left of a window now: even then it comes before one that has failed.
      isFreshLeft ||= !isFarOnly && sources.originFor(item, nowMs) !== undefined;
      return this.#tryOutside(item, nowMs, isFarOnly);
    };
    this.#tryEach(stretches, tryFresh);
    if (isFreshLeft) return;
    this.#tryEach(stretches, (item, isFarOnly) => this.#tryOutside(item, nowMs, isFarOnly));
  }

  /** Each item that is lacking there; `ask` answers whether it was asked for. */
  #tryEach(stretches: readonly Stretch[] | "all" | "far", ask: (item: number, isFarOnly: boolean) => boolean): void {
    const { wanted, sources } = this.#parts;
    if (typeof stretches === "string") {
      const tryOne = (item: number) => ask(item, stretches === "far");
      while (wanted.find("nobody's", tryOne) !== undefined);
      for (const item of [...sources.claimedInVain()]) if (wanted.has(item)) tryOne(item);
      return;
    }
    for (const { first, end, isFarOnly } of stretches) {
      for (let item = first; item < end; item++) {
        if (wanted.has(item) && sources.isLacking(item)) ask(item, isFarOnly);
      }
    }
  }

  /** Asks a second peer for an item that another one is slow to give. Answers whether there is one. */
  askAlso(item: number, slow: TransferSource, room: number, nowMs: number): boolean {
    const { sources, sizeOf, mayCarry } = this.#parts;
    if (!mayCarry(sizeOf(item))) return false;
    const others = sources.masks[item]! & room & sources.nearBits & ~slow.bit;
    if (others === 0) return false;
    const source = this.#better(others, sizeOf(item));
    if (!source.hasRoom(sizeOf(item)) || source.expectedMs > slow.expectedMs) return false;
    this.#ask(source, item, nowMs);
    return true;
  }

  #tryOutside(item: number, nowMs: number, isFarOnly: boolean): boolean {
    const { sources, sizeOf, mayCarry } = this.#parts;
    const sizeBytes = sizeOf(item);
    const far = sources.masks[item]! & sources.farBits;
    const farRoom = far === 0 ? 0 : far & sources.room(nowMs);
    // Who has it beyond the line is asked before an origin is, which everybody shares.
    const source = farRoom !== 0 ? this.#better(farRoom, sizeBytes) : sources.originFor(item, nowMs);
    if (source === undefined || (isFarOnly && source.isOrigin) || (far !== 0 && source.isOrigin && !this.#isTired(far)))
      return false;
    if (!source.hasRoom(sizeBytes) || !mayCarry(sizeBytes) || this.#count(source) >= requestItemsMax) return false;
    this.#ask(source, item, nowMs);
    return true;
  }

  #isRoomOutside(nowMs: number): boolean {
    const { sources } = this.#parts;
    if (sources.origins.some((origin) => nowMs >= origin.restsUntilMs && origin.hasRoom(1))) return true;
    return sources.farBits !== 0 && (sources.room(nowMs) & sources.farBits) !== 0;
  }

  /** Whether all of some peers are in trouble. */
  #isTired(bits: number): boolean {
    for (const source of this.#parts.sources) {
      if ((source.bit & bits) !== 0 && source.troubles === 0) return false;
    }
    return true;
  }

  /** Of two holders drawn at random the one that promises more (DESIGN section 7, rule 5). */
  #better(bits: number, sizeBytes: number): TransferSource {
    const { sources, random } = this.#parts;
    const count = bitsIn(bits);
    if (count === 1) return sources.at(31 - Math.clz32(bits));
    const first = randomBelow(count, random);
    const second = (first + 1 + randomBelow(count - 1, random)) % count;
    const one = sources.at(placeOfBit(bits, first));
    const other = sources.at(placeOfBit(bits, second));
    return other.promise(sizeBytes) > one.promise(sizeBytes) ? other : one;
  }

  #ask(source: TransferSource, item: number, nowMs: number): void {
    const { sources, wanted, sizeOf, onAsked } = this.#parts;
    wanted.remove(item, sources.copies(item));
    source.asked(item, sizeOf(item), nowMs);
    onAsked(source, item);
    const asked = this.#bySource.get(source);
    if (asked === undefined) this.#bySource.set(source, [item]);
    else asked.push(item);
  }

  #count(source: TransferSource): number {
    return this.#bySource.get(source)?.length ?? 0;
  }
}

/** How many bits of a number are set. */
function bitsIn(bits: number): number {
  let left = bits - ((bits >>> 1) & 0x55555555);
  left = (left & 0x33333333) + ((left >>> 2) & 0x33333333);
  return (((left + (left >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

/** The place of the set bit that has so many set bits below it. */
function placeOfBit(bits: number, below: number): number {
  let left = bits;
  for (let i = 0; i < below; i++) left &= left - 1;
  return 31 - Math.clz32(left & -left);
}
