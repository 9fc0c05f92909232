import type { VariantHash } from "./hash.ts";
import { compareNamings, type Naming } from "./keep-index.ts";
import { diskHighWatermark, diskLowWatermark, evictionInodesMin, highWatermark, lowWatermark } from "./limits.ts";

/** A variant on this disk, as far as it matters for what goes. */
export interface HeldFacts {
  readonly variant: VariantHash;
  readonly bytes: number;
  readonly files: number;
  /** When Rez, or we, used it last, milliseconds since 1970; undefined where nobody knows. */
  readonly lastUsedMs: number | undefined;
  /** Other machines of the network that hold it whole. */
  readonly replicas: number;
  /** The most important naming by a list, as `KeepIndex.best` says. */
  readonly naming: Naming | undefined;
  /** Why it must not be touched, whatever the lists say. */
  readonly hold?: Hold | undefined;
}

export type Hold =
  /** A process runs from it, or said that it will. */
  | { readonly kind: "leased"; readonly by: string }
  /** An admin of this machine pinned it. */
  | { readonly kind: "pinned" }
  /** A fetch or a repair of it is under way. */
  | { readonly kind: "busy" }
  /** A program runs from it that has no lease. */
  | { readonly kind: "running"; readonly by: string };

/** CONTRACTS, `cache.*`. */
export interface EvictionLimits {
  readonly maxBytes: number;
  readonly maxVariants: number | undefined;
  readonly maxAgeMs: number | undefined;
  readonly freeBytesMin: number;
  readonly pinnedBytesMax: number;
  readonly minIdleMs: number;
}

/** How full it is now. */
export interface Fullness {
  /** All that counts against `maxBytes`: what is held, what is on its way in, what room is reserved for. */
  readonly usedBytes: number;
  /** Of the disk, without what is reserved and not yet written. */
  readonly freeBytes: number;
  /** Undefined where the filesystem does not count inodes. */
  readonly freeInodes: number | undefined;
  /** Variants on their way in, which count against `maxVariants`. */
  readonly comingVariants: number;
}

export type EvictionGoal =
  /** Within the limits, and past a high watermark down to the low one; `toLow`: down to the low one in any case. */
  | { readonly kind: "tidy"; readonly toLow: boolean }
  /** Room for one more variant: what it adds to the cache, and what it takes on the disk. */
  | {
      readonly kind: "room";
      readonly bytes: number;
      readonly diskBytes: number;
      readonly inodes: number;
      /** 0 where it takes the place of another revision of itself. */
      readonly variants: 0 | 1;
      readonly naming: Naming | undefined;
    };

export interface EvictionInput {
  readonly held: readonly HeldFacts[];
  readonly limits: EvictionLimits;
  readonly fullness: Fullness;
  readonly goal: EvictionGoal;
  readonly wallMs: number;
}

/** What becomes of one variant, and why. */
export interface PlanLine {
  readonly held: HeldFacts;
  readonly goes: boolean;
  readonly reason: Reason;
}

export type Reason =
  /** Never touched. */
  | { readonly kind: "held"; readonly hold: Hold }
  /** Used within `minIdle`. */
  | { readonly kind: "recent" }
  /** A list in force names it. */
  | { readonly kind: "listed"; readonly naming: Naming }
  /** A list names it, but lists may keep `pinnedBytesMax` only, and more important variants have taken that. */
  | { readonly kind: "beyondPinned"; readonly naming: Naming }
  /** No list in force names it. */
  | { readonly kind: "unlisted"; readonly expired: Naming | undefined }
  /** Not used for longer than `maxAge`. */
  | { readonly kind: "aged" };

/** How much of each is needed: bytes of the cache and of the disk, inodes, and places among `maxVariants`. */
export interface Amounts {
  readonly bytes: number;
  readonly diskBytes: number;
  readonly inodes: number;
  readonly variants: number;
}

