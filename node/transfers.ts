import type { Holding as Held } from "../protocol/announcement.ts";
import type { PeerName } from "../protocol/directory.ts";
import { UnreachableError } from "../protocol/errors.ts";
import type { PayloadId } from "../protocol/hash.ts";
import type { Random } from "../protocol/random.ts";
import {
  answerFault,
  leadsNowhere,
  type RegisterAnswer,
  type RegisterQuestion,
} from "../protocol/register-messages.ts";
import { registrarsFor } from "../protocol/registrars.ts";
import type { Standing } from "../protocol/standing.ts";
import type { Distance } from "../protocol/transfer.ts";
import type { TransferLimits } from "../protocol/transfer-limits.ts";
import type { Clock, Demand, StagedTree, Swarm, SwarmHandlers } from "./ports.ts";
import { registrarOf } from "./registrar-of.ts";
import { Seeds } from "./seeds.ts";
import { type BytesBySource, TransferDrive, type TransferParts } from "./transfer-drive.ts";

export interface TransfersParts {
  readonly swarm: () => Swarm | undefined;
  readonly standing: Standing;
  readonly clock: Clock;
  readonly random: Random;
  /** This node's site; empty where it has no name. */
  readonly site: string;
  readonly distanceTo: (peer: PeerName) => Distance;
  /** Peers that say that they have all of a payload, connected or not. */
  readonly holdersFor: (payload: PayloadId) => readonly PeerName[];
  /** A peer did what no honest registrar or wanter does. */
  readonly misbehaved: SwarmHandlers["misbehaved"];
  /** Shorter ones for tests. */
  readonly limits?: TransferLimits;
}

/** What one transfer is to do, and with whom. */
export type TransferOrder = Pick<
  TransferParts,
  "swarm" | "origins" | "signal" | "what" | "onProgress" | "policy" | "holdsSlot" | "isHeldBack" | "pace" | "traffic"
>;

/**
 * All payloads on their way in, and who has joined what: where the swarm's questions about payloads are answered. It is a
 * registrar, too, for those for which its rendezvous hash is high.
 */
export class Transfers {
  readonly #parts: TransfersParts;
  readonly #drives = new Map<PayloadId, TransferDrive>();
  readonly #seeds: Seeds;
  readonly #registrar: ReturnType<typeof registrarOf>;
  #looking: NodeJS.Timeout | undefined;

  constructor(parts: TransfersParts) {
    this.#parts = parts;
    this.#seeds = new Seeds(parts.random, () => parts.clock.monotonicMs());
    const isFirstFor = (payload: PayloadId) => {
      const swarm = parts.swarm();
      return swarm === undefined || this.#registrarsFor(payload, swarm)[0] === swarm.id;
    };
    // It may be the origin that is slow: no strike, but it is said.
    const onIdle = (peer: PeerName) => {
      if (peer !== parts.swarm()?.id) parts.misbehaved(peer, undefined, "it took a lease and brought nothing");
    };
    this.#registrar = registrarOf(parts.clock, parts.random, { isFirstFor, onIdle });
  }

