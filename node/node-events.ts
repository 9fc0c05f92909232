import { P2pCacheError } from "../protocol/errors.ts";
import type { VariantHash } from "../protocol/hash.ts";
import { variantText } from "../protocol/variant.ts";
import type { Withdrawal } from "../protocol/withdrawal.ts";
import { errorFacts, type Log } from "./log.ts";
import type { Holding } from "./ports.ts";
import type { BytesBySource } from "./transfer-drive.ts";

/** What happens to a node's holdings: told to the log, to all members, and where an admin must act to `status`. */
export class NodeEvents {
  readonly #log: Log;
  readonly #announce: () => void;
  readonly #warnings: string[] = [];

  /** `announce`: this node holds something else than before. */
  constructor(log: Log, announce: () => void) {
    this.#log = log;
    this.#announce = announce;
  }

  /** What `status` warns of, in the order in which it was found. */
  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /** `status` says so from now on; once, however often it is found. */
  warn(text: string): void {
    if (!this.#warnings.includes(text)) this.#warnings.push(text);
  }

  fetchFailed(variant: VariantHash, error: unknown): void {
    const { code, exit, message } = errorFacts(error);
    // Whoever left knows.
    if (exit !== 130) this.#log("warn", "fetch-failed", { variant, code, reason: message });
    if (error instanceof P2pCacheError && error.code === "RECORD_CONFLICT") this.warn(message);
  }

  /** Publishers contradict each other: an admin's business. */
  conflictFound(variant: VariantHash, { message }: Error): void {
    if (!this.#warnings.includes(message)) this.#log("warn", "records-conflict", { variant, reason: message });
    this.warn(message);
  }

  placed(holding: Holding): void {
    this.#log("info", "variant-placed", { variant: holding.text, path: holding.path });
    this.#announce();
  }

  /** What was damaged is right again. */
  repaired({ text: variant, path }: Holding, bytes: BytesBySource): void {
    this.#log("info", "variant-repaired", { variant, path, bytes });
    this.#announce();
  }

  /** `error`: why its tree could not be taken off. */
  withdrawn({ variant, revision, reason }: Withdrawal, error: Error | undefined): void {
    const facts = { variant: variantText(variant), revision, reason };
    if (error === undefined) this.#log("info", "variant-withdrawn", facts);
    else this.#log("warn", "withdrawn-variant-stays", { ...facts, problem: error.message });
    this.#announce();
  }

  lost(variant: VariantHash, fault: string): void {
    this.#log("error", "holding-damaged", { variant, fault });
    this.#announce();
  }
}
