import type { TransferAction } from "./transfer-events.ts";
import type { TransferItems } from "./transfer-items.ts";
import type { TransferLimits } from "./transfer-limits.ts";
import type { TransferPace } from "./transfer-pace.ts";
import { deadlineMsMax } from "./transfer-source.ts";
import type { TransferSources } from "./transfer-sources.ts";
import type { WantedItems } from "./wanted-items.ts";

interface HopeParts {
  readonly limits: TransferLimits;
  readonly items: TransferItems;
  readonly wanted: WantedItems;
  readonly sources: TransferSources;
  readonly pace: TransferPace;
}

/** Until when a transfer may hope that another item comes, and what is the matter when there is none. */
export class TransferHope {
  readonly #parts: HopeParts;
  readonly #wrongAtOrigins = new Set<number>();
  /** When an item last came; at first, when it began. */
  #progressMs = 0;
  #hopelessSinceMs: number | undefined;

  constructor(parts: HopeParts) {
    this.#parts = parts;
  }

  /** It got on: it began, or something came. */
  progress(nowMs: number): void {
    this.#progressMs = nowMs;
  }

  /** Others still bring in what is missing here. */
  rise(): void {
    if (this.#wrongAtOrigins.size === 0) this.#hopelessSinceMs = undefined;
  }

  /** An origin has other bytes than an item's. */
  wrongAtOrigin(item: number): void {
    this.#wrongAtOrigins.add(item);
  }

  /** Until when there is hope; the end of the transfer, once there is none. `isIdle`: nothing is on its way. */
  until(nowMs: number, isIdle: boolean): number | TransferAction {
    const { limits, items, wanted, sources, pace } = this.#parts;
    this.#progressMs = pace.progressMs(this.#progressMs, sources, isIdle);
    const isLost = (item: number) => sources.isLost(item);
    // What the origins have wrong will not come, however much else is still on its way.
    const wrong = [...this.#wrongAtOrigins].find((item) => !items.hasStored(item) && isLost(item));
    // What nobody has now may be on its way to those who do not have all themselves.
    const lost = wrong ?? (isIdle && !sources.areGrowing ? wanted.find("nobody's", isLost) : undefined);
    this.#hopelessSinceMs = lost === undefined ? undefined : (this.#hopelessSinceMs ?? nowMs);
    // Whoever has no lease waits for others, as long as an origin that answers is there: machines may be busy.
    const mayRead = sources.origins.some(({ troubles }) => troubles === 0);
    // An item may be asked of two peers in vain before it is the origin's turn.
    const isUnderWay = !isIdle || mayRead || wanted.find("all", (item) => sources.isWithin(item)) !== undefined;
    const stalledMs = this.#progressMs + limits.patienceMs + (isUnderWay ? 2 * deadlineMsMax : 0);
    const untilMs = Math.min(stalledMs, (this.#hopelessSinceMs ?? Number.POSITIVE_INFINITY) + limits.hopelessMs);
    if (nowMs < untilMs) return untilMs;
    const missingItems = items.missingCount;
    if (lost === undefined) return { kind: "gaveUp", fault: "unreachable", item: items.firstMissing(), missingItems };
    return { kind: "gaveUp", fault: sources.isWrongAtOrigin(lost) ? "corrupt" : "missing", item: lost, missingItems };
  }
}
