import { Bitmap } from "./bitmap.ts";
import { type SourceName, TransferSource } from "./transfer-source.ts";

/** Everyone who may be asked for the items of one payload: its origins, and the peers that have joined. */
export class TransferSources {
  readonly #items: number;
  /** In order of preference. */
  readonly #origins: readonly TransferSource[];
  readonly #sources = new Map<SourceName, TransferSource>();
  /** By item: how many of the peers have it. */
  readonly #copies: Uint16Array;
  /** What came wrong, by who gave it: never asked of them again, also when they leave and join anew. */
  readonly #wrong = new Map<SourceName, Set<number>>();
  /** Items that a peer claimed which then kept failing: they exist, but are out of reach. */
  readonly #outOfReach: Bitmap;
  /** By item: how often a peer was asked for it in vain. */
  readonly #vainAsks: Uint8Array;

  constructor(items: number, origins: readonly SourceName[]) {
    this.#items = items;
    this.#copies = new Uint16Array(items);
    this.#outOfReach = new Bitmap(items);
    this.#vainAsks = new Uint8Array(items);
    this.#origins = origins.map((name) => new TransferSource(name, true, items));
    for (const origin of this.#origins) {
      for (let item = 0; item < items; item++) origin.have.add(item);
      this.#sources.set(origin.name, origin);
    }
  }

  [Symbol.iterator](): IterableIterator<TransferSource> {
    return this.#sources.values();
  }

  get(name: SourceName): TransferSource | undefined {
    return this.#sources.get(name);
  }

  /** A peer has joined with what it has; nothing is known of it from before but what it gave wrongly. */
  join(name: SourceName, have: Bitmap | "all"): void {
    const source = new TransferSource(name, false, this.#items);
    this.#sources.set(name, source);
    for (let item = 0; item < this.#items; item++) if (have === "all" || have.has(item)) this.gain(source, item);
  }

  /** A peer counts for nothing any more. Nothing may be in flight from it. */
  remove(source: TransferSource): void {
    for (let item = 0; item < this.#items; item++) this.lose(source, item);
    this.#sources.delete(source.name);
  }

  /** A peer cannot be reached any more: what it has may come back with it. */
  outOfReach(source: TransferSource): void {
    for (let item = 0; item < this.#items; item++) if (source.have.has(item)) this.#outOfReach.add(item);
  }

  gain(source: TransferSource, item: number): void {
    if (this.#wrong.get(source.name)?.has(item)) return;
    if (source.have.add(item) && !source.isOrigin) this.#copies[item]!++;
  }

  lose(source: TransferSource, item: number): void {
    if (!source.have.has(item)) return;
    source.have.remove(item);
    if (!source.isOrigin) this.#copies[item]!--;
  }

  /** A source gave an item wrongly. */
  distrust(name: SourceName, item: number): void {
    const source = this.#sources.get(name);
    if (source !== undefined) this.lose(source, item);
    const wrong = this.#wrong.get(name);
    if (wrong === undefined) this.#wrong.set(name, new Set([item]));
    else wrong.add(item);
  }

  /** Whom an item has been asked of and is awaited from. */
  askedFor(item: number): TransferSource | undefined {
    for (const source of this.#sources.values()) if (source.inFlight.has(item)) return source;
    return undefined;
  }

  /** An item was asked of a source, and did not come. */
  askedInVain(source: TransferSource, item: number): void {
    if (!source.isOrigin && this.#vainAsks[item]! < vainAsksMax) this.#vainAsks[item]!++;
  }

  /** Whether nobody has an item, and nobody had it who may come back. */
  isLost(item: number): boolean {
    const isHad = this.#copies[item]! > 0 || this.#origins.some((origin) => origin.have.has(item));
    return !isHad && !this.#outOfReach.has(item);
  }

  /** Whether a source has an item that is not in trouble: it is a matter of time. */
  isWithin(item: number): boolean {
    for (const source of this.#sources.values()) if (source.troubles === 0 && source.have.has(item)) return true;
    return false;
  }

  isWrongAtOrigin(item: number): boolean {
    return this.#origins.some(({ name }) => this.#wrong.get(name)?.has(item) === true);
  }

  /** An origin gives what no peer has, or has failed to give too often, and what no origin before it can give now. */
  isOriginsTurn(origin: TransferSource, item: number, nowMs: number): boolean {
    if (this.#copies[item]! > 0 && this.#vainAsks[item]! < vainAsksMax) return false;
    for (const other of this.#origins) {
      if (other.have.has(item) && nowMs >= other.restsUntilMs) return other === origin;
    }
    return false;
  }
}

/** Peers that only claim an item must not keep it from us for long, however many they are. */
const vainAsksMax = 2;
