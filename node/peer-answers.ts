import { NotTrustedError } from "../protocol/errors.ts";
import type { Hasher } from "../protocol/hash.ts";
import type { Log } from "./log.ts";
import type { NodePolicy } from "./node-policy.ts";
import type { PeerTrouble } from "./peer-trouble.ts";
import type { Swarm, SwarmHandlers } from "./ports.ts";
import { recordForPeers } from "./record-watch.ts";
import type { PayloadStore } from "./store/payload-store.ts";
import type { Transfers } from "./transfers.ts";
import type { Upkeep } from "./upkeep.ts";

export interface AnswerParts {
  readonly store: PayloadStore;
  readonly policy: NodePolicy;
  readonly transfers: Transfers;
  readonly trouble: PeerTrouble;
  readonly hash: Hasher;
  readonly log: Log;
  readonly swarm: () => Swarm | undefined;
  readonly upkeep: () => Upkeep | undefined;
}

/** What a node answers to its peers, and makes of what they do. */
export function peerAnswers({
  store,
  policy,
  transfers,
  trouble,
  hash,
  log,
  swarm,
  upkeep,
}: AnswerParts): SwarmHandlers {
  return {
    policy: policy.handlers,
    record: async (variant) => {
      const held = store.holding(variant);
      if (held !== undefined && !policy.isGiven(held)) return undefined;
      return await recordForPeers(store, variant, hash);
    },
    serve: async (payload) => {
      const isServed = () => policy.isServed(payload, transfers.demand(payload) !== undefined);
      const served = isServed() ? await store.serve(payload) : undefined;
      if (served === undefined) return undefined;
      const load = async (item: number) => {
        // It may have been denied since the peer joined, and be here still.
        if (!isServed()) throw new NotTrustedError("the payload counts no more by the policy");
        return await served.load(item);
      };
      return { ...served, load };
    },
    whole: () => store.announced().filter(([variant, payload]) => policy.isGiven({ variant, payload })),
    raiseEpoch: async (epoch) => void (await store.nextEpoch(epoch)),
    peerReady: (peer) => {
      const facts = swarm()
        ?.peers()
        .find((each) => each.peer === peer);
      log("info", "peer-joined", { peer, name: facts?.name });
      transfers.peerReady(peer);
      policy.peerReady(peer);
    },
    peerLeft: (peer) => {
      log("info", "peer-left", { peer });
      transfers.peerLeft(peer);
    },
    learnt: (peer, added) => transfers.learnt(peer, added),
    wanted: (peer, payload) => transfers.wanted(peer, payload),
    gave: (peer, bytes) => {
      upkeep()?.gave();
      trouble.standing.gave(peer, bytes);
    },
    misbehaved: (peer, fault, reason) => trouble.misbehaved(peer, fault, reason),
    registered: (peer, payload, question) => transfers.registered(peer, payload, question),
    mayJoin: (peer, payload) => transfers.mayJoin(peer, payload),
    unjoined: (peer, payload) => transfers.unjoined(peer, payload),
    demand: (payload) => transfers.demand(payload),
  };
}
