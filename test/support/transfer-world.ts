import * as assert from "uvu/assert";
import { Bitmap } from "../../protocol/bitmap.ts";
import { MIB } from "../../protocol/limits.ts";
import { type Random, randomBelow, seededRandom } from "../../protocol/random.ts";
import { TokenBucket } from "../../protocol/token-bucket.ts";
import { Transfer, type TransferAction, type TransferEvent } from "../../protocol/transfer.ts";
import type { TransferLimits } from "../../protocol/transfer-limits.ts";

/** How a source answers; mixed ones roll a die for every item. */
export type Manner = "honest" | "slow" | "silent" | "liar" | "empty-handed" | "busy" | "failing" | "mixed";

export interface PeerPlan {
  readonly manner: Manner;
  readonly joinsAfterMs: number;
  /** It never says what it has. */
  readonly neverJoins: boolean;
  /** Undefined for a peer that stays. */
  readonly leavesAfterMs: number | undefined;
  /** Of a hundred items, how many it has at first. */
  readonly percent: number;
  /** Whether it gains items later and says so. */
  readonly grows: boolean;
}

export interface OriginPlan {
  readonly manner: Manner;
  /** From then on it is honest and has everything that it did not give wrongly or deny. */
  readonly healsAfterMs: number | undefined;
}

export interface WorldPlan {
  readonly segmentSizes: readonly number[];
  readonly chunkSizes: readonly number[];
  /** Chunks that are copies of the chunk before them. */
  readonly copies: readonly boolean[];
  readonly stored: readonly boolean[];
  readonly peers: readonly PeerPlan[];
  readonly origins: readonly OriginPlan[];
  readonly inFlightBytesMax: number;
  /** What it may ask for in a millisecond; undefined: as much as it likes. */
  readonly paceBytesPerMs: number | undefined;
  readonly seed: number;
}

/** What the transfer has been told of one source. */
interface Known {
  readonly isOrigin: boolean;
  readonly manner: () => Manner;
  readonly have: Set<number>;
  readonly wrong: Set<number>;
  readonly inFlight: Set<number>;
  isHere: boolean;
  /** It has given nothing since it came. */
  isSilent: boolean;
  /** It has said nothing but busy of late: what else is asked of it may be asked of others. */
  isBusy: boolean;
  readonly askedMs: Map<number, number>;
}

/** A virtual network around one transfer: it keeps the transfer's promises in mind, and fails when one is broken. */
export class TransferWorld {
  readonly #plan: WorldPlan;
  readonly #random: Random;
  readonly #transfer: Transfer;
  readonly #limits: TransferLimits;
  readonly #sizes: number[];
  readonly #copiesOf = new Map<number, number[]>();
  readonly #stored = new Set<number>();
  readonly #known = new Map<string, Known>();
  readonly #pending: { readonly atMs: number; readonly order: number; readonly run: () => void }[] = [];
  readonly #joining = new Set<string>();
  /** When an item was asked for that nobody was being asked for. */
  readonly #askedMs = new Map<number, number>();
  #order = 0;
  #nowMs = 0;
  #wake: { readonly atMs: number } | undefined;
  #isDescribed = false;
  #end: TransferAction | undefined;

