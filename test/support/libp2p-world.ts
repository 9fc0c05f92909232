import { generateKeyPair } from "@libp2p/crypto/keys";
import type { suite } from "uvu";
import { openHashEngine } from "../../node/hasher.ts";
import { networkPrologue } from "../../node/keys.ts";
import type { Swarm } from "../../node/ports.ts";
import { Libp2pSwarm } from "../../node/swarm/libp2p-swarm.ts";
import type { SwarmOptions } from "../../node/swarm/swarm-options.ts";
import type { SwarmWorld } from "../conformance/swarm-conformance.ts";
import { Member, within } from "./swarm-member.ts";

const loopback = "/ip4/127.0.0.1/tcp/0";
export const networkKey: Uint8Array = new Uint8Array(32).fill(7);

/** Options of a swarm on loopback, with a key of its own. */
export async function swarmOptions(name: string, more: Partial<SwarmOptions> = {}): Promise<SwarmOptions> {
  return {
    key: await generateKeyPair("Ed25519"),
    prologue: networkPrologue(networkKey, "studio"),
    hello: { network: "studio", name, site: "here", rack: "r1" },
    listen: [loopback],
    bootstrap: [],
    hash: openHashEngine().hash,
    epoch: Date.now(),
    announceLoopback: true,
    ...more,
  };
}

/** A network of real swarms on loopback: each new one dials all that are there. */
export class LoopbackWorld implements SwarmWorld {
  readonly #opened: Swarm[] = [];

  async add(name: string, member: Member = new Member(), more: Partial<SwarmOptions> = {}): Promise<Libp2pSwarm> {
    const bootstrap = this.#opened.flatMap((swarm) => swarm.addresses().slice(0, 1));
    const swarm = await Libp2pSwarm.open(await swarmOptions(name, { bootstrap, ...more }), member.handlers);
    this.#opened.push(swarm);
    return swarm;
  }

  async close(): Promise<void> {
    await Promise.all(this.#opened.map((swarm) => swarm[Symbol.asyncDispose]()));
  }
}

/** Tests in a world of their own, which is closed at the end whatever comes. */
export function loopbackRules(
  test: ReturnType<typeof suite>,
  withinMs = 20_000,
): (text: string, check: (world: LoopbackWorld) => Promise<void>) => void {
  return (text, check) =>
    test(text, async () => {
      const world = new LoopbackWorld();
      try {
        await within(withinMs, text, check(world));
      } finally {
        await within(10_000, "closing", world.close());
      }
    });
}
