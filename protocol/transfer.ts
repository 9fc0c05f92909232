import type { Bitmap } from "./bitmap.ts";
import { requestItemsMax, transferInFlightBytesMax } from "./limits.ts";
import type { Random } from "./random.ts";
import type { Fault } from "./standing.ts";
import { type SourceName, TransferSource } from "./transfer-source.ts";
import { type Look, WantedItems } from "./wanted-items.ts";

/** What is known of a payload before its segments are. */
export interface TransferPlan {
  /** Segments and chunks. */
  readonly items: number;
  readonly segmentSizesBytes: readonly number[];
  /** Segments that are here already. */
  readonly storedSegments: readonly number[];
  /** The origins that may be asked, in order of preference. */
  readonly origins: readonly SourceName[];
}

/** What the segments say, once all of them are here and the manifest has been checked. */
export interface ChunkDescription {
  /** By item; entries of segments are not looked at. */
  readonly sizesBytes: Uint32Array;
  /** Items whose hash an earlier item has, by that item: they are stored with it. */
  readonly copiesOf: ReadonlyMap<number, readonly number[]>;
  /** Chunk items that are here already, each hashed again. */
  readonly stored: readonly number[];
}

export type TransferEvent =
  | { readonly kind: "started" }
  | { readonly kind: "described"; readonly description: ChunkDescription }
  /** A peer is being asked what it has of the payload. */
  | { readonly kind: "joining"; readonly source: SourceName }
  | { readonly kind: "joined"; readonly source: SourceName; readonly have: Bitmap | "all" }
  | { readonly kind: "has"; readonly source: SourceName; readonly items: readonly number[] }
  | { readonly kind: "left"; readonly source: SourceName }
  /** An item came, was verified and lies on the disk. */
  | { readonly kind: "stored"; readonly source: SourceName; readonly item: number }
  /** An item came, and its bytes are not what its hash says. */
  | { readonly kind: "corrupt"; readonly source: SourceName; readonly item: number }
  /** The source says that it does not have them. */
  | { readonly kind: "missing"; readonly source: SourceName; readonly items: readonly number[] }
  | {
      readonly kind: "busy";
      readonly source: SourceName;
      readonly items: readonly number[];
      readonly retryAfterMs: number;
    }
  /** The source could not be reached for them. */
  | { readonly kind: "failed"; readonly source: SourceName; readonly items: readonly number[] }
  | { readonly kind: "woke" };

/** Why a transfer ends without its payload. */
export type TransferFault = "missing" | "corrupt" | "unreachable";

export type TransferAction =
  | { readonly kind: "ask"; readonly source: SourceName; readonly items: readonly number[] }
  | { readonly kind: "cancel"; readonly source: SourceName; readonly items: readonly number[] }
  /** It keeps failing: it counts for nothing until it joins again, which is of no use before this time. */
  | { readonly kind: "drop"; readonly source: SourceName; readonly retryAtMs: number }
  | { readonly kind: "strike"; readonly source: SourceName; readonly fault: Fault; readonly item: number }
  /** All segments are here: check the manifest and describe the chunks. */
  | { readonly kind: "segmentsComplete" }
  | { readonly kind: "complete" }
  | { readonly kind: "gaveUp"; readonly fault: TransferFault; readonly item: number; readonly missingItems: number }
  | { readonly kind: "wakeAt"; readonly atMs: number };

export interface TransferLimits {
  /** How long an answer to a join is awaited before the origin may be asked. */
  readonly joinMs: number;
  /** How long a transfer in which nobody has an item waits for somebody who has. */
  readonly hopelessMs: number;
  /** How long it waits for sources that are in trouble. */
  readonly patienceMs: number;
  readonly inFlightBytesMax: number;
}

export const defaultTransferLimits: TransferLimits = {
  // A LAN dial is given 500 ms (DESIGN section 7, rule 9), a join the same again.
  joinMs: 1_000,
  hopelessMs: 3_000,
  patienceMs: 20_000,
  inFlightBytesMax: transferInFlightBytesMax,
};

/**
 * One payload on its way in: which item to ask of whom, and when to turn to the origin. Segments come first; chunks
 * only once the whole manifest has been checked. Peers are asked for what they have, the origin for what no peer has.
 */
