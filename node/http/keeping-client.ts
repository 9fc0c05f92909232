import type { NamedThing } from "../../protocol/handle-text.ts";
import type { ApiCollected, ApiCoverage, ApiKept, ApiList } from "./keeping-types.ts";

interface CallOptions {
  readonly signal?: AbortSignal;
}

/** A long call: the admin's socket or everybody's, a path, a body; answers what is done. */
export type Ask = (socket: "user" | "admin", path: string, body: object, options: CallOptions) => Promise<unknown>;

/** A lease that lasts until it is released, or this process ends. */
export interface HeldLease {
  release(): void;
}

export interface LeaseCall {
  readonly things: readonly NamedThing[];
  /** What runs, for people. */
  readonly name: string;
  /** As `processMark` says it: then the lease outlives this process, as long as that one lives. */
  readonly process?: object;
}

/** What a running node is asked about what it keeps. */
export class KeepingClient {
  readonly #ask: Ask;
  readonly #hold: (call: LeaseCall, options: CallOptions) => Promise<HeldLease>;

  constructor(ask: Ask, hold: (call: LeaseCall, options: CallOptions) => Promise<HeldLease>) {
    this.#ask = ask;
    this.#hold = hold;
  }

  async explain(thing: NamedThing, options: CallOptions = {}): Promise<ApiKept> {
    return (await this.#ask("user", "/v1/explain", { thing }, options)) as ApiKept;
  }

  async gc({ dryRun, ...options }: CallOptions & { readonly dryRun: boolean }): Promise<ApiCollected> {
    return (await this.#ask("admin", "/v1/gc", { dryRun }, options)) as ApiCollected;
  }

  async pin(thing: NamedThing, options: CallOptions = {}): Promise<{ handle: string; variant: string }> {
    return (await this.#ask("admin", "/v1/pin", { thing }, options)) as { handle: string; variant: string };
  }

  async unpin(thing: NamedThing, options: CallOptions = {}): Promise<{ handle: string; variant: string }> {
    return (await this.#ask("admin", "/v1/unpin", { thing }, options)) as { handle: string; variant: string };
  }

  async lists({ refresh, ...options }: CallOptions & { readonly refresh: boolean }): Promise<readonly ApiList[]> {
    return ((await this.#ask("user", "/v1/keepalive/lists", { refresh }, options)) as { lists: ApiList[] }).lists;
  }

  async coverage(toolset: string, signal?: AbortSignal): Promise<ApiCoverage> {
    const options = signal === undefined ? {} : { signal };
    return (await this.#ask("user", "/v1/keepalive/coverage", { toolset }, options)) as ApiCoverage;
  }

  /** Nothing of these is evicted until the lease is released. @throws {UnreachableError} when no node answers. */
  lease(call: LeaseCall, options: CallOptions = {}): Promise<HeldLease> {
    return this.#hold(call, options);
  }
}
