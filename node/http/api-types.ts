import { P2pCacheError } from "../../protocol/errors.ts";
import type { NamedThing } from "../../protocol/handle-text.ts";
import type { OriginPolicy } from "../../protocol/origin-plan.ts";
import type { TrafficClass } from "../../protocol/politeness.ts";
import { variantText } from "../../protocol/variant.ts";
import type { Holding } from "../ports.ts";

/** An error as it is sent and printed (CONTRACTS, "Exit codes"). */
export interface ErrorShape {
  readonly code: string;
  readonly message: string;
  readonly exit: number;
  readonly hint?: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Bytes by where they came from. */
export interface ApiBytes {
  readonly local: number;
  readonly peers: number;
  readonly origin: number;
}

/** One variant of a `fetch`; a failed one has its error. */
export interface ApiVariant {
  readonly handle: string;
  readonly variant: string;
  readonly payload: string | undefined;
  readonly path: string | undefined;
  readonly outcome: "local" | "fetched" | "skipped" | "failed";
  readonly reason?: string;
  readonly bytes: ApiBytes;
  readonly seconds: number;
  readonly error?: ErrorShape;
}

/** What became of one variant that was to be removed; a failed one has its error. */
export interface ApiRemoval {
  readonly handle: string;
  readonly variant: string;
  readonly payload: string | undefined;
  /** Where its tree lay, or lies still. */
  readonly path: string | undefined;
  readonly bytes: number;
  readonly outcome: "removed" | "failed";
  readonly error?: ErrorShape;
}

/** One line of a long call's answer. */
export type ApiEvent<Result> =
  | { readonly kind: "progress"; readonly text: string; readonly totalBytes: number; readonly bytes: ApiBytes }
  | { readonly kind: "done"; readonly result: Result }
  | { readonly kind: "error"; readonly error: ErrorShape };

export type HoldingShape = Holding & { readonly lastUsed: string | undefined; readonly state: "whole" | "damaged" };

/** What an `fsck` may do besides looking. */
export interface FsckWish {
  readonly repair?: boolean;
  readonly rebuild?: boolean;
}

/** What an `fsck` found; `left` where something was done about it, and what is still wrong then. */
export interface ApiFsck {
  readonly checked: number;
  readonly faults: readonly string[];
  readonly left?: readonly string[];
}

/** What the servers need of a node: the one behind `CacheNode`. */
export interface ApiNode {
  status(version: string): { readonly apiVersion: number };
  holdings(): readonly HoldingShape[];
  peers(): readonly object[];
  fetch(
    thing: NamedThing,
    options: {
      readonly origin?: OriginPolicy;
      readonly peers?: "auto" | "never";
      readonly timeoutMs?: number;
      readonly traffic?: TrafficClass;
      readonly signal?: AbortSignal;
      readonly onProgress?: (progress: { text: string; totalBytes: number; bytes: ApiBytes }) => void;
    },
  ): Promise<ApiVariant>;
  hashOf(thing: NamedThing): string;
  verify(things: readonly NamedThing[]): Promise<{ readonly checked: number; readonly damaged: readonly object[] }>;
  remove(thing: NamedThing, options: { readonly signal?: AbortSignal }): Promise<Omit<ApiRemoval, "outcome" | "error">>;
  fsck(options?: FsckWish & { readonly signal?: AbortSignal }): Promise<ApiFsck>;
}

/** The error as callers get it. */
export function errorShape(error: unknown): ErrorShape {
  if (error instanceof P2pCacheError) {
    const { code, message, exit, hint, details } = error;
    return {
      code,
      message,
      exit,
      ...(hint === undefined ? {} : { hint }),
      ...(details === undefined ? {} : { details }),
    };
  }
  return { code: "INTERNAL", message: error instanceof Error ? error.message : String(error), exit: 1 };
}

/** A thing as people named it. */
export function namedText(thing: NamedThing): string {
  return thing.kind === "variant" ? variantText(thing.variant) : thing.kind === "payload" ? thing.payload : thing.hash;
}