export class Transfer {
  readonly #plan: TransferPlan;
  readonly #limits: TransferLimits;
  readonly #sources = new Map<SourceName, TransferSource>();
  readonly #joining = new Map<SourceName, number>();
  /** By item: how many usable peers have it. */
  readonly #copies: Uint16Array;
  readonly #isStored: Uint8Array;
  readonly #corruptAtOrigin = new Set<number>();
  readonly #wanted: WantedItems;
  #storedCount = 0;
  #inFlightBytes = 0;
  #description: ChunkDescription | undefined;
  #phase: "segments" | "checking" | "chunks" | "over" = "segments";
  #progressMs = 0;
  #hopelessSinceMs: number | undefined;
  #wakeAtMs = Number.POSITIVE_INFINITY;

  constructor(plan: TransferPlan, limits: TransferLimits, random: Random) {
    this.#plan = plan;
    this.#limits = limits;
    this.#wanted = new WantedItems(random);
    this.#copies = new Uint16Array(plan.items);
    this.#isStored = new Uint8Array(plan.items);
    for (const name of plan.origins) {
      const origin = new TransferSource(name, true, plan.items);
      for (let item = 0; item < plan.items; item++) origin.have.add(item);
      this.#sources.set(name, origin);
    }
  }

  /** Takes in one event and gives back everything to do about it. */
  step(event: TransferEvent, nowMs: number): TransferAction[] {
    if (this.#phase === "over") return [];
    const actions = this.#take(event, nowMs);
    actions.push(...this.#expire(nowMs));
    if (this.#isOver()) return actions;
    actions.push(...this.#advance(), ...this.#assign(nowMs));
    if (!this.#isOver()) actions.push(...this.#watch(nowMs));
    return actions;
  }

  #take(event: TransferEvent, nowMs: number): TransferAction[] {
    switch (event.kind) {
      case "started":
        this.#begin(nowMs);
        return [];
      case "described":
        this.#describe(event.description, nowMs);
        return [];
      case "joining":
        this.#joining.set(event.source, nowMs + this.#limits.joinMs);
        return [];
      case "joined":
        this.#join(event.source, event.have);
        return [];
      case "has":
        this.#learn(event.source, event.items);
        return [];
      case "left":
        this.#leave(event.source);
        return [];
      case "stored":
        return this.#store(event.source, event.item, nowMs);
      case "corrupt":
        return this.#refuse(event.source, event.item);
      case "missing":
        return event.items.flatMap((item) => this.#lack(event.source, item));
      case "busy":
        return this.#rest(event.source, event.items, nowMs + event.retryAfterMs);
      case "failed":
        return this.#fail(event.source, event.items, nowMs);
      case "woke":
        if (nowMs >= this.#wakeAtMs) this.#wakeAtMs = Number.POSITIVE_INFINITY;
        return [];
    }
  }

  #begin(nowMs: number): void {
    this.#progressMs = nowMs;
    for (const segment of this.#plan.storedSegments) this.#mark(segment);
    const segments = this.#plan.segmentSizesBytes.length;
    for (let item = 0; item < segments; item++) if (this.#isStored[item] === 0) this.#wanted.add(item);
  }

  #describe(description: ChunkDescription, nowMs: number): void {
    this.#description = description;
    this.#phase = "chunks";
    this.#progressMs = nowMs;
    for (const item of description.stored) this.#mark(item);
    const copies = new Set([...description.copiesOf.values()].flat());
    for (let item = this.#plan.segmentSizesBytes.length; item < this.#plan.items; item++) {
      if (this.#isStored[item] === 0 && !copies.has(item)) this.#wanted.add(item);
    }
  }

  #join(name: SourceName, have: Bitmap | "all"): void {
    this.#joining.delete(name);
    this.#leave(name);
    const source = new TransferSource(name, false, this.#plan.items);
    this.#sources.set(name, source);
    for (let item = 0; item < this.#plan.items; item++) if (have === "all" || have.has(item)) this.#gain(source, item);
  }

  #learn(name: SourceName, items: readonly number[]): void {
    const source = this.#sources.get(name);
    if (source === undefined) return;
    for (const item of items) if (item < this.#plan.items) this.#gain(source, item);
  }

  #leave(name: SourceName): void {
    this.#joining.delete(name);
    const source = this.#sources.get(name);
    if (source === undefined) return;
    for (const item of [...source.inFlight.keys()]) this.#giveBack(source, item);
    for (let item = 0; item < this.#plan.items; item++) this.#lose(source, item);
    this.#sources.delete(name);
  }

  #store(name: SourceName, item: number, nowMs: number): TransferAction[] {
    const source = this.#sources.get(name);
    if (source?.inFlight.has(item)) {
      this.#inFlightBytes -= this.#sizeOf(item);
      source.settled(item);
      source.delivered(this.#sizeOf(item), nowMs);
    }
    this.#progressMs = nowMs;
    this.#hopelessSinceMs = undefined;
    this.#mark(item);
    for (const copy of this.#description?.copiesOf.get(item) ?? []) this.#mark(copy);
    return [];
  }

  #refuse(name: SourceName, item: number): TransferAction[] {
    const source = this.#sources.get(name);
    if (source === undefined) return [];
    this.#giveBack(source, item);
    this.#lose(source, item);
    if (source.isOrigin) this.#corruptAtOrigin.add(item);
    return [{ kind: "strike", source: name, fault: "corrupt", item }];
  }

  #lack(name: SourceName, item: number): TransferAction[] {
    const source = this.#sources.get(name);
    if (source === undefined || !source.have.has(item)) return [];
    this.#giveBack(source, item);
    this.#lose(source, item);
    return source.isOrigin ? [] : [{ kind: "strike", source: name, fault: "claim", item }];
  }

  #rest(name: SourceName, items: readonly number[], untilMs: number): TransferAction[] {
    const source = this.#sources.get(name);
    if (source === undefined) return [];
    for (const item of items) this.#giveBack(source, item);
    source.restsUntilMs = Math.max(source.restsUntilMs, untilMs);
    return [];
  }

  #fail(name: SourceName, items: readonly number[], nowMs: number): TransferAction[] {
    const source = this.#sources.get(name);
    if (source === undefined) return [];
    for (const item of items) this.#giveBack(source, item);
    return this.#trouble(source, nowMs);
  }

  /** A source in trouble rests; a peer that keeps failing, or gave nothing yet, has nothing until it joins again. */
  #trouble(source: TransferSource, nowMs: number): TransferAction[] {
    const isHopeful = source.isOrigin || (source.storedItems > 0 && source.troubles < troublesMax);
    source.failed(nowMs);
    if (isHopeful) return [];
    this.#leave(source.name);
    return [{ kind: "drop", source: source.name, retryAtMs: source.restsUntilMs }];
  }

  /** What was asked for and has not come in time: given up, and asked of somebody else. */
  #expire(nowMs: number): TransferAction[] {
    for (const [source, untilMs] of this.#joining) if (nowMs >= untilMs) this.#joining.delete(source);
    const actions: TransferAction[] = [];
    for (const source of [...this.#sources.values()]) {
      if (nowMs < source.firstDeadlineMs) continue;
      const items = [...source.inFlight.keys()];
      // Who gave nothing at all in all that time has claimed what it cannot give.
      if (source.storedItems === 0 && !source.isOrigin) {
        actions.push({ kind: "strike", source: source.name, fault: "claim", item: items[0]! });
      }
      for (const item of items) this.#giveBack(source, item);
      actions.push({ kind: "cancel", source: source.name, items }, ...this.#trouble(source, nowMs));
    }
    return actions;
  }

  #advance(): TransferAction[] {
    if (this.#phase === "segments" && this.#storedCount === this.#plan.segmentSizesBytes.length) {
      this.#phase = "checking";
      return [{ kind: "segmentsComplete" }];
    }
    if (this.#phase === "chunks" && this.#storedCount === this.#plan.items) {
      this.#phase = "over";
      return [{ kind: "complete" }];
    }
    return [];
  }

  /** Asks each source in turn for one item more, until nobody has room or nothing is left. */
  #assign(nowMs: number): TransferAction[] {
    const asks = new Map<SourceName, number[]>();
    const open = new Set(this.#sources.values());
    while (open.size > 0 && this.#wanted.length > 0) {
      for (const source of open) {
        const asked = asks.get(source.name) ?? [];
        const item = asked.length < requestItemsMax ? this.#pick(source, nowMs) : undefined;
        if (item === undefined) {
          open.delete(source);
          continue;
        }
        source.asked(item, this.#sizeOf(item), nowMs);
        this.#inFlightBytes += this.#sizeOf(item);
        asked.push(item);
        asks.set(source.name, asked);
      }
    }
    return [...asks].map(([source, items]) => ({ kind: "ask", source, items }));
  }

  /** A wanted item that a source has and may be asked for; it is no longer wanted then. */
  #pick(source: TransferSource, nowMs: number): number | undefined {
    if (nowMs < source.restsUntilMs || (source.isOrigin && this.#joining.size > 0)) return undefined;
    const look = (item: number): Look => {
      if (this.#isStored[item] === 1) return "forget";
      if (!source.have.has(item) || (source.isOrigin && !this.#isOriginsTurn(source, item, nowMs))) return "leave";
      const sizeBytes = this.#sizeOf(item);
      const isTooMuch = this.#inFlightBytes > 0 && this.#inFlightBytes + sizeBytes > this.#limits.inFlightBytesMax;
      return isTooMuch || !source.hasRoom(sizeBytes) ? "leave" : "take";
    };
    // While something is on its way another look will come; when nothing is, this one must not miss anything.
    return this.#wanted.take(look, this.#inFlightBytes === 0 ? Number.POSITIVE_INFINITY : lookAheadItems);
  }

  /** An origin gives what no peer has, and what the origins before it cannot give now. */
  #isOriginsTurn(origin: TransferSource, item: number, nowMs: number): boolean {
    if (this.#copies[item]! > 0) return false;
    const first = this.#plan.origins
      .map((name) => this.#sources.get(name)!)
      .find((source) => source.have.has(item) && nowMs >= source.restsUntilMs);
    return first === origin;
  }

  /** Sets the next wake-up, and gives up where there is no hope. */
  #watch(nowMs: number): TransferAction[] {
    let atMs = Math.min(...this.#joining.values());
    for (const source of this.#sources.values()) {
      atMs = Math.min(atMs, source.firstDeadlineMs);
      if (source.restsUntilMs > nowMs) atMs = Math.min(atMs, source.restsUntilMs);
    }
    if (this.#wanted.length > 0 && this.#inFlightBytes === 0) {
      const stuck = this.#stuck(nowMs);
      if (typeof stuck !== "number") return stuck;
      atMs = Math.min(atMs, stuck);
    }
    if (atMs >= this.#wakeAtMs || atMs === Number.POSITIVE_INFINITY) return [];
    this.#wakeAtMs = atMs;
    return [{ kind: "wakeAt", atMs }];
  }

  /** Items are wanted and nothing is on its way. Answers when to look again, or gives up. */
  #stuck(nowMs: number): number | TransferAction[] {
    const sources = [...this.#sources.values()];
    const isStored = (item: number) => this.#isStored[item] === 1;
    const item = this.#wanted.find((wanted) => !sources.some((source) => source.have.has(wanted)), isStored);
    if (item === undefined) {
      const untilMs = this.#progressMs + this.#limits.patienceMs;
      return nowMs < untilMs ? untilMs : this.#giveUp("unreachable", this.#wanted.find(() => true, isStored) ?? 0);
    }
    this.#hopelessSinceMs ??= nowMs;
    const untilMs = this.#hopelessSinceMs + this.#limits.hopelessMs;
    if (nowMs < untilMs) return untilMs;
    return this.#giveUp(this.#corruptAtOrigin.has(item) ? "corrupt" : "missing", item);
  }

  #giveUp(fault: TransferFault, item: number): TransferAction[] {
    this.#phase = "over";
    return [{ kind: "gaveUp", fault, item, missingItems: this.#plan.items - this.#storedCount }];
  }

  #giveBack(source: TransferSource, item: number): void {
    if (!source.inFlight.has(item)) return;
    this.#inFlightBytes -= this.#sizeOf(item);
    source.settled(item);
    if (this.#isStored[item] === 0) this.#wanted.add(item);
  }

  #gain(source: TransferSource, item: number): void {
    if (source.have.add(item) && !source.isOrigin) this.#copies[item]!++;
  }

  #lose(source: TransferSource, item: number): void {
    if (!source.have.has(item)) return;
    source.have.remove(item);
    if (!source.isOrigin) this.#copies[item]!--;
  }

  #mark(item: number): void {
    if (this.#isStored[item] === 1) return;
    this.#isStored[item] = 1;
    this.#storedCount++;
  }

  #sizeOf(item: number): number {
    const segments = this.#plan.segmentSizesBytes;
    return item < segments.length ? segments[item]! : this.#description!.sizesBytes[item]!;
  }

  #isOver(): boolean {
    return this.#phase === "over";
  }
}

/** How many wanted items one look goes through: a step stays cheap for a peer that has little. */
const lookAheadItems = 512;
/** Troubles in a row after which a peer's claims no longer keep the origin from being asked. */
const troublesMax = 2;
