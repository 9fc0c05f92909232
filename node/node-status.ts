import type { FetchProgress } from "./fetcher.ts";
import type { OriginStatus } from "./origins-of.ts";
import type { DiscoveryState } from "./ports.ts";
import type { TrustStatus } from "./record-trust.ts";

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

/** One thing that is wrong with what is held. */
export interface Damage {
  /** Of the variant. */
  readonly path: string;
  /** The item whose bytes are wrong, where that is known. */
  readonly item: number | null;
  readonly file: string;
  readonly fault: string;
}
