import type { PeerName } from "./directory.ts";

/** A question that a registrar has not answered yet. */
interface Asked {
  readonly from: PeerName;
  readonly atMs: number;
  /** How long its answer is waited for. */
  readonly untilMs: number;
  /** Not 0: how much too late this wanter woke before. */
  readonly lateMs: number;
}

/**
 * Which registrar is asked: the first that answers. One that is silent is left for a while, and so is one that leads
 * nowhere; one that was of no use at all comes after all others from then on.
 */
export class RegistrarChoice {
  readonly #silenceMs: number;
  #members: readonly PeerName[] = [];
  readonly #silentUntilMs = new Map<PeerName, number>();
  /** Whoever has answered at some time. */
  readonly #known = new Set<PeerName>();
  /** Answered, and named neither a peer nor a lease. */
  readonly #useless = new Set<PeerName>();
  /** Led nowhere since something last came. */
  readonly #vain = new Set<PeerName>();
  #asked: Asked | undefined;
  /** Asked, and too late by now: their answers may yet be of use. */
  readonly #late = new Map<PeerName, number>();
  /** Whose answer was the last, when it came, and since when this one has been asked alone. */
  #adviser: PeerName | undefined;
  #answeredMs = Number.NEGATIVE_INFINITY;
  #advisedSinceMs = 0;
  /** How long answers took of late. */
  #tookMs = 0;

  /** `silenceMs`: how long one that never answered is waited for. */
  constructor(silenceMs: number) {
    this.#silenceMs = silenceMs;
  }

  /** The one that answered last, and was not left since. */
  get adviser(): PeerName | undefined {
    return this.#adviser;
  }

  get advisedSinceMs(): number {
    return this.#advisedSinceMs;
  }

  get isAsking(): boolean {
    return this.#asked !== undefined;
  }

  /** When the question that is open has taken too long. */
  get awaitedUntilMs(): number {
    return this.#asked?.untilMs ?? Number.POSITIVE_INFINITY;
  }

  get areNone(): boolean {
    return this.#members.length === 0;
  }

  /** Whether all of them led nowhere since something last came. */
  get areVain(): boolean {
    return this.#members.length > 0 && this.#members.every((peer) => this.#vain.has(peer));
  }

  /** The registrars are these, the first first. Answers whether another one comes first now. */
  are(members: readonly PeerName[]): boolean {
    const isOther = this.#members[0] !== members[0];
    this.#members = members;
    if (this.#asked !== undefined && !members.includes(this.#asked.from)) this.#asked = undefined;
    for (const peer of this.#late.keys()) if (!members.includes(peer)) this.#late.delete(peer);
    return isOther;
  }

  /** The one to ask now; otherwise when one may be asked again. */
  next(nowMs: number): PeerName | number {
    const untilMs = (peer: PeerName) => this.#silentUntilMs.get(peer) ?? Number.NEGATIVE_INFINITY;
    const there = this.#members.filter((peer) => nowMs >= untilMs(peer));
    const untried = there.filter((peer) => !this.#vain.has(peer));
    const isOfUse = (peer: PeerName) => !this.#useless.has(peer);
    return (
      untried.find(isOfUse) ?? untried[0] ?? there.find(isOfUse) ?? there[0] ?? Math.min(...this.#members.map(untilMs))
    );
  }

  ask(to: PeerName, nowMs: number): void {
    // The end of one that has answered before is heard of, since its stream ends.
    const leastMs = this.#known.has(to) ? knownSilenceMs : this.#silenceMs;
    const patienceMs = Math.min(patienceMsMax, Math.max(leastMs, patience * this.#tookMs));
    this.#asked = { from: to, atMs: nowMs, untilMs: nowMs + patienceMs, lateMs: 0 };
  }

  /** An answer has come. Says when its question was asked; undefined for one that does not count. */
  answered(from: PeerName, nowMs: number): number | undefined {
    const askedMs = this.#asked?.from === from ? this.#asked.atMs : this.#late.get(from);
    this.#late.delete(from);
    if (askedMs === undefined || !this.#counts(from, askedMs)) return undefined;
    this.#tookMs = Math.max(nowMs - askedMs, tookKept * this.#tookMs);
    this.#asked = undefined;
    this.#known.add(from);
    this.#silentUntilMs.delete(from);
    if (this.#adviser !== from) this.#advisedSinceMs = nowMs;
    this.#adviser = from;
    this.#answeredMs = nowMs;
    return askedMs;
  }

  /** It cannot be reached. Answers whether it was the one that is being asked: the others have been given up already. */
  unreachable(from: PeerName, nowMs: number): boolean {
    if (this.#asked?.from !== from) return false;
    this.#asked = undefined;
    this.#silentUntilMs.set(from, nowMs + silentForMs);
    return true;
  }

  /** Whether the one that is being asked has been silent for too long, and how late that is found; it is left for a while. */
  hasFallenSilent(nowMs: number): { readonly lateMs: number } | undefined {
    const asked = this.#asked;
    if (asked === undefined || nowMs < asked.untilMs) return undefined;
    if (asked.lateMs === 0 && nowMs >= asked.untilMs + lagMs) {
      // Whoever wakes late has not heard yet what has come meanwhile.
      this.#asked = { ...asked, untilMs: nowMs + 1, lateMs: nowMs - asked.untilMs };
      return undefined;
    }
    this.#late.set(asked.from, asked.atMs);
    this.#silentUntilMs.set(asked.from, nowMs + silentForMs);
    this.#asked = undefined;
    return { lateMs: Math.max(asked.lateMs, nowMs - asked.untilMs) };
  }

  /** Nothing comes by what the adviser says: another one is asked. */
  leave(isUseless: boolean, nowMs: number): void {
    const peer = this.#adviser;
    if (peer === undefined) return;
    this.#silentUntilMs.set(peer, nowMs + silentForMs);
    this.#vain.add(peer);
    if (isUseless) this.#useless.add(peer);
    if (this.#asked?.from === peer) this.#asked = undefined;
    this.#adviser = undefined;
  }

  /** Something came: whoever led nowhere may have been right to wait. */
  progress(): void {
    this.#vain.clear();
  }

  /** A late answer counts unless another registrar has answered since, and comes before this one. */
  #counts(from: PeerName, askedMs: number): boolean {
    if (this.#asked?.from === from || askedMs >= this.#answeredMs || this.#adviser === undefined) return true;
    const place = this.#members.indexOf(from);
    return place >= 0 && place <= this.#members.indexOf(this.#adviser);
  }
}

/** A registrar that was silent, or led nowhere, is tried again after this time. */
const silentForMs = 5_000;
/** A registrar on a busy machine is borne with: so many times what its answers took, at most so long. */
const patience = 3;
const patienceMsMax = 6_000;
const knownSilenceMs = 1_000;
const tookKept = 0.8;
/** Whoever wakes so much too late is busy itself. */
const lagMs = 100;
