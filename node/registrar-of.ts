import type { PeerName } from "../protocol/directory.ts";
import { defaultRegistryLimits } from "../protocol/payload-registry.ts";
import type { Random } from "../protocol/random.ts";
import { Registrar } from "../protocol/registrar.ts";
import type { Clock, SwarmHandlers } from "./ports.ts";

/** The registrar that this node is for others, as the swarm asks it. */
export function registrarOf(
  clock: Clock,
  random: Random,
  onIdle: (peer: PeerName) => void,
): Pick<SwarmHandlers, "registered"> & { readonly left: (peer: PeerName) => void } {
  const registrar = new Registrar(random, defaultRegistryLimits, onIdle);
  return {
    registered: (peer, payload, question) => registrar.ask(peer, payload, question, clock.monotonicMs()),
    left: (peer) => registrar.left(peer, clock.monotonicMs()),
  };
}
