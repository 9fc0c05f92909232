import type { PeerName } from "./directory.ts";

/** A lease that a wanter has, and how many of its items have come so far, from wherever. */
export interface LeaseReport {
  readonly group: number;
  readonly arrived: number;
}

/** A group that a wanter may fetch for its site: from the origin, or only from peers of another site that have it. */
export interface GrantedLease {
  readonly group: number;
  readonly from: "origin" | "far";
}

/** What a wanter tells its registrar, every second or two and whenever a lease is through. */
export interface RegisterQuestion {
  /** Of the payload: everyone cuts it the same way, so a registrar need not know it. */
  readonly groups: number;
  /** Its site: beyond a site's line every group is brought once, whoever is asked for it there. */
  readonly site: string;
  /** Bits by group, eight a byte with bit 0 lowest: those of which every item is here. */
  readonly held: Uint8Array;
  readonly leases: readonly LeaseReport[];
  /** How many leases more it could use now; `isFarOnly`: of what another site has, since it may not read the origin. */
  readonly wants: number;
  readonly isFarOnly: boolean;
  /** Whether it can fetch chunks: its segments are here, or under its lease. */
  readonly isReady: boolean;
  /** Groups, a few, of which an item is with nobody that it knows. */
  readonly lacking: readonly number[];
  /** Whether it could use more peers. */
  readonly seeks: boolean;
}

export interface RegisterAnswer {
  /** Others who want or hold the payload, of mixed completeness. */
  readonly peers: readonly PeerName[];
  /** The groups that the asker may fetch for its site, those that it reported included. */
  readonly leases: readonly GrantedLease[];
  /** How long a lease goes on without an item. */
  readonly leaseMs: number;
  /** When to ask again, if nothing else calls for it. */
  readonly retryAfterMs: number;
}

/** Leases of one wanter at a time (DESIGN section 7, rule 2). */
export const leasesPerWanterMax = 2;
/** Groups named as lacking in one question. */
export const lackingMax = 8;
/** Peers in one answer, at the most: some of each site, and who holds what is lacking. */
const peersGivenMax = 320;
/** No registrar tells to wait longer than this. */
export const retryMsMax = 5_000;
const leaseMsMin = 500;
const leaseMsMax = 30_000;

/** Why no honest registrar gives this answer to that question; undefined where one may. */
export function answerFault(answer: RegisterAnswer, question: RegisterQuestion, asker: PeerName): string | undefined {
  const { peers, leases, leaseMs, retryAfterMs } = answer;
  if (leases.some(({ group }) => group >= question.groups)) return "as a registrar it leases what there is not";
  if (leases.length > question.leases.length + question.wants)
    return "as a registrar it gives leases that nobody asked for";
  if (peers.includes(asker)) return "as a registrar it names those who ask as their own peers";
  if (peers.length > peersGivenMax) return "as a registrar it names too many peers";
  if (leaseMs < leaseMsMin || leaseMs > leaseMsMax || retryAfterMs > retryMsMax) {
    return "as a registrar it says times that none says";
  }
  return undefined;
}

/** Whether an answer is of no use to somebody who lacks something: neither a lease, nor anybody who may have one. */
export function leadsNowhere({ peers, leases }: RegisterAnswer, question: RegisterQuestion): boolean {
  const { wants, isFarOnly, seeks, lacking } = question;
  return wants > 0 && !isFarOnly && seeks && lacking.length > 0 && leases.length === 0 && peers.length === 0;
}
