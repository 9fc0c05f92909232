import * as assert from "uvu/assert";
import { Bitmap } from "../../protocol/bitmap.ts";
import { MIB, transferInFlightBytesMax } from "../../protocol/limits.ts";
import type { Pace } from "../../protocol/politeness.ts";
import { seededRandom } from "../../protocol/random.ts";
import { Transfer, type TransferAction, type TransferEvent } from "../../protocol/transfer.ts";
import type { TransferLimits } from "../../protocol/transfer-limits.ts";

/** What a test says of a payload: one segment of 1 KiB, already here, unless it says otherwise. */
export interface Scene {
  readonly segments?: readonly number[];
  readonly storedSegments?: readonly number[];
  readonly chunks: readonly number[];
  readonly storedChunks?: readonly number[];
  readonly copiesOf?: ReadonlyMap<number, readonly number[]>;
  readonly origins?: readonly string[];
  readonly limits?: Partial<TransferLimits>;
  readonly access?: "open" | "leased";
  readonly seed?: number;
  readonly bytes?: number;
  readonly pace?: Pace;
  readonly isHeldBack?: () => boolean;
  readonly hasGivenSince?: (peer: string, sinceMs: number) => boolean;
}

export const limits: TransferLimits = {
  joinMs: 100,
  hopelessMs: 300,
  patienceMs: 10_000,
  inFlightBytesMax: transferInFlightBytesMax,
};

/** A transfer and what it has said so far. */
export interface Staged {
  /** Takes in some events at a time; answers what is to be done about the last one. */
  readonly at: (nowMs: number, ...events: readonly TransferEvent[]) => TransferAction[];
  /** Waits, from one wake-up that was asked for to the next, until one of them leads to something. */
  readonly wake: () => TransferAction[];
  /** When the last thing happened. */
  readonly nowMs: () => number;
  readonly described: TransferEvent;
  readonly transfer: Transfer;
}

export function stage(scene: Scene): Staged {
  const { segments = [1024], storedSegments = [0], chunks, storedChunks = [], origins = ["origin"] } = scene;
  const items = segments.length + chunks.length;
  const { access = "open", seed = 1 } = scene;
  const plan = {
    items,
    segmentSizesBytes: segments,
    storedSegments,
    origins,
    access,
    ...(scene.bytes === undefined ? {} : { bytes: scene.bytes }),
    ...(scene.pace === undefined ? {} : { pace: scene.pace }),
    ...(scene.isHeldBack === undefined ? {} : { isHeldBack: scene.isHeldBack }),
    ...(scene.hasGivenSince === undefined ? {} : { hasGivenSince: scene.hasGivenSince }),
  };
  const transfer = new Transfer(plan, { ...limits, ...scene.limits }, seededRandom(seed));
  const sizesBytes = Uint32Array.from([...segments, ...chunks]);
  const copiesOf = scene.copiesOf ?? new Map<number, readonly number[]>();
  let lastMs = 0;
  let wakeMs: number | undefined;
  const step = (event: TransferEvent, nowMs: number): TransferAction[] => {
    lastMs = nowMs;
    const actions = transfer.step(event, nowMs);
    wakeMs = wakeAt(actions) ?? wakeMs;
    return actions;
  };
  return {
    transfer,
    at: (nowMs, ...events) => events.map((event) => step(event, nowMs)).at(-1)!,
    wake: () => {
      while (true) {
        assert.ok(wakeMs !== undefined, "a wake-up was asked for");
        const atMs = Math.max(lastMs, wakeMs!);
        wakeMs = undefined;
        const actions = step(woke, atMs);
        if (actions.some(({ kind }) => kind !== "wakeAt")) return actions;
      }
    },
    nowMs: () => lastMs,
    described: { kind: "described", description: { sizesBytes, copiesOf, stored: storedChunks } },
  };
}

export const started: TransferEvent = { kind: "started" };
export const woke: TransferEvent = { kind: "woke" };
export const joining = (source: string): TransferEvent => ({ kind: "joining", source });
export const left = (source: string): TransferEvent => ({ kind: "left", source });
export const stored = (source: string, item: number): TransferEvent => ({ kind: "stored", source, item });
export const corrupt = (source: string, item: number): TransferEvent => ({ kind: "corrupt", source, item });
export const missing = (source: string, ...items: number[]): TransferEvent => ({ kind: "missing", source, items });
export const failed = (source: string, ...items: number[]): TransferEvent => ({ kind: "failed", source, items });
export const has = (source: string, ...items: number[]): TransferEvent => ({ kind: "has", source, items });
export const busy = (source: string, retryAfterMs: number, ...items: number[]): TransferEvent => {
  return { kind: "busy", source, items, retryAfterMs };
};
/** A peer has joined with all items, or with these of `items`. */
export function joined(source: string, have: "all" | readonly number[] = "all", items = 64): TransferEvent {
  if (have === "all") return { kind: "joined", source, have };
  const bitmap = new Bitmap(items);
  for (const item of have) bitmap.add(item);
  return { kind: "joined", source, have: bitmap };
}

/** Who is asked for what by some actions, items in order. */
export function asks(actions: readonly TransferAction[]): Record<string, number[]> {
  const asked: Record<string, number[]> = {};
  for (const action of actions) {
    if (action.kind === "ask") asked[action.source] = [...action.items].sort((a, b) => a - b);
  }
  return asked;
}

/** The actions but for wake-ups and questions, as short texts. */
export function rest(actions: readonly TransferAction[]): string[] {
  return actions.map(textOf).filter((text) => text !== "");
}

function textOf(action: TransferAction): string {
  switch (action.kind) {
    case "ask":
    case "wakeAt":
      return "";
    case "cancel":
      return `cancel ${action.source} ${[...action.items].sort((a, b) => a - b).join(",")}`;
    case "drop":
      return `drop ${action.source}`;
    case "strike":
      return `strike ${action.source} ${action.fault}`;
    case "gaveUp":
      return `gaveUp ${action.fault} ${action.item} of ${action.missingItems}`;
    case "segmentsComplete":
    case "complete":
      return action.kind;
  }
}

export function wakeAt(actions: readonly TransferAction[]): number | undefined {
  for (const action of actions) if (action.kind === "wakeAt") return action.atMs;
  return undefined;
}

export const half = MIB / 2;
/** So many chunks of half a mebibyte. */
export function halves(count: number): number[] {
  return Array.from({ length: count }, () => half);
}
