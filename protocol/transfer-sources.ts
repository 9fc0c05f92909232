import { Bitmap } from "./bitmap.ts";
import type { Distance } from "./transfer-events.ts";
import { type SourceKind, type SourceName, TransferSource } from "./transfer-source.ts";
import type { WantedItems } from "./wanted-items.ts";

/**
 * Everyone who may be asked for the items of one payload: its origins, and the peers that have joined. Each has a bit, so
 * that who has an item is one number.
 */
export class TransferSources {
  readonly #items: number;
  readonly #wanted: WantedItems;
  readonly #firstWindowBytes: number | undefined;
  /** In order of preference. */
  readonly #origins: readonly TransferSource[];
  readonly #byName = new Map<SourceName, TransferSource>();
  readonly #bySlot: (TransferSource | undefined)[] = [];
  /** By item: the bits of those who have it. */
  readonly masks: Uint32Array;
  /** By item: how many of the near peers have it. */
  readonly #copies: Uint8Array;
  #nearBits = 0;
  #farBits = 0;
  /** What came wrong, by who gave it: never asked of them again, also when they leave and join anew. */
  readonly #wrong = new Map<SourceName, Set<number>>();
  /** Items that a peer claimed which then kept failing: they exist, but are out of reach. */
  readonly #outOfReach: Bitmap;
  /** How long a near peer takes to give an item here, on the average of the last ones; undefined until one has. */
  #itemMs: number | undefined;
  /** How often a peer was asked for an item in vain. */
  readonly #vainAsks = new Map<number, number>();
  readonly #failedOutside = new Set<number>();

