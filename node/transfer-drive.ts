import type { PeerName } from "../protocol/directory.ts";
import { ChunkCorruptError, ReleaseChangedError } from "../protocol/errors.ts";
import { ItemGroups } from "../protocol/item-groups.ts";
import { smallPayloadBytesMax } from "../protocol/limits.ts";
import type { OriginPolicy } from "../protocol/origin-plan.ts";
import { PayloadFetch, type PayloadFetchAction, type PayloadFetchEvent } from "../protocol/payload-fetch.ts";
import type { Pace, TrafficClass } from "../protocol/politeness.ts";
import type { Random } from "../protocol/random.ts";
import type { RegisterAnswer, RegisterQuestion } from "../protocol/register-messages.ts";
import type { Standing } from "../protocol/standing.ts";
import { type Distance, Transfer } from "../protocol/transfer.ts";
import { defaultTransferLimits, type TransferLimits } from "../protocol/transfer-limits.ts";
import type { SourceName } from "../protocol/transfer-source.ts";
import { Memberships } from "./memberships.ts";
import { OriginReads } from "./origin-reads.ts";
import type { Clock, Demand, Origin, StagedTree, Swarm } from "./ports.ts";
import { errorOf } from "./transfer-faults.ts";

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
  /** This node's site; absent: it has no name. */
  readonly site?: string;
  readonly distanceTo?: (peer: PeerName) => Distance;
  /** Asks a registrar, which may be this node. @throws {UnreachableError} */
  readonly register?: (to: PeerName, question: RegisterQuestion) => Promise<RegisterAnswer>;
  /** Peers that say by now that they have all of it. */
  readonly holders?: () => readonly PeerName[];
  /** Whether it may read from its origins: always, unless this says otherwise. */
  readonly policy?: OriginPolicy;
  readonly holdsSlot?: () => boolean;
  /** Whether nothing but its turn keeps this node from reading: that is waited for. */
  readonly isHeldBack?: () => boolean;
  /** What may be asked for at a time. */
  readonly pace?: Pace;
  /** What peers are told of why. */
  readonly traffic?: () => TrafficClass;
  /** Shorter ones for tests. */
  readonly limits?: TransferLimits;
}

/** Drives one `PayloadFetch`: one event in, all its actions out, and the answers of the world back in. */
export class TransferDrive {
  readonly #parts: TransferParts;
  readonly #fetch: PayloadFetch;
  readonly #reads: OriginReads;
  readonly #members: Memberships;
  /** Peers that have joined us. */
  readonly #joiners = new Set<PeerName>();
  /** Items that are being verified and written: each once at a time. */
  readonly #puts = new Map<number, Promise<void>>();
  /** What touches the target: nobody else may, before it has ended. */
  readonly #work = new Set<Promise<void>>();
  readonly #events: PayloadFetchEvent[] = [];
  readonly #end = Promise.withResolvers<void>();
  readonly #corruptFrom = new Set<SourceName>();
  readonly #bytes = { local: 0, peers: 0, origin: 0 };
  #sizesBytes: Uint32Array | undefined;
  #registrars = "";
  #isDraining = false;
  #isOver = false;
  #waking: NodeJS.Timeout | undefined;

