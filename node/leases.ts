import { randomUUID } from "node:crypto";
import { isMap } from "../protocol/cbor.ts";
import { BusyError } from "../protocol/errors.ts";
import { isText } from "../protocol/fields.ts";
import { parseVariantHash, type VariantHash } from "../protocol/hash.ts";
import { ownerIsDead, type ProcessMark, parseProcessMark } from "./store/owner.ts";

/** Somebody's word that variants are in use, and until when: as long as its connection, or its process, lives. */
export interface LeaseRequest {
  readonly variants: readonly VariantHash[];
  /** For people: what runs from them. */
  readonly name: string;
  /** The lease outlives its connection, and this node, as long as this process lives. */
  readonly process?: ProcessMark;
}

/** Where leases are written down. */
export interface LeaseStore {
  leases(): Promise<Map<string, unknown>>;
  noteLease(id: string, lease: object | undefined): Promise<void>;
  /** Set by the leases: what runs from a variant. Whoever replaces its tree asks first. */
  runnerOf?: (variant: VariantHash) => string | undefined;
}

/** A lease that is held. */
export interface Lease {
  readonly id: string;
  /** The connection has gone: it ends, unless its process lives. Never rejects. */
  leave(): Promise<void>;
}

/** Who uses what: nothing of it is evicted (P5). Plain `rez-env` takes no lease, which is why `min_idle` exists. */
export class Leases {
  readonly #store: LeaseStore;
  readonly #onProblem: (problem: string) => void;
  readonly #held = new Map<string, LeaseRequest & { readonly isConnected: boolean }>();

  private constructor(store: LeaseStore, onProblem: (problem: string) => void) {
    this.#store = store;
    this.#onProblem = onProblem;
  }

  /** Takes up what was written down by processes that live still. */
  static async open(store: LeaseStore, onProblem: (problem: string) => void): Promise<Leases> {
    const leases = new Leases(store, onProblem);
    for (const [id, value] of await store.leases()) {
      const lease = parseLease(value);
      if (lease === undefined) await leases.#forget(id);
      else leases.#held.set(id, { ...lease, isConnected: false });
    }
    await leases.prune();
    store.runnerOf = (variant) => leases.runnerOf(variant);
    return leases;
  }

  /** @throws {BusyError} when there are too many; {NoSpaceError} when it cannot be written down. */
  async hold(request: LeaseRequest): Promise<Lease> {
    await this.prune();
    if (this.#held.size >= leasesMax) {
      throw new BusyError(`there are ${leasesMax} leases already`, { code: "TOO_MANY_LEASES" });
    }
    const id = randomUUID();
    this.#held.set(id, { ...request, isConnected: true });
    try {
      if (request.process !== undefined) await this.#store.noteLease(id, request);
    } catch (error) {
      this.#held.delete(id);
      throw error;
    }
    return { id, leave: () => this.#leave(id) };
  }

  /** Who holds each variant that is leased, for people; as of the last `prune`. */
  holders(): Map<VariantHash, string> {
    const holders = new Map<VariantHash, string>();
    for (const lease of this.#held.values()) {
      for (const variant of lease.variants) holders.set(variant, holderOf(lease));
    }
    return holders;
  }

  /**
   * The program that runs from a variant now, for people. A lease without a process does not count: `p2pcache run` takes
   * one before it fetches, and would forbid itself the newest release.
   */
  runnerOf(variant: VariantHash): string | undefined {
    for (const lease of this.#held.values()) {
      if (lease.process !== undefined && lease.variants.includes(variant) && !hasEnded(lease)) return holderOf(lease);
    }
    return undefined;
  }

  /** Ends the leases whose process and connection have gone. Never rejects. */
  async prune(): Promise<void> {
    for (const [id, lease] of [...this.#held]) if (hasEnded(lease)) await this.#forget(id);
  }

  async #leave(id: string): Promise<void> {
    const lease = this.#held.get(id);
    if (lease === undefined) return;
    this.#held.set(id, { ...lease, isConnected: false });
    await this.prune();
  }

  async #forget(id: string): Promise<void> {
    const isWritten = this.#held.get(id)?.process !== undefined || !this.#held.has(id);
    this.#held.delete(id);
    if (!isWritten) return;
    await this.#store.noteLease(id, undefined).catch((error: unknown) => {
      this.#onProblem(`a lease that has ended is still written down: ${String(error)}`);
    });
  }
}

function holderOf({ name, process: mark }: LeaseRequest): string {
  return mark === undefined ? name : `pid ${mark.pid} (${name})`;
}

function hasEnded({ process: mark, isConnected }: LeaseRequest & { readonly isConnected: boolean }): boolean {
  return !isConnected && (mark === undefined || ownerIsDead(mark));
}

function parseLease(value: unknown): LeaseRequest | undefined {
  if (!isMap(value) || !isText(value.name) || !Array.isArray(value.variants)) return undefined;
  const mark = parseProcessMark(value.process);
  const variants = value.variants.map((hash) => parseVariantHash(String(hash)));
  return mark === undefined ? undefined : { variants, name: value.name, process: mark };
}

/** More programs than a machine runs. */
const leasesMax = 1_000;
