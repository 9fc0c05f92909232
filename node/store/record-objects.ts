import { readFile, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { NotTrustedError } from "../../protocol/errors.ts";
import { compareBytes, type Hasher, type PayloadId, type VariantHash } from "../../protocol/hash.ts";
import { recordBytesMax } from "../../protocol/limits.ts";
import {
  decodeEnvelope,
  decodeRecord,
  newerRecord,
  type ReleaseRecord,
  type SignedRecord,
} from "../../protocol/record.ts";
import { variantText } from "../../protocol/variant.ts";
import { writeDurably } from "../durable-file.ts";
import { spendBallast } from "./ballast.ts";
import { cacheError, hasCode } from "./rez-guard.ts";
import { sealBytes, unsealBytes } from "./sealed.ts";

/** Where the envelope of the newest release record of a variant lies. */
function recordPath(objectsPath: string, variant: VariantHash): string {
  return join(objectsPath, variant.slice(0, 2), `${variant}.dsse.json`);
}

/** What is held of a variant. */
type HeldRelease = Pick<ReleaseRecord, "variant" | "payload" | "revision">;

export interface KeeperParts {
  readonly objectsPath: string;
  readonly hasher: Hasher;
  /** An envelope's record, if somebody whom we trust has signed it; any that can be read, where not given. */
  readonly readRecord?: (envelope: Uint8Array) => SignedRecord | undefined;
}

/** Writes the newest record of each variant: those of one variant in turn, each after what the one before has written. */
export class RecordKeeper {
  readonly #objectsPath: string;
  readonly #read: (envelope: Uint8Array) => SignedRecord | undefined;
  readonly #written = new Map<VariantHash, Promise<void>>();

  constructor({ objectsPath, hasher, readRecord: read = (envelope) => readRecord(envelope, hasher) }: KeeperParts) {
    this.#objectsPath = objectsPath;
    this.#read = read;
  }

  /**
   * Writes the newest envelope of a variant durably: what counts here is never gone behind again (P6). The one that was
   * there is kept beside it while what it names is `held` (asked once it is this one's turn: a tree may be placed until
   * then), so that a held tree can be served and checked until the new one has come in whole.
   * @throws {NotTrustedError} RECORD_OUTDATED when a higher revision was written before; RECORD_CONFLICT when the one that
   * was is of the same revision and says something else.
   */
  keep(variant: VariantHash, envelope: Uint8Array, held: () => HeldRelease | undefined): Promise<void> {
    const keepOnce = () => this.#keep(variant, envelope, held());
    return this.#inTurn(variant, () => keepOnce().catch((error) => this.#keepOnFull(error, keepOnce))).catch(
      (error: unknown) => {
        throw cacheError(this.#objectsPath, error);
      },
    );
  }

  /**
   * Puts a release in force by `place`, during which no other record of the variant is written.
   * @throws {NotTrustedError} RECORD_OUTDATED when a later one was written since this one was found.
   */
  unlessOutdated<Result>(variant: VariantHash, record: ReleaseRecord, place: () => Promise<Result>): Promise<Result> {
    return this.#inTurn(variant, async () => {
      const envelope = await loadRecord(this.#objectsPath, variant);
      const known = envelope === undefined ? undefined : this.#read(envelope);
      if (known !== undefined && newerRecord<SignedRecord>(record, known).revision > record.revision) {
        throw outdated(known, record);
      }
      return await place();
    });
  }

  /** A record comes before anything makes room for its tree, and a withdrawal is kept in any case. */
  async #keepOnFull(error: unknown, keepOnce: () => Promise<void>): Promise<void> {
    if (!hasCode(error, "ENOSPC", "EDQUOT") || !spendBallast(dirname(this.#objectsPath))) throw error;
    await keepOnce();
  }

  /** What is done about the record of one variant, one after the other. */
  #inTurn<Result>(variant: VariantHash, work: () => Promise<Result>): Promise<Result> {
    const before = this.#written.get(variant) ?? Promise.resolve();
    const done = before.then(work);
    const ended: Promise<void> = done
      .then(
        () => undefined,
        () => undefined,
      )
      .then(() => {
        if (this.#written.get(variant) === ended) this.#written.delete(variant);
      });
    this.#written.set(variant, ended);
    return done;
  }

  async #keep(variant: VariantHash, envelope: Uint8Array, held: HeldRelease | undefined): Promise<void> {
    const path = recordPath(this.#objectsPath, variant);
    const before = await loadEnvelope(path);
    if (before === undefined && held !== undefined) {
      // The record may have rotted; what is held of it still says how far we were.
      const given = this.#read(envelope);
      if (given !== undefined && given.revision < held.revision) throw outdated(held, given);
    }
    if (before !== undefined) {
      if (compareBytes(before, envelope) === 0) return;
      const [known, given] = [this.#read(before), this.#read(envelope)];
      if (known !== undefined && given !== undefined) {
        if (given.revision < known.revision) throw outdated(known, given);
        if (newerRecord<SignedRecord>(known, given) === known) return;
      }
      if (held !== undefined && known !== undefined && !known.withdrawn && known.payload === held.payload) {
        await writeDurably(heldPath(path), sealBytes(before));
      }
    }
    await writeDurably(path, sealBytes(envelope));
  }
}

/** Two searches went on at once, and the one that ended first had found the newer record. */
function outdated(
  { variant, revision }: Pick<SignedRecord, "variant" | "revision">,
  given: SignedRecord,
): NotTrustedError {
  const message = `revision ${given.revision} of ${variantText(variant)} is outdated: revision ${revision} was seen`;
  return new NotTrustedError(message, { code: "RECORD_OUTDATED", hint: "fetch it again, for the newer one" });
}

/** The newest envelope, or the one before it by which the variant is held; undefined where there is none. Whoever uses it checks it. */
export function loadRecord(
  objectsPath: string,
  variant: VariantHash,
  which: "newest" | "held" = "newest",
): Promise<Uint8Array | undefined> {
  const path = recordPath(objectsPath, variant);
  return loadEnvelope(which === "newest" ? path : heldPath(path));
}

/**
 * The record by which a payload is held as a variant. Its signature was checked before it was stored; that it names the
 * payload is checked here.
 */
export async function loadRecordOf(
  objectsPath: string,
  variant: VariantHash,
  payload: PayloadId,
  hasher: Hasher,
): Promise<ReleaseRecord | undefined> {
  const path = recordPath(objectsPath, variant);
  for (const each of [path, heldPath(path)]) {
    const envelope = await loadEnvelope(each);
    const record = envelope === undefined ? undefined : readRecord(envelope, hasher);
    if (record !== undefined && !record.withdrawn && record.payload === payload) return record;
  }
  return undefined;
}

/** What the record before the newest names is no longer held. */
export async function forgetHeldRecord(objectsPath: string, variant: VariantHash): Promise<void> {
  await rm(heldPath(recordPath(objectsPath, variant)), { force: true });
}

function heldPath(path: string): string {
  return `${path}.held`;
}

/** The envelope in a file; undefined where there is none, or it is not what was written. */
export async function loadEnvelope(path: string): Promise<Uint8Array | undefined> {
  try {
    const { size } = await stat(path);
    return size > recordBytesMax + sealBytesMax ? undefined : unsealBytes(await readFile(path));
  } catch {
    return undefined;
  }
}

/** A stored envelope's record, whoever signed it; undefined where it cannot be read. */
function readRecord(envelope: Uint8Array, hasher: Hasher): SignedRecord | undefined {
  try {
    return decodeRecord(decodeEnvelope(envelope).body, hasher);
  } catch {
    return undefined;
  }
}

/** More than a seal takes. */
const sealBytesMax = 64;
