import type { PeerName } from "../protocol/directory.ts";
import type { PayloadFetchEvent } from "../protocol/payload-fetch.ts";
import type { TrafficClass } from "../protocol/politeness.ts";
import type { Standing } from "../protocol/standing.ts";
import type { Clock, Join, StagedTree, Swarm } from "./ports.ts";

/** What joins of one payload work with. */
export interface MembershipParts {
  readonly target: StagedTree;
  readonly swarm: Swarm | undefined;
  readonly standing: Standing;
  readonly clock: Clock;
  /** Whether a peer that has all of it is asked without a join (DESIGN section 6, the short path). */
  readonly isSmall: boolean;
  readonly post: (event: PayloadFetchEvent) => void;
  /** What peers are told of why. */
  readonly traffic: () => TrafficClass | undefined;
  readonly onPiece: (peer: PeerName, item: number, bytes: Uint8Array<ArrayBuffer>) => void;
}

/** A peer that is asked, or was asked, what it has of the payload. */
interface Membership {
  /** Undefined until it has answered. */
  join: Join | undefined;
  /** Set where it is waited for after the end. */
  overdue: NodeJS.Timeout | undefined;
}

/** One payload as it is joined at peers: at each of them once at a time. */
export class Memberships {
  readonly #parts: MembershipParts;
  readonly #members = new Map<PeerName, Membership>();
  #isOver = false;

  constructor(parts: MembershipParts) {
    this.#parts = parts;
  }

  /** Asks a peer what it has; `left` is posted when nothing comes of it. */
  join(peer: PeerName, isHolder: boolean): void {
    const { swarm, standing, clock, isSmall, post } = this.#parts;
    if (this.#isOver || this.#members.has(peer)) return;
    if (swarm === undefined || standing.level(peer, clock.monotonicMs()) !== "good") {
      return post({ kind: "left", source: peer });
    }
    const member: Membership = { join: undefined, overdue: undefined };
    this.#members.set(peer, member);
    if (isHolder && isSmall) this.#take(swarm, peer, member);
    else void this.#ask(swarm, peer, member);
  }

  /** A peer counts for nothing any more; nothing is posted. */
  leave(peer: PeerName): void {
    const member = this.#members.get(peer);
    this.#members.delete(peer);
    member?.join?.leave();
  }

  /** Answers whether the peer could be asked. */
  request(peer: PeerName, items: readonly number[]): boolean {
    const join = this.#members.get(peer)?.join;
    join?.request(items);
    return join !== undefined;
  }

  cancel(peer: PeerName, items: readonly number[]): void {
    this.#members.get(peer)?.join?.cancel(items);
  }

  /**
   * Leaves everybody. `owing`: who has given nothing of what it claims, and by when it should. Whoever never gave us anything
   * at all is waited for so long: nobody could tell it from one that is slow, and a fetch may be over soon without it.
   */
  close(owing: ReadonlyMap<PeerName, number>): void {
    this.#isOver = true;
    for (const [peer, member] of [...this.#members]) {
      const untilMs = owing.get(peer);
      const isStranger = this.#parts.standing.summary(peer).bytesFrom === 0;
      if (untilMs === undefined || !isStranger || member.join === undefined) this.leave(peer);
      else this.#await(peer, member, untilMs);
    }
  }

  #await(peer: PeerName, member: Membership, untilMs: number): void {
    const waitMs = Math.max(0, untilMs - this.#parts.clock.monotonicMs());
    member.overdue = setTimeout(() => this.#settle(peer, member, "claim"), waitMs).unref();
  }

  /** Whoever was waited for has said something, is gone, or has let its time pass. */
  #settle(peer: PeerName, member: Membership, fault?: "claim"): void {
    const { standing, clock } = this.#parts;
    if (member.overdue === undefined || this.#members.get(peer) !== member) return;
    clearTimeout(member.overdue);
    if (fault !== undefined) standing.strike(peer, fault, clock.monotonicMs());
    this.leave(peer);
  }

  #take(swarm: Swarm, peer: PeerName, member: Membership): void {
    const { payload, index } = this.#parts.target;
    member.join = swarm.take(peer, payload, index.items, this.#listener(peer, member), this.#parts.traffic());
    this.#parts.post({ kind: "joined", source: peer, have: "all" });
  }

  /** Never rejects. */
  async #ask(swarm: Swarm, peer: PeerName, member: Membership): Promise<void> {
    const { payload, index } = this.#parts.target;
    const isCurrent = () => !this.#isOver && this.#members.get(peer) === member;
    try {
      const join = await swarm.join(peer, payload, index.items, this.#listener(peer, member), this.#parts.traffic());
      this.#parts.standing.answered(peer);
      if (!isCurrent()) return join?.leave();
      if (join === undefined) return this.#lose(peer, member);
      member.join = join;
      this.#parts.post({ kind: "joined", source: peer, have: join.have });
    } catch {
      this.#lose(peer, member);
    }
  }

  #listener(source: PeerName, member: Membership) {
    const { onPiece } = this.#parts;
    const isCurrent = () => !this.#isOver && this.#members.get(source) === member;
    const post = (event: PayloadFetchEvent) => {
      if (isCurrent()) this.#parts.post(event);
      else if (event.kind !== "has") this.#settle(source, member);
    };
    return {
      have: (items: readonly number[]) => post({ kind: "has", source, items }),
      piece: (item: number, bytes: Uint8Array<ArrayBuffer>) => {
        if (isCurrent()) onPiece(source, item, bytes);
        else this.#settle(source, member);
      },
      busy: (items: readonly number[], retryAfterMs: number) => post({ kind: "busy", source, items, retryAfterMs }),
      gone: (items: readonly number[]) => {
        if (items.length === 0) this.#lose(source, member);
        else if (isCurrent()) this.#parts.post({ kind: "missing", source, items });
        else this.#settle(source, member, "claim");
      },
      ended: () => this.#lose(source, member),
    };
  }

  #lose(peer: PeerName, member: Membership): void {
    this.#settle(peer, member);
    if (this.#isOver || this.#members.get(peer) !== member) return;
    this.leave(peer);
    this.#parts.post({ kind: "left", source: peer });
  }
}
