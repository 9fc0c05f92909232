import { generateKeyPair } from "@libp2p/crypto/keys";
import { type GossipSub, gossipsub, StrictNoSign } from "@libp2p/gossipsub";
import type { PrivateKey } from "@libp2p/interface";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { openHashEngine } from "../../node/hasher.ts";
import { networkPrologue } from "../../node/keys.ts";
import { sealAnnouncement } from "../../node/swarm/envelope.ts";
import { type Announcement, digestHoldings, type Holding, packHoldings } from "../../protocol/announcement.ts";
import { networkKey } from "./libp2p-world.ts";
import { RawPeer } from "./raw-peer.ts";

const { hash } = openHashEngine();

interface RawGossiperOptions {
  readonly network?: string;
  readonly prologue?: Uint8Array;
  readonly key?: PrivateKey;
}

/** A raw peer that speaks gossipsub, and says by it what a test tells it to say. */
export class RawGossiper implements AsyncDisposable {
  readonly peer: RawPeer;
  readonly key: PrivateKey;
  readonly gossip: GossipSub;
  readonly #topic: string;

  private constructor(peer: RawPeer, key: PrivateKey, gossip: GossipSub, topic: string) {
    this.peer = peer;
    this.key = key;
    this.gossip = gossip;
    this.#topic = topic;
  }

  /** In the network of the tests, unless it is told of another one. */
  static async open(options: RawGossiperOptions = {}): Promise<RawGossiper> {
    const { network = "studio", prologue = networkPrologue(networkKey, network) } = options;
    const key = options.key ?? (await generateKeyPair("Ed25519"));
    const topic = `p2pcache/${network}/holdings`;
    const { promise: made, resolve } = Promise.withResolvers<GossipSub>();
    const open = gossipsub({
      fallbackToFloodsub: false,
      globalSignaturePolicy: StrictNoSign,
      allowPublishToZeroTopicPeers: true,
      ignoreDuplicatePublishError: true,
      // The node's own ids: another one would not be asked for anything.
      msgIdFn: ({ data }) => hash(data).subarray(0, 16),
    });
    const services = {
      gossip: (components: Parameters<typeof open>[0]) => {
        const gossip = open(components);
        resolve(gossip);
        return gossip;
      },
    };
    const peer = await RawPeer.open(prologue, { privateKey: key, services });
    const gossip = await made;
    gossip.subscribe(topic);
    return new RawGossiper(peer, key, gossip, topic);
  }

  get id(): string {
    return peerIdFromPrivateKey(this.key).toString();
  }

  /** Waits until the other side listens, and says something to it. */
  async say(data: Uint8Array): Promise<void> {
    const untilMs = performance.now() + 5_000;
    while (this.gossip.getSubscribers(this.#topic).length === 0 && performance.now() < untilMs) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await this.gossip.publish(this.#topic, data);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.peer[Symbol.asyncDispose]();
  }
}

/** A signed announcement of the peer that a key belongs to, with parts of it replaced before it was signed. */
export async function announced(
  key: PrivateKey,
  holdings: readonly Holding[],
  more: Partial<Announcement> = {},
): Promise<Uint8Array> {
  const announcement: Announcement = {
    version: 1,
    network: "studio",
    peer: peerIdFromPrivateKey(key).toString(),
    addresses: ["/ip4/127.0.0.1/tcp/1"],
    name: "raw",
    site: "",
    rack: "",
    epoch: 1,
    sequence: 0,
    lifetimeMs: 105_000,
    count: holdings.length,
    digest: digestHoldings(packHoldings(holdings), hash),
    changes: {
      from: digestHoldings(new Uint8Array(0), hash),
      added: packHoldings(holdings),
      removed: new Uint8Array(0),
    },
    ...more,
  };
  return (await sealAnnouncement(announcement, key)).envelope;
}