  /** Brings all items of a payload in, one transfer of it at a time. @throws what `TransferDrive.run` throws. */
  async run(target: StagedTree, order: TransferOrder): Promise<BytesBySource> {
    const { standing, clock, random, site, distanceTo, limits, holdersFor } = this.#parts;
    const { payload } = target;
    const drive = new TransferDrive({
      ...{ ...order, target, standing, clock, random, site, distanceTo },
      register: (to, question) => this.#register(to, payload, question),
      holders: () => holdersFor(payload),
      ...(limits === undefined ? {} : { limits }),
    });
    this.#drives.set(payload, drive);
    this.#looking ??= setInterval(() => this.#look(), lookMs).unref();
    try {
      for (const peer of this.#seeds.release(payload))
        if (!drive.mayJoin(peer)) this.#parts.swarm()?.part(peer, payload);
      return await drive.run(holdersFor(payload), this.#registrarsFor(payload, order.swarm));
    } finally {
      // It may only be slow: no strike, but it is said.
      for (const peer of drive.owing)
        this.#parts.misbehaved(peer, undefined, "it has not given what it claims to have");
      this.#drives.delete(payload);
      for (const peer of drive.joiners) this.mayJoin(peer, payload);
      if (this.#drives.size === 0) {
        clearInterval(this.#looking);
        this.#looking = undefined;
      }
    }
  }

  /** A peer has been let in. */
  peerReady(peer: PeerName): void {
    for (const payload of this.#drives.keys()) this.#consider(peer, payload);
    this.#look();
  }

  /** A peer has gone. */
  peerLeft(peer: PeerName): void {
    for (const drive of this.#drives.values()) drive.left(peer);
    this.#registrar.left(peer);
    this.#look();
  }

  /** A peer announced that it holds these as well; "many": more than are named. */
  learnt(peer: PeerName, added: readonly Held[] | "many"): void {
    if (added !== "many") for (const [, payload] of added) this.#drives.get(payload)?.offer([peer], "holders");
    else for (const payload of this.#drives.keys()) this.#consider(peer, payload);
  }

  /** A peer asked for a payload, so it will soon have parts of it. */
  wanted(peer: PeerName, payload: PayloadId): void {
    this.#drives.get(payload)?.offer([peer]);
  }

  registered(...[peer, payload, question]: Parameters<SwarmHandlers["registered"]>): RegisterAnswer | undefined {
    return this.#registrar.registered(peer, payload, question);
  }

  mayJoin(peer: PeerName, payload: PayloadId): boolean {
    return this.#drives.get(payload)?.mayJoin(peer) ?? this.#seeds.mayJoin(peer, payload);
  }

  unjoined(peer: PeerName, payload: PayloadId): void {
    this.#drives.get(payload)?.unjoined(peer);
    this.#seeds.unjoined(peer, payload);
  }

  demand(payload: PayloadId): Demand | undefined {
    return this.#drives.get(payload)?.demand;
  }

  #consider(peer: PeerName, payload: PayloadId): void {
    const isHolder = this.#parts.swarm()?.directory.holdersOf(payload).includes(peer) === true;
    this.#drives.get(payload)?.offer([peer], isHolder ? "holders" : "likely");
  }

  /** Members come and go, and with them registrars. */
  #look(): void {
    const swarm = this.#parts.swarm();
    for (const [payload, drive] of this.#drives) {
      if (drive.isShared) drive.registrarsAre(this.#registrarsFor(payload, swarm));
    }
  }

  /** None where nobody else is there. */
  #registrarsFor(payload: PayloadId, swarm: Swarm | undefined): PeerName[] {
    if (swarm === undefined) return [];
    const { clock, standing } = this.#parts;
    const nowMs = clock.wallMs();
    const seen = new Map([[swarm.id, nowMs]]);
    // Of some that are connected nothing has been heard yet.
    for (const { peer } of swarm.peers()) seen.set(peer, nowMs);
    for (const { name, upSinceMs } of swarm.members()) seen.set(name, upSinceMs);
    if (seen.size === 1) return [];
    // What somebody says who gave wrong bytes, or led others nowhere that are there, is not asked for.
    const isGood = (peer: PeerName) => standing.level(peer, clock.monotonicMs()) === "good";
    const members = [...seen].filter(([name]) => isGood(name)).map(([name, upSinceMs]) => ({ name, upSinceMs }));
    return registrarsFor(payload, members, nowMs);
  }

  /** @throws {UnreachableError} */
  async #register(to: PeerName, payload: PayloadId, question: RegisterQuestion): Promise<RegisterAnswer> {
    const swarm = this.#parts.swarm();
    if (swarm === undefined) throw new UnreachableError("there is no network");
    if (to !== swarm.id) return this.#judged(to, question, await swarm.register(to, payload, question), swarm);
    const answer = this.registered(to, payload, question);
    if (answer === undefined) throw new UnreachableError("this node has no answer to itself");
    return answer;
  }

  /** An answer that helps, and that an honest registrar may give. @throws {UnreachableError}: another one is asked. */
  #judged(from: PeerName, question: RegisterQuestion, answer: RegisterAnswer, swarm: Swarm): RegisterAnswer {
    const { misbehaved } = this.#parts;
    const fault = answerFault(answer, question, swarm.id);
    if (fault !== undefined) {
      misbehaved(from, "broken", fault);
      throw new UnreachableError(`the registrar ${from} is no good: ${fault}`);
    }
    const isLost = leadsNowhere(answer, question) || this.#isUnknown(answer.peers, swarm);
    if (!isLost) return answer;
    const reason = "as a registrar it leads nowhere";
    misbehaved(from, undefined, reason);
    throw new UnreachableError(`the registrar ${from} is no good: ${reason}`);
  }

  /** Whether of many peers nobody is known here: views differ, but not so much. */
  #isUnknown(peers: readonly PeerName[], swarm: Swarm): boolean {
    if (peers.length < unknownMin) return false;
    const here = new Set(swarm.peers().map(({ peer }) => peer));
    return peers.every((peer) => !here.has(peer) && swarm.directory.labels(peer) === undefined);
  }
}

/** Fewer than these may all have come a moment ago. */
const unknownMin = 8;
/** Five thousand members are looked through in some milliseconds. */
const lookMs = 1_000;
