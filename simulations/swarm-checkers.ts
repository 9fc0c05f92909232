import type { Fault } from "../protocol/standing.ts";
import type { SwarmWorld } from "./swarm-world.ts";
import type { VirtualFetch } from "./virtual-fetch.ts";
import type { VirtualMember } from "./virtual-member.ts";

/** What must never happen, looked for while a world goes on. */
export class Checkers {
  readonly #world: SwarmWorld;
  /** What happened all the same; a sentence for each, at most a hundred. */
  readonly faults: string[] = [];

  constructor(world: SwarmWorld) {
    this.#world = world;
  }

  /** A member begins to send an item. */
  served(member: VirtualMember, payload: number, item: number): void {
    const fetch = member.fetches[payload];
    if (fetch?.have.has(item) !== true) this.#fault(`${member.name} serves item ${item}, which it has not verified`);
  }

  /** A member asks the origin for an item. */
  originAsked(fetch: VirtualFetch): void {
    const { member } = fetch;
    if (this.#world.policyOf(member) === "never") this.#fault(`${member.name} reads the origin, which it never may`);
    const bytes = fetch.machine.transfer.inFlightBytes;
    if (bytes > inFlightBytesMax) this.#fault(`${member.name} has ${bytes} bytes on their way`);
  }

  /** A member counts a strike against another one: where nobody is hostile nobody earns one. */
  struck(by: VirtualMember, peer: VirtualMember, fault: Fault): void {
    const isHostile = this.#world.members.some(({ traits }) => traits.isCorrupt || traits.isIdle);
    if (peer.isUp && !isHostile) this.#fault(`${by.name} strikes ${peer.name}, which is honest: ${fault}`);
  }

  /** The world has ended: nobody may be waiting for nothing. */
  end(): void {
    if (this.#world.unfinished === 0) return;
    for (const member of this.#world.members) {
      if (!member.isUp) continue;
      for (const fetch of member.fetches) {
        if (fetch === undefined || fetch.isOver) continue;
        const missing = fetch.payload.items - fetch.have.count;
        this.#fault(`${member.name} is stuck at ${Math.round(this.#world.nowMs)} ms: ${missing} items are missing`);
      }
    }
  }

  #fault(text: string): void {
    if (this.faults.length < faultsMax) this.faults.push(text);
  }
}

/** DESIGN section 7, rule 6. */
const inFlightBytesMax: number = 64 * 1024 * 1024;
const faultsMax = 100;