  constructor(parts: TransferParts) {
    const { target, swarm, standing, clock } = parts;
    const post = (event: PayloadFetchEvent) => this.#post(event);
    this.#parts = parts;
    this.#reads = new OriginReads({
      target,
      origins: parts.policy === "never" ? [] : parts.origins,
      sizeOf: (item) => this.#sizeOf(item),
      post,
      onBytes: (source, item, bytes, inPlace) => this.#store(source, item, bytes, inPlace),
    });
    this.#members = new Memberships({
      ...{ target, swarm, standing, clock, post },
      isSmall: target.root.bytes <= smallPayloadBytesMax,
      traffic: parts.traffic ?? (() => undefined),
      onPiece: (peer, item, bytes) => void this.#store(peer, item, bytes),
    });
    this.#fetch = this.#newFetch();
  }

  /**
   * Brings all items in. When it has ended nothing touches the target any more. `holders` say that they have all of it;
   * `registrars` are none where nobody else is there.
   * @throws what ended it: {NotFoundError}, {ChunkCorruptError}, {UnreachableError}, {FormatError} for a manifest that
   * breaks a rule, {NoSpaceError}, or the signal's reason.
   */
  async run(holders: readonly PeerName[], registrars: readonly PeerName[] = []): Promise<BytesBySource> {
    const { signal, swarm, target } = this.#parts;
    let isWhole = false;
    const onAbort = () => this.#finish(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      this.offer(holders, "holders");
      // A node that has just started has not yet heard what its neighbours hold.
      if (holders.length === 0) this.offer(this.#neighbours(), "likely");
      this.#post({ kind: "started" });
      this.registrarsAre(registrars);
      await this.#end.promise;
      isWhole = true;
      return { ...this.#bytes };
    } catch (error) {
      // What is here may soon be served no more.
      for (const peer of this.#joiners) swarm?.part(peer, target.payload);
      this.#joiners.clear();
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      clearTimeout(this.#waking);
      // Of a fetch that ended otherwise it is not known whose fault it was.
      this.#members.close(isWhole ? this.#fetch.transfer.owing : new Map());
      this.#reads.close();
      await Promise.all(this.#work);
    }
  }

  /** Peers that have given nothing of what they claim to have. */
  get owing(): Iterable<PeerName> {
    return this.#fetch.transfer.owing.keys();
  }

  /** Whether peers are asked at all. */
  get isShared(): boolean {
    return this.#parts.swarm !== undefined;
  }

  /** Peers that have joined us and have not left. */
  get joiners(): Iterable<PeerName> {
    return this.#joiners;
  }

  /** What the others are known to have. */
  get demand(): Demand {
    return this.#fetch.transfer;
  }

  /** Peers may have something of the payload, are likely to, or say that they have all of it. */
  offer(peers: readonly PeerName[], as?: "likely" | "holders"): void {
    const { swarm } = this.#parts;
    const others = peers.filter((peer) => peer !== swarm?.id);
    if (swarm !== undefined && others.length > 0)
      this.#post({ kind: "offered", peers: others, ...(as === undefined ? {} : { as }) });
  }

  /** Who the registrars are now. */
  registrarsAre(members: readonly PeerName[]): void {
    const names = members.join();
    if (names === this.#registrars && names !== "") return;
    this.#registrars = names;
    this.#post({ kind: "registrars", members });
  }

  /** A peer joins us. Answers whether it is let in: not where it would never hear what comes, nor that it failed. */
  mayJoin(peer: PeerName): boolean {
    if (!this.isShared) return false;
    this.#post({ kind: "asked", peer });
    return this.#joiners.has(peer);
  }

  /** A peer has ended its join with us. */
  unjoined(peer: PeerName): void {
    this.#joiners.delete(peer);
    this.#post({ kind: "unjoined", peer });
  }

  /** A peer has gone. */
  left(peer: PeerName): void {
    this.#joiners.delete(peer);
    this.#members.leave(peer);
    this.#post({ kind: "left", source: peer });
  }

  #neighbours(): PeerName[] {
    return this.#parts.swarm?.peers().map(({ peer }) => peer) ?? [];
  }

  #newFetch(): PayloadFetch {
    const { target, swarm, random, limits, policy = "auto", isHeldBack, pace, standing } = this.#parts;
    const { root, index, payload } = target;
    const origins = this.#reads.names;
    const plan = {
      items: index.items,
      segmentSizesBytes: root.segments.map(({ sizeBytes }) => sizeBytes),
      storedSegments: target.storedSegments(),
      origins,
      access: "leased" as const,
      hasGivenSince: (peer: PeerName, sinceMs: number) => standing.hasServedSince(peer, sinceMs),
      bytes: root.bytes,
      ...(isHeldBack === undefined ? {} : { isHeldBack }),
      ...(pace === undefined ? {} : { pace }),
    };
    const { segments, items } = index;
    return new PayloadFetch(
      {
        self: swarm?.id ?? "",
        site: this.#parts.site ?? "",
        key: payload,
        groups: new ItemGroups({ segments, items, bytes: root.bytes }),
        // Whoever has no origin can do nothing with a lease.
        policy: origins.length === 0 ? "never" : policy,
        holdsSlot: this.#parts.holdsSlot ?? (() => true),
        distanceTo: this.#parts.distanceTo ?? (() => "site"),
        transfer: new Transfer(plan, limits ?? defaultTransferLimits, random),
      },
      random,
    );
  }

  #post(event: PayloadFetchEvent): void {
    this.#events.push(event);
    if (this.#isDraining) return;
    this.#isDraining = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
        if (this.#isOver) continue;
        for (const action of this.#fetch.step(next, this.#parts.clock.monotonicMs())) this.#perform(action);
      }
    } catch (error) {
      // A broken promise of our own: better an error than a transfer that never ends.
      this.#finish(error as Error);
    } finally {
      this.#isDraining = false;
    }
  }

  #perform(action: PayloadFetchAction): void {
    switch (action.kind) {
      case "ask":
        return this.#ask(action.source, action.items);
      case "cancel":
        if (this.#reads.has(action.source)) return this.#reads.cancel(action.items);
        return this.#members.cancel(action.source, action.items);
      case "strike":
        return this.#strike(action.source, action.fault);
      case "segmentsComplete":
        return this.#track(this.#describe());
      case "complete":
        return this.#finish();
      case "gaveUp":
        return this.#giveUp(action);
      case "register":
        return void this.#register(action.to, action.question);
      case "join":
        return this.#members.join(action.peer, action.isHolder);
      case "accept":
        this.#joiners.add(action.peer);
        return;
      case "refuse":
        return;
      case "part":
        this.#joiners.delete(action.peer);
        // At the end all are left together.
        if (!this.#isOver) this.#members.leave(action.peer);
        return this.#parts.swarm?.part(action.peer, this.#parts.target.payload);
      case "searchNeighbours":
        return this.#searchNeighbours();
      case "wakeAt":
        return this.#wakeAt(action.atMs);
    }
  }

  #wakeAt(atMs: number): void {
    clearTimeout(this.#waking);
    const waitMs = Math.max(0, Math.ceil(atMs - this.#parts.clock.monotonicMs()));
    this.#waking = setTimeout(() => this.#post({ kind: "woke" }), waitMs);
  }

  #ask(source: SourceName, items: readonly number[]): void {
    if (this.#reads.has(source)) return this.#reads.ask(source, items);
    if (!this.#members.request(source, items)) this.#post({ kind: "failed", source, items });
  }

  /** Never rejects. What a registrar says is a help: of those that it names, we are none, and who is not there costs a dial. */
  async #register(to: PeerName, question: RegisterQuestion): Promise<void> {
    const { register, swarm } = this.#parts;
    try {
      if (register === undefined) return this.#post({ kind: "unreachable", from: to });
      const answer = await register(to, question);
      const peers = answer.peers.filter((peer) => peer !== swarm?.id);
      this.#post({ kind: "answer", from: to, answer: { ...answer, peers } });
    } catch {
      this.#post({ kind: "unreachable", from: to });
    }
  }

  #searchNeighbours(): void {
    this.offer([...(this.#parts.holders?.() ?? []), ...this.#neighbours()]);
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
      const isOrigin = this.#reads.has(source);
      if (!isOrigin) standing.served(source, sizeBytes, this.#parts.clock.monotonicMs());
      this.#bytes[isOrigin ? "origin" : "peers"] += sizeBytes;
      onProgress({ ...this.#bytes });
      this.#post({ kind: "stored", source, item });
      swarm?.stored(target.payload, target.withCopies(item));
    } catch (error) {
      if (!(error instanceof ChunkCorruptError)) return this.#finish(error as Error);
      if (inPlace !== undefined) {
        const file = String(error.details?.file ?? "");
        this.#reads.changes.set(item, new ReleaseChangedError(inPlace, file, "has other bytes now"));
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
    if (this.#reads.has(source)) return;
    const { standing, clock } = this.#parts;
    if (standing.strike(source, fault, clock.monotonicMs()) === "good") return;
    this.#members.leave(source);
    this.#post({ kind: "left", source });
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

  #giveUp(action: Extract<PayloadFetchAction, { kind: "gaveUp" }>): void {
    const { what, target } = this.#parts;
    const { items } = target.index;
    this.#finish(errorOf({ ...action, items, what, corruptFrom: this.#corruptFrom, reads: this.#reads }));
  }

  #finish(error?: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (error === undefined) this.#end.resolve();
    else this.#end.reject(error);
  }
}
