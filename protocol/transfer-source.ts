import { KIB, MIB, streamInFlightBytesMax } from "./limits.ts";
import type { TransferPlan } from "./transfer-events.ts";

/** Names a source of items: a peer's name, or an origin's. */
export type SourceName = string;

/** What a source is: an origin, a peer of this site, or one beyond a line that many share. */
export type SourceKind = "origin" | "near" | "far";

/** An item that was asked for and has not been answered. */
export interface AskedItem {
  readonly sizeBytes: number;
  readonly askedMs: number;
  /** What it owed then, this item included. */
  readonly owedBytes: number;
  readonly deadlineMs: number;
}

/** Where items may be asked for, and how it has done so far in one transfer. */
export class TransferSource {
  readonly name: SourceName;
  readonly kind: SourceKind;
  /** Its place among the sources, and its bit in masks of them. */
  readonly slot: number;
  readonly bit: number;
  /** What its rate counts for beside another's: a peer of the same rack is worth a little more. */
  readonly nearness: number;
  readonly inFlight: Map<number, AskedItem> = new Map();
  inFlightBytes = 0;
  /** Asked for nothing before this time: it said `busy`, or it is in trouble. */
  restsUntilMs: number = Number.NEGATIVE_INFINITY;
  /** Of an origin: when it may be this node's turn again, as it said. */
  turnAtMs: number = Number.NEGATIVE_INFINITY;
  /** Troubles in a row. */
  troubles = 0;
  /** Items that it says it has. */
  heldItems = 0;
  /** Items that it gave and that were right. */
  storedItems = 0;
  /** It was asked and has given nothing at all: whatever it says that it has is asked of others too. */
  isDoubted = false;
  /** A time before which everything asked for may still come; infinity when nothing was. It may lie too early. */
  soonestDeadlineMs: number = Number.POSITIVE_INFINITY;
  /** When it last said something, or was given another chance. */
  answeredMs: number = Number.NEGATIVE_INFINITY;
  /** It has said nothing but `busy` for long: until it has rested it counts for nothing. */
  isAlwaysBusy = false;
  #recoversAtMs = Number.NEGATIVE_INFINITY;
  #busySinceMs: number | undefined;
  #windowBytes: number;
  readonly #windowBytesMax: number;
  #bytesPerMs = firstBytesPerMs;
  /** How long the quickest item took that was asked for while nothing else was. */
  #aloneMs: number | undefined;

  constructor(
    name: SourceName,
    kind: SourceKind,
    slot: number,
    nearness: number,
    firstBytes: number = firstWindowBytes,
  ) {
    this.name = name;
    this.kind = kind;
    this.slot = slot;
    this.bit = 1 << slot;
    this.nearness = nearness;
    this.#windowBytes = firstBytes;
    this.#windowBytesMax = kind === "origin" ? originWindowBytesMax : streamInFlightBytesMax;
  }

  get isOrigin(): boolean {
    return this.kind === "origin";
  }

  get bytesPerMs(): number {
    return this.#bytesPerMs;
  }

  /** When it is to be doubted: a near peer that has given nothing, so long after the oldest ask; else infinity. */
  doubtAtMs(doubtMs: number): number {
    if (this.storedItems > 0 || this.isDoubted || this.kind !== "near") return Number.POSITIVE_INFINITY;
    for (const { askedMs } of this.inFlight.values()) return Math.max(askedMs, this.answeredMs) + doubtMs;
    return Number.POSITIVE_INFINITY;
  }

  /** Whether it has given nothing at all while others did: it was asked so long ago that it cannot give what it claims. */
  hasOnlyClaimed(
    othersGaveMs: number,
    { nowMs, doubtMs }: { readonly nowMs: number; readonly doubtMs: number },
    hasGivenSince: TransferPlan["hasGivenSince"],
  ): boolean {
    const [first] = this.inFlight.values();
    if (first === undefined || this.storedItems > 0 || this.isOrigin) return false;
    if (hasGivenSince?.(this.name, first.askedMs) === true) return false;
    return first.askedMs < othersGaveMs && nowMs - first.askedMs >= doubtMs;
  }

  /** Whether it is doubted, and still awaited: whoever only says `busy` owes nothing. */
  get isOwing(): boolean {
    return this.isDoubted && this.storedItems === 0 && this.inFlight.size > 0;
  }

  /** Whether its window has room for an item of this size: one item is always allowed. */
  hasRoom(sizeBytes: number): boolean {
    return this.inFlightBytes === 0 || this.inFlightBytes + sizeBytes <= this.#windowBytes;
  }

