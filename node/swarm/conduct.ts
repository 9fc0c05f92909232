import type { PeerName } from "../../protocol/directory.ts";
import type { Fault } from "../../protocol/standing.ts";
import { Allowance } from "./allowance.ts";

export interface ConductParts {
  /** A peer did what no honest one does; without a fault it is only said. */
  readonly onFault: (peer: PeerName, fault: Fault | undefined, reason: string) => void;
  /** A peer goes on with it: it is to go, and not to come back for a while. */
  readonly onOutlaw: (peer: PeerName, reason: string) => void;
}

/** How the peers behave: what each has broken, how often it comes, how many streams it opens. */
export class Conduct {
  readonly #parts: ConductParts;
  readonly #peers = new Map<PeerName, Behaviour>();

  constructor(parts: ConductParts) {
    this.#parts = parts;
  }

  /** A peer broke the protocol. */
  broke(peer: PeerName, reason: string): void {
    this.#breach(peer, "broken", reason, performance.now());
  }

  /** A peer does not read what it asked for. It may be suspended, and all its streams stop at once: that is one pause. */
  unread(peer: PeerName, reason: string): void {
    const nowMs = performance.now();
    const behaviour = this.#of(peer);
    if (nowMs < behaviour.pausedUntilMs) return;
    behaviour.pausedUntilMs = nowMs + pauseMs;
    this.#breach(peer, "silent", reason, nowMs);
  }

  #breach(peer: PeerName, fault: Fault, reason: string, nowMs: number): void {
    const behaviour = this.#of(peer);
    if (nowMs < behaviour.outlawUntilMs) return;
    this.#parts.onFault(peer, fault, reason);
    if (behaviour.breaches.take(1, nowMs)) return;
    behaviour.outlawUntilMs = nowMs + outlawMs;
    this.#parts.onOutlaw(peer, reason);
  }

  /** A peer did something that is a fault of that kind, or only to be told. */
  blame(peer: PeerName, fault: Fault | undefined, reason: string): void {
    if (fault === "broken") this.broke(peer, reason);
    else this.#parts.onFault(peer, fault, reason);
  }

  /** A peer wants to be let in. Answers why it must not be. */
  refusal(peer: PeerName): string | undefined {
    const nowMs = performance.now();
    const behaviour = this.#of(peer);
    if (nowMs < behaviour.outlawUntilMs) return "it broke the protocol a moment ago";
    if (!behaviour.comings.take(1, nowMs)) {
      if (behaviour.mayComeAgain) this.#parts.onFault(peer, undefined, restless);
      behaviour.mayComeAgain = false;
    } else behaviour.mayComeAgain = true;
    return behaviour.comingsBorne.take(1, nowMs) ? undefined : restless;
  }

  /** A peer has opened a stream beside `open` others of its protocol. Answers whether it may. */
  mayOpen(peer: PeerName, open: number, streamsMax: number): boolean {
    const nowMs = performance.now();
    const { opened, surplus } = this.#of(peer);
    if (!opened.take(1, nowMs)) {
      this.broke(peer, "it opens streams without end");
      return false;
    }
    if (open < streamsMax) return true;
    // One that it has just closed may still be open here.
    if (!surplus.take(1, nowMs)) this.broke(peer, "it opens more streams at a time than a protocol has");
    return false;
  }

  #of(peer: PeerName): Behaviour {
    const behaviour = this.#peers.get(peer) ?? newBehaviour();
    // The oldest goes first, so that strangers who come and go cannot fill the memory.
    this.#peers.delete(peer);
    this.#peers.set(peer, behaviour);
    if (this.#peers.size > peersMax) this.#peers.delete(this.#peers.keys().next().value!);
    return behaviour;
  }
}

interface Behaviour {
  readonly breaches: Allowance;
  readonly comings: Allowance;
  readonly comingsBorne: Allowance;
  readonly opened: Allowance;
  readonly surplus: Allowance;
  /** It was not too restless when it came last. */
  mayComeAgain: boolean;
  outlawUntilMs: number;
  pausedUntilMs: number;
}

function newBehaviour(): Behaviour {
  return {
    breaches: new Allowance(breachesBurst, 1 / 60),
    comings: new Allowance(comingsBurst, 1 / 10),
    comingsBorne: new Allowance(comingsBorneBurst, 1 / 5),
    opened: new Allowance(openedBurst, openedPerSecond),
    surplus: new Allowance(surplusBurst, 1 / 10),
    mayComeAgain: true,
    outlawUntilMs: Number.NEGATIVE_INFINITY,
    pausedUntilMs: Number.NEGATIVE_INFINITY,
  };
}

const restless = "it comes and goes";
/** Each costs it the stream; a neighbour with a fault of its own has a minute to be repaired. */
const breachesBurst = 5;
const outlawMs = 60_000;
/** Streams that stop within the time after which they are given up have stopped together. */
const pauseMs = 5_000;
/** A node that is restarted a few times is no nuisance; one that comes every 2 s is named after 12 s. */
const comingsBurst = 5;
/** It is let in all the same for a while: restarting over and over may be all that it can do. */
const comingsBorneBurst = 60;
/** A stream for each record that is looked for: the busiest node asks for some tens a second. */
const openedBurst = 1_000;
const openedPerSecond = 200;
const surplusBurst = 8;
const peersMax = 10_000;
