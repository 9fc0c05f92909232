import { NotTrustedError } from "../protocol/errors.ts";
import type { Hasher, PayloadId, VariantHash } from "../protocol/hash.ts";
import { decodeEnvelope, trustedRecord } from "../protocol/record.ts";
import { verifySignature } from "./keys.ts";
import type { Log } from "./log.ts";
import type { Holding } from "./ports.ts";
import type { RecordTrust } from "./record-trust.ts";
import type { PayloadStore } from "./store/payload-store.ts";

export interface PolicySweepParts {
  readonly store: Pick<PayloadStore, "holdings" | "record" | "remove">;
  readonly trust: RecordTrust;
  readonly hasher: Hasher;
  readonly log: Log;
  /** Says to the peers what is held now. */
  readonly announce: () => void;
}

/** A held variant that counts no more. */
interface Voided {
  readonly holding: Holding;
  readonly fault: NotTrustedError;
}

/**
 * What is held and counts no more by the policy: what was denied, and what is held under a record that is void. Peers are
 * given nothing of it from the moment on that it is known, and it is taken off this disk.
 */
export class PolicySweep {
  readonly #parts: PolicySweepParts;
  readonly #signal: AbortSignal;
  /** Judged, and still held as far as is known. */
  readonly #voided = new Map<VariantHash, PayloadId>();

  /** The signal ends what is under way. */
  constructor(parts: PolicySweepParts, signal: AbortSignal) {
    this.#parts = parts;
    this.#signal = signal;
  }

  isVoid({ variant, payload }: Pick<Holding, "variant" | "payload">): boolean {
    return this.#voided.has(variant) || this.#parts.trust.denial(payload) !== undefined;
  }

  /** Whether a payload is held under a void record, perhaps beside others. */
  hasVoid(payload: PayloadId): boolean {
    return this.#voided.size > 0 && [...this.#voided.values()].includes(payload);
  }

  /**
   * Finds what counts no more, and takes it off this disk. What cannot be taken off now is logged, and comes up again the
   * next time. Never rejects.
   * @param only one variant; all unless given.
   */
  async run(only?: VariantHash): Promise<void> {
    const { store, log, announce } = this.#parts;
    for (const { holding, fault } of await this.judge(only)) {
      // Removing takes its time, in which a denial may have been taken back.
      if (this.#signal.aborted || !this.isVoid(holding)) continue;
      const facts = { variant: holding.text, payload: holding.payload, code: fault.code, reason: fault.message };
      try {
        await store.remove(holding.variant, { onHidden: announce, signal: this.#signal });
        this.#voided.delete(holding.variant);
        log("warn", "variant-voided", facts);
      } catch (error) {
        const problem = (error as Error).message;
        if (!this.#signal.aborted) log("error", "voided-variant-stays", { ...facts, problem });
      }
      announce();
    }
  }

  /** Finds what counts no more, all of it before anything is taken off: that may take long. Never rejects. */
  async judge(only?: VariantHash): Promise<readonly Voided[]> {
    const { store, trust, announce } = this.#parts;
    if (trust.inForce === undefined) return [];
    const found: Voided[] = [];
    const holdings = store.holdings();
    const before = new Set(this.#voided.keys());
    for (const holding of holdings) {
      if (this.#signal.aborted) return [];
      if (only !== undefined && holding.variant !== only) continue;
      const fault = await this.#faultOf(holding);
      if (fault === undefined) this.#voided.delete(holding.variant);
      else {
        this.#voided.set(holding.variant, holding.payload);
        found.push({ holding, fault });
      }
    }
    const held = new Set(holdings.map(({ variant }) => variant));
    for (const variant of before) if (!held.has(variant)) this.#voided.delete(variant);
    const isSame = before.size === this.#voided.size && [...before].every((variant) => this.#voided.has(variant));
    if (!isSame) announce();
    return found;
  }

  /** Why a holding counts no more; undefined where it does, or where nobody can tell: its record has gone from the disk. */
  async #faultOf(holding: Holding): Promise<NotTrustedError | undefined> {
    const { store, trust, hasher } = this.#parts;
    // What is denied is the payload, whatever has become of the record.
    let fault = trust.denialError(holding.payload, holding.text);
    if (fault !== undefined) return fault;
    for (const which of ["newest", "held"] as const) {
      const bytes = await store.record(holding.variant, which).catch(() => undefined);
      if (bytes === undefined) continue;
      try {
        const record = trustedRecord(decodeEnvelope(bytes), trust, verifySignature, hasher);
        if (!record.withdrawn && record.payload === holding.payload) return undefined;
      } catch (error) {
        if (error instanceof NotTrustedError) fault ??= error;
      }
    }
    return fault;
  }
}
