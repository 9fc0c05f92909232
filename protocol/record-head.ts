import { type CborMap, isCount } from "./cbor.ts";
import { FormatError } from "./errors.ts";
import { type PayloadId, parsePayloadId } from "./hash.ts";
import { parseVariant, type Variant } from "./variant.ts";

/** What every record of a variant begins with, be it a release or a withdrawal. */
export interface RecordHead {
  readonly variant: Variant;
  /** From 0; the highest wins (P6). */
  readonly revision: number;
  /** ISO 8601, UTC. */
  readonly releasedAt: string;
  /** The payload that a revision above 0 replaces, or takes back. */
  readonly supersedes?: PayloadId;
}

/** @throws {FormatError} when a field breaks a rule. */
export function parseHead({ variant, revision, releasedAt, supersedes }: CborMap): RecordHead {
  if (!isCount(revision, revisionMax)) throw new FormatError("a release record has an impossible revision");
  if (typeof releasedAt !== "string" || !isoTime.test(releasedAt)) {
    throw new FormatError("a release record does not say when it was released");
  }
  if (revision > 0 && supersedes === undefined) {
    throw new FormatError(`revision ${revision} of a release does not say which payload it supersedes`);
  }
  if (supersedes !== undefined && typeof supersedes !== "string") throw new FormatError("a payload's id is a text");
  return {
    variant: parseVariant(variant),
    revision,
    releasedAt,
    ...(supersedes === undefined ? {} : { supersedes: parsePayloadId(supersedes) }),
  };
}

const revisionMax = 1_000_000;
const isoTime = /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?Z$/;
