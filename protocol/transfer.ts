import type { Bitmap } from "./bitmap.ts";
import { requestItemsMax } from "./limits.ts";
import type { Random } from "./random.ts";
import type { Fault } from "./standing.ts";
import type { TransferLimits } from "./transfer-limits.ts";
import { deadlineMsMax, type SourceName, type TransferSource } from "./transfer-source.ts";
import { TransferSources } from "./transfer-sources.ts";
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
  /** The source says that it does not have them; without items, that it has nothing any more. */
  | { readonly kind: "missing"; readonly source: SourceName; readonly items: readonly number[] }
  | {
      readonly kind: "busy";
      readonly source: SourceName;
      readonly items: readonly number[];
      readonly retryAfterMs: number;
    }
  /** The source could not be reached for them. */
  | { readonly kind: "failed"; readonly source: SourceName; readonly items: readonly number[] }
  /** The last `wakeAt` has come, or nearly: a timer may be a little early. */
  | { readonly kind: "woke" };

/** Why a transfer ends without its payload. */
type TransferFault = "missing" | "corrupt" | "unreachable";

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
  /** In place of the one before. */
  | { readonly kind: "wakeAt"; readonly atMs: number };

/**
 * One payload on its way in: which item to ask of whom, and when to turn to the origin. Segments come first; chunks
 * only once the whole manifest has been checked. Peers are asked for what they have, the origin for what no peer has.
 */
export class Transfer {
  readonly #plan: TransferPlan;
  readonly #limits: TransferLimits;
  readonly #sources: TransferSources;
  readonly #joining = new Set<SourceName>();
  readonly #isStored: Uint8Array;
  readonly #wanted: WantedItems;
  readonly #wrongAtOrigins = new Set<number>();
  #storedCount = 0;
  #inFlightBytes = 0;
  #description: ChunkDescription | undefined;
  #phase: "new" | "segments" | "checking" | "chunks" | "over" = "new";
  #joinsUntilMs = 0;
  /** When an item last came; at first, when it began. */
  #progressMs = 0;
  #hopelessSinceMs: number | undefined;
  #wakeAtMs = Number.POSITIVE_INFINITY;

  constructor(plan: TransferPlan, limits: TransferLimits, random: Random) {
    this.#plan = plan;
    this.#limits = limits;
    this.#wanted = new WantedItems(random);
    this.#isStored = new Uint8Array(plan.items);
    this.#sources = new TransferSources(plan.items, plan.origins);
  }