export interface EvictionPlan {
  /** One for each variant: first what goes, in that order, then what would go next if it must, then what never does. */
  readonly lines: readonly PlanLine[];
  readonly freedBytes: number;
  /** What is missing still once all has gone that may; undefined where nothing is. */
  readonly missing: Amounts | undefined;
}

/**
 * What has to go, in which order, and why (DESIGN section 8, P5). Leased, pinned and recently used variants never do;
 * then comes what no list names, with copies elsewhere first and the longest unused first; then what is listed, in
 * reverse order of importance and under the hard limits only, last copies last. For room either enough goes, or nothing.
 */
export function planEviction(input: EvictionInput): EvictionPlan {
  const candidates = classify(input);
  candidates.sort(compareCandidates);
  const missing = shortages(input);
  const comingNaming = forceOfComing(input);
  let freedBytes = 0;
  for (const candidate of candidates) {
    const { held } = candidate;
    const short = candidate.tier > lastSoftTier ? missing.hard : missing.soft;
    if (candidate.tier === never) break;
    candidate.goes = (candidate.isAged || helps(held, short)) && mayGoFor(candidate, input.goal, comingNaming);
    if (!candidate.goes) continue;
    freedBytes += held.bytes;
    take(missing.soft, held);
    take(missing.hard, held);
  }
  const isMissing = isShort(missing.hard);
  if (isMissing && input.goal.kind === "room") {
    for (const candidate of candidates) candidate.goes = false;
    freedBytes = 0;
  }
  const lines = [...candidates.filter(({ goes }) => goes), ...candidates.filter(({ goes }) => !goes)];
  return { lines: lines.map(lineOf), freedBytes, missing: isMissing ? onlyMissing(missing.hard) : undefined };
}

/**
 * What `planEviction` would say of one variant, where nothing is short, so that no other one matters but for the bytes
 * that lists may keep: of the others neither use nor replicas are looked at. Undefined where only a plan can tell; `goes`
 * is what one has told.
 */
export function explainHeld(held: HeldFacts, input: EvictionInput, goes?: boolean): PlanLine | undefined {
  const { soft, hard } = shortages(input);
  if (goes === undefined && (isShort(soft) || isShort(hard))) return undefined;
  const isBeyond = isListed(held) && bytesUpTo(held, input.held) > input.limits.pinnedBytesMax;
  const candidate = candidateOf(held, input, isBeyond ? new Set([held]) : new Set());
  return lineOf({ ...candidate, goes: candidate.isAged || (goes === true && candidate.tier !== never) });
}

/** Whether lists have force for one that is to come: beside what is pinned here, and listed and as important as it. */
export function listsMayKeep(
  coming: { readonly bytes: number; readonly naming: Naming },
  held: readonly Pick<HeldFacts, "bytes" | "naming" | "hold">[],
  pinnedBytesMax: number,
): boolean {
  let { bytes } = coming;
  for (const { naming, hold, bytes: more } of held) {
    const comesFirst = naming?.isExpired === false && compareNamings(naming, coming.naming) <= 0;
    if (hold?.kind === "pinned" || comesFirst) bytes += more;
  }
  return bytes <= pinnedBytesMax;
}

interface Candidate {
  readonly held: HeldFacts;
  readonly tier: number;
  readonly reason: Reason;
  /** Goes whether or not room is needed. */
  readonly isAged: boolean;
  /** How long it was not used, in steps that double: within a step copies elsewhere count more. */
  readonly idleStep: number;
  goes: boolean;
}

/** Tiers, in the order in which they go. The first three may go at a watermark, the next two under a hard limit only. */
const [copied, onlyHere, beyondPinned, listed, lastListed, never] = [0, 1, 2, 3, 4, 5];
const lastSoftTier = beyondPinned;

function classify(input: EvictionInput): Candidate[] {
  const beyond = findBeyondPinned(input.held, input.limits.pinnedBytesMax);
  return input.held.map((held) => candidateOf(held, input, beyond));
}

