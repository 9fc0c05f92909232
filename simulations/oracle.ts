import { type Random, randomBelow, seededRandom } from "../protocol/random.ts";
import { WantedItems } from "../protocol/wanted-items.ts";
import type { Happening } from "./event-queue.ts";
import type { WorldPlan } from "./swarm-world.ts";
import { Host, VirtualNetwork } from "./virtual-network.ts";

interface Node {
  readonly host: Host;
  readonly startMs: number;
  /** 1 for an item that it has. */
  readonly has: Uint32Array;
  isWaiting: boolean;
  readonly wanted: WantedItems;
  inFlight: number;
  queued: number;
  count: number;
  endedMs: number;
}

/**
 * What somebody would reach who sees everything at once: every node is told of a node that
 * has little to do, and of what that has the item that is rarest in the whole network. Not the optimum, but nobody in the swarm could know as much.
 */
export class OracleWorld implements Happening {
  readonly #network: VirtualNetwork;
  readonly #plan: WorldPlan;
  readonly #random: Random;
  readonly #nodes: Node[];
  readonly #origin: Host;
  readonly #copies: Uint32Array;
  readonly #toRead: number[];
  readonly #items: number;
  readonly #sizes: Uint32Array;
  #reading = 0;
  #left: number;

  constructor(plan: WorldPlan) {
    const [payload] = plan.payloads;
    this.#plan = plan;
    this.#random = seededRandom(plan.seed);
    this.#network = new VirtualNetwork(plan.latencyMs);
    this.#items = payload!.items;
    this.#sizes = payload!.sizesBytes;
    this.#nodes = plan.members.map(({ startMs, upBytesPerMs, downBytesPerMs }) => ({
      ...{ startMs, inFlight: 0, queued: 0, count: 0, endedMs: Number.POSITIVE_INFINITY },
      host: new Host({ upBytesPerMs, downBytesPerMs, subnet: 0 }),
      has: new Uint32Array(this.#items),
      isWaiting: false,
      wanted: new WantedItems(this.#items, this.#random),
    }));
    const { upBytesPerMs } = plan.origin;
    this.#origin = new Host({ upBytesPerMs, downBytesPerMs: upBytesPerMs, subnet: 0 });
    this.#copies = new Uint32Array(this.#items);
    this.#toRead = Array.from({ length: this.#items }, (_, item) => item);
    this.#left = this.#nodes.length;
    for (const node of this.#nodes) {
      for (let item = 0; item < this.#items; item++) node.wanted.add(item, 0);
      this.#network.events.at(node.startMs, this, 0, node);
    }
  }

  /** The longest time that any node took, in seconds. */
  run(): number {
    while (this.#left > 0 && this.#network.events.next(this.#plan.untilMs));
    return Math.max(...this.#nodes.map(({ startMs, endedMs }) => endedMs - startMs)) / 1000;
  }

  happen(_what: number, about: unknown): void {
    (about as Node).isWaiting = false;
    this.#feed(about as Node);
    this.#read();
  }

  /** The origin sends what it has not sent to whoever has least to do. */
  #read(): void {
    while (this.#reading < atOnce && this.#toRead.length > 0) {
      const started = this.#nodes.filter(
        ({ startMs, inFlight }) => startMs <= this.#network.events.nowMs && inFlight < most,
      );
      if (started.length === 0) return;
      const node = started[randomBelow(started.length, this.#random)]!;
      const item = this.#toRead.pop()!;
      this.#reading++;
      this.#take(node, item);
      const free = () => {
        this.#reading--;
      };
      this.#network.send(this.#origin, node.host, this.#sizes[item]!, free, () => this.#arrived(node, item));
    }
  }

  /** Asks idle nodes for the rarest that they have, as long as there are any; else looks again soon. */
  #feed(node: Node): void {
    while (node.inFlight < most && node.count + node.inFlight < this.#items) {
      const choice = this.#choose(node);
      if (choice === undefined) {
        if (!node.isWaiting) this.#network.events.at(this.#network.events.nowMs + againMs, this, 0, node);
        node.isWaiting = true;
        return;
      }
      const { giver, item } = choice;
      this.#take(node, item);
      giver.queued++;
      const free = () => {
        giver.queued--;
      };
      this.#network.send(giver.host, node.host, this.#sizes[item]!, free, () => this.#arrived(node, item));
    }
  }

  #choose(node: Node): { readonly giver: Node; readonly item: number } | undefined {
    for (let i = 0; i < looks; i++) {
      const giver = this.#nodes[randomBelow(this.#nodes.length, this.#random)]!;
      if (giver.queued >= queuedMost || giver.count === 0) continue;
      const item = node.wanted.rarest(giver.has, 1);
      if (item !== undefined) return { giver, item };
    }
    return undefined;
  }

  #take(node: Node, item: number): void {
    node.inFlight++;
    node.wanted.remove(item, this.#copiesOf(item));
  }

  #arrived(node: Node, item: number): void {
    node.inFlight--;
    node.has[item] = 1;
    node.count++;
    this.#copies[item]!++;
    for (const other of this.#nodes) other.wanted.raise(item, this.#copiesOf(item));
    if (node.count === this.#items) {
      node.endedMs = this.#network.events.nowMs;
      this.#left--;
    }
    this.#read();
    this.#feed(node);
  }

  #copiesOf(item: number): number {
    return this.#copies[item]!;
  }
}

const most = 4;
const atOnce = 4;
const looks = 32;
const queuedMost = 2;
const againMs = 2;