  constructor(items: number, origins: readonly SourceName[], wanted: WantedItems, firstWindowBytes?: number) {
    this.#items = items;
    this.#firstWindowBytes = firstWindowBytes;
    this.#wanted = wanted;
    this.masks = new Uint32Array(items);
    this.#copies = new Uint8Array(items);
    this.#outOfReach = new Bitmap(items);
    this.#origins = origins.slice(0, originsMax).map((name) => this.#add(name, "origin", 1)!);
    for (const origin of this.#origins) for (let item = 0; item < items; item++) this.gain(origin, item);
  }

  [Symbol.iterator](): IterableIterator<TransferSource> {
    return this.#byName.values();
  }

  get origins(): readonly TransferSource[] {
    return this.#origins;
  }

  get nearBits(): number {
    return this.#nearBits;
  }

  get farBits(): number {
    return this.#farBits;
  }

  get(name: SourceName): TransferSource | undefined {
    return this.#byName.get(name);
  }

  /** How fast a peer has served, in bytes a millisecond; undefined for one that has not. */
  rateOf(name: SourceName): number | undefined {
    const source = this.get(name);
    return source === undefined || source.storedItems === 0 ? undefined : source.bytesPerMs;
  }

  at(slot: number): TransferSource {
    return this.#bySlot[slot]!;
  }

  /** The bits of the peers that may be asked for something now. */
  room(nowMs: number): number {
    let bits = 0;
    for (const source of this.#bySlot) {
      if (source === undefined || source.isOrigin) continue;
      if (nowMs >= source.restsUntilMs && source.hasRoom(1) && !source.isDoubted) bits |= source.bit;
    }
    return bits;
  }

  /** When the next deadline is, somebody is to be doubted or has rested enough; it may be said too early, never too late. */
  nextMs(nowMs: number): number {
    const { doubtMs } = this;
    let atMs = Number.POSITIVE_INFINITY;
    for (const source of this.#bySlot) {
      if (source === undefined) continue;
      if (source.soonestDeadlineMs < atMs) atMs = source.soonestDeadlineMs;
      // The others may have become faster: then it is late already.
      const doubtAtMs = Math.max(source.doubtAtMs(doubtMs), nowMs + 1);
      if (doubtAtMs < atMs) atMs = doubtAtMs;
      if (source.restsUntilMs > nowMs && source.restsUntilMs < atMs) atMs = source.restsUntilMs;
    }
    return atMs;
  }

  /**
   * A peer has joined with what it has; nothing is known of it from before but what it gave wrongly. Answers whether
   * there was a place for it.
   */
  join(name: SourceName, have: Bitmap | "all", distance: Distance): boolean {
    const source = this.#add(name, distance === "far" ? "far" : "near", distance === "rack" ? rackWorth : 1);
    if (source === undefined) return false;
    if (have === "all") {
      for (let item = 0; item < this.#items; item++) this.gain(source, item);
      return true;
    }
    for (const [at, byte] of have.bytes.entries()) {
      if (byte === 0) continue;
      for (let bit = 0; bit < 8; bit++) if (((byte >> bit) & 1) === 1) this.gain(source, 8 * at + bit);
    }
    return true;
  }

  /** A peer counts for nothing any more. Nothing may be in flight from it. */
  remove(source: TransferSource): void {
    for (let item = 0; item < this.#items; item++) this.lose(source, item);
    this.#byName.delete(source.name);
    this.#bySlot[source.slot] = undefined;
    this.#nearBits &= ~source.bit;
    this.#farBits &= ~source.bit;
  }

  /** A peer cannot be reached any more: what it has may come back with it. */
  outOfReach(source: TransferSource): void {
    for (let item = 0; item < this.#items; item++) if (this.has(source, item)) this.#outOfReach.add(item);
  }

  /** A near peer gave an item in so many milliseconds. */
  took(itemMs: number): void {
    this.#itemMs = this.#itemMs === undefined ? itemMs : 0.9 * this.#itemMs + 0.1 * itemMs;
  }

  /** Several times as long as a near peer takes here, at least `leastMs`. */
  patienceMs(times: number, leastMs: number): number {
    return Math.max(leastMs, times * (this.#itemMs ?? 0));
  }

  /** How long a stranger that gives nothing is believed: several times as long as others take, on links like these. */
  get doubtMs(): number {
    return this.#itemMs === undefined ? firstDoubtMs : this.patienceMs(doubtPatience, doubtMsMin);
  }

  /** What a peer says that it has counts no longer, or again. */
  doubt(source: TransferSource, isDoubted: boolean): void {
    if (source.isDoubted === isDoubted) return;
    for (let item = 0; item < this.#items; item++) {
      if (!this.has(source, item)) continue;
      if (isDoubted) this.#wanted.lower(item, --this.#copies[item]!);
      else this.#wanted.raise(item, ++this.#copies[item]!);
    }
    source.isDoubted = isDoubted;
  }

  has(source: TransferSource, item: number): boolean {
    return (this.masks[item]! & source.bit) !== 0;
  }

  /** How many of the near peers have an item, but for those that are doubted. */
  copies(item: number): number {
    return this.#copies[item]!;
  }

  /** A source has an item. Answers whether that is new, and the item one that it can be asked for. */
  gain(source: TransferSource, item: number): boolean {
    if (item < 0 || item >= this.#items || this.has(source, item)) return false;
    if (this.#wrong.size > 0 && this.#wrong.get(source.name)?.has(item)) return false;
    this.masks[item]! |= source.bit;
    source.heldItems++;
    if (source.kind === "near" && !source.isDoubted) this.#wanted.raise(item, ++this.#copies[item]!);
    return true;
  }

  lose(source: TransferSource, item: number): void {
    if (!this.has(source, item)) return;
    this.masks[item]! &= ~source.bit;
    source.heldItems--;
    if (source.kind === "near" && !source.isDoubted) this.#wanted.lower(item, --this.#copies[item]!);
  }

  /** A source gave an item wrongly. */
  distrust(name: SourceName, item: number): void {
    const source = this.#byName.get(name);
    if (source !== undefined) this.lose(source, item);
    const wrong = this.#wrong.get(name);
    if (wrong === undefined) this.#wrong.set(name, new Set([item]));
    else wrong.add(item);
  }

  /** Whom an item has been asked of and is awaited from; more than one where it was urgent. */
  askedFor(item: number): TransferSource[] {
    const asked: TransferSource[] = [];
    for (const source of this.#bySlot) if (source?.inFlight.has(item)) asked.push(source);
    return asked;
  }

  /** An item was asked of a source, and did not come. */
  askedInVain(source: TransferSource, item: number): void {
    if (source.isOrigin) this.#failedOutside.add(item);
    else this.#vainAsks.set(item, (this.#vainAsks.get(item) ?? 0) + 1);
  }

  /** Whether an origin was asked for an item in vain: others come first, or one bad file would keep all others back. */
  hasFailedOutside(item: number): boolean {
    return this.#failedOutside.has(item);
  }

  /** Items that peers only claim, and have failed to give too often. */
  *claimedInVain(): IterableIterator<number> {
    for (const [item, times] of this.#vainAsks) if (times >= vainAsksMax) yield item;
  }

  /** Whether no near peer has an item that can be relied on to give it. */
  isLacking(item: number): boolean {
    if (this.#copies[item]! === 0) return true;
    return this.#vainAsks.size > 0 && (this.#vainAsks.get(item) ?? 0) >= vainAsksMax;
  }

  /** Whether nobody has an item, and nobody had it who may come back. */
  isLost(item: number): boolean {
    return this.masks[item] === 0 && !this.#outOfReach.has(item);
  }

  /** Whether a source has an item that is not in trouble: it is a matter of time. */
  isWithin(item: number): boolean {
    for (const source of this.#byName.values()) if (source.troubles === 0 && this.has(source, item)) return true;
    return false;
  }

  /** Whether others are all that there is to hope for, and some of them are fetching themselves. */
  get areGrowing(): boolean {
    if (this.#origins.length > 0) return false;
    for (const source of this.#byName.values()) if (source.heldItems < this.#items) return true;
    return false;
  }

  isWrongAtOrigin(item: number): boolean {
    return this.#origins.some(({ name }) => this.#wrong.get(name)?.has(item) === true);
  }

  /** The origin whose turn it is for an item that is lacking: the first that can give it now. */
  originFor(item: number, nowMs: number): TransferSource | undefined {
    for (const origin of this.#origins) if (this.has(origin, item) && nowMs >= origin.restsUntilMs) return origin;
    return undefined;
  }

  #add(name: SourceName, kind: SourceKind, nearness: number): TransferSource | undefined {
    let slot = 0;
    while (this.#bySlot[slot] !== undefined) slot++;
    if (slot >= slotsMax) return undefined;
    const source = new TransferSource(name, kind, slot, nearness, this.#firstWindowBytes);
    this.#bySlot[slot] = source;
    this.#byName.set(name, source);
    if (kind === "near") this.#nearBits |= source.bit;
    if (kind === "far") this.#farBits |= source.bit;
    return source;
  }
}

/** Bits of a number that stay clear of its sign: far more than the 20 peers that a payload's graph has at a node. */
const slotsMax = 31;
const originsMax = 4;
/** Peers that only claim an item must not keep it from us for long, however many they are. */
const vainAsksMax = 2;
/** On a LAN of 1 Gbit/s eight others before us take a tenth of the first. */
const doubtMsMin = 400;
const doubtPatience = 6;
/** Before anything has come from anybody the links may be slow: eight items of 1 MiB in a row take 0.7 s at 100 Mbit/s.
 * Sooner, small payloads are read more often than needed (`many-small` at 0.6 s). */
const firstDoubtMs = 700;
/** Locality is worth at most 30 % (DESIGN section 7, rule 5). */
const rackWorth = 1.3;
