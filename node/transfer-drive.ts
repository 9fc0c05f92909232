import type { PeerName } from "../protocol/directory.ts";
import {
  ChunkCorruptError,
  ChunkMissingError,
  NotFoundError,
  P2pCacheError,
  ReleaseChangedError,
  UnreachableError,
} from "../protocol/errors.ts";
import type { Pace, TrafficClass } from "../protocol/politeness.ts";
import type { Random } from "../protocol/random.ts";
import type { Standing } from "../protocol/standing.ts";
import { Transfer, type TransferAction, type TransferEvent } from "../protocol/transfer.ts";
import { defaultTransferLimits, type TransferLimits } from "../protocol/transfer-limits.ts";
import type { SourceName } from "../protocol/transfer-source.ts";
import { isOwnBuffer } from "./chunk-buffers.ts";
import { originAccess, originRefused } from "./origin-access.ts";
import type { Clock, Join, JoinListener, Origin, StagedTree, Swarm } from "./ports.ts";

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
  /** Whether a peer that is not connected may be asked again: it is known to hold the payload. */
  readonly mayBeAsked?: (peer: PeerName) => boolean;
  /** What may be asked for at a time. */
  readonly pace?: Pace;
  /** What peers are told of why. */
  readonly traffic?: () => TrafficClass;
  /** Shorter ones for tests. */
  readonly limits?: TransferLimits;
}

/** A peer that is asked, or was asked, what it has of the payload. */
interface Membership {
  readonly peer: PeerName;
  /** Undefined until it has answered. */
  join: Join | undefined;
}

