import { checkShape, isCount, isMap } from "./cbor.ts";
import { FormatError, VersionError } from "./errors.ts";
import { originIndexBytesMax } from "./limits.ts";
import { parseUtf8, utf8Bytes } from "./paths.ts";
import { parseVariant, type Variant, variantFields, variantText } from "./variant.ts";

/** What an origin's index says of one variant: a hint where to look, never trusted. */
export interface IndexEntry {
  readonly variant: Variant;
  /** The latest record's, when the index was written. */
  readonly revision: number;
  readonly isWithdrawn: boolean;
}

/** Where the index lies below an origin's top: what cannot be listed over HTTP is read there. */
export const originIndexPath = "index/releases.jsonl";

/** JSON lines: a head with the format's version, then an entry a line, in the order of the variants' texts. */
export function encodeIndex(entries: Iterable<IndexEntry>): Uint8Array {
  const sorted = [...entries].map((entry) => ({ entry, text: variantText(entry.variant) }));
  sorted.sort((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0));
  const lines = sorted.map(({ entry: { variant, revision, isWithdrawn } }) =>
    JSON.stringify({ variant: variantFields(variant), revision, ...(isWithdrawn ? { withdrawn: true } : {}) }),
  );
  return utf8Bytes(`${[JSON.stringify({ formatVersion: indexVersion }), ...lines].join("\n")}\n`);
}

/** Reads an index from outside. @throws {FormatError} when it breaks a rule; {VersionError} when it is not ours. */
export function parseIndex(bytes: Uint8Array): IndexEntry[] {
  if (bytes.length > originIndexBytesMax) {
    throw new FormatError(`an origin's index has ${bytes.length} bytes, more than ${originIndexBytesMax}`);
  }
  const lines = parseUtf8(bytes, "an origin's index").split("\n");
  if (lines.pop() !== "") throw new FormatError("an origin's index was cut short");
  const [head = "", ...rest] = lines;
  const { formatVersion } = parseLine(head);
  if (formatVersion !== indexVersion) throw new VersionError("an origin's index", formatVersion);
  return rest.map(parseEntry);
}

const indexVersion = 1;

function parseEntry(line: string): IndexEntry {
  const { variant, revision, withdrawn } = parseLine(line);
  if (!isCount(revision)) throw new FormatError("an entry of an origin's index has an impossible revision");
  return { variant: parseVariant(variant), revision, isWithdrawn: withdrawn === true };
}

function parseLine(line: string): { readonly [field: string]: unknown } {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new FormatError("a line of an origin's index is not JSON", { cause });
  }
  if (!isMap(value)) throw new FormatError("a line of an origin's index is not an object");
  checkShape(value, "a line of an origin's index");
  return value;
}