  /** Takes in one event and gives back everything to do about it; nothing before it has started. */
  step(event: TransferEvent, nowMs: number): TransferAction[] {
    if (this.#phase === "over") return [];
    const actions = this.#take(event, nowMs);
    if (this.#phase === "new") return actions;
    actions.push(...this.#expire(nowMs), ...this.#advance());
    if (this.#isOver()) return actions;
    actions.push(...this.#assign(nowMs), ...this.#watch(nowMs));
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
        this.#joining.add(event.source);
        return [];
      case "joined":
        this.#leave(event.source);
        this.#sources.join(event.source, event.have);
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
        return this.#lack(event.source, event.items);
      case "busy":
        return this.#rest(event.source, event.items, event.retryAfterMs, nowMs);
      case "failed":
        return this.#fail(event.source, event.items, nowMs);
      case "woke":
        // Its timer is spent, also one that came early: what is still to come asks for a new one.
        this.#wakeAtMs = Number.POSITIVE_INFINITY;
        return [];
    }
  }

  #begin(nowMs: number): void {
    this.#phase = "segments";
    this.#progressMs = nowMs;
    this.#joinsUntilMs = nowMs + this.#limits.joinMs;
    for (const segment of this.#plan.storedSegments) this.#mark(segment);
    const segments = this.#plan.segmentSizesBytes.length;
    for (let item = 0; item < segments; item++) if (this.#isStored[item] === 0) this.#wanted.add(item);
  }

  #describe(description: ChunkDescription, nowMs: number): void {
    this.#description = description;
    this.#phase = "chunks";
    this.#progressMs = nowMs;
    for (const item of description.stored) this.#mark(item);
    const comeWithOthers = new Set<number>();
    for (const [item, copies] of description.copiesOf) {
      // A crash, or rot, may have left the first and taken a copy: that one comes by itself.
      if (this.#isStored[item] === 0) for (const copy of copies) comeWithOthers.add(copy);
    }
    for (let item = this.#plan.segmentSizesBytes.length; item < this.#plan.items; item++) {
      if (this.#isStored[item] === 0 && !comeWithOthers.has(item)) this.#wanted.add(item);
    }
  }

  #learn(name: SourceName, items: readonly number[]): void {
    const source = this.#sources.get(name);
    if (source !== undefined) for (const item of items) this.#sources.gain(source, item);
  }

  #leave(name: SourceName): void {
    this.#joining.delete(name);
    const source = this.#sources.get(name);
    if (source === undefined) return;
    for (const item of [...source.inFlight.keys()]) this.#giveBack(source, item);
    this.#sources.remove(source);
  }

  /** Whoever it came from, also late: nobody else need send it. */
  #store(name: SourceName, item: number, nowMs: number): TransferAction[] {
    const asked = this.#sources.askedFor(item);
    if (asked !== undefined) this.#settle(asked, item);
    if (asked?.name === name) asked.delivered(this.#sizeOf(item), nowMs);
    if (this.#isStored[item] === 0) this.#progressMs = nowMs;
    this.#mark(item);
    for (const copy of this.#description?.copiesOf.get(item) ?? []) this.#mark(copy);
    return asked === undefined || asked.name === name ? [] : [{ kind: "cancel", source: asked.name, items: [item] }];
  }

  #refuse(name: SourceName, item: number): TransferAction[] {
    const source = this.#sources.get(name);
    if (source !== undefined) this.#giveBack(source, item);
    if (source?.isOrigin) this.#wrongAtOrigins.add(item);
    this.#sources.distrust(name, item);
    return [{ kind: "strike", source: name, fault: "corrupt", item }];
  }

  #lack(name: SourceName, items: readonly number[]): TransferAction[] {
    const source = this.#sources.get(name);
    if (source === undefined) return [];
    if (items.length === 0) {
      this.#leave(name);
      return [];
    }
    const claimed = items.filter((item) => source.have.has(item));
    for (const item of claimed) {
      this.#giveBack(source, item);
      this.#sources.lose(source, item);
    }
    // One answer is one fault, however many items it names.
    const [item] = claimed;
    return source.isOrigin || item === undefined ? [] : [{ kind: "strike", source: name, fault: "claim", item }];
  }

  #rest(name: SourceName, items: readonly number[], retryAfterMs: number, nowMs: number): TransferAction[] {
    const source = this.#sources.get(name);
    if (source === undefined) return [];
    const isBorneWith = source.isBusy(retryAfterMs, nowMs) || source.isOrigin || this.#plan.origins.length === 0;
    for (const item of items) this.#giveBack(source, item, !isBorneWith);
    return isBorneWith ? [] : this.#drop(source);
  }

  #fail(name: SourceName, items: readonly number[], nowMs: number): TransferAction[] {
    const source = this.#sources.get(name);
    // Of what was given up meanwhile nothing more is to be learnt.
    if (source === undefined || !items.some((item) => source.inFlight.has(item))) return [];
    for (const item of items) this.#giveBack(source, item);
    return this.#trouble(source, nowMs);
  }

  /** A source in trouble rests; a peer that keeps failing, or gave nothing yet, has nothing until it joins again. */
  #trouble(source: TransferSource, nowMs: number): TransferAction[] {
    source.failed(nowMs);
    const isHopeful = source.isOrigin || (source.storedItems > 0 && source.troubles < troublesMax);
    return isHopeful ? [] : this.#drop(source);
  }

  #drop(source: TransferSource): TransferAction[] {
    this.#sources.outOfReach(source);
    const items = [...source.inFlight.keys()];
    const cancels: TransferAction[] = items.length === 0 ? [] : [{ kind: "cancel", source: source.name, items }];
    this.#leave(source.name);
    return [...cancels, { kind: "drop", source: source.name, retryAtMs: source.restsUntilMs }];
  }

