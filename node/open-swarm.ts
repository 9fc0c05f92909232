import { join } from "node:path";
import type { Hasher } from "../protocol/hash.ts";
import { classRates } from "./class-rates.ts";
import { loadNetworkKey, networkPrologue } from "./keys.ts";
import type { Log } from "./log.ts";
import type { Swarm, SwarmHandlers } from "./ports.ts";
import type { Settings } from "./settings/schema.ts";
import { openNodeKey } from "./swarm/identity.ts";
import { Libp2pSwarm } from "./swarm/libp2p-swarm.ts";

export interface SwarmParts {
  /** The network's name. */
  readonly network: string;
  readonly hash: Hasher;
  /** Later than any epoch that this node ever announced. */
  readonly epoch: number;
  readonly log: Log;
}

/**
 * The swarm as the settings describe it, with its troubles in the log.
 * @throws {UsageError} for keys and addresses that are none; {UnreachableError} when it cannot listen.
 */
export async function openSwarm(settings: Settings, parts: SwarmParts, handlers: SwarmHandlers): Promise<Swarm> {
  const { network, hash, epoch, log } = parts;
  const { keyFile } = settings.network;
  const { name, site, rack, listen, bootstrap, mdns, announceLoopback, state } = settings.node;
  const key = await openNodeKey(join(state, "node.key"));
  const prologue = networkPrologue(keyFile === undefined ? undefined : await loadNetworkKey(keyFile), network);
  const told = {
    onRefused: (peer: string, reason: string) => log("warn", "peer-refused", { peer, reason }),
    onUnreachable: (address: string, reason: string) => log("warn", "bootstrap-unreachable", { address, reason }),
    onDiscoveryFault: (reason: string) => log("warn", "discovery-fault", { reason }),
  };
  const hello = { network, name, site, rack };
  const up = classRates(settings.transfer.upBytesPerSecond);
  return await Libp2pSwarm.open(
    { key, prologue, hello, listen, bootstrap, hash, epoch, mdns, announceLoopback, up, ...told },
    handlers,
  );
}
