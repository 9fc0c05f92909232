import { setTimeout as sleep } from "node:timers/promises";
import type { ApiVariant } from "../../node/http/api-types.ts";
import type { FetchCall, Progress } from "../../node/http/client.ts";
import { kill, type RunningNode, type StartOptions, type Studio, type StudioMachine } from "./studio.ts";

/** How one node's fetch ended. */
export interface Arrival {
  /** Since all were told to begin. */
  readonly seconds: number;
  readonly variant: ApiVariant;
}

export interface CrowdOptions {
  readonly nodes: number;
  /** In names of machines, so that several crowds may follow one another in a studio. */
  readonly name: string;
  readonly machine: StudioMachine;
  readonly start?: (number: number) => StartOptions;
}

/** Node processes that all want the same at once. */
export class Crowd {
  readonly nodes: readonly RunningNode[];

  private constructor(nodes: readonly RunningNode[]) {
    this.nodes = nodes;
  }

  /** Starts the nodes: the first is the one that the others are told of, unless they find each other by mDNS. */
  static async start(studio: Studio, { nodes, name, machine, start }: CrowdOptions): Promise<Crowd> {
    const started: RunningNode[] = [];
    const open = async (number: number): Promise<void> => {
      const bootstrap = machine.mdns === true ? [] : (started[0]?.addresses ?? []);
      const config = studio.configure(`${name}${number}`, { ...machine, bootstrap });
      started.push(await studio.start(config, [], start?.(number)));
    };
    await open(1);
    // A few at a time: starting compiles, and takes a core for a second.
    const rest = Array.from({ length: nodes - 1 }, (_, i) => i + 2).values();
    const openAll = async () => {
      for (const number of rest) await open(number);
    };
    await Promise.all(Array.from({ length: startsAtOnce }, openAll));
    return new Crowd(started);
  }

  /** Waits until each node knows all others. @throws {Error} when one does not in time. */
  async meet(withinMs: number): Promise<void> {
    const untilMs = performance.now() + withinMs;
    for (const node of this.nodes) {
      while ((await node.client.peers()).filter(({ name }) => name !== "").length < this.nodes.length - 1) {
        if (performance.now() > untilMs)
          throw new Error(`a node does not know all others: ${node.log().slice(-2_000)}`);
        await sleep(50);
      }
    }
  }

  /** All are told to fetch at the same moment. A fetch that fails is an arrival too. */
  async fetch(
    call: FetchCall,
    onProgress: (node: number, progress: Progress) => void = () => undefined,
  ): Promise<Arrival[]> {
    const startedMs = performance.now();
    return await Promise.all(
      this.nodes.map(async ({ client }, i): Promise<Arrival> => {
        const [variant] = await client.fetch(call, (progress) => onProgress(i, progress), {});
        return { seconds: (performance.now() - startedMs) / 1_000, variant: variant! };
      }),
    );
  }

  /** Bytes of items that the nodes have sent each other, those that came too late included. */
  async bytesBetween(): Promise<number> {
    const peers = await Promise.all(this.nodes.map(({ client }) => client.peers()));
    return peers.flat().reduce((sum, { bytesTo }) => sum + Number(bytesTo), 0);
  }

  /** Ends all nodes as an admin does. Answers the exit code of each. */
  async stop(): Promise<(number | null)[]> {
    await Promise.all(this.nodes.map((node) => kill(node, "SIGTERM")));
    return this.nodes.map(({ process }) => process.exitCode);
  }
}

const startsAtOnce = 3;
