import { systemClock } from "../../node/clock.ts";
import { Fetcher } from "../../node/fetcher.ts";
import type { Origin, Swarm } from "../../node/ports.ts";
import type { PayloadStore } from "../../node/store/payload-store.ts";
import type { MemoryNetwork, MemorySwarm } from "../../node/swarm/memory-swarm.ts";
import { Transfers } from "../../node/transfers.ts";
import { Standing } from "../../protocol/standing.ts";
import { isSigned, limits, publishers } from "./fetch-world.ts";
import { engine } from "./payloads.ts";

/** A node with a real store, and a network and origins in memory. */
export interface DiskNode {
  readonly store: PayloadStore;
  readonly fetcher: Fetcher;
  readonly swarm: MemorySwarm;
}

/** Puts a store into a network; whoever opened the store closes it. */
export function diskNode(network: MemoryNetwork, name: string, store: PayloadStore, origins: Origin[] = []): DiskNode {
  let swarm: Swarm | undefined;
  const peersFor = () => swarm?.peers().map(({ peer }) => peer) ?? [];
  const standing = new Standing();
  const stored = (variant: Parameters<PayloadStore["record"]>[0]) => store.record(variant);
  const transfers = new Transfers({
    swarm: () => swarm,
    misbehaved: () => undefined,
    standing,
    clock: systemClock,
    random: Math.random,
    site: "",
    distanceTo: () => "site",
    holdersFor: (payload) => swarm?.directory.holdersOf(payload) ?? [],
    limits,
  });
  const fetcher = new Fetcher({
    store,
    swarm: () => swarm,
    origins,
    recordSources: { peersFor, stored, publishers, verify: isSigned, hasher: engine.hash },
    transfers,
    clock: systemClock,
    timeoutMs: 20_000,
    onPlaced: () => swarm?.announce(),
    onRepaired: () => swarm?.announce(),
  });
  const opened = network.open(name, {
    record: stored,
    serve: (payload) => store.serve(payload),
    whole: () => store.announced(),
    raiseEpoch: async () => undefined,
    peerReady: (peer) => transfers.peerReady(peer),
    peerLeft: (peer) => transfers.peerLeft(peer),
    learnt: (peer, added) => transfers.learnt(peer, added),
    wanted: (peer, payload) => transfers.wanted(peer, payload),
    gave: (peer, bytes) => standing.gave(peer, bytes),
    misbehaved: () => undefined,
    registered: (peer, payload, question) => transfers.registered(peer, payload, question),
    mayJoin: (peer, payload) => transfers.mayJoin(peer, payload),
    unjoined: (peer, payload) => transfers.unjoined(peer, payload),
    demand: (payload) => transfers.demand(payload),
  });
  swarm = opened;
  return { store, fetcher, swarm: opened };
}
