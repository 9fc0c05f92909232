import type { NamedThing } from "../../protocol/handle-text.ts";

/** What became, or would become, of one held variant, and why. */
export interface ApiKept {
  readonly handle: string;
  readonly variant: string;
  readonly bytes: number;
  readonly outcome: "kept" | "goes" | "removed" | "failed";
  readonly reason: string;
}

export interface ApiCollected {
  readonly freedBytes: number;
  readonly lines: readonly ApiKept[];
  readonly missing?: string | undefined;
}

export interface ApiList {
  readonly toolset: string;
  readonly version: number;
  readonly signer: string;
  readonly signedAt: string;
  readonly expires: string;
  readonly state: "in force" | "expired";
  readonly keep: readonly { readonly package: string; readonly prefetch: boolean }[];
}

export interface ApiCoverage {
  readonly toolset: string;
  readonly version: number;
  readonly lines: readonly {
    readonly rank: number;
    readonly package: string;
    readonly variants: readonly {
      readonly handle: string;
      readonly variant: string;
      readonly isHere: boolean;
      readonly copies: number;
    }[];
  }[];
}

interface Pinned {
  readonly handle: string;
  readonly variant: string;
}

/** What the servers need of `Keeping`. */
export interface ApiKeeping {
  explain(thing: NamedThing): Promise<ApiKept>;
  gc(options: { readonly dryRun: boolean; readonly signal?: AbortSignal }): Promise<ApiCollected>;
  pin(thing: NamedThing): Promise<Pinned>;
  unpin(thing: NamedThing): Promise<Pinned>;
  lists(options: { readonly refresh: boolean; readonly signal?: AbortSignal }): Promise<readonly ApiList[]>;
  coverage(toolset: string, signal?: AbortSignal): Promise<ApiCoverage>;
  /** `process` as it came from outside. @throws {UsageError} where it names none. */
  leaseFor(request: {
    readonly variants: readonly string[];
    readonly name: string;
    readonly process: unknown;
  }): Promise<{
    readonly id: string;
    leave(): Promise<void>;
  }>;
}