  /** How soon it would give an item more: its rate for every byte that it would then owe. */
  promise(sizeBytes: number): number {
    return (this.nearness * this.#bytesPerMs) / (this.inFlightBytes + sizeBytes);
  }

  /** How long it will take, by what was measured, to give all that it was asked for. */
  get expectedMs(): number {
    return this.inFlightBytes / this.#bytesPerMs;
  }

  /** It is asked for an item. Answers by when that must have come. */
  asked(item: number, sizeBytes: number, nowMs: number): number {
    this.inFlightBytes += sizeBytes;
    const allowedMs = Math.min(deadlineMsMax, deadlineMsMin + patience * this.expectedMs);
    const deadlineMs = nowMs + allowedMs;
    this.inFlight.set(item, { sizeBytes, askedMs: nowMs, owedBytes: this.inFlightBytes, deadlineMs });
    this.soonestDeadlineMs = Math.min(this.soonestDeadlineMs, deadlineMs);
    return deadlineMs;
  }

  /** Nothing more is expected of this item from here. Answers how many bytes of it were on their way. */
  settled(item: number): number {
    const asked = this.inFlight.get(item);
    if (asked === undefined) return 0;
    this.inFlight.delete(item);
    this.inFlightBytes -= asked.sizeBytes;
    if (this.inFlight.size === 0) this.soonestDeadlineMs = Number.POSITIVE_INFINITY;
    return asked.sizeBytes;
  }

  /**
   * An item came and was right. What was owed when it was asked for came in the time since: that is the rate. The window
   * grows by a step while items come soon, and shrinks by one when they have to wait behind those of others. Answers how
   * long it took; undefined where it had been given up.
   */
  delivered(item: number, nowMs: number): number | undefined {
    this.troubles = 0;
    this.#busySinceMs = undefined;
    this.isAlwaysBusy = false;
    this.storedItems++;
    const asked = this.inFlight.get(item);
    if (asked === undefined) return undefined;
    const tookMs = Math.max(1, nowMs - asked.askedMs);
    this.#bytesPerMs = Math.max(slowestBytesPerMs, 0.7 * this.#bytesPerMs + (0.3 * asked.owedBytes) / tookMs);
    if (asked.owedBytes === asked.sizeBytes) this.#aloneMs = Math.min(this.#aloneMs ?? tookMs, tookMs);
    const { soonMs, lateMs } = this.isOrigin ? this.#originPace : peerPace;
    if (tookMs <= soonMs) this.#windowBytes = Math.min(this.#windowBytesMax, this.#windowBytes + windowStepBytes);
    else if (tookMs > lateMs) this.#windowBytes = Math.max(windowBytesMin, this.#windowBytes - windowStepBytes);
    return tookMs;
  }

  /** An origin that is only far away is asked for more; what nearly a second takes is the work of many who read it. */
  get #originPace(): { readonly soonMs: number; readonly lateMs: number } {
    return {
      soonMs: Math.min(originSoonMsMax, Math.max(originSoonMs, 1.5 * (this.#aloneMs ?? 0))),
      lateMs: originLateMs,
    };
  }

  /** It failed: the window halves and it rests, longer each time. */
  failed(nowMs: number): void {
    // What was asked for together fails together, each item by itself: that is one trouble.
    if (nowMs < this.#recoversAtMs) return;
    this.troubles++;
    this.#windowBytes = Math.max(windowBytesMin, this.#windowBytes / 2);
    const restMs = Math.min(restMsMax, restMsMin * 2 ** (this.troubles - 1));
    this.#recoversAtMs = nowMs + restMs;
    this.restsUntilMs = Math.max(this.restsUntilMs, this.#recoversAtMs);
  }

  /**
   * It said `busy`, and rests as long as it says. Answers whether to wait for it: not if it will say nothing else for long.
   * An origin is read by turns: it says when the next one may be, and nobody is worse for waiting.
   */
  isBusy(retryAfterMs: number, nowMs: number): boolean {
    if (this.isOrigin) {
      this.turnAtMs = nowMs + Math.min(retryAfterMs, restMsMax);
      this.restsUntilMs = Math.max(this.restsUntilMs, this.turnAtMs);
      return true;
    }
    this.#busySinceMs ??= nowMs;
    this.restsUntilMs = Math.max(this.restsUntilMs, nowMs + Math.min(retryAfterMs, busyRestMsMax));
    if (this.restsUntilMs - this.#busySinceMs < busyMsMax) return true;
    this.isAlwaysBusy = true;
    this.restsUntilMs = Math.max(this.restsUntilMs, nowMs + alwaysBusyRestMs);
    return false;
  }

  /** The earliest time by which something asked for must have come; infinity when nothing is. */
  get firstDeadlineMs(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const { deadlineMs } of this.inFlight.values()) first = Math.min(first, deadlineMs);
    this.soonestDeadlineMs = first;
    return first;
  }
}

/** Windows: DESIGN section 7, rule 6. */
const firstWindowBytes: number = MIB;
const windowBytesMin: number = 256 * KIB;
/** What comes within the first waited for nobody; what comes after the second waited for many: simulated, decision 0050. */
const peerPace = { soonMs: 60, lateMs: 150 } as const;
/**
 * An origin may be far away, and many read it: 8 nodes with 4 MiB each over 100 Mbit/s had items on their way for 7 s, gave
 * them up and read a tenth again (decision 0067).
 */
const originSoonMs = 300;
const originSoonMsMax = 900;
const originLateMs = 1_000;
const windowStepBytes: number = 256 * KIB;
/** An origin is asked item by item: eight chunks of the target size keep a filer busy. */
const originWindowBytesMax: number = 4 * MIB;
/** Rests: DESIGN section 7, rule 9. */
const restMsMin = 500;
const restMsMax = 30_000;
/** A peer that never says anything but `busy` must not keep us from the origin: from then on it is only asked now and then. */
const busyMsMax = 5_000;
const alwaysBusyRestMs = 1_000;
/** It may be faster sooner than it says. */
const busyRestMsMax = 10_000;
/** Deadlines: four times what the measured rate says, in these bounds. 1 MB/s is assumed of a stranger. */
const patience = 4;
const deadlineMsMin = 2_000;
export const deadlineMsMax = 30_000;
const firstBytesPerMs = 1_000;
const slowestBytesPerMs = 100;
