import { type CborMap, encodeCanonical, isCount, isMap } from "./cbor.ts";
import { FormatError } from "./errors.ts";
import { type Hasher, hashFromBytes, type VariantHash } from "./hash.ts";
import { nameBytesMax } from "./limits.ts";
import { utf8Bytes } from "./paths.ts";

/**
 * A buildable form of a Rez package, by the network's own name for it: `repository` is a logical id (`studio`), never
 * a mount path. Absent fields are absent, never null.
 */
export interface Variant {
  readonly kind: "rez";
  readonly repository: string;
  readonly name: string;
  /** Absent where the package has none. */
  readonly version?: string;
  /** Absent where the package has no variants. */
  readonly index?: number;
}

/** BLAKE3 of the canonical CBOR of `{ kind, repository, name, version?, index? }` (DESIGN section 3). */
export function variantHash(variant: Variant, hasher: Hasher): VariantHash {
  return hashFromBytes<"variant">(hasher(encodeCanonical(variantFields(variant))));
}

/** As people read and type it: `studio:foo-1.0.0[0]`. */
export function variantText(variant: Variant): string {
  const version = variant.version === undefined ? "" : `-${variant.version}`;
  const index = variant.index === undefined ? "" : `[${variant.index}]`;
  return `${variant.repository}:${variant.name}${version}${index}`;
}

/**
 * Checks a decoded value (JSON's or CBOR's) from outside. Its texts become parts of paths in the cache, so nothing that
 * a path could stumble over passes.
 * @throws {FormatError} naming the first field that breaks a rule.
 */
export function parseVariant(value: unknown): Variant {
  if (!isMap(value)) throw new FormatError("a variant is a map");
  const unknown = Object.keys(value).find((key) => !fields.has(key));
  if (unknown !== undefined) throw new FormatError(`a variant has no field ${JSON.stringify(unknown.slice(0, 40))}`);
  if (value.kind !== "rez") throw new FormatError("a variant's kind is rez");
  const repository = pathPart(value, "repository");
  const name = pathPart(value, "name");
  const version = value.version === undefined ? {} : { version: pathPart(value, "version") };
  const index = value.index;
  if (index !== undefined && !isCount(index, variantIndexMax)) {
    throw new FormatError(`a variant's index is a whole number up to ${variantIndexMax}`);
  }
  return { kind: "rez", repository, name, ...version, ...(index === undefined ? {} : { index }) };
}

/** Whether a text can stand as one part of a path, and Rez would look there: no dot first, no separator, no control. */
export function isPathPart(text: string): boolean {
  if (text.length === 0 || text.length > nameBytesMax || utf8Bytes(text).length > nameBytesMax) return false;
  return !text.startsWith(".") && !unsafe.test(text);
}

/** The fields that are hashed and written, in one order, absent ones left out. */
export function variantFields(variant: Variant): CborMap {
  return {
    kind: variant.kind,
    repository: variant.repository,
    name: variant.name,
    ...(variant.version === undefined ? {} : { version: variant.version }),
    ...(variant.index === undefined ? {} : { index: variant.index }),
  };
}

function pathPart(value: CborMap, field: string): string {
  const text = value[field];
  if (typeof text !== "string" || !isPathPart(text)) {
    throw new FormatError(`a variant's ${field} is a text that can be part of a path`);
  }
  return text;
}

const fields = new Set(["kind", "repository", "name", "version", "index"]);
/** More variants than any package has; Rez sets no limit. */
const variantIndexMax = 100_000;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const unsafe = /[/\\:\u0000-\u001f\u007f]|\p{Surrogate}/u;
