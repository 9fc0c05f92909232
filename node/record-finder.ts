import type { PeerName } from "../protocol/directory.ts";
import { NotFoundError, P2pCacheError, UnreachableError } from "../protocol/errors.ts";
import type { Hasher, VariantHash } from "../protocol/hash.ts";
import {
  decodeEnvelope,
  newerRecord,
  type Publishers,
  type SignatureCheck,
  type SignedRecord,
  trustedRecord,
} from "../protocol/record.ts";
import { variantHash } from "../protocol/variant.ts";
import type { Origin, Swarm, WaitOptions } from "./ports.ts";

/** A record that a publisher whom we trust has signed, and the envelope that proves it. */
export interface FoundRecord {
  readonly record: SignedRecord;
  readonly envelope: Uint8Array;
}

/** Where records are looked for, and who may sign them. */
export interface RecordSources {
  readonly origins: readonly Origin[];
  readonly swarm: Swarm | undefined;
  /** Peers that may know a variant's record, the best first. */
  readonly peersFor: (variant: VariantHash) => readonly PeerName[];
  readonly stored: (variant: VariantHash) => Promise<Uint8Array | undefined>;
  readonly publishers: Publishers;
  readonly verify: SignatureCheck;
  readonly hasher: Hasher;
}

/**
 * Finds the newest trusted record of a variant, release or withdrawal: on this disk, at peers and at the origins, all asked at once. Once
 * somebody has it the others are given a moment, for a higher revision.
 * @throws {NotFoundError} when nobody has one; {NotTrustedError} or {FormatError} when what they have is no good;
 * {UnreachableError} when nobody could be asked; the signal's reason when it is aborted.
 */
export async function findRecord(
  sources: RecordSources,
  variant: VariantHash,
  options: WaitOptions,
): Promise<FoundRecord> {
  options.signal?.throwIfAborted();
  const over = new AbortController();
  const signal = options.signal === undefined ? over.signal : AbortSignal.any([options.signal, over.signal]);
  const search = new RecordSearch(sources, variant);
  const asked: Asked[] = [[onDisk, sources.stored(variant)]];
  for (const origin of sources.origins) {
    asked.push([`the origin ${origin.name}`, origin.latestRecord(variant, { signal })]);
  }
  const { swarm } = sources;
  const peers = swarm === undefined ? [] : sources.peersFor(variant).slice(0, peersAskedMax);
  for (const peer of peers) asked.push([`the peer ${peer}`, swarm!.record(peer, variant, { signal })]);
  try {
    await search.gather(asked, sources.origins.length, options.signal);
    return search.result();
  } finally {
    // Whoever has not answered yet need not.
    over.abort(new Error("the record was found"));
  }
}

/** Who was asked, and what comes of it. */
type Asked = readonly [name: string, answer: Promise<Uint8Array | undefined>];

class RecordSearch {
  readonly #sources: RecordSources;
  readonly #variant: VariantHash;
  readonly #found: FoundRecord[] = [];
  readonly #refusals: Error[] = [];
  readonly #silences: Error[] = [];
  readonly #first = Promise.withResolvers<void>();

  constructor(sources: RecordSources, variant: VariantHash) {
    this.#sources = sources;
    this.#variant = variant;
  }

  /**
   * Waits for all answers, or for a moment after the first good one: a shorter one for peers, once this disk and all
   * `origins`, which were asked first, have answered.
   */
  async gather(asked: readonly Asked[], origins: number, signal: AbortSignal | undefined): Promise<void> {
    const silent = new Set(asked.map(([name]) => name));
    const answers = asked.map(([name, answer]) => this.#take(name, answer).then(() => silent.delete(name)));
    const all = Promise.all(answers);
    const { promise: moment, resolve } = Promise.withResolvers<void>();
    const late = setTimeout(() => {
      this.#silences.push(new UnreachableError(`${[...silent].join(", ")} gave no answer in ${searchMs / 1000} s`));
      resolve();
    }, searchMs);
    let timer: NodeJS.Timeout | undefined;
    let soon: NodeJS.Timeout | undefined;
    void this.#first.promise.then(async () => {
      timer = setTimeout(resolve, othersMs);
      await Promise.all(answers.slice(0, 1 + origins));
      soon = setTimeout(resolve, origins > 0 ? repeatersMs : peersMs);
    });
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      await Promise.race([all, moment, aborted.promise]);
    } finally {
      clearTimeout(timer);
      clearTimeout(soon);
      clearTimeout(late);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  result(): FoundRecord {
    // Only the highest revision counts: one that an admin published over a conflict ends it.
    const highest = Math.max(...this.#found.map(({ record }) => record.revision));
    const best = this.#found
      .filter(({ record }) => record.revision === highest)
      .reduce<FoundRecord | undefined>((a, b) => {
        return a === undefined || newerRecord(a.record, b.record) === b.record ? b : a;
      }, undefined);
    if (best !== undefined) return best;
    if (this.#refusals.length > 0) throw this.#refusals[0]!;
    const [silence] = this.#silences;
    if (silence !== undefined) {
      const hint = silence instanceof P2pCacheError ? silence.hint : undefined;
      throw new UnreachableError(`no source could be asked for ${this.#variant}: ${silence.message}`, {
        cause: silence,
        ...(hint === undefined ? {} : { hint }),
      });
    }
    throw new NotFoundError("neither an origin nor a peer has a release of it");
  }

  /** Never rejects. */
  async #take(name: string, answer: Promise<Uint8Array | undefined>): Promise<void> {
    let envelope: Uint8Array | undefined;
    try {
      envelope = await answer;
    } catch (error) {
      // A source of another network, or one that we may not use as configured, is not merely away.
      const isAway = !(error instanceof P2pCacheError) || error instanceof UnreachableError;
      (isAway ? this.#silences : this.#refusals).push(error as Error);
      return;
    }
    if (envelope === undefined) return;
    try {
      const { publishers, verify, hasher } = this.#sources;
      const refusal = name === onDisk ? undefined : publishers?.refusesNew?.();
      if (refusal !== undefined) throw refusal;
      const record = trustedRecord(decodeEnvelope(envelope), publishers, verify, hasher);
      // A record of another variant answers another question.
      if (variantHash(record.variant, hasher) !== this.#variant) return;
      this.#found.push({ record, envelope });
      this.#first.resolve();
    } catch (error) {
      this.#refusals.push(error as Error);
    }
  }
}

const onDisk = "this disk";
/** Holders that are asked for a record: it is the same everywhere, and one of them may be gone. */
const peersAskedMax = 4;
/** How long anybody is awaited at all: an origin that hangs must not keep other searches from their turn. */
const searchMs = 15_000;
/** How long slower sources are awaited for a higher revision, once one is there. */
const othersMs = 500;
/** And peers, once nobody else is to be waited for: most answer within milliseconds, but one may have to be dialled. */
const peersMs = 250;
/** And those who can only repeat what the origins have said. */
const repeatersMs = 150;
