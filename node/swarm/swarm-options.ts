import type { PrivateKey } from "@libp2p/interface";
import type { PeerName } from "../../protocol/directory.ts";
import type { Hasher } from "../../protocol/hash.ts";
import type { NeighbourLimits } from "../../protocol/neighbourhood.ts";
import type { ClassRates } from "../../protocol/politeness.ts";
import type { ExchangeTimings } from "./exchange.ts";
import type { HelloFacts } from "./peer-gate.ts";

export interface SwarmOptions {
  readonly key: PrivateKey;
  /** Goes into the noise handshake: whoever has another one is refused there (DESIGN section 6). */
  readonly prologue: Uint8Array;
  readonly hello: HelloFacts;
  /** Multiaddrs. */
  readonly listen: readonly string[];
  readonly bootstrap: readonly string[];
  readonly hash: Hasher;
  /** Later than any epoch that this node ever announced. */
  readonly epoch: number;
  /** Whether neighbours are looked for on the local network. */
  readonly mdns?: boolean;
  /** Whether loopback addresses are announced and dialled: for several nodes on one machine. */
  readonly announceLoopback?: boolean;
  /** Told of a peer that was refused, and why. */
  readonly onRefused?: (peer: PeerName, reason: string) => void;
  /** Told once when a bootstrap peer cannot be reached, and why. */
  readonly onUnreachable?: (address: string, reason: string) => void;
  /** Told once of each kind of trouble with discovery on the local network. */
  readonly onDiscoveryFault?: (fault: string) => void;
  /** What peers may be sent, in bytes a millisecond; absent: without limit. */
  readonly up?: ClassRates;
  /** Shorter ones for tests. */
  readonly timings?: SwarmTimings;
  /** Fewer for tests. */
  readonly neighbours?: NeighbourLimits;
}

export interface SwarmTimings extends ExchangeTimings {
  /** How long a hello is awaited. */
  readonly helloMs?: number;
  /** How long a peer may take no byte of what it asked for. */
  readonly stallMs?: number;
  /** When a bootstrap peer that is away is dialled again, at first. */
  readonly retryMs?: number;
}
