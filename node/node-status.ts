import type { FetchProgress } from "./fetcher.ts";
import type { OriginStatus } from "./origins-of.ts";
import type { DiscoveryState, Holding, Swarm } from "./ports.ts";
import type { TrustStatus } from "./record-trust.ts";
import type { resolveDiskDefaults } from "./settings/schema.ts";
import type { PayloadStore } from "./store/payload-store.ts";

/** What `peers` says of one (CONTRACTS). */
export interface PeerStatus {
  readonly peer: string;
  readonly name: string;
  readonly site: string;
  readonly rack: string;
  readonly addresses: readonly string[];
  readonly path: "stream" | "none";
  readonly holdings: number;
  readonly standing: string;
  readonly strikes: number;
  readonly bytesFrom: number;
  readonly bytesTo: number;
  /** By how much its clock was ahead of ours when it came. */
  readonly clockAheadMs?: number | undefined;
}

/** What `node status` says (CONTRACTS). */
export interface NodeStatus {
  readonly node: string;
  readonly name: string;
  readonly version: string;
  readonly apiVersion: number;
  readonly uptimeSeconds: number;
  readonly network: string;
  readonly addresses: readonly string[];
  readonly cache: {
    readonly path: string;
    readonly bytes: number;
    readonly maxBytes: number;
    readonly variants: number;
  };
  readonly peers: number;
  /** How neighbours are found on the local network; undefined where nobody is looked for. */
  readonly discovery: DiscoveryState | undefined;
  readonly transfers: readonly FetchProgress[];
  readonly origins: readonly OriginStatus[];
  readonly trust: TrustStatus;
  readonly warnings: readonly string[];
}

interface StatusParts {
  readonly settings: ReturnType<typeof resolveDiskDefaults>;
  readonly store: Pick<PayloadStore, "cachePath" | "bytes" | "holdings">;
  readonly swarm: Swarm | undefined;
  readonly transfers: readonly FetchProgress[];
  readonly origins: readonly OriginStatus[];
}

/** What a node says of itself, and what can be seen of it. */
export function nodeStatus(
  said: Pick<NodeStatus, "version" | "trust" | "warnings"> & { readonly id: string; readonly upMs: number },
  { settings, store, swarm, transfers, origins }: StatusParts,
): NodeStatus {
  const { id: node, version, upMs, trust, warnings } = said;
  return {
    node,
    name: settings.node.name,
    version,
    apiVersion: 1,
    uptimeSeconds: upMs / 1000,
    network: settings.network.name ?? "",
    addresses: swarm?.addresses() ?? [],
    cache: {
      path: store.cachePath,
      bytes: store.bytes,
      maxBytes: settings.cache.maxBytes,
      variants: store.holdings().length,
    },
    peers: swarm?.peers().length ?? 0,
    discovery: swarm?.discovery(),
    transfers,
    origins,
    trust,
    warnings,
  };
}

/** What `ls` says of one. */
export type HoldingStatus = Holding & { readonly lastUsed: string | undefined; readonly state: "whole" | "damaged" };

export function holdingsStatus(store: Pick<PayloadStore, "holdings" | "retention" | "isDamaged">): HoldingStatus[] {
  return store.holdings().map((holding) => {
    const usedMs = store.retention.lastUsedMs(holding.variant);
    const lastUsed = usedMs === undefined ? undefined : new Date(usedMs).toISOString();
    return { ...holding, lastUsed, state: store.isDamaged(holding.variant) ? "damaged" : "whole" };
  });
}

/** One thing that is wrong with what is held. */
export interface Damage {
  /** Of the variant. */
  readonly path: string;
  /** The item whose bytes are wrong, where that is known. */
  readonly item: number | null;
  readonly file: string;
  readonly fault: string;
}