function candidateOf(held: HeldFacts, { limits, goal, wallMs }: EvictionInput, beyond: Beyond): Candidate {
  const { naming, hold, lastUsedMs = Number.NEGATIVE_INFINITY } = held;
  const idleMs = wallMs - lastUsedMs;
  const base = { held, isAged: false, idleStep: Math.floor(Math.log2(Math.max(1, idleMs / dayMs))), goes: false };
  if (hold !== undefined) return { ...base, tier: never, reason: { kind: "held", hold } };
  if (idleMs < limits.minIdleMs) return { ...base, tier: never, reason: { kind: "recent" } };
  if (naming === undefined || naming.isExpired) {
    // What a list has named until it expired goes when room is needed, and never by its age alone.
    const isAged =
      goal.kind === "tidy" && naming === undefined && idleMs > (limits.maxAgeMs ?? Number.POSITIVE_INFINITY);
    const reason: Reason = isAged ? { kind: "aged" } : { kind: "unlisted", expired: naming };
    return { ...base, tier: held.replicas > 0 ? copied : onlyHere, isAged, reason };
  }
  const isBeyond = beyond.has(held);
  const tier = held.replicas === 0 ? lastListed : isBeyond ? beyondPinned : listed;
  return { ...base, tier, reason: { kind: isBeyond ? "beyondPinned" : "listed", naming } };
}

type Beyond = ReadonlySet<HeldFacts>;

/**
 * The listed variants for which the lists have no force, so that they never fill the disk: what is pinned here counts
 * first, then what is listed, by importance; from the first that does not fit on, none does. When it was used plays no
 * part, so that who asks about one variant need not look at all.
 */
function findBeyondPinned(held: readonly HeldFacts[], pinnedBytesMax: number): Beyond {
  let bytes = 0;
  for (const each of held) if (each.hold?.kind === "pinned" || isListed(each)) bytes += each.bytes;
  if (bytes <= pinnedBytesMax) return new Set();
  const beyond = new Set<HeldFacts>();
  // From the least important one upwards, until the rest fits.
  for (const each of held.filter(isListed).sort((a, b) => compareImportance(b, a))) {
    if (bytes <= pinnedBytesMax) break;
    beyond.add(each);
    bytes -= each.bytes;
  }
  return beyond;
}

/** Bytes of what is pinned, and of what is listed and at least as important as one. */
function bytesUpTo(held: HeldFacts, all: readonly HeldFacts[]): number {
  let bytes = 0;
  for (const each of all) {
    const counts = each.hold?.kind === "pinned" || (isListed(each) && compareImportance(each, held) <= 0);
    if (counts) bytes += each.bytes;
  }
  return bytes;
}

function isListed({ naming, hold }: HeldFacts): boolean {
  return naming?.isExpired === false && hold?.kind !== "pinned";
}

function compareImportance(a: HeldFacts, b: HeldFacts): number {
  return compareNamings(a.naming!, b.naming!) || compareHashes(a, b);
}

/** The naming of what is to come, unless more important variants have taken all that lists may keep. */
function forceOfComing({ held, limits, goal }: EvictionInput): Naming | undefined {
  if (goal.kind === "tidy" || goal.naming === undefined || goal.naming.isExpired) return undefined;
  const { bytes, naming } = goal;
  return listsMayKeep({ bytes, naming }, held, limits.pinnedBytesMax) ? naming : undefined;
}

/** What is to come takes the place of less important things only (P5). */
function mayGoFor({ tier, held }: Candidate, goal: EvictionGoal, coming: Naming | undefined): boolean {
  if (goal.kind === "tidy" || tier < beyondPinned) return true;
  // Where lists have no force they are still an order, or two variants would take each other's place for ever.
  const naming = tier === beyondPinned ? goal.naming : coming;
  if (naming === undefined || naming.isExpired) return tier === beyondPinned;
  return compareNamings(held.naming!, naming) > 0;
}

interface Shortages {
  /** To the low watermark. */
  readonly soft: Mutable<Amounts>;
  /** To the limits that must be kept. */
  readonly hard: Mutable<Amounts>;
}

