import { isMap } from "./cbor.ts";
import { assert } from "./errors.ts";
import { bytesToHex } from "./hash.ts";
import { isPathPart, type Variant } from "./variant.ts";

/** What names a variant to Rez, as its JSON has it (REZ.md section 3). `location` is the real path of this mount. */
export interface RezHandle {
  readonly key: "filesystem.variant";
  readonly variables: {
    readonly location: string;
    readonly name: string;
    /** Absent where the package has none. */
    readonly version?: string;
    /** Null where the package has no variants. */
    readonly index: number | null;
    readonly repository_type: "filesystem";
  };
}

/** SHA-1 of some bytes, 20 bytes long; passed in, since engines live in node/. */
export type Sha1 = (bytes: Uint8Array) => Uint8Array;

/** Rez's handle of a variant whose repository lies at `location`, a real path. */
export function rezHandle(variant: Variant, location: string): RezHandle {
  return {
    key: "filesystem.variant",
    variables: {
      location,
      name: variant.name,
      ...(variant.version === undefined ? {} : { version: variant.version }),
      index: variant.index ?? null,
      repository_type: "filesystem",
    },
  };
}

/** What Python's `str()` makes of `(key, ((name, value), ...))`, sorted by name: the text that Rez hashes. */
export function pythonRepr(handle: RezHandle): string {
  const pairs = Object.entries(handle.variables)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `(${pythonText(name)}, ${pythonValue(value)})`);
  return `(${pythonText(handle.key)}, (${pairs.join(", ")}))`;
}

/** The four hex digits that name the variant's directory in the cache: of SHA-1 over `pythonRepr` (REZ.md section 3). */
export function rezHashDirectory(handle: RezHandle, sha1: Sha1): string {
  return bytesToHex(sha1(new TextEncoder().encode(pythonRepr(handle))).subarray(0, 2));
}

/** Where the cache has the variant's payloads, relative to its root: `foo/1.0.0/e34b`, `nover/_NO_VERSION/7c90`. */
export function rezCacheDirectory(handle: RezHandle, sha1: Sha1): string {
  const { name, version = "_NO_VERSION" } = handle.variables;
  assert(isPathPart(name) && isPathPart(version), "a handle's name and version can be parts of a path");
  return `${name}/${version}/${rezHashDirectory(handle, sha1)}`;
}

/** Whether Python's `==` finds parsed JSON equal to the handle: the order of keys does not matter, a further one does. */
export function sameHandle(a: unknown, b: RezHandle): boolean {
  if (!isMap(a) || Object.keys(a).length !== 2 || a.key !== b.key || !isMap(a.variables)) return false;
  const theirs = a.variables;
  const ours = Object.entries(b.variables);
  return (
    Object.keys(theirs).length === ours.length &&
    ours.every(([name, value]) => Object.hasOwn(theirs, name) && pythonNumber(theirs[name]) === value)
  );
}

/**
 * The first free name in Rez's order: a..z, aa, ab... Rez itself takes the one after the greatest, as strings compare,
 * and so comes to `aa` again and again once it is there (REZ.md section 2); the first free one is always new.
 */
export function nextSuffix(taken: ReadonlySet<string>): string {
  for (let number = 1; ; number++) {
    const suffix = suffixOf(number);
    if (!taken.has(suffix)) return suffix;
  }
}

/** 1 is a, 26 is z, 27 is aa. */
function suffixOf(number: number): string {
  let suffix = "";
  for (let rest = number; rest > 0; rest = Math.floor((rest - 1) / 26)) {
    suffix = String.fromCharCode(97 + ((rest - 1) % 26)) + suffix;
  }
  return suffix;
}

function pythonValue(value: string | number | null): string {
  if (value === null) return "None";
  return typeof value === "number" ? String(value) : pythonText(value);
}

/** In Python, False is 0 and True is 1. */
function pythonNumber(value: unknown): unknown {
  return typeof value === "boolean" ? Number(value) : value;
}

function pythonText(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let inside = "";
  for (const character of text) {
    if (character === quote || character === "\\") inside += `\\${character}`;
    else inside += unprintable.test(character) && character !== " " ? escaped(character) : character;
  }
  return quote + inside + quote;
}

function escaped(character: string): string {
  const short = shortEscapes.get(character);
  if (short !== undefined) return short;
  const code = character.codePointAt(0)!;
  if (code <= 0xff) return `\\x${code.toString(16).padStart(2, "0")}`;
  if (code <= 0xffff) return `\\u${code.toString(16).padStart(4, "0")}`;
  return `\\U${code.toString(16).padStart(8, "0")}`;
}

const shortEscapes = new Map([
  ["\t", "\\t"],
  ["\n", "\\n"],
  ["\r", "\\r"],
]);
/** What Python's `str.isprintable` refuses: Cn depends on the engine's Unicode version, as it does on Python's. */
const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\p{Zs}]/u;
