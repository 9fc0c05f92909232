import type { PeerName } from "../protocol/directory.ts";
import { type Fault, Standing, type Strike } from "../protocol/standing.ts";
import type { Log } from "./log.ts";
import type { Clock, Swarm } from "./ports.ts";

/** What peers do wrong, in the log with their names; what is a strike counts in their standing too. */
export class PeerTrouble {
  readonly standing: Standing = new Standing((strike) => this.#struck(strike));
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #swarm: () => Swarm | undefined;

  constructor(log: Log, clock: Clock, swarm: () => Swarm | undefined) {
    this.#log = log;
    this.#clock = clock;
    this.#swarm = swarm;
  }

  /** As the swarm tells it. */
  misbehaved(peer: PeerName, fault: Fault | undefined, reason: string): void {
    if (fault === undefined) this.#log("warn", "peer-misbehaves", { peer, name: this.#nameOf(peer), reason });
    else this.standing.strike(peer, fault, this.#clock.monotonicMs(), reason);
  }

  #struck({ peer, fault, reason = reasons[fault], level }: Strike): void {
    const { strikes } = this.standing.summary(peer);
    this.#log("warn", "peer-misbehaves", { peer, name: this.#nameOf(peer), reason, strikes, standing: level });
  }

  #nameOf(peer: PeerName): string | undefined {
    const swarm = this.#swarm();
    return swarm?.peers().find((each) => each.peer === peer)?.name ?? swarm?.directory.labels(peer)?.name;
  }
}

const reasons: Readonly<Record<Fault, string>> = {
  corrupt: "it gave an item that is not what it should be",
  claim: "it has not given what it claims to have",
  silent: "it does not answer",
  broken: "it broke the protocol",
};
