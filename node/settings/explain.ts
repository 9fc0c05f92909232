import type * as z from "zod";
import { UsageError } from "../../protocol/errors.ts";
import { withoutUrlUsers } from "../redact.ts";
import { suggestion } from "./nearest.ts";
import type { SettingKey } from "./schema.ts";

/**
 * A fault that zod found, in our words: the key, what stands there, where that comes from, and how it is written.
 * @param tree the nested tables that were checked.
 * @param sourceOf where the value of a key comes from: `/etc/p2pcache/config.toml`.
 */
export function explain(
  issue: z.core.$ZodIssue,
  tree: unknown,
  keys: ReadonlyMap<string, SettingKey>,
  sourceOf: (key: string) => string,
): UsageError {
  const place = issue.path.reduce<string>(appendPart, "");
  const known = knownPart(issue.path, keys);
  const source = `(from ${sourceOf(sourceKey(issue.path, keys))})`;
  if (issue.code === "unrecognized_keys") return unknownKey(`${place}.${issue.keys[0]}`, source, keys.keys());
  const fault = issue.code === "custom" ? issue.params?.fault : undefined;
  if (fault !== undefined) return new UsageError(`${place}: ${fault} ${source}`);
  const value = issue.path.reduce<unknown>(
    (at, part) => (at as Record<PropertyKey, unknown> | undefined)?.[part],
    tree,
  );
  const { noun, example } = known?.expected ?? { noun: "what is expected there", example: "it as in the reference" };
  const hint = `write ${example}`;
  if (value === undefined) return new UsageError(`${place} is missing ${source}`, { hint });
  return new UsageError(`${place}: ${printable(value)} is not ${noun} ${source}`, { hint });
}

/** @param name the key as written, with its indices. */
export function unknownKey(name: string, source: string, candidates: Iterable<string>): UsageError {
  const hint = suggestion(name.replace(/\[\d+\]/g, ""), candidates) ?? "see `p2pcache config show` for all keys";
  return new UsageError(`unknown key ${name} ${source}`, { hint });
}

/** A value on one line, cut short, without the user and password of a URL: what is printed ends up in logs. */
export function printable(value: unknown): string {
  return withoutUrlUsers(JSON.stringify(value) ?? String(value)).slice(0, 200);
}

function appendPart(text: string, part: PropertyKey): string {
  if (typeof part === "number") return `${text}[${part}]`;
  return text === "" ? String(part) : `${text}.${String(part)}`;
}

/** The key of the table that a path leads to or through. */
function knownPart(path: readonly PropertyKey[], keys: ReadonlyMap<string, SettingKey>): SettingKey | undefined {
  const parts = path.filter((part) => typeof part === "string");
  if (parts[0] === "repositories") return keys.get("repositories.<id>");
  return keys.get(parts.slice(0, 2).join(".")) ?? keys.get(parts[0] ?? "");
}

/** The key as values are merged by: one repository, the whole list of origins. */
function sourceKey(path: readonly PropertyKey[], keys: ReadonlyMap<string, SettingKey>): string {
  const [first, second] = path.map(String);
  return keys.has(first!) ? first! : `${first}.${second}`;
}
