import { smallPayloadBytesMax, streamInFlightBytesMax } from "./limits.ts";
import type { Random } from "./random.ts";
import { TransferAsks } from "./transfer-asks.ts";
import type { ChunkDescription, TransferAction, TransferEvent, TransferPlan } from "./transfer-events.ts";
import { TransferHedge } from "./transfer-hedge.ts";
import { TransferHope } from "./transfer-hope.ts";
import { TransferItems } from "./transfer-items.ts";
import { type Leases, leasesAfter } from "./transfer-leases.ts";
import type { TransferLimits } from "./transfer-limits.ts";
import { TransferPace } from "./transfer-pace.ts";
import type { SourceName, TransferSource } from "./transfer-source.ts";
import { TransferSources } from "./transfer-sources.ts";
import { WantedItems } from "./wanted-items.ts";

export type { ChunkDescription, Distance, TransferAction, TransferEvent, TransferPlan } from "./transfer-events.ts";

/**
 * One payload on its way in: which item to ask of whom, and when to turn to the origin. Segments come first; chunks
 * only once the whole manifest has been checked. Near peers are asked for what they have, far ones and the origin for
 * what no near peer has: at once where access is open, else under a lease.
 */
export class Transfer {
  readonly #plan: TransferPlan;
  readonly #limits: TransferLimits;
  readonly #pace: TransferPace;
  readonly #wanted: WantedItems;
  readonly #sources: TransferSources;
  readonly #asks: TransferAsks;
  readonly #hedge: TransferHedge;
  /** By peer that is being asked what it has: whether it is likely to have something. */
  readonly #joining = new Map<SourceName, boolean>();
  readonly #items: TransferItems;
  readonly #hope: TransferHope;
  #leases: Leases;
  #inFlightBytes = 0;
  #phase: "new" | "segments" | "checking" | "chunks" | "over" = "new";
  #joinsUntilMs = 0;
  /** Before this time no deadline has passed and no source has rested enough. */
  #nextMs = Number.NEGATIVE_INFINITY;
  /** When an item last came, from anybody. */
  #storedMs = Number.NEGATIVE_INFINITY;
  #wakeAtMs = Number.POSITIVE_INFINITY;

  /** `wanted` decides which item is asked for next: the rarest, unless another order is passed in. */
  constructor(plan: TransferPlan, limits: TransferLimits, random: Random, wanted?: WantedItems) {
    this.#plan = plan;
    this.#limits = limits;
    this.#pace = new TransferPace(plan, random);
    this.#leases = plan.access === "leased" ? [] : "all";
    this.#items = new TransferItems(plan);
    this.#wanted = wanted ?? new WantedItems(plan.items, random);
    const isSmall = (plan.bytes ?? Number.POSITIVE_INFINITY) <= smallPayloadBytesMax;
    const firstWindowBytes = isSmall ? streamInFlightBytesMax : undefined;
    this.#sources = new TransferSources(plan.items, plan.origins, this.#wanted, firstWindowBytes);
    this.#asks = new TransferAsks({
      sources: this.#sources,
      wanted: this.#wanted,
      random,
      isSmall,
      sizeOf: (item) => this.#items.sizeOf(item),
      mayCarry: (sizeBytes) =>
        (this.#inFlightBytes === 0 || this.#inFlightBytes + sizeBytes <= this.#limits.inFlightBytesMax) &&
        this.#pace.mayAsk(),
      onAsked: (_source, item) => {
        this.#inFlightBytes += this.#items.sizeOf(item);
        this.#pace.asked(this.#items.sizeOf(item));
      },
    });
    const { sources, items, pace } = { sources: this.#sources, items: this.#items, pace: this.#pace };
    this.#hope = new TransferHope({ limits, items, wanted: this.#wanted, sources, pace });
    this.#hedge = new TransferHedge(this.#sources, this.#asks);
  }

