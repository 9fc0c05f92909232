import { NotFoundError, UsageError } from "../../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../../protocol/hash.ts";
import { reasonBytesMax } from "../../protocol/limits.ts";
import { decodeRecord } from "../../protocol/record.ts";
import { type Variant, variantHash, variantText } from "../../protocol/variant.ts";
import { encodeWithdrawal, isReason, type Withdrawal } from "../../protocol/withdrawal.ts";
import type { HashEngine } from "../hasher.ts";
import type { Repository } from "../ports.ts";
import { latestRecordOf, type RecordSigner, sealed } from "./latest-record.ts";

export interface WithdrawOptions {
  readonly variant: Variant;
  /** For people; empty for none. */
  readonly reason: string;
  readonly repository: Repository;
  readonly engine: HashEngine;
  readonly sign: RecordSigner;
  /** ISO 8601, UTC. */
  readonly now: string;
  readonly signal?: AbortSignal;
}

/** What `unpublish` did. */
export interface Withdrawn {
  readonly variant: VariantHash;
  /** What is taken back. */
  readonly payload: PayloadId;
  readonly revision: number;
  readonly reason: string;
  /** False where it was withdrawn already by this publisher: nothing was written then. */
  readonly isNew: boolean;
}

/**
 * Takes a variant back: writes a record of the next revision that says so. Nothing else is removed from the repository;
 * `origin gc` does that, later. A publish after it makes the revision after it.
 * @throws {NotFoundError} where nothing was released; {UsageError} for a reason that no record may have; {NotTrustedError}
 * (RECORD_CONFLICT) when somebody else writes that revision meanwhile; what the repository throws.
 */
export async function withdrawVariant(options: WithdrawOptions): Promise<Withdrawn> {
  const { variant, reason, repository, engine, sign, now, signal } = options;
  if (!isReason(reason)) {
    throw new UsageError(`a reason is one line of up to ${reasonBytesMax} bytes`, { hint: "write a shorter --reason" });
  }
  const hash = variantHash(variant, engine.hash);
  const latest = await latestRecordOf(repository, hash, engine, signal === undefined ? {} : { signal });
  if (latest === undefined) throw new NotFoundError(`${repository.name} has no release of ${variantText(variant)}`);
  const { record, keyids } = latest;
  const payload = record.withdrawn ? record.supersedes : record.payload;
  // One that somebody else signed may count for nobody.
  if (record.withdrawn && keyids.includes(sign.keyid)) {
    return { variant: hash, payload, revision: record.revision, reason: record.reason, isNew: false };
  }
  const revision = record.revision + 1;
  const withdrawal: Withdrawal = { withdrawn: true, variant, revision, reason, releasedAt: now, supersedes: payload };
  const body = encodeWithdrawal(withdrawal);
  decodeRecord(body, engine.hash); // A bad name or time is refused before anything is written.
  signal?.throwIfAborted();
  await repository.putRecord(hash, revision, sealed(body, sign));
  return { variant: hash, payload, revision, reason, isNew: true };
}
