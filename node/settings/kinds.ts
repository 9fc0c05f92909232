import * as z from "zod";
import { isToolset } from "../../protocol/keep-alive.ts";
import { textBytesMax } from "../../protocol/limits.ts";
import { parsePublicKey } from "../keys.ts";
import type { SettingKey, SettingKind } from "./schema.ts";
import {
  durationExpectation,
  type Expectation,
  rateExpectation,
  readDuration,
  readRate,
  readSize,
  sizeExpectation,
} from "./units.ts";

/** What the table says about a key, beside its name. */
export type About = Omit<SettingKey, "key">;
/** What holds where a key is not written: a value as in the file, or words where the machine decides. */
export type Fallback = { readonly value: unknown } | { readonly text: string };

/** Where the table keeps what it says about each type. */
export const about: z.core.$ZodRegistry<About> = z.registry<About>();

/** Enters a type in the table, and gives it back. */
export function key<T extends z.ZodType>(
  type: T,
  kind: SettingKind,
  expected: Expectation,
  fallback: Fallback,
  description: string,
): T {
  const value = "value" in fallback ? fallback.value : undefined;
  const defaultText = "value" in fallback ? JSON.stringify(value) : fallback.text;
  about.add(type, { kind, expected, description, default: value, defaultText });
  return type;
}

/** A value that is read from text or a number; where `read` gives `undefined`, it is refused. */
export function reading<T>(read: (value: string | number) => T | undefined): z.ZodType<T> {
  return z.union([z.string(), z.number()]).transform((value, context): T => {
    const result = read(value);
    if (result !== undefined) return result;
    context.addIssue({ code: "custom" });
    return z.NEVER;
  });
}

export function choice<const T extends string>(words: readonly T[], fallback: Fallback, text: string): z.ZodType<T> {
  const expected = { noun: `one of ${words.join(", ")}`, example: words.map((word) => `"${word}"`).join(" or ") };
  return key(z.enum(words) as unknown as z.ZodType<T>, "text", expected, fallback, text);
}

export function flag(value: boolean, text: string): z.ZodType<boolean> {
  return key(z.boolean(), "flag", { noun: "true or false", example: "true or false" }, { value }, text);
}

export function label(fallback: Fallback, text: string): z.ZodType<string> {
  const expected = { noun: `a text of up to ${textBytesMax} letters`, example: '"a text"' };
  return key(z.string().max(textBytesMax), "text", expected, fallback, text);
}

export function path(fallback: Fallback, text: string): z.ZodType<string> {
  const expected = { noun: "a path", example: '"/mnt/sw/packages" or "~/packages"' };
  return key(pathText(), "path", expected, fallback, text);
}

export function paths(value: readonly string[], text: string): z.ZodType<string[]> {
  const expected = { noun: "a list of paths", example: '["/mnt/a", "~/b"]' };
  return key(z.array(pathText()).max(listMax), "paths", expected, { value }, text);
}

export function addresses(value: readonly string[], text: string): z.ZodType<string[]> {
  const expected = { noun: "a list of multiaddrs", example: '["/ip4/10.0.0.1/tcp/7070"]' };
  const item = z.string().startsWith("/").max(textBytesMax);
  return key(z.array(item).max(listMax), "list", expected, { value }, text);
}

export function publicKeys(text: string): z.ZodType<string[]> {
  const expected = { noun: "a list of public keys", example: '["ed25519:<base64 of the raw 32 bytes>"]' };
  return key(z.array(z.string().refine(isPublicKey)).max(listMax), "list", expected, { value: [] }, text);
}

/** Toolsets and the keys of their owners, `fx=ed25519:…`; each toolset once. */
export function toolsetKeys(text: string): z.ZodType<string[]> {
  const expected = { noun: "a list of toolsets with keys", example: '["fx=ed25519:<base64 of the raw 32 bytes>"]' };
  const isEntry = (entry: string) => {
    const [toolset, publicKey = ""] = splitOnce(entry);
    return isToolset(toolset) && isPublicKey(publicKey);
  };
  const isEachOnce = (all: readonly string[]) => new Set(all.map((entry) => splitOnce(entry)[0])).size === all.length;
  const type = z.array(z.string().refine(isEntry)).max(listMax).refine(isEachOnce);
  return key(type, "list", expected, { value: [] }, text);
}

/** What stands before and after the first `=`. */
export function splitOnce(entry: string): [string, string | undefined] {
  const at = entry.indexOf("=");
  return at < 0 ? [entry, undefined] : [entry.slice(0, at), entry.slice(at + 1)];
}

export function size(fallback: Fallback, text: string): z.ZodType<number> {
  return key(reading(readSize), "size", sizeExpectation, fallback, text);
}

export function duration(fallback: Fallback, text: string): z.ZodType<number> {
  return key(reading(readDuration), "duration", durationExpectation, fallback, text);
}

/** A time that a timer can be set to. */
export function deadline(fallback: Fallback, text: string): z.ZodType<number> {
  const read = (value: string | number) => {
    const ms = readDuration(value) ?? 0;
    return ms > 0 && ms <= timerMsMax ? ms : undefined;
  };
  const expected = { noun: "a time above zero and up to 24 d", example: '"30 s" or "30 min"' };
  return key(reading(read), "duration", expected, fallback, text);
}

export function rate(fallback: Fallback, text: string): z.ZodType<number> {
  return key(reading(positiveRate), "rate", rateExpectation, fallback, text);
}

/** Bytes per second, or `undefined`: nothing at all would not be slow but stuck. */
export function positiveRate(value: string | number): number | undefined {
  return readRate(value) || undefined;
}

export function count(fallback: Fallback, text: string): z.ZodType<number> {
  const expected = { noun: "a whole number above zero", example: "100" };
  return key(z.int().min(1), "count", expected, fallback, text);
}

/** A file mode from `"0666"`, or from TOML's own `0o666`. */
export function fileMode(fallback: Fallback, text: string): z.ZodType<number> {
  const read = (value: string | number) => {
    const octal = typeof value === "string" && /^[0-7]{3,4}$/.test(value);
    const mode = octal ? Number.parseInt(value, 8) : typeof value === "number" ? value : -1;
    return Number.isInteger(mode) && mode >= 0o600 && mode <= 0o777 ? mode : undefined;
  };
  const expected = { noun: "a mode of files that their owner reads and writes", example: '"0666" or 0o666' };
  return key(reading(read), "text", expected, fallback, text);
}

/** An absolute path, as `load.ts` makes every path before it is checked. */
export function pathText(): z.ZodString {
  return z
    .string()
    .startsWith("/")
    .max(pathLengthMax)
    .regex(/^[^\0]*$/);
}

/** More addresses, caches or origins than any site writes by hand. */
export const listMax = 1000;
/** Linux takes no longer path (limits.h, PATH_MAX). */
const pathLengthMax = 4095;
/** A timer of Node takes at most 2^31 - 1 ms, 24.8 days, and fires at once beyond that. */
const timerMsMax: number = 24 * 24 * 60 * 60 * 1000;

function isPublicKey(text: string): boolean {
  try {
    return parsePublicKey(text).length > 0;
  } catch {
    return false;
  }
}