  /** What was asked for and has not come in time: given up, and asked of somebody else. */
  #expire(nowMs: number): TransferAction[] {
    const actions: TransferAction[] = [];
    for (const source of [...this.#sources]) {
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
    const open = new Set(this.#sources);
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
    if (nowMs < source.restsUntilMs || !source.hasRoom(1)) return undefined;
    if (source.isOrigin && this.#isAwaitingJoins(nowMs)) return undefined;
    const look = (item: number): Look => {
      if (this.#isStored[item] === 1) return "forget";
      if (!source.have.has(item)) return "leave";
      if (source.isOrigin && !this.#sources.isOriginsTurn(source, item, nowMs)) return "leave";
      const sizeBytes = this.#sizeOf(item);
      const isTooMuch = this.#inFlightBytes > 0 && this.#inFlightBytes + sizeBytes > this.#limits.inFlightBytesMax;
      return isTooMuch || !source.hasRoom(sizeBytes) ? "leave" : "take";
    };
    // While something is on its way another look will come; when nothing is, this one must not miss anything.
    return this.#wanted.take(look, this.#inFlightBytes === 0 ? Number.POSITIVE_INFINITY : lookAheadItems);
  }

  #isAwaitingJoins(nowMs: number): boolean {
    return this.#joining.size > 0 && nowMs < this.#joinsUntilMs;
  }

  /** Sees to it that time alone can never leave the transfer asleep: a wake-up for whatever is next, or its end. */
  #watch(nowMs: number): TransferAction[] {
    const hope = this.#phase === "checking" ? Number.POSITIVE_INFINITY : this.#hope(nowMs);
    if (typeof hope !== "number") {
      this.#phase = "over";
      return [hope];
    }
    let atMs = this.#isAwaitingJoins(nowMs) ? Math.min(hope, this.#joinsUntilMs) : hope;
    for (const source of this.#sources) {
      atMs = Math.min(atMs, source.firstDeadlineMs);
      if (source.restsUntilMs > nowMs) atMs = Math.min(atMs, source.restsUntilMs);
    }
    if (atMs >= this.#wakeAtMs) return [];
    this.#wakeAtMs = atMs;
    return [{ kind: "wakeAt", atMs }];
  }

  /** Until when there is hope that another item comes, or the end of it. */
  #hope(nowMs: number): number | TransferAction {
    const isIdle = this.#inFlightBytes === 0;
    const isStored = (item: number) => this.#isStored[item] === 1;
    const isLost = (item: number) => this.#sources.isLost(item);
    // What the origins have wrong will not come, however much else is still on its way.
    const wrong = [...this.#wrongAtOrigins].find((item) => !isStored(item) && isLost(item));
    const lost = wrong ?? (isIdle ? this.#wanted.find(isLost, isStored) : undefined);
    this.#hopelessSinceMs = lost === undefined ? undefined : (this.#hopelessSinceMs ?? nowMs);
    // An item may be asked of two peers in vain before it is the origin's turn.
    const isUnderWay = !isIdle || this.#wanted.find((item) => this.#sources.isWithin(item), isStored) !== undefined;
    const stalledMs = this.#progressMs + this.#limits.patienceMs + (isUnderWay ? 2 * deadlineMsMax : 0);
    const untilMs = Math.min(stalledMs, (this.#hopelessSinceMs ?? Number.POSITIVE_INFINITY) + this.#limits.hopelessMs);
    if (nowMs < untilMs) return untilMs;
    const missingItems = this.#plan.items - this.#storedCount;
    if (lost === undefined) {
      return { kind: "gaveUp", fault: "unreachable", item: this.#isStored.indexOf(0), missingItems };
    }
    const fault = this.#sources.isWrongAtOrigin(lost) ? "corrupt" : "missing";
    return { kind: "gaveUp", fault, item: lost, missingItems };
  }

  #giveBack(source: TransferSource, item: number, isFault = true): void {
    if (!source.inFlight.has(item)) return;
    this.#settle(source, item);
    if (isFault) this.#sources.askedInVain(source, item);
    if (this.#isStored[item] === 0) this.#wanted.add(item);
  }

  #settle(source: TransferSource, item: number): void {
    this.#inFlightBytes -= this.#sizeOf(item);
    source.settled(item);
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