function shortages({ held, limits, fullness, goal }: EvictionInput): Shortages {
  const { usedBytes, freeBytes, freeInodes = Number.POSITIVE_INFINITY } = fullness;
  const variants = held.length + fullness.comingVariants;
  const { maxBytes, freeBytesMin, maxVariants = Number.POSITIVE_INFINITY } = limits;
  if (goal.kind === "room") {
    const hard = {
      bytes: usedBytes + goal.bytes - maxBytes,
      diskBytes: goal.diskBytes + freeBytesMin - freeBytes,
      inodes: goal.inodes + evictionInodesMin - freeInodes,
      variants: variants + goal.variants - maxVariants,
    };
    return { soft: { ...hard }, hard };
  }
  const hard = {
    bytes: usedBytes - maxBytes,
    diskBytes: freeBytesMin - freeBytes,
    inodes: evictionInodesMin - freeInodes,
    variants: variants - maxVariants,
  };
  const isHigh = goal.toLow || usedBytes > highWatermark * maxBytes;
  const isDiskHigh = goal.toLow || freeBytes < diskHighWatermark * freeBytesMin;
  const soft = {
    ...hard,
    bytes: isHigh ? usedBytes - lowWatermark * maxBytes : hard.bytes,
    diskBytes: isDiskHigh ? diskLowWatermark * freeBytesMin - freeBytes : hard.diskBytes,
  };
  return { soft, hard };
}

/** Whether it brings something of which there is still too little. */
function helps({ bytes, files }: HeldFacts, short: Amounts): boolean {
  if (short.variants > 0) return true;
  return ((short.bytes > 0 || short.diskBytes > 0) && bytes > 0) || (short.inodes > 0 && files > 0);
}

function take(short: Mutable<Amounts>, { bytes, files }: HeldFacts): void {
  short.bytes -= bytes;
  short.diskBytes -= bytes;
  short.inodes -= files;
  short.variants--;
}

function onlyMissing({ bytes, diskBytes, inodes, variants }: Amounts): Amounts {
  const atLeast0 = (amount: number) => Math.max(0, amount);
  return {
    bytes: atLeast0(bytes),
    diskBytes: atLeast0(diskBytes),
    inodes: atLeast0(inodes),
    variants: atLeast0(variants),
  };
}

function isShort({ bytes, diskBytes, inodes, variants }: Amounts): boolean {
  return bytes > 0 || diskBytes > 0 || inodes > 0 || variants > 0;
}

function compareCandidates(a: Candidate, b: Candidate): number {
  if (a.isAged !== b.isAged) return a.isAged ? -1 : 1;
  if (a.tier !== b.tier) return a.tier - b.tier;
  if (a.tier >= beyondPinned && a.tier < never) return compareListed(b.held, a.held);
  if (a.idleStep !== b.idleStep) return b.idleStep - a.idleStep;
  if (a.held.replicas !== b.held.replicas) return b.held.replicas - a.held.replicas;
  return compareUse(a.held, b.held);
}

/** Of two that are listed, the more important first; of what one line names, the one that was used later. */
function compareListed(a: HeldFacts, b: HeldFacts): number {
  return compareNamings(a.naming!, b.naming!) || compareUse(b, a);
}

/** The one that was used earlier first; then by hash, so that a plan is always the same. */
function compareUse(a: HeldFacts, b: HeldFacts): number {
  const [aMs, bMs] = [a.lastUsedMs ?? 0, b.lastUsedMs ?? 0];
  if (aMs !== bMs) return aMs - bMs;
  return compareHashes(a, b);
}

function compareHashes(a: HeldFacts, b: HeldFacts): number {
  return a.variant < b.variant ? -1 : a.variant > b.variant ? 1 : 0;
}

function lineOf({ held, goes, reason }: Candidate): PlanLine {
  return { held, goes, reason };
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };
const dayMs = 24 * 3_600_000;
