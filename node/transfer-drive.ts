import type { PeerName } from "../protocol/directory.ts";
import {
  ChunkCorruptError,
  ChunkMissingError,
  NotFoundError,
  type P2pCacheError,
  UnreachableError,
} from "../protocol/errors.ts";
import type { Random } from "../protocol/random.ts";
import type { Standing } from "../protocol/standing.ts";
import { defaultTransferLimits, Transfer, type TransferAction, type TransferEvent } from "../protocol/transfer.ts";
import type { SourceName } from "../protocol/transfer-source.ts";
import type { Clock, Join, Origin, StagedTree, Swarm } from "./ports.ts";

/** Bytes by where they came from. */
export interface BytesBySource {
  readonly local: number;
  readonly peers: number;
  readonly origin: number;
}

/** What a transfer works with. */
export interface TransferParts {
  readonly target: StagedTree;
  readonly swarm: Swarm | undefined;
  readonly origins: readonly Origin[];
  readonly standing: Standing;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  /** Named in errors. */
  readonly what: string;
  readonly onProgress: (bytes: BytesBySource) => void;
}

/** Drives one `Transfer`: one event in, all its actions out, and the answers of the world back in. */
export class TransferDrive {
  readonly #parts: TransferParts;
  readonly #transfer: Transfer;
  readonly #origins: ReadonlyMap<SourceName, Origin>;
  readonly #joins = new Map<PeerName, Join | "joining">();
  readonly #originItems = new Map<number, AbortController>();
  readonly #events: TransferEvent[] = [];
  readonly #end = Promise.withResolvers<void>();
  readonly #corruptFrom = new Set<SourceName>();
  readonly #bytes = { local: 0, peers: 0, origin: 0 };
  #sizesBytes: Uint32Array | undefined;
  #isDraining = false;
  #isOver = false;
  #waking: NodeJS.Timeout | undefined;

