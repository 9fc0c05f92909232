import { FormatError } from "./errors.ts";
import { shown } from "./paths.ts";
import {
  compareRezVersions,
  isInRezRange,
  parseRezRange,
  parseRezVersion,
  type RezRange,
  type RezVersion,
} from "./rez-version.ts";
import { parseVariant, type Variant } from "./variant.ts";

/** What one line of a keep-alive list means: a single variant, or all variants of the versions in a range. */
export type KeepPackage =
  | { readonly kind: "variant"; readonly variant: Variant }
  | { readonly kind: "range"; readonly repository: string; readonly name: string; readonly range: RezRange };

/**
 * Reads `studio:maya-2026.1[0]`, which is one variant, or a repository and what Rez would call a request:
 * `studio:maya`, `studio:maya-2026` (2026 and all below it), `studio:maya-2026+<2027`, `studio:maya==2026.1`.
 * @throws {FormatError} that shows the text.
 */
export function parseKeepPackage(text: string): KeepPackage {
  const [, repository, name, rest = "", index] = text.length > packageTextMax ? [] : (packageForm.exec(text) ?? []);
  if (repository === undefined || name === undefined) {
    throw new FormatError(
      `${shown(text)} is no package: write repository:name-version[index] or repository:name-range`,
    );
  }
  if (index !== undefined) return { kind: "variant", variant: oneVariant(text, { repository, name }, rest, index) };
  parseVariant({ kind: "rez", repository, name });
  // Rez lets the dash away before a sign.
  return { kind: "range", repository, name, range: parseRezRange(rest.startsWith("-") ? rest.slice(1) : rest) };
}

/** The variants that are meant, out of those that are known; a single one also where nobody knows it. The latest first. */
export function variantsMeant(means: KeepPackage, known: readonly Variant[]): Variant[] {
  if (means.kind === "variant") return [means.variant];
  const versioned: { readonly variant: Variant; readonly version: RezVersion }[] = [];
  for (const variant of known) {
    if (variant.name !== means.name || variant.repository !== means.repository) continue;
    const version = versionOf(variant);
    if (version !== undefined && isInRezRange(version, means.range)) versioned.push({ variant, version });
  }
  return versioned
    .sort((a, b) => compareRezVersions(b.version, a.version) || (a.variant.index ?? 0) - (b.variant.index ?? 0))
    .map(({ variant }) => variant);
}

/** Undefined for what is no version to Rez: no range has it. */
export function versionOf({ version = "" }: Variant): RezVersion | undefined {
  try {
    return parseRezVersion(version);
  } catch {
    return undefined;
  }
}

function oneVariant(text: string, names: { repository: string; name: string }, rest: string, index: string): Variant {
  const version = rest.startsWith("-") ? rest.slice(1) : rest;
  if (/[<>=|,+]|\.\./.test(version) || (rest !== "" && !rest.startsWith("-"))) {
    throw new FormatError(`${shown(text)} has an index, which goes with one version, and a range`);
  }
  return parseVariant({ kind: "rez", ...names, ...(rest === "" ? {} : { version }), index: Number(index) });
}

/** Names as Rez has them (REZ.md; `handle-text.ts`), and then whatever a version or a range may be. */
const packageForm = /^([^:/[\]\s]+):([a-zA-Z_0-9](?:\.?[a-zA-Z0-9_])*)((?:[-<>=][^[\]\s]*)?)(?:\[(\d{1,6})\])?$/;
const packageTextMax = 1024;
