import { Bitmap } from "./bitmap.ts";
import { KIB, MIB, streamInFlightBytesMax } from "./limits.ts";

/** Names a source of items: a peer's name, or an origin's. */
export type SourceName = string;

/** Where items may be asked for, and how it has done so far in one transfer. */
export class TransferSource {
  readonly name: SourceName;
  readonly isOrigin: boolean;
  /** What it says that it has, less what it could not give. */
  readonly have: Bitmap;
  /** Items asked for and not yet answered, with the time by which each must have come. */
  readonly inFlight: Map<number, { readonly sizeBytes: number; readonly deadlineMs: number }> = new Map();
  inFlightBytes = 0;
  /** Asked for nothing before this time: it said `busy`, or it is in trouble. */
  restsUntilMs: number = Number.NEGATIVE_INFINITY;
  /** Troubles in a row. */
  troubles = 0;
  #recoversAtMs = Number.NEGATIVE_INFINITY;
  #busySinceMs: number | undefined;
  #windowBytes: number;
  readonly #windowBytesMax: number;
  #bytesPerMs = firstBytesPerMs;
  #measuredSinceMs = 0;
  #measuredBytes = 0;
  /** Items that it gave and that were right. */
  storedItems = 0;

  constructor(name: SourceName, isOrigin: boolean, items: number) {
    this.name = name;
    this.isOrigin = isOrigin;
    this.have = new Bitmap(items);
    this.#windowBytes = isOrigin ? originWindowBytes : firstWindowBytes;
    this.#windowBytesMax = isOrigin ? originWindowBytes : streamInFlightBytesMax;
  }

  /** Whether its window has room for an item of this size: one item is always allowed. */
  hasRoom(sizeBytes: number): boolean {
    return this.inFlightBytes === 0 || this.inFlightBytes + sizeBytes <= this.#windowBytes;
  }

  /** It is asked for an item. */
  asked(item: number, sizeBytes: number, nowMs: number): void {
    if (this.inFlight.size === 0) {
      this.#measuredSinceMs = nowMs;
      this.#measuredBytes = 0;
    }
    this.inFlightBytes += sizeBytes;
    const expectedMs = this.inFlightBytes / this.#bytesPerMs;
    const allowedMs = Math.min(deadlineMsMax, deadlineMsMin + patience * expectedMs);
    this.inFlight.set(item, { sizeBytes, deadlineMs: nowMs + allowedMs });
  }

  /** Nothing more is expected of this item from here. */
  settled(item: number): void {
    const asked = this.inFlight.get(item);
    if (asked === undefined) return;
    this.inFlight.delete(item);
    this.inFlightBytes -= asked.sizeBytes;
  }

  /** An item came and was right: the window grows by a step. */
  delivered(sizeBytes: number, nowMs: number): void {
    this.troubles = 0;
    this.#busySinceMs = undefined;
    this.storedItems++;
    this.#windowBytes = Math.min(this.#windowBytesMax, this.#windowBytes + windowStepBytes);
    this.#measuredBytes += sizeBytes;
    const elapsedMs = Math.max(1, nowMs - this.#measuredSinceMs);
    const rate = this.#measuredBytes / elapsedMs;
    this.#bytesPerMs = Math.max(slowestBytesPerMs, 0.7 * this.#bytesPerMs + 0.3 * rate);
  }

  /** It failed: the window halves and it rests, longer each time. */
  failed(nowMs: number): void {
    // What was asked for together fails together, each item by itself: that is one trouble.
    if (nowMs < this.#recoversAtMs) return;
    this.troubles++;
    this.#windowBytes = Math.max(firstWindowBytes / 4, this.#windowBytes / 2);
    const restMs = Math.min(restMsMax, restMsMin * 2 ** (this.troubles - 1));
    this.#recoversAtMs = nowMs + restMs;
    this.restsUntilMs = Math.max(this.restsUntilMs, this.#recoversAtMs);
  }

  /** It said `busy`, and rests a little. Answers whether to bear with it: not if it has said nothing else for long. */
  isBusy(retryAfterMs: number, nowMs: number): boolean {
    this.#busySinceMs ??= nowMs;
    this.restsUntilMs = Math.max(this.restsUntilMs, nowMs + Math.min(retryAfterMs, busyRestMsMax));
    if (nowMs - this.#busySinceMs < busyMsMax) return true;
    this.#busySinceMs = undefined;
    this.restsUntilMs = nowMs + busyMsMax;
    return false;
  }

  /** The earliest time by which something asked for must have come; infinity when nothing is. */
  get firstDeadlineMs(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const { deadlineMs } of this.inFlight.values()) first = Math.min(first, deadlineMs);
    return first;
  }
}

/** Windows: DESIGN section 7, rule 6. */
const firstWindowBytes: number = MIB;
const windowStepBytes: number = 256 * KIB;
/** An origin is asked item by item: eight chunks of the target size keep a filer busy. */
const originWindowBytes: number = 4 * MIB;
/** Rests: DESIGN section 7, rule 9. */
const restMsMin = 500;
const restMsMax = 30_000;
/** A peer that never says anything but `busy` must not keep us from the origin: it counts for nothing after this time. */
const busyMsMax = 5_000;
const busyRestMsMax = 1_000;
/** Deadlines: four times what the measured rate says, in these bounds. 1 MB/s is assumed of a stranger. */
const patience = 4;
const deadlineMsMin = 2_000;
export const deadlineMsMax = 30_000;
const firstBytesPerMs = 1_000;
const slowestBytesPerMs = 100;