  constructor(plan: WorldPlan) {
    this.#plan = plan;
    this.#random = seededRandom(plan.seed);
    this.#sizes = [...plan.segmentSizes, ...plan.chunkSizes];
    const segments = plan.segmentSizes.length;
    for (const [chunk, isCopy] of plan.copies.entries()) {
      if (!isCopy || chunk === 0 || chunk >= plan.chunkSizes.length) continue;
      const item = segments + chunk;
      this.#sizes[item] = this.#sizes[item - 1]!;
      const [first, known] = [...this.#copiesOf].find(([, copies]) => copies.includes(item - 1)) ?? [item - 1, []];
      this.#copiesOf.set(first, [...known, item]);
    }
    this.#limits = { joinMs: 1000, hopelessMs: 3000, patienceMs: 20_000, inFlightBytesMax: plan.inFlightBytesMax };
    const origins = plan.origins.map((_, i) => `origin${i}`);
    const storedSegments = plan.segmentSizes.flatMap((_, i) => (plan.stored[i] ? [i] : []));
    for (const item of storedSegments) this.#stored.add(item);
    const { paceBytesPerMs } = plan;
    const pace = paceBytesPerMs === undefined ? {} : { pace: new TokenBucket(paceBytesPerMs, 64 * 1024) };
    this.#transfer = new Transfer(
      { items: this.#sizes.length, segmentSizesBytes: plan.segmentSizes, storedSegments, origins, ...pace },
      this.#limits,
      seededRandom(plan.seed + 1),
    );
    for (const [i, origin] of plan.origins.entries()) this.#addOrigin(`origin${i}`, origin);
  }

  /** Lets the world go on until the transfer has ended. Answers how, and checks that it could always go on by itself. */
  run(): { readonly end: TransferAction; readonly atMs: number } {
    for (const [i, peer] of this.#plan.peers.entries()) this.#addPeer(`peer${i}`, peer);
    this.#post({ kind: "started" });
    for (let steps = 0; this.#end === undefined; steps++) {
      assert.ok(steps < 50_000, "the transfer comes to an end");
      const next = this.#pending.reduce((a, b) => (before(b, a) ? b : a), { atMs: Number.POSITIVE_INFINITY, order: 0 });
      if (this.#wake !== undefined && this.#wake.atMs <= next.atMs) {
        // Timers may be early by a fraction of a millisecond.
        this.#nowMs = Math.max(this.#nowMs, this.#wake.atMs - (this.#roll(10) === 0 ? 0.5 : 0));
        this.#wake = undefined;
        this.#post({ kind: "woke" });
        continue;
      }
      assert.ok("run" in next, `the transfer is awake at ${this.#nowMs} ms`);
      this.#pending.splice(this.#pending.indexOf(next as never), 1);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      (next as { run: () => void }).run();
    }
    return { end: this.#end, atMs: this.#nowMs };
  }

  #addOrigin(name: string, { manner, healsAfterMs }: OriginPlan): void {
    const known: Known = {
      isOrigin: true,
      manner: () => (healsAfterMs !== undefined && this.#nowMs >= healsAfterMs ? "honest" : manner),
      have: new Set(this.#sizes.keys()),
      ...{ wrong: new Set(), inFlight: new Set(), isHere: true, isSilent: false, isBusy: false, askedMs: new Map() },
    };
    this.#known.set(name, known);
  }

  #addPeer(name: string, plan: PeerPlan): void {
    const known: Known = {
      isOrigin: false,
      manner: () => plan.manner,
      ...{
        have: new Set(),
        wrong: new Set(),
        inFlight: new Set(),
        isHere: false,
        isSilent: true,
        isBusy: false,
        askedMs: new Map(),
      },
    };
    this.#known.set(name, known);
    this.#tryJoin(name, plan);
    if (plan.leavesAfterMs !== undefined) this.#after(plan.leavesAfterMs, () => this.#leave(name));
    if (plan.grows) for (let i = 1; i < 6; i++) this.#after(i * 700, () => this.#grow(name));
  }

  #tryJoin(name: string, plan: PeerPlan): void {
    this.#joining.add(name);
    this.#post({ kind: "joining", source: name });
    this.#after(plan.neverJoins ? 3000 : plan.joinsAfterMs, () => {
      if (!this.#joining.delete(name)) return;
      const known = this.#known.get(name)!;
      if (plan.neverJoins) return this.#post({ kind: "left", source: name });
      const have = new Bitmap(this.#sizes.length);
      for (const item of this.#sizes.keys()) if (this.#roll(100) < plan.percent) have.add(item);
      for (const item of this.#sizes.keys()) if (have.has(item) && !known.wrong.has(item)) known.have.add(item);
      known.isHere = true;
      known.isSilent = true;
      this.#post({ kind: "joined", source: name, have: plan.percent === 100 ? "all" : have });
    });
  }

  #grow(name: string): void {
    const known = this.#known.get(name)!;
    if (!known.isHere) return;
    const items = [this.#roll(this.#sizes.length), this.#roll(this.#sizes.length)];
    for (const item of items) if (!known.wrong.has(item)) known.have.add(item);
    this.#post({ kind: "has", source: name, items: [...items, this.#sizes.length, 1e6] });
  }

  #leave(name: string): void {
    this.#joining.delete(name);
    this.#forget(name);
    this.#post({ kind: "left", source: name });
  }

  #forget(name: string): void {
    const known = this.#known.get(name)!;
    known.isHere = false;
    known.have.clear();
    known.inFlight.clear();
  }

  #post(event: TransferEvent): void {
    if (this.#end !== undefined) return;
    if (event.kind === "stored") this.#noteStored(event.source, event.item);
    for (const action of this.#transfer.step(event, this.#nowMs)) this.#perform(action);
  }

  #noteStored(source: string, item: number): void {
    for (const each of [item, ...((this.#isDescribed && this.#copiesOf.get(item)) || [])]) this.#stored.add(each);
    const known = this.#known.get(source)!;
    known.inFlight.delete(item);
    known.isSilent = false;
    known.isBusy = false;
  }

  #perform(action: TransferAction): void {
    assert.is(this.#end, undefined, "nothing follows the end");
    switch (action.kind) {
      case "ask":
        for (const item of action.items) this.#ask(action.source, item);
        return;
      case "cancel":
        for (const item of action.items) {
          const wasAsked = this.#known.get(action.source)!.inFlight.delete(item);
          assert.ok(wasAsked, "only what was asked for is cancelled");
        }
        return;
      case "drop":
        return this.#dropped(action.source, action.retryAtMs);
      case "strike":
        return;
      case "segmentsComplete":
        this.#after(this.#roll(100), () => this.#describe());
        return;
      case "complete":
        assert.is(this.#stored.size, this.#sizes.length, "complete is said when all is here");
        this.#end = action;
        return;
      case "gaveUp":
        assert.is(action.missingItems, this.#sizes.length - this.#stored.size, "what is missing is counted");
        assert.ok(!this.#stored.has(action.item), "the item that is named is missing");
        this.#end = action;
        return;
      case "wakeAt":
        assert.ok(action.atMs > this.#nowMs, "a wake-up is in the future");
        this.#wake = action;
    }
  }

  #dropped(name: string, retryAtMs: number): void {
    assert.ok(!this.#known.get(name)!.isOrigin, "an origin is never dropped");
    assert.is(this.#known.get(name)!.inFlight.size, 0, "what was asked of a dropped peer was cancelled");
    this.#forget(name);
    const plan = this.#plan.peers[Number(name.slice("peer".length))]!;
    if (plan.leavesAfterMs !== undefined) return;
    this.#after(Math.max(0, retryAtMs - this.#nowMs) + 1, () => this.#tryJoin(name, plan));
  }

  #describe(): void {
    this.#isDescribed = true;
    const segments = this.#plan.segmentSizes.length;
    const stored = [...this.#sizes.keys()].filter((item) => item >= segments && this.#plan.stored[item] === true);
    for (const item of stored) this.#stored.add(item);
    const description = { sizesBytes: Uint32Array.from(this.#sizes), copiesOf: this.#copiesOf, stored };
    this.#post({ kind: "described", description });
  }

  #ask(name: string, item: number): void {
    const source = this.#known.get(name)!;
    assert.ok(!this.#stored.has(item), "what is stored is not asked for");
    assert.ok(item < this.#plan.segmentSizes.length || this.#isDescribed, "chunks wait for their description");
    const others = [...this.#known.values()].filter(({ inFlight }) => inFlight.has(item));
    const isLate = ({ isSilent, askedMs }: Known) => isSilent && this.#nowMs - askedMs.get(item)! > 399;
    const doubted = others.filter((other) => other.isBusy || isLate(other));
    assert.ok(others.length - doubted.length <= 1, "an item is in flight twice at most, but from who gave nothing");
    if (others.length > doubted.length) {
      const age = this.#nowMs - this.#askedMs.get(item)!;
      assert.ok(age >= 250 && !source.isOrigin, "a second peer, never the origin, is asked for what is slow to come");
    } else this.#askedMs.set(item, this.#nowMs);
    source.askedMs.set(item, this.#nowMs);
    assert.ok(source.have.has(item), "a source is asked for what it has");
    assert.ok(!source.wrong.has(item), "a source is not asked again for what it gave wrongly");
    const isCopy = [...this.#copiesOf].some(([first, copies]) => copies.includes(item) && !this.#stored.has(first));
    assert.ok(!isCopy, "a copy comes with its first");
    if (source.isOrigin) {
      assert.ok(this.#joining.size === 0 || this.#nowMs >= this.#limits.joinMs, "the origin waits for joins");
    }
    source.inFlight.add(item);
    this.#checkWindows(source);
    const manner = source.manner();
    this.#answer(name, item, manner === "mixed" ? mixture[this.#roll(mixture.length)]! : manner);
  }

  #checkWindows(source: Known): void {
    const bytesOf = (items: Iterable<number>) => [...items].reduce((sum, item) => sum + this.#sizes[item]!, 0);
    const ofSource = bytesOf(source.inFlight);
    assert.ok(source.inFlight.size === 1 || ofSource <= (source.isOrigin ? 4 : 3) * MIB, "a source's window holds");
    const all = [...this.#known.values()].flatMap(({ inFlight }) => [...inFlight]);
    assert.ok(all.length === 1 || bytesOf(all) <= this.#limits.inFlightBytesMax, "the transfer's window holds");
  }

  /** Answers may come after the item was given up, but only from a source that is still here. */
  #answer(name: string, item: number, manner: Manner): void {
    const source = this.#known.get(name)!;
    const answer = (afterMs: number, event: TransferEvent, first: () => void = () => undefined) =>
      this.#after(afterMs, () => {
        if (!source.isHere || (event.kind !== "stored" && !source.inFlight.has(item))) return;
        if (event.kind !== "stored") source.inFlight.delete(item);
        first();
        this.#post(event);
      });
    const items = [item];
    switch (manner) {
      case "honest":
        return answer(1 + this.#roll(100), { kind: "stored", source: name, item });
      case "slow":
        return answer(1000 + this.#roll(20_000), { kind: "stored", source: name, item });
      case "silent":
        return;
      case "liar":
        return answer(1 + this.#roll(3000), { kind: "corrupt", source: name, item }, () => {
          source.wrong.add(item);
          source.have.delete(item);
        });
      case "empty-handed":
        return answer(1 + this.#roll(1000), { kind: "missing", source: name, items }, () => source.have.delete(item));
      case "busy":
        return answer(
          1 + this.#roll(50),
          { kind: "busy", source: name, items, retryAfterMs: this.#roll(60_000) },
          () => {
            source.isBusy = true;
          },
        );
      case "failing":
        return answer(1 + this.#roll(50), { kind: "failed", source: name, items });
      case "mixed":
        assert.unreachable();
    }
  }

  #after(ms: number, run: () => void): void {
    this.#pending.push({ atMs: this.#nowMs + ms, order: this.#order++, run });
  }

  #roll(bound: number): number {
    return randomBelow(bound, this.#random);
  }
}

const mixture: readonly Manner[] = ["honest", "honest", "slow", "silent", "liar", "empty-handed", "busy", "failing"];

function before(a: { atMs: number; order: number }, b: { atMs: number; order: number }): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
