import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../node/clock.ts";
import { Fetcher, type FetcherParts } from "../../node/fetcher.ts";
import type { MemoryRepository } from "../../node/origins/memory-origin.ts";
import { type Published, type PublishOptions, publishVariant } from "../../node/payloads/publisher.ts";
import type { Origin, Swarm, SwarmHandlers } from "../../node/ports.ts";
import { MemoryPayloadStore, type MemoryStoreOptions } from "../../node/store/memory-payload-store.ts";
import { MemoryNetwork, type MemorySwarm } from "../../node/swarm/memory-swarm.ts";
import { Transfers, type TransfersParts } from "../../node/transfers.ts";
import type { PeerName } from "../../protocol/directory.ts";
import { UnreachableError } from "../../protocol/errors.ts";
import { compareBytes, type VariantHash } from "../../protocol/hash.ts";
import { defaultAttributes, type Publishers } from "../../protocol/record.ts";
import { Standing } from "../../protocol/standing.ts";
import type { TransferLimits } from "../../protocol/transfer-limits.ts";
import { engine, variantOf, writeSampleTree } from "./payloads.ts";

export const limits: TransferLimits = { joinMs: 200, hopelessMs: 200, patienceMs: 600, inFlightBytesMax: 8 << 20 };
const publisher = "aa".repeat(32);
export const publishers: Publishers = new Map([[publisher, new Uint8Array(32)]]);

/** A signature that a check can recompute: the hash of the message. */
export const isSigned = (_: Uint8Array, message: Uint8Array, sig: Uint8Array): boolean =>
  sig.length === 32 && compareBytes(engine.hash(message), sig) === 0;

export interface ReleaseOptions extends Partial<PublishOptions> {
  readonly keyid?: string;
  /** Another tree for another seed. */
  readonly seed?: number;
  /** Another tree altogether. */
  readonly write?: (treePath: string) => void;
}

/** Releases a sample tree into a repository: about 4 MB in some twenty items. */
export async function publishSample(repository: MemoryRepository, options: ReleaseOptions = {}): Promise<Published> {
  const { keyid = publisher, seed = 1, write = (path: string) => writeSampleTree(path, seed), ...more } = options;
  const directory = mkdtempSync(join(tmpdir(), "fetch-world-"));
  const treePath = join(directory, "tree");
  try {
    process.umask(0o022);
    write(treePath);
    return await publishVariant({
      variant: variantOf("foo"),
      treePath,
      repository,
      engine,
      sign: { keyid, sign: (message) => engine.hash(message) },
      attributes: defaultAttributes,
      now: "2026-07-01T08:00:00Z",
      ...more,
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** An origin that notes what it was asked, and may be told to misbehave. */
export class WatchedOrigin implements Origin {
  readonly name: string;
  readonly #repository: MemoryRepository;
  records = 0;
  chunks = 0;
  /** Runs before each answer: throws, waits, or waits for ever. */
  before: (what: "record" | "chunk", signal: AbortSignal | undefined) => Promise<void> | void = () => undefined;

  constructor(repository: MemoryRepository) {
    this.name = repository.name;
    this.#repository = repository;
  }

  async latestRecord(variant: VariantHash, options: { readonly signal?: AbortSignal } = {}) {
    this.records++;
    await this.before("record", options.signal);
    return await this.#repository.latestRecord(variant);
  }

  async chunk(...[hash, sizeBytes, options]: Parameters<Origin["chunk"]>) {
    this.chunks++;
    await this.before("chunk", options?.signal);
    return await this.#repository.chunk(hash, sizeBytes);
  }
}

export const never: Promise<never> = new Promise(() => undefined);

/** An origin that cannot be reached. */
export function unreachable(): void {
  throw new UnreachableError("the filer is away");
}

/** A node without sockets and without a disk. */
export interface TestNode {
  readonly name: string;
  readonly fetcher: Fetcher;
  readonly store: MemoryPayloadStore;
  readonly swarm: MemorySwarm;
  readonly standing: Standing;
  /** Peers that were told of without a fault. */
  readonly restless: readonly PeerName[];
}

export interface NodeOptions {
  readonly origins?: readonly Origin[];
  readonly publishers?: Publishers;
  readonly timeoutMs?: number;
  readonly store?: Partial<MemoryStoreOptions>;
  readonly fetcher?: Partial<FetcherParts>;
  readonly transfers?: Partial<TransfersParts>;
  /** What it serves otherwise than it should. */
  readonly handlers?: Partial<SwarmHandlers>;
}

/** Nodes that know each other, over memory twins. */
export class FetchWorld {
  readonly network: MemoryNetwork = new MemoryNetwork();

  node(name: string, options: NodeOptions = {}): TestNode {
    const repositories = new Map([["studio", "/studio"]]);
    const store = new MemoryPayloadStore({ hasher: engine.hash, repositories, ...options.store });
    const standing = new Standing();
    const restless: PeerName[] = [];
    let swarm: Swarm | undefined;
    const misbehaved: SwarmHandlers["misbehaved"] = (peer, fault, reason) => {
      if (fault !== undefined) standing.strike(peer, fault, systemClock.monotonicMs(), reason);
      else restless.push(peer);
    };
    const transfers = new Transfers({
      misbehaved,
      swarm: () => swarm,
      standing,
      clock: systemClock,
      random: Math.random,
      site: "",
      distanceTo: () => "site",
      holdersFor: (payload) => swarm?.directory.holdersOf(payload) ?? [],
      limits,
      ...options.transfers,
    });
    const fetcher = new Fetcher({
      store,
      swarm: () => swarm,
      origins: options.origins ?? [],
      recordSources: {
        peersFor: () => swarm?.peers().map(({ peer }) => peer) ?? [],
        stored: (variant) => store.record(variant),
        publishers: "publishers" in options ? options.publishers : publishers,
        verify: isSigned,
        hasher: engine.hash,
      },
      transfers,
      clock: systemClock,
      timeoutMs: options.timeoutMs ?? 15_000,
      onPlaced: () => swarm?.announce(),
      ...options.fetcher,
    });
    const opened = this.network.open(name, {
      record: async (variant) => (store.holding(variant) === undefined ? undefined : await store.record(variant)),
      serve: (payload) => store.serve(payload),
      whole: () => store.announced(),
      raiseEpoch: async () => undefined,
      peerReady: (peer) => transfers.peerReady(peer),
      peerLeft: (peer) => transfers.peerLeft(peer),
      learnt: (peer, added) => transfers.learnt(peer, added),
      wanted: (peer, payload) => transfers.wanted(peer, payload),
      gave: (peer, bytes) => standing.gave(peer, bytes),
      misbehaved,
      registered: (peer, payload, question) => transfers.registered(peer, payload, question),
      mayJoin: (peer, payload) => transfers.mayJoin(peer, payload),
      unjoined: (peer, payload) => transfers.unjoined(peer, payload),
      demand: (payload) => transfers.demand(payload),
      ...options.handlers,
    });
    swarm = opened;
    return { name, fetcher, store, swarm: opened, standing, restless };
  }

  /** A node that has a variant from a repository already. */
  async holder(name: string, repository: MemoryRepository, variant: VariantHash, options: NodeOptions = {}) {
    const node = this.node(name, { ...options, origins: [repository] });
    await node.fetcher.fetch(variant);
    return node;
  }
}