  /** Takes in one event and gives back everything to do about it; nothing before it has started. */
  step(event: TransferEvent, nowMs: number): TransferAction[] {
    if (this.#phase === "over") return [];
    this.#pace.nowMs = nowMs;
    const actions = this.#take(event, nowMs);
    if (this.#phase === "new") return actions;
    // News is the most frequent event by far, and mostly nobody has room for more.
    if (event.kind === "has" && nowMs < this.#nextMs && this.#inFlightBytes >= this.#limits.inFlightBytesMax)
      return actions;
    this.#expire(nowMs, actions);
    if (this.#advance(actions)) return actions;
    this.#assign(nowMs);
    actions.push(...this.#asks.take(), ...this.#watch(nowMs));
    return actions;
  }

  /** Whether an item of `first…end-1` is wanted that no near peer can be relied on to give. */
  lacks(first: number, end: number): boolean {
    for (let item = first; item < end; item++) if (this.#wanted.has(item) && this.#sources.isLacking(item)) return true;
    return false;
  }

  /** Whether an item is here, verified. */
  hasStored(item: number): boolean {
    return this.#items.hasStored(item);
  }

  /** How many near peers are known to have an item. */
  copies(item: number): number {
    return this.#sources.copies(item);
  }

  /** How many items a peer has said that it has; undefined for one that has not joined. */
  heldBy(name: SourceName): number | undefined {
    return this.#sources.get(name)?.heldItems;
  }

  /** How fast a peer has served, in bytes a millisecond; undefined for one that has not. */
  rateOf(name: SourceName): number | undefined {
    return this.#sources.rateOf(name);
  }

  /**
   * Peers that have given nothing at all of what they claim to have, while they were asked for it and doubted, and by when
   * what they were asked for should come.
   */
  get owing(): ReadonlyMap<SourceName, number> {
    const owing = [...this.#sources].filter((source) => source.isOwing);
    return new Map(owing.map(({ name, firstDeadlineMs }) => [name, firstDeadlineMs]));
  }

  get inFlightBytes(): number {
    return this.#inFlightBytes;
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
        this.#joining.set(event.source, event.isLikely === true);
        return [];
      case "joined":
        return this.#join(event, nowMs);
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
        return this.#lack(event.source, event.items, nowMs);
      case "busy":
        return this.#rest(event.source, event.items, event.retryAfterMs, nowMs);
      case "failed":
        return this.#fail(event.source, event.items, nowMs);
      case "leased":
      case "lapsed":
      case "opened":
      case "closed":
        this.#leases = leasesAfter(this.#leases, event);
        return [];
      case "woke":
        // Its timer is spent, also one that came early.
        this.#wakeAtMs = Number.POSITIVE_INFINITY;
        return [];
    }
  }

  #begin(nowMs: number): void {
    this.#phase = "segments";
    this.#hope.progress(nowMs);
    this.#joinsUntilMs = nowMs + this.#limits.joinMs;
    for (const segment of this.#plan.storedSegments) this.#mark(segment);
    for (const segment of this.#plan.segmentSizesBytes.keys()) this.#want(segment);
  }

  #describe(description: ChunkDescription, nowMs: number): void {
    this.#items.describe(description);
    this.#phase = "chunks";
    this.#hope.progress(nowMs);
    for (const item of description.stored) this.#mark(item);
    for (const item of this.#items.ownChunks()) this.#want(item);
  }

  #join(event: Extract<TransferEvent, { kind: "joined" }>, nowMs: number): TransferAction[] {
    this.#leave(event.source);
    if (this.#sources.join(event.source, event.have, event.distance ?? "site")) return [];
    return [{ kind: "drop", source: event.source, retryAtMs: nowMs + fullRetryMs }];
  }

  #learn(name: SourceName, items: readonly number[]): void {
    const source = this.#sources.get(name);
    if (source === undefined) return;
    for (const item of items) {
      // Others still bring in what is missing here: that is hope.
      if (this.#sources.gain(source, item)) this.#hope.rise();
    }
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
    const actions: TransferAction[] = [];
    const giver = this.#sources.get(name);
    const tookMs = giver?.delivered(item, nowMs);
    if (tookMs !== undefined && giver?.kind === "near") this.#sources.took(tookMs);
    this.#trust(giver, nowMs);
    this.#storedMs = nowMs;
    for (const asked of this.#sources.askedFor(item)) {
      // Who is doubted may be slow: until its deadline it can still show that it gives what it claims.
      if (asked.isDoubted) continue;
      this.#inFlightBytes -= asked.settled(item);
      if (asked.name !== name) actions.push({ kind: "cancel", source: asked.name, items: [item] });
    }
    if (!this.#items.hasStored(item)) this.#hope.progress(nowMs);
    this.#mark(item);
    for (const copy of this.#items.copiesOf(item)) this.#mark(copy);
    return actions;
  }

  #refuse(name: SourceName, item: number): TransferAction[] {
    const source = this.#sources.get(name);
    if (source !== undefined) this.#giveBack(source, item);
    if (source?.isOrigin) this.#hope.wrongAtOrigin(item);
    this.#sources.distrust(name, item);
    return [{ kind: "strike", source: name, fault: "corrupt", item }];
  }

  #lack(name: SourceName, items: readonly number[], nowMs: number): TransferAction[] {
    const source = this.#sources.get(name);
    if (source === undefined) return [];
    if (items.length === 0) {
      this.#leave(name);
      return [];
    }
    this.#trust(source, nowMs);
    const claimed = items.filter((item) => this.#sources.has(source, item));
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
    // A rate that is used up is no fault: it is asked again, but nobody need wait for it.
    if (source.isBusy(retryAfterMs, nowMs)) this.#trust(source, nowMs);
    else this.#sources.doubt(source, true);
    for (const item of items) this.#giveBack(source, item, false);
    return [];
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
  #expire(nowMs: number, actions: TransferAction[]): void {
    if (nowMs < this.#nextMs) return;
    for (const source of this.#sources) {
      if (source.isAlwaysBusy && nowMs >= source.restsUntilMs) {
        source.isAlwaysBusy = false;
        this.#trust(source, nowMs);
      }
      if (nowMs >= source.doubtAtMs(this.#sources.doubtMs)) this.#doubt(source, actions);
      if (nowMs < source.soonestDeadlineMs || nowMs < source.firstDeadlineMs) continue;
      const items = [...source.inFlight.keys()];
      const { doubtMs } = this.#sources;
      if (source.hasOnlyClaimed(this.#storedMs, { nowMs, doubtMs }, this.#plan.hasGivenSince)) {
        actions.push({ kind: "strike", source: source.name, fault: "claim", item: items[0]! });
      }
      for (const item of items) this.#giveBack(source, item);
      actions.push({ kind: "cancel", source: source.name, items }, ...this.#trouble(source, nowMs));
    }
  }

  /** A peer that gave nothing yet keeps the first that it was asked for, which others are asked for as well. */
  #doubt(source: TransferSource, actions: TransferAction[]): void {
    const [kept, ...rest] = [...source.inFlight.keys()];
    this.#sources.doubt(source, true);
    for (const item of rest) this.#giveBack(source, item, false);
    if (rest.length > 0) actions.push({ kind: "cancel", source: source.name, items: rest });
    this.#wantAgain(kept!);
  }

  /** It answers: what it is asked for is asked of nobody else. */
  #trust(source: TransferSource | undefined, nowMs: number): void {
    if (source !== undefined) source.answeredMs = nowMs;
    if (source?.isDoubted !== true) return;
    this.#sources.doubt(source, false);
    for (const item of source.inFlight.keys()) this.#wanted.remove(item, this.#sources.copies(item));
  }

  /** Answers whether that was the end. */
  #advance(actions: TransferAction[]): boolean {
    if (this.#phase === "segments" && this.#items.storedCount === this.#plan.segmentSizesBytes.length) {
      this.#phase = "checking";
      actions.push({ kind: "segmentsComplete" });
    } else if (this.#phase === "chunks" && this.#items.missingCount === 0) {
      this.#phase = "over";
      actions.push({ kind: "complete" });
    }
    return this.#phase === "over";
  }

  /** What a lease allows comes first, since others wait for it. */
  #assign(nowMs: number): void {
    if (!this.#isAwaitingJoins(nowMs)) this.#asks.askOutside(nowMs, this.#leases);
    const storedChunks = this.#items.storedCount - this.#plan.segmentSizesBytes.length;
    this.#asks.askNear(nowMs, this.#phase === "chunks" && storedChunks < firstAtRandom);
    if (this.#phase === "chunks") this.#hedge.ask(nowMs, this.#wanted.length === 0);
  }

  #isAwaitingJoins(nowMs: number): boolean {
    if (this.#joining.size === 0 || nowMs >= this.#joinsUntilMs) return false;
    // Under leases others see to it that nobody goes there too early, unless there are some who may well have it.
    return typeof this.#leases === "string" || [...this.#joining.values()].includes(true);
  }

  /** Sees to it that time alone can never leave the transfer asleep: a wake-up for whatever is next, or its end. */
  #watch(nowMs: number): TransferAction[] {
    const hope =
      this.#phase === "checking" ? Number.POSITIVE_INFINITY : this.#hope.until(nowMs, this.#inFlightBytes === 0);
    if (typeof hope !== "number") {
      this.#phase = "over";
      return [hope];
    }
    let atMs = this.#isAwaitingJoins(nowMs) ? Math.min(hope, this.#joinsUntilMs) : hope;
    this.#nextMs = this.#sources.nextMs(nowMs);
    atMs = Math.min(atMs, this.#nextMs);
    if (this.#phase === "chunks") atMs = Math.min(atMs, this.#hedge.nextMs(nowMs, this.#wanted.length === 0));
    atMs = Math.min(atMs, this.#pace.nextMs());
    if (atMs >= this.#wakeAtMs) return [];
    this.#wakeAtMs = atMs;
    return [{ kind: "wakeAt", atMs }];
  }

  #giveBack(source: TransferSource, item: number, isFault = true): void {
    if (!source.inFlight.has(item)) return;
    const sizeBytes = source.settled(item);
    this.#inFlightBytes -= sizeBytes;
    this.#pace.gaveUp(sizeBytes);
    if (isFault) this.#sources.askedInVain(source, item);
    this.#wantAgain(item);
  }

  /** Unless somebody else is still asked for it, of whom there is no doubt. */
  #wantAgain(item: number): void {
    if (this.#sources.askedFor(item).every(({ isDoubted }) => isDoubted)) this.#want(item);
  }

  #want(item: number): void {
    if (this.#items.hasStored(item) || this.#wanted.has(item)) return;
    this.#wanted.add(item, this.#sources.copies(item));
  }

  #mark(item: number): void {
    if (this.#items.store(item)) this.#wanted.remove(item, this.#sources.copies(item));
  }
}

/** Items that are asked for at random before the rarest are: something to give soon (DESIGN section 7, rule 4). */
const firstAtRandom = 4;
/** Troubles in a row after which a peer's claims no longer keep the origin from being asked. */
const troublesMax = 2;
/** A peer for which there was no place may find one later. */
const fullRetryMs = 30_000;