  constructor(parts: TransferParts) {
    this.#parts = parts;
    this.#origins = new Map(parts.origins.map((origin) => [`origin:${origin.name}`, origin]));
    const { root, index } = parts.target;
    const plan = {
      items: index.items,
      segmentSizesBytes: root.segments.map(({ sizeBytes }) => sizeBytes),
      storedSegments: parts.target.storedSegments(),
      origins: [...this.#origins.keys()],
    };
    this.#transfer = new Transfer(plan, defaultTransferLimits, parts.random);
  }

  /**
   * Brings all items in. @throws what ended it: {NotFoundError}, {ChunkCorruptError}, {UnreachableError}, {FormatError}
   * for a manifest that breaks a rule, {NoSpaceError}, or the signal's reason.
   */
  async run(peers: readonly PeerName[]): Promise<BytesBySource> {
    const onAbort = () => this.#finish(this.#parts.signal.reason as Error);
    this.#parts.signal.addEventListener("abort", onAbort, { once: true });
    if (this.#parts.signal.aborted) onAbort();
    try {
      for (const peer of peers) this.consider(peer);
      this.#post({ kind: "started" });
      await this.#end.promise;
      return { ...this.#bytes };
    } finally {
      this.#parts.signal.removeEventListener("abort", onAbort);
      clearTimeout(this.#waking);
      for (const join of this.#joins.values()) if (join !== "joining") join.leave();
      for (const controller of this.#originItems.values()) controller.abort();
    }
  }

  /** A peer may have something of the payload: it is asked, once at a time. */
  consider(peer: PeerName): void {
    const { swarm, standing, clock } = this.#parts;
    if (this.#isOver || swarm === undefined || this.#joins.has(peer)) return;
    if (standing.level(peer, clock.monotonicMs()) !== "good") return;
    this.#joins.set(peer, "joining");
    this.#post({ kind: "joining", source: peer });
    void this.#join(swarm, peer);
  }

  /** A peer has gone. */
  left(peer: PeerName): void {
    if (this.#joins.delete(peer)) this.#post({ kind: "left", source: peer });
  }

  /** Never rejects. */
  async #join(swarm: Swarm, peer: PeerName): Promise<void> {
    const { payload, index } = this.#parts.target;
    try {
      const join = await swarm.join(peer, payload, index.items, {
        have: (items) => this.#post({ kind: "has", source: peer, items }),
        piece: (item, bytes) => void this.#store(peer, item, bytes),
        busy: (items, retryAfterMs) => this.#post({ kind: "busy", source: peer, items, retryAfterMs }),
        gone: (items) => this.#post({ kind: "missing", source: peer, items }),
        ended: () => this.#lose(peer, rejoinMs),
      });
      if (join === undefined || this.#isOver || !this.#joins.has(peer)) {
        join?.leave();
        this.left(peer);
        return;
      }
      this.#joins.set(peer, join);
      this.#post({ kind: "joined", source: peer, have: join.have });
    } catch {
      this.#lose(peer, rejoinMs);
    }
  }

  /** A peer counts for nothing now, and is asked again after a while. */
  #lose(peer: PeerName, retryMs: number): void {
    this.left(peer);
    if (!this.#isOver) setTimeout(() => this.#reconsider(peer), retryMs).unref();
  }

  #reconsider(peer: PeerName): void {
    const isHere = this.#parts.swarm?.peers().some((facts) => facts.peer === peer);
    if (isHere) this.consider(peer);
  }

  #post(event: TransferEvent): void {
    this.#events.push(event);
    if (this.#isDraining) return;
    this.#isDraining = true;
    for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
      if (this.#isOver) continue;
      for (const action of this.#transfer.step(next, this.#parts.clock.monotonicMs())) this.#perform(action);
    }
    this.#isDraining = false;
  }

  #perform(action: TransferAction): void {
    switch (action.kind) {
      case "ask":
        return this.#ask(action.source, action.items);
      case "cancel":
        return this.#cancel(action.source, action.items);
      case "drop": {
        const join = this.#joins.get(action.source);
        if (join !== undefined && join !== "joining") join.leave();
        return this.#lose(action.source, Math.max(rejoinMs, action.retryAtMs - this.#parts.clock.monotonicMs()));
      }
      case "strike":
        return this.#strike(action.source, action.fault);
      case "segmentsComplete":
        void this.#describe();
        return;
      case "complete":
        return this.#finish();
      case "gaveUp":
        return this.#finish(this.#errorOf(action));
      case "wakeAt":
        clearTimeout(this.#waking);
        this.#waking = setTimeout(
          () => this.#post({ kind: "woke" }),
          Math.max(0, Math.ceil(action.atMs - this.#parts.clock.monotonicMs())),
        );
    }
  }

  #ask(source: SourceName, items: readonly number[]): void {
    const origin = this.#origins.get(source);
    if (origin !== undefined) {
      for (const item of items) void this.#askOrigin(source, origin, item);
      return;
    }
    const join = this.#joins.get(source);
    if (join !== undefined && join !== "joining") join.request(items);
    else this.#post({ kind: "failed", source, items });
  }

  /** Never rejects. */
  async #askOrigin(source: SourceName, origin: Origin, item: number): Promise<void> {
    const { target } = this.#parts;
    const controller = new AbortController();
    this.#originItems.set(item, controller);
    try {
      const bytes = await origin.chunk(target.hashOf(item), this.#sizeOf(item), { signal: controller.signal });
      await this.#store(source, item, ownBuffer(bytes));
    } catch (error) {
      if (controller.signal.aborted) return;
      if (error instanceof ChunkMissingError) this.#post({ kind: "missing", source, items: [item] });
      else if (error instanceof ChunkCorruptError) this.#post({ kind: "corrupt", source, item });
      else this.#post({ kind: "failed", source, items: [item] });
    } finally {
      if (this.#originItems.get(item) === controller) this.#originItems.delete(item);
    }
  }

  #cancel(source: SourceName, items: readonly number[]): void {
    const join = this.#joins.get(source);
    if (join !== undefined && join !== "joining") join.cancel(items);
    if (this.#origins.has(source)) for (const item of items) this.#originItems.get(item)?.abort();
  }

  /** Verifies and writes an item; never rejects. */
  async #store(source: SourceName, item: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const { target, swarm, standing, onProgress } = this.#parts;
    const sizeBytes = bytes.length;
    try {
      await target.put(item, bytes);
    } catch (error) {
      if (error instanceof ChunkCorruptError) this.#post({ kind: "corrupt", source, item });
      else this.#finish(error as Error);
      return;
    }
    if (this.#isOver) return;
    const isOrigin = this.#origins.has(source);
    if (!isOrigin) standing.served(source, sizeBytes);
    this.#bytes[isOrigin ? "origin" : "peers"] += sizeBytes;
    onProgress({ ...this.#bytes });
    this.#post({ kind: "stored", source, item });
    swarm?.stored(target.payload, target.withCopies(item));
  }

  #strike(source: SourceName, fault: "corrupt" | "claim"): void {
    if (fault === "corrupt") this.#corruptFrom.add(source);
    if (this.#origins.has(source)) return;
    const { standing, clock } = this.#parts;
    if (standing.strike(source, fault, clock.monotonicMs()) === "good") return;
    const join = this.#joins.get(source);
    if (join !== undefined && join !== "joining") join.leave();
    this.left(source);
  }

  /** Never rejects. */
  async #describe(): Promise<void> {
    const { target, swarm, onProgress } = this.#parts;
    try {
      const description = await target.describe();
      if (this.#isOver) return;
      this.#sizesBytes = description.sizesBytes;
      for (const item of description.stored) this.#bytes.local += description.sizesBytes[item]!;
      onProgress({ ...this.#bytes });
      this.#post({ kind: "described", description });
      swarm?.stored(target.payload, description.stored);
    } catch (error) {
      this.#finish(error as Error);
    }
  }

  #sizeOf(item: number): number {
    const { root, index } = this.#parts.target;
    return item < index.segments ? root.segments[item]!.sizeBytes : this.#sizesBytes![item]!;
  }

  #finish(error?: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (error === undefined) this.#end.resolve();
    else this.#end.reject(error);
  }

  #errorOf({ fault, item, missingItems }: Extract<TransferAction, { kind: "gaveUp" }>): P2pCacheError {
    const { what, target } = this.#parts;
    const details = { item, missingItems, items: target.index.items };
    switch (fault) {
      case "corrupt":
        return new ChunkCorruptError(
          `no source has the right bytes of ${what}: item ${item} is wrong at ${this.#liars()}`,
          {
            details: { ...details, sources: [...this.#corruptFrom] },
          },
        );
      case "missing":
        return new NotFoundError(`${missingItems} of ${target.index.items} items of ${what} are nowhere to be had`, {
          details,
        });
      case "unreachable":
        return new UnreachableError(`no source of ${what} answers; ${missingItems} items are missing`, { details });
    }
  }

  #liars(): string {
    return [...this.#corruptFrom].join(", ") || "its source";
  }
}

/** After a stream has ended its peer is asked again, if it is still there. */
const rejoinMs = 1_000;

/** The same bytes in a buffer of their own, which can be given to a worker thread. */
function ownBuffer(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const isOwn = bytes.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength;
  return isOwn ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);
}
