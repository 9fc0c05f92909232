import type { PeerName } from "./directory.ts";
import { MIB } from "./limits.ts";
import { rankFor } from "./rendezvous.ts";
import { TokenBucket } from "./token-bucket.ts";

/** What an origin bears from a whole site, as an admin says. */
export interface SiteBudget {
  /** How many nodes may read it at a time; infinity: all of them. */
  readonly slots: number;
  /** Bytes a millisecond for all of them together; infinity for no limit. */
  readonly bytesPerMs: number;
}

/** Who reads at this site, as one node sees it. */
export interface SiteCrowd {
  readonly self: PeerName;
  /** Its members, whether or not this node is among them. */
  readonly members: readonly PeerName[];
}

/** A moment by both clocks. */
export interface Moment {
  /** Milliseconds that never go back. */
  readonly nowMs: number;
  /** Milliseconds since 1970, about the same for the whole site. */
  readonly wallMs: number;
}

/** How the turns at an origin are dealt out: the same at every node of a site. */
export interface BudgetLimits {
  /** How long a turn is. */
  readonly epochMs: number;
  /** So long before the end of a turn nothing more is begun. */
  readonly lastStartMs: number;
  /** What has to wait for longer is refused. */
  readonly waitMsMax: number;
}

const defaultBudgetLimits: BudgetLimits = {
  // Long enough to fetch a few groups, short enough that nobody waits long for a turn; clocks differ by less.
  epochMs: 30_000,
  // As long as reading a chunk takes an origin that is not slow.
  lastStartMs: 1_000,
  // Half of the shortest deadline that a transfer gives: what waits for longer is asked of somebody else meanwhile.
  waitMsMax: 1_000,
};

/** Whether a read of an origin may begin. */
export type BudgetAnswer =
  /** After that wait. */
  | { readonly kind: "go"; readonly waitMs: number }
  /** Others have the slots, or this node has used up its part of the rate; it is of no use to ask again before that time. */
  | { readonly kind: "later"; readonly why: "slots" | "rate"; readonly retryAfterMs: number };

/**
 * What a node may read of an origin in an epoch, in bytes a millisecond: its part of the budget if it is among the first
 * by rendezvous hash, else nothing. Nobody coordinates that: everyone who knows the same members agrees, and the slots go
 * round from one epoch to the next. Where there are more slots than members, they share all of the rate.
 */
export function shareOfBudget(
  budget: SiteBudget,
  origin: string,
  { self, members }: SiteCrowd,
  wallMs: number,
  { epochMs }: BudgetLimits = defaultBudgetLimits,
): number {
  const readers = Math.min(budget.slots, members.includes(self) ? members.length : members.length + 1);
  if (readers < 1) return 0;
  if (budget.slots === Number.POSITIVE_INFINITY) return budget.bytesPerMs / readers;
  const rank = rankFor(`slot ${origin} ${Math.floor(wallMs / epochMs)}`, self, members);
  return rank < budget.slots ? budget.bytesPerMs / readers : 0;
}

/**
 * This node's part of an origin's budget as time goes on. What is read is paid for before: bytes come in while this node
 * has a slot, and stay over the epochs in which it has none, so that all nodes together keep to the rate, and an item
 * that one turn does not pay for comes with the next.
 */
export class BudgetShare {
  readonly #limits: BudgetLimits;
  readonly #budget: SiteBudget;
  readonly #origin: string;
  readonly #crowd: () => SiteCrowd;
  readonly #bucket = new TokenBucket(0, savedBytesMax, 0);
  #epoch = Number.NaN;
  #bytesPerMs = 0;
  /** In the epoch after this one, once that has been of interest. */
  #nextBytesPerMs: number | undefined;
  /** By the clock that never goes back. */
  #epochEndMs = Number.NEGATIVE_INFINITY;
  #lookedMs = Number.NEGATIVE_INFINITY;

  /** `crowd` may change from call to call; it is asked once a second at most. */
  constructor(budget: SiteBudget, origin: string, crowd: () => SiteCrowd, limits: BudgetLimits = defaultBudgetLimits) {
    this.#limits = limits;
    this.#budget = budget;
    this.#origin = origin;
    this.#crowd = crowd;
  }

  /** Whether a read may begin, as far as slots go. */
  holdsSlot(at: Moment): boolean {
    this.#look(at);
    // Whoever has the slot next must not find this node still reading.
    const { lastStartMs } = this.#limits;
    if (this.#bytesPerMs === 0 || this.#epochEndMs - at.nowMs > lastStartMs) return this.#bytesPerMs > 0;
    this.#nextBytesPerMs ??= this.#shareAt(at.wallMs + lastStartMs);
    return this.#nextBytesPerMs > 0;
  }

  /** Asks for so many bytes; with "go" they are spent. */
  ask(bytes: number, at: Moment): BudgetAnswer {
    if (!this.holdsSlot(at)) {
      return { kind: "later", why: "slots", retryAfterMs: Math.max(1, Math.ceil(this.#epochEndMs - at.nowMs)) };
    }
    const waitMs = Math.ceil(this.#bucket.readyAtMs(at.nowMs, Math.min(bytes, savedBytesMax)) - at.nowMs);
    if (waitMs > this.#limits.waitMsMax) return { kind: "later", why: "rate", retryAfterMs: waitMs };
    this.#bucket.spend(bytes, at.nowMs);
    return { kind: "go", waitMs };
  }

  /** What could not be known before has been read, as a record. */
  spend(bytes: number, at: Moment): void {
    this.#look(at);
    this.#bucket.spend(bytes, at.nowMs);
  }

  /** What was asked for is not read. */
  giveBack(bytes: number, at: Moment): void {
    this.#look(at);
    this.#bucket.giveBack(bytes, at.nowMs);
  }

  /** Sees to it that bytes come in for the time of own turns only, however long nobody asked. */
  #look({ nowMs, wallMs }: Moment): void {
    const { epochMs } = this.#limits;
    const epoch = Math.floor(wallMs / epochMs);
    if (epoch === this.#epoch && nowMs < this.#epochEndMs && nowMs - this.#lookedMs < lookEveryMs) return;
    this.#lookedMs = nowMs;
    this.#bucket.setRate(0, Math.min(nowMs, this.#epochEndMs));
    // A turn that began while nobody looked counts from its beginning; what was before this node's start does not.
    const isLater = epoch !== this.#epoch && !Number.isNaN(this.#epoch);
    this.#epoch = epoch;
    this.#epochEndMs = nowMs + (epoch + 1) * epochMs - wallMs;
    this.#bytesPerMs = this.#shareAt(wallMs);
    this.#nextBytesPerMs = undefined;
    this.#bucket.setRate(this.#bytesPerMs, isLater ? Math.min(nowMs, this.#epochEndMs - epochMs) : nowMs);
  }

  #shareAt(wallMs: number): number {
    return shareOfBudget(this.#budget, this.#origin, this.#crowd(), wallMs, this.#limits);
  }
}

const lookEveryMs = 1_000;
/** What an idle turn saves: two chunks of the largest size. */
const savedBytesMax: number = 4 * MIB;
