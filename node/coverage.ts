import type { NamedThing } from "../protocol/handle-text.ts";
import type { VariantHash } from "../protocol/hash.ts";
import type { KeepLine, SignedKeepList } from "../protocol/keep-alive.ts";
import { variantsMeant } from "../protocol/keep-package.ts";
import { type Variant, variantText } from "../protocol/variant.ts";

/** How much of a list is where. */
export interface Coverage {
  readonly toolset: string;
  readonly version: number;
  readonly lines: readonly CoverageLine[];
}

export interface CoverageLine {
  readonly rank: number;
  readonly package: string;
  /** What the line means of all that is known to be released or held; nothing where nobody knows of any. */
  readonly variants: readonly CoveredVariant[];
}

export interface CoveredVariant {
  readonly handle: string;
  readonly variant: VariantHash;
  readonly isHere: boolean;
  /** Other machines of the network that hold it whole. */
  readonly copies: number;
}

export interface CoverageParts {
  readonly held: readonly { readonly variant: Variant; readonly hash: VariantHash }[];
  readonly released: readonly Variant[];
  readonly copies: (variant: VariantHash) => number;
  readonly hashOf: (thing: NamedThing) => VariantHash;
}

export function coverageOf(list: SignedKeepList, { held, released, copies, hashOf }: CoverageParts): Coverage {
  const here = new Set(held.map(({ hash }) => hash));
  const known = new Map([...released, ...held.map(({ variant }) => variant)].map((each) => [variantText(each), each]));
  const lineOf = (line: KeepLine, at: number): CoverageLine => {
    const variants = variantsMeant(line.means, [...known.values()]).map((variant): CoveredVariant => {
      const hash = hashOf({ kind: "variant", variant });
      return { handle: variantText(variant), variant: hash, isHere: here.has(hash), copies: copies(hash) };
    });
    return { rank: at + 1, package: line.package, variants };
  };
  return { toolset: list.toolset, version: list.version, lines: list.keep.map(lineOf) };
}