/** Drives one `Transfer`: one event in, all its actions out, and the answers of the world back in. */
export class TransferDrive {
  readonly #parts: TransferParts;
  readonly #transfer: Transfer;
  readonly #origins: ReadonlyMap<SourceName, Origin>;
  readonly #members = new Map<PeerName, Membership>();
  readonly #retries = new Map<PeerName, NodeJS.Timeout>();
  readonly #originItems = new Map<number, AbortController>();
  /** Items that are being verified and written: each once at a time. */
  readonly #puts = new Map<number, Promise<void>>();
  /** What touches the target: nobody else may, before it has ended. */
  readonly #work = new Set<Promise<void>>();
  readonly #events: TransferEvent[] = [];
  readonly #end = Promise.withResolvers<void>();
  readonly #corruptFrom = new Set<SourceName>();
  /** By item: what an origin found changed that reads releases where they were published. */
  readonly #changes = new Map<number, ReleaseChangedError>();
  /** What an origin said last when it did not give what it was asked for. */
  readonly #refusals = new Map<SourceName, Error>();
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
      isHeldBack: originAccess(parts.origins).isHeldBack,
      ...(parts.pace === undefined ? {} : { pace: parts.pace }),
    };
    this.#transfer = new Transfer(plan, parts.limits ?? defaultTransferLimits, parts.random);
  }

  /**
   * Brings all items in. When it has ended nothing touches the target any more.
   * @throws what ended it: {NotFoundError}, {ChunkCorruptError}, {UnreachableError}, {FormatError} for a manifest that
   * breaks a rule, {NoSpaceError}, or the signal's reason.
   */
  async run(peers: readonly PeerName[]): Promise<BytesBySource> {
    const { signal } = this.#parts;
    const onAbort = () => this.#finish(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      for (const peer of peers) this.consider(peer);
      this.#post({ kind: "started" });
      await this.#end.promise;
      return { ...this.#bytes };
    } finally {
      signal.removeEventListener("abort", onAbort);
      clearTimeout(this.#waking);
      for (const timer of this.#retries.values()) clearTimeout(timer);
      for (const { join } of this.#members.values()) join?.leave();
      for (const controller of this.#originItems.values()) controller.abort();
      await Promise.all(this.#work);
    }
  }

  /** A peer may have something of the payload: it is asked, once at a time. */
  consider(peer: PeerName): void {
    const { swarm, standing, clock } = this.#parts;
    if (this.#isOver || swarm === undefined || this.#members.has(peer)) return;
    if (standing.level(peer, clock.monotonicMs()) !== "good") return;
    const member: Membership = { peer, join: undefined };
    this.#members.set(peer, member);
    this.#post({ kind: "joining", source: peer });
    void this.#join(swarm, member);
  }

  /** A peer has gone. */
  left(peer: PeerName): void {
    const member = this.#members.get(peer);
    if (member === undefined) return;
    this.#members.delete(peer);
    member.join?.leave();
    this.#post({ kind: "left", source: peer });
  }

  /** Never rejects. */
  async #join(swarm: Swarm, member: Membership): Promise<void> {
    const { payload, index } = this.#parts.target;
    const { peer: source } = member;
    const isCurrent = () => !this.#isOver && this.#members.get(source) === member;
    const post = (event: TransferEvent) => {
      if (isCurrent()) this.#post(event);
    };
    const lose = () => {
      if (isCurrent()) this.#lose(source, rejoinMs);
    };
    try {
      const listener: JoinListener = {
        have: (items) => post({ kind: "has", source, items }),
        piece: (item, bytes) => {
          if (isCurrent()) void this.#store(source, item, bytes);
        },
        busy: (items, retryAfterMs) => post({ kind: "busy", source, items, retryAfterMs }),
        gone: (items) => (items.length === 0 ? lose() : post({ kind: "missing", source, items })),
        ended: lose,
      };
      const join = await swarm.join(source, payload, index.items, listener, this.#parts.traffic?.());
      if (!isCurrent()) return join?.leave();
      // A peer with nothing is asked again when it says that it has, or wants, something.
      if (join === undefined) return this.left(source);
      member.join = join;
      this.#post({ kind: "joined", source, have: join.have });
    } catch {
      lose();
    }
  }

  /** A peer counts for nothing now, and is asked again after a while. */
  #lose(peer: PeerName, retryMs: number): void {
    this.left(peer);
    if (this.#isOver) return;
    clearTimeout(this.#retries.get(peer));
    const timer = setTimeout(() => {
      this.#retries.delete(peer);
      const { swarm, mayBeAsked } = this.#parts;
      const isHere = swarm?.peers().some((facts) => facts.peer === peer);
      if (isHere || mayBeAsked?.(peer)) this.consider(peer);
    }, retryMs).unref();
    this.#retries.set(peer, timer);
  }

  #post(event: TransferEvent): void {
    this.#events.push(event);
    if (this.#isDraining) return;
    this.#isDraining = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
        if (this.#isOver) continue;
        for (const action of this.#transfer.step(next, this.#parts.clock.monotonicMs())) this.#perform(action);
      }
    } catch (error) {
      // A broken promise of our own: better an error than a transfer that never ends.
      this.#finish(error as Error);
    } finally {
      this.#isDraining = false;
    }
  }

  #perform(action: TransferAction): void {
    switch (action.kind) {
      case "ask":
        return this.#ask(action.source, action.items);
      case "cancel":
        return this.#cancel(action.source, action.items);
      case "drop":
        return this.#lose(action.source, Math.max(rejoinMs, action.retryAtMs - this.#parts.clock.monotonicMs()));
      case "strike":
        return this.#strike(action.source, action.fault);
      case "segmentsComplete":
        return this.#track(this.#describe());
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
    const join = this.#members.get(source)?.join;
    if (join !== undefined) join.request(items);
    else this.#post({ kind: "failed", source, items });
  }

  /** Never rejects. */
  async #askOrigin(source: SourceName, origin: Origin, item: number): Promise<void> {
    const { target } = this.#parts;
    const controller = new AbortController();
    this.#originItems.set(item, controller);
    let inPlace: string | undefined;
    const place = target.placeOf(item);
    const onInPlace = (root: string) => {
      inPlace = root;
    };
    try {
      const options = { signal: controller.signal, onInPlace, ...(place === undefined ? {} : { place }) };
      const bytes = await origin.chunk(target.hashOf(item), this.#sizeOf(item), options);
      await this.#store(source, item, ownBuffer(bytes), inPlace);
    } catch (error) {
      if (controller.signal.aborted) return;
      this.#refusals.set(source, error as Error);
      if (error instanceof ReleaseChangedError) this.#changes.set(item, error);
      this.#post(originRefused(error, source, item));
    } finally {
      if (this.#originItems.get(item) === controller) this.#originItems.delete(item);
    }
  }

  #cancel(source: SourceName, items: readonly number[]): void {
    this.#members.get(source)?.join?.cancel(items);
    if (this.#origins.has(source)) for (const item of items) this.#originItems.get(item)?.abort();
  }

  /** Verifies and writes an item, after any other try at it; never rejects. `inPlace`: the release that it was read from. */
  #store(source: SourceName, item: number, bytes: Uint8Array<ArrayBuffer>, inPlace?: string): Promise<void> {
    const before = this.#puts.get(item) ?? Promise.resolve();
    const put = before.then(() => this.#put(source, item, bytes, inPlace));
    this.#puts.set(item, put);
    this.#track(put);
    return put.finally(() => {
      if (this.#puts.get(item) === put) this.#puts.delete(item);
    });
  }

  async #put(source: SourceName, item: number, bytes: Uint8Array<ArrayBuffer>, inPlace?: string): Promise<void> {
    if (this.#isOver) return;
    const { target, swarm, standing, onProgress } = this.#parts;
    const sizeBytes = bytes.length;
    try {
      await target.put(item, bytes);
      if (this.#isOver) return;
      const isOrigin = this.#origins.has(source);
      if (!isOrigin) standing.served(source, sizeBytes);
      this.#bytes[isOrigin ? "origin" : "peers"] += sizeBytes;
      onProgress({ ...this.#bytes });
      this.#post({ kind: "stored", source, item });
      swarm?.stored(target.payload, target.withCopies(item));
    } catch (error) {
      if (!(error instanceof ChunkCorruptError)) return this.#finish(error as Error);
      if (inPlace !== undefined) {
        const file = String(error.details?.file ?? "");
        this.#changes.set(item, new ReleaseChangedError(inPlace, file, "has other bytes now"));
      }
      this.#post({ kind: "corrupt", source, item });
    }
  }

  /** Its end is awaited before `run` returns. `work` never rejects. */
  #track(work: Promise<void>): void {
    this.#work.add(work);
    void work.then(() => this.#work.delete(work));
  }

  #strike(source: SourceName, fault: "corrupt" | "claim"): void {
    if (fault === "corrupt") this.#corruptFrom.add(source);
    if (this.#origins.has(source)) return;
    const { standing, clock } = this.#parts;
    if (standing.strike(source, fault, clock.monotonicMs()) !== "good") this.left(source);
  }

  /** Never rejects. */
  async #describe(): Promise<void> {
    const { target, swarm, onProgress } = this.#parts;
    try {
      const description = await target.describe(this.#parts.signal);
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
      case "corrupt": {
        const change = this.#changes.get(item);
        if (change !== undefined) return change;
        return new ChunkCorruptError(
          `no source has the right bytes of ${what}: item ${item} is wrong at ${this.#liars()}`,
          {
            details: { ...details, sources: [...this.#corruptFrom] },
          },
        );
      }
      case "missing":
        return new NotFoundError(`${missingItems} of ${target.index.items} items of ${what} are nowhere to be had`, {
          details,
        });
      case "unreachable":
        return this.#unreachable(`${missingItems} items of ${what} are missing`, details);
    }
  }

  /** Nobody answers: what the origins said of it, if they said anything. */
  #unreachable(message: string, details: Readonly<Record<string, unknown>>): UnreachableError {
    const said = [...this.#refusals.values()].filter((refusal) => !(refusal instanceof ChunkMissingError));
    const why = said.map((refusal) => refusal.message).join("; ") || "no source answers";
    const hint = said.map((refusal) => (refusal instanceof P2pCacheError ? refusal.hint : undefined)).find(Boolean);
    return new UnreachableError(`${message}: ${why}`, { details, ...(hint === undefined ? {} : { hint }) });
  }

  #liars(): string {
    const names = [...this.#corruptFrom].map((source) => {
      const refusal = this.#refusals.get(source);
      const why = refusal instanceof ChunkCorruptError ? ` (${refusal.message})` : "";
      return `${source.replace(/^origin:/, "the origin ")}${why}`;
    });
    return names.join(", ") || "its source";
  }
}

/** After a stream has ended its peer is asked again, if it is still there. */
const rejoinMs = 1_000;

/** The same bytes in a buffer of their own, which can be given to a worker thread. */
function ownBuffer(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return isOwnBuffer(bytes) ? bytes : new Uint8Array(bytes);
}
