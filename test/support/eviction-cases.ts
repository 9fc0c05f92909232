import type { EvictionInput, EvictionPlan, HeldFacts } from "../../protocol/eviction.ts";
import { parseVariantHash } from "../../protocol/hash.ts";
import type { Naming } from "../../protocol/keep-index.ts";

export const nowMs: number = Date.parse("2026-11-21T08:00:00Z");
const dayMs = 86_400_000;

/** A variant of 100 bytes that was used 30 days ago; its number stands in `files`. */
export function heldNumber(number: number, facts: Partial<HeldFacts> = {}): HeldFacts {
  const variant = parseVariantHash(number.toString(16).padStart(64, "0"));
  const lastUsedMs = nowMs - 30 * dayMs;
  return { variant, bytes: 100, files: number, replicas: 0, naming: undefined, lastUsedMs, ...facts };
}

export function naming(toolset: string, rank: number, more: Partial<Naming> = {}): Naming {
  const list = { toolset, version: 42, signer: "pipeline", package: "studio:foo" };
  return { ...list, rank, prefetch: false, isExpired: false, ...more };
}

interface Case {
  readonly maxBytes?: number;
  readonly maxVariants?: number;
  readonly maxAgeMs?: number;
  readonly pinnedBytesMax?: number;
  readonly freeBytes?: number;
  readonly freeBytesMin?: number;
  readonly freeInodes?: number;
  readonly toLow?: boolean;
}

/** Nothing is short but what the case says; lists may keep all. */
export function inputFor(held: readonly HeldFacts[], given: Case): EvictionInput {
  const { maxBytes = 1e9, maxVariants, maxAgeMs, pinnedBytesMax = 1e9, freeBytesMin = 0 } = given;
  return {
    held,
    limits: { maxBytes, maxVariants, maxAgeMs, pinnedBytesMax, freeBytesMin, minIdleMs: dayMs },
    fullness: {
      usedBytes: held.reduce((sum, { bytes }) => sum + bytes, 0),
      freeBytes: given.freeBytes ?? 1e9,
      freeInodes: given.freeInodes,
      comingVariants: 0,
    },
    goal: { kind: "tidy", toLow: given.toLow ?? false },
    wallMs: nowMs,
  };
}

interface RoomCase extends Case {
  readonly bytes: number;
  readonly naming?: Naming;
  readonly variants?: 0 | 1;
}

export function roomFor(held: readonly HeldFacts[], given: RoomCase): EvictionInput {
  const { bytes, variants = 1 } = given;
  const goal = { kind: "room", bytes, diskBytes: bytes, inodes: 1, variants, naming: given.naming } as const;
  return { ...inputFor(held, given), goal };
}

/** The numbers of what goes, in order. */
export function goneOf({ lines }: EvictionPlan): number[] {
  return lines.filter(({ goes }) => goes).map(({ held }) => held.files);
}
