import { isExpired, isForPlace, type KeepPlace, type SignedKeepList } from "./keep-alive.ts";
import { type KeepPackage, versionOf } from "./keep-package.ts";
import { isInRezRange, type RezRange, type RezVersion } from "./rez-version.ts";
import type { Variant } from "./variant.ts";

/** That a list names a variant: which one, and how important that is to it. */
export interface Naming {
  readonly toolset: string;
  /** Of the list. */
  readonly version: number;
  /** From 1, the most important. */
  readonly rank: number;
  readonly signer: string;
  readonly package: string;
  readonly prefetch: boolean;
  /** The list has expired: nothing is kept for its sake any more. */
  readonly isExpired: boolean;
}

/** What is to be fetched before somebody asks for it. */
export interface Prefetch {
  readonly means: KeepPackage;
  readonly naming: Naming;
}

/** Any number of lists as one: what several toolsets name counts by the best rank that any gives it. */
export class KeepIndex {
  readonly #names = new Map<string, NamedLines>();
  readonly #versions = new Map<string, RezVersion | undefined>();
  /** What is to be fetched, the most important first. */
  readonly prefetches: readonly Prefetch[];

  /** Of one list a toolset, verified; those that are for other machines count for nothing. */
  constructor(lists: readonly SignedKeepList[], place: KeepPlace, wallMs: number) {
    const prefetches: Prefetch[] = [];
    for (const list of lists) {
      if (!isForPlace(list, place)) continue;
      const { toolset, version, signer } = list;
      const expired = isExpired(list, wallMs);
      for (const [i, { package: text, prefetch, means }] of list.keep.entries()) {
        const naming = { toolset, version, rank: i + 1, signer, package: text, prefetch, isExpired: expired };
        this.#add(means, naming);
        if (prefetch && !expired) prefetches.push({ means, naming });
      }
    }
    for (const lines of this.#names.values()) lines.ranges = sortedRanges(lines.ranges);
    this.prefetches = prefetches.sort((a, b) => compareNamings(a.naming, b.naming));
  }

  /** The most important naming of a variant, by a list that is in force if there is one. */
  best(variant: Variant): Naming | undefined {
    const lines = this.#names.get(nameKey(variant));
    if (lines === undefined) return undefined;
    let best = lines.variants.get(variantKey(variant));
    const version = this.#versionOf(variant);
    for (const { range, naming } of version === undefined ? [] : lines.ranges.values()) {
      // The rest is less important still.
      if (best !== undefined && compareNamings(best, naming) <= 0) return best;
      if (isInRezRange(version!, range)) best = naming;
    }
    return best;
  }

  #add(means: KeepPackage, naming: Naming): void {
    const key = nameKey(means.kind === "variant" ? means.variant : means);
    const lines = this.#names.get(key) ?? { variants: new Map(), ranges: new Map() };
    this.#names.set(key, lines);
    if (means.kind === "variant") {
      const one = variantKey(means.variant);
      lines.variants.set(one, better(lines.variants.get(one), naming));
    } else {
      // Many toolsets write the same.
      lines.ranges.set(naming.package, {
        range: means.range,
        naming: better(lines.ranges.get(naming.package)?.naming, naming),
      });
    }
  }

  /** Undefined for what is no version to Rez: then no range has it. */
  #versionOf(variant: Variant): RezVersion | undefined {
    const { version = "" } = variant;
    if (!this.#versions.has(version)) this.#versions.set(version, versionOf(variant));
    return this.#versions.get(version);
  }
}

/** Lines about one package, each with its best naming. */
interface NamedLines {
  readonly variants: Map<string, Naming>;
  ranges: Map<string, { readonly range: RezRange; readonly naming: Naming }>;
}

/** Below 0 where `a` is the more important one: lists in force first, then by rank, then by name. */
export function compareNamings(a: Naming, b: Naming): number {
  if (a.isExpired !== b.isExpired) return a.isExpired ? 1 : -1;
  if (a.rank !== b.rank) return a.rank - b.rank;
  if (a.toolset === b.toolset) return 0;
  return a.toolset < b.toolset ? -1 : 1;
}

/** For people: `toolset fx, version 42, rank 3, signed by pipeline`. */
export function namingText({ toolset, version, rank, signer, isExpired }: Naming): string {
  return `toolset ${toolset}, version ${version}${isExpired ? " (expired)" : ""}, rank ${rank}, signed by ${signer}`;
}

function better(a: Naming | undefined, b: Naming): Naming {
  return a !== undefined && compareNamings(a, b) <= 0 ? a : b;
}

function sortedRanges(ranges: NamedLines["ranges"]): NamedLines["ranges"] {
  return new Map([...ranges].sort(([, a], [, b]) => compareNamings(a.naming, b.naming)));
}

function nameKey({ repository, name }: { readonly repository: string; readonly name: string }): string {
  return `${repository}:${name}`;
}

function variantKey({ version = "", index }: Variant): string {
  return `${version}[${index ?? ""}]`;
}
