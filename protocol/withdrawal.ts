import type { CborMap } from "./cbor.ts";
import { FormatError, WithdrawnError } from "./errors.ts";
import type { PayloadId } from "./hash.ts";
import { reasonBytesMax } from "./limits.ts";
import { utf8Bytes } from "./paths.ts";
import { parseHead, type RecordHead } from "./record-head.ts";
import { variantFields, variantText } from "./variant.ts";

/**
 * A publisher takes a variant back: from this revision on nobody should have it. It is a record like a release, signed
 * and numbered alike, so that the highest revision wins whatever it says (P6).
 */
export interface Withdrawal extends RecordHead {
  readonly withdrawn: true;
  /** The payload that is taken back. */
  readonly supersedes: PayloadId;
  /** For people; empty where none was given. */
  readonly reason: string;
}

/** The JSON bytes that get signed. */
export function encodeWithdrawal(withdrawal: Withdrawal): Uint8Array {
  const { variant, revision, reason, releasedAt, supersedes } = withdrawal;
  const value = { version: 1, variant: variantFields(variant), revision, withdrawn: true, reason };
  return utf8Bytes(JSON.stringify({ ...value, releasedAt, supersedes }));
}

/** Reads the decoded body of a record that has `withdrawn`. @throws {FormatError} when it breaks a rule. */
export function parseWithdrawal(value: CborMap): Withdrawal {
  const { withdrawn, reason } = value;
  if (withdrawn !== true) throw new FormatError("a withdrawal says something other than that it is one");
  const stray = Object.keys(value).find((name) => !fields.has(name));
  if (stray !== undefined) throw new FormatError(`a withdrawal has no field ${JSON.stringify(stray.slice(0, 40))}`);
  if (typeof reason !== "string" || !isReason(reason)) {
    throw new FormatError(`a withdrawal's reason is a text of up to ${reasonBytesMax} bytes in one line`);
  }
  const { supersedes, ...head } = parseHead(value);
  if (supersedes === undefined) throw new FormatError("a withdrawal does not say which payload it takes back");
  return { ...head, supersedes, withdrawn, reason };
}

/** Whether a text can be the reason of a withdrawal: people are shown it, in one line. */
export function isReason(text: string): boolean {
  return text.length <= reasonBytesMax && utf8Bytes(text).length <= reasonBytesMax && !unprintable.test(text);
}

/** What a fetch of a withdrawn variant ends with; `keyid` names who signed the withdrawal. */
export function withdrawnError(withdrawal: Withdrawal, keyid: string | undefined): WithdrawnError {
  const { variant, revision, releasedAt, reason } = withdrawal;
  const by = keyid === undefined ? "" : ` by ${keyid.slice(0, 16)}`;
  const why = reason === "" ? "" : `: ${reason}`;
  return new WithdrawnError(`${variantText(variant)} was withdrawn${by} on ${releasedAt}${why}`, {
    hint: "ask its publisher for another version; a later release of it is found by itself",
    details: { revision, withdrawnAt: releasedAt, reason, ...(keyid === undefined ? {} : { keyid }) },
  });
}

const fields = new Set(["version", "variant", "revision", "withdrawn", "reason", "releasedAt", "supersedes"]);
const unprintable = /[\p{Cc}\p{Zl}\p{Zp}\p{Surrogate}]/u;
