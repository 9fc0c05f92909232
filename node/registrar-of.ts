import type { PeerName } from "../protocol/directory.ts";
import type { PayloadId } from "../protocol/hash.ts";
import type { Random } from "../protocol/random.ts";
import { Registrar, type RegistrarParts } from "../protocol/registrar.ts";
import type { Clock, SwarmHandlers } from "./ports.ts";

/**
 * The registrar that this node is for others, as the swarm asks it. `isFirstFor` looks at all members: for one payload it is
 * asked once a second at most.
 */
export function registrarOf(
  clock: Clock,
  random: Random,
  { isFirstFor, onIdle }: Pick<RegistrarParts, "onIdle"> & Required<Pick<RegistrarParts, "isFirstFor">>,
): Pick<SwarmHandlers, "registered"> & { readonly left: (peer: PeerName) => void } {
  const isFirst = lookedUpSeldom(isFirstFor, clock);
  const registrar = new Registrar(random, { isFirstFor: isFirst, ...(onIdle === undefined ? {} : { onIdle }) });
  return {
    registered: (peer, payload, question) => registrar.ask(peer, payload, question, clock.monotonicMs()),
    left: (peer) => registrar.left(peer, clock.monotonicMs()),
  };
}

function lookedUpSeldom(look: (payload: PayloadId) => boolean, clock: Clock): (payload: PayloadId) => boolean {
  const known = new Map<PayloadId, { readonly atMs: number; readonly answer: boolean }>();
  return (payload) => {
    const nowMs = clock.monotonicMs();
    const last = known.get(payload);
    if (last !== undefined && nowMs - last.atMs < lookMs) return last.answer;
    const answer = look(payload);
    known.delete(payload);
    known.set(payload, { atMs: nowMs, answer });
    if (known.size > payloadsMax) known.delete(known.keys().next().value!);
    return answer;
  };
}

const lookMs = 1_000;
const payloadsMax = 4_096;
