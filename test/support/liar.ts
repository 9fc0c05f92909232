import { generateKeyPair } from "@libp2p/crypto/keys";
import { openHashEngine } from "../../node/hasher.ts";
import { loadNetworkKey, networkPrologue } from "../../node/keys.ts";
import { FolderRepository } from "../../node/origins/folder-origin.ts";
import { Libp2pSwarm } from "../../node/swarm/libp2p-swarm.ts";
import { parseVariantHash } from "../../protocol/hash.ts";
import { decodeEnvelope, encodeEnvelope } from "../../protocol/record.ts";
import { type Lie, releasedAt, servedWith } from "./lies.ts";

/** What a liar is told, as JSON in its first argument. */
export interface LiarOrders {
  readonly lie: Lie;
  readonly originPath: string;
  readonly keyFile: string;
  readonly variant: string;
  /** Whom it dials. */
  readonly bootstrap?: readonly string[];
  /** Whose record it gives in place of the variant's own. */
  readonly otherVariant?: string;
}

// A member of the network whose swarm is real and whose word is worth nothing: run as a process of its own.
const orders = JSON.parse(process.argv[2]!) as LiarOrders;
const engine = openHashEngine();
const origin = await FolderRepository.open({ name: "origin", path: orders.originPath, network: "test" });
const variant = parseVariantHash(orders.variant);
const released = await releasedAt(origin, variant, engine.hash);
const { envelope, record } = released;
const served = servedWith(orders.lie, released);
const swarm = await Libp2pSwarm.open(
  {
    key: await generateKeyPair("Ed25519"),
    prologue: networkPrologue(await loadNetworkKey(orders.keyFile), "test"),
    hello: { network: "test", name: orders.lie, site: "", rack: "" },
    listen: ["/ip4/127.0.0.1/tcp/0"],
    bootstrap: orders.bootstrap ?? [],
    hash: engine.hash,
    epoch: Date.now(),
    announceLoopback: true,
  },
  {
    record: async () => await falseRecord(),
    serve: async (payload) => (payload === record.payload ? served : undefined),
    whole: () => [[variant, record.payload]],
    raiseEpoch: async () => undefined,
    peerReady: () => undefined,
    peerLeft: () => undefined,
    learnt: () => undefined,
    wanted: () => undefined,
    gave: () => undefined,
    misbehaved: () => undefined,
    registered: () => undefined,
    mayJoin: () => true,
    unjoined: () => undefined,
    demand: () => undefined,
  },
);
process.stdout.write(`${swarm.addresses()[0]!}\n`);

async function falseRecord(): Promise<Uint8Array | undefined> {
  switch (orders.lie) {
    case "record of another variant":
      return await origin.latestRecord(parseVariantHash(orders.otherVariant!));
    case "unsigned record":
      return encodeEnvelope({ body: decodeEnvelope(envelope).body, signatures: [] });
    case "garbage record":
      return new Uint8Array(1_000);
    default:
      return envelope;
  }
}
