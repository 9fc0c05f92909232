import { FormatError } from "./errors.ts";
import { shown } from "./paths.ts";

/**
 * A version as Rez reads it: tokens of letters, digits and underscores, with one character between two of them, whichever
 * it is. Each token is split into stretches of digits and of others.
 */
export type RezVersion = readonly (readonly Stretch[])[];

/** `digits`: of a number, without zeros in front; undefined for letters and underscores. */
interface Stretch {
  readonly text: string;
  readonly digits: string | undefined;
}

/** Stretches of versions, in ascending order. Versions that lie in none of them are not meant. */
export type RezRange = readonly Span[];

interface Span {
  readonly lower: Bound;
  /** Undefined where there is no end. */
  readonly upper: Bound | undefined;
}

interface Bound {
  readonly version: RezVersion;
  readonly isInclusive: boolean;
}

/** Reads a version; the empty text is that of a package without one. @throws {FormatError} */
export function parseRezVersion(text: string): RezVersion {
  if (text === "") return [];
  if (text.length > rezTextMax || !anyVersion.test(text)) throw new FormatError(`${shown(text)} is no version of Rez`);
  return text.match(/[0-9a-zA-Z_]+/g)!.map(stretchesOf);
}

/** Below 0 where `a` is the earlier one. Letters come before numbers, `01` before `1`, and `1` before `1.0`. */
export function compareRezVersions(a: RezVersion, b: RezVersion): number {
  return compareLists(a, b, (one, other) => compareLists(one, other, compareStretches));
}

/**
 * Reads a range as Rez writes it: `1.2` (and all below it), `==1.2`, `1.2+`, `>1.2`, `1.2+<2`, `1.2..2`, `<2,>=1.2`, and
 * several of them with `|` between. The empty text is any version.
 * @throws {FormatError} where Rez would refuse it, too.
 */
export function parseRezRange(text: string): RezRange {
  if (text.length > rezTextMax) throw new FormatError(`a range of versions has ${text.length} characters`);
  const parts = text.split("|");
  const spans = parts.filter((part) => part !== "").map(parseSpan);
  // With an alternative that says nothing, all versions are meant.
  return spans.length < parts.length ? [{ lower: lowest, upper: undefined }] : unite(spans);
}

export function isInRezRange(version: RezVersion, range: RezRange): boolean {
  return range.some(({ lower, upper }) => {
    const aboveLower = compareRezVersions(version, lower.version);
    if (aboveLower < 0 || (aboveLower === 0 && !lower.isInclusive)) return false;
    if (upper === undefined) return true;
    const aboveUpper = compareRezVersions(version, upper.version);
    return aboveUpper < 0 || (aboveUpper === 0 && upper.isInclusive);
  });
}

function stretchesOf(token: string): Stretch[] {
  return token.match(/[0-9]+|[A-Za-z_]+/g)!.map((text) => ({
    text,
    digits: isNumber(text) ? text.replace(/^0+/, "") : undefined,
  }));
}

function isNumber(text: string): boolean {
  return text.charCodeAt(0) <= nine;
}

function compareStretches(a: Stretch, b: Stretch): number {
  if (a.digits === undefined) return b.digits === undefined ? compareTexts(a.text, b.text) : -1;
  if (b.digits === undefined) return 1;
  // Of any length: more digits are more.
  return a.digits.length - b.digits.length || compareTexts(a.digits, b.digits) || compareTexts(a.text, b.text);
}

/** By their characters' numbers, as Python does: so `A` to `Z`, then `_`, then `a` to `z`. */
function compareTexts(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function compareLists<Item>(a: readonly Item[], b: readonly Item[], compare: (a: Item, b: Item) => number): number {
  for (let i = 0; i < a.length && i < b.length; i++) {
    const order = compare(a[i]!, b[i]!);
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

/** One alternative of a range. What Rez reads strangely (`<5,<3` is `3+<5`) is read so here, too. */
function parseSpan(part: string): Span {
  const [, whole] = wholeVersion.exec(part) ?? [];
  if (whole !== undefined) return spanBelow(parseRezVersion(whole));
  const exact = exactForm.exec(part);
  if (exact !== null) return spanOf(part, inclusive(exact[1]), inclusive(exact[1]));
  const between = betweenForm.exec(part);
  if (between !== null) return spanOf(part, inclusive(between[1]), inclusive(between[2]));
  const from = fromForm.exec(part);
  if (from !== null) return spanOf(part, boundOf(from[2] ?? from[3], from[1] !== ">"), undefined);
  const upTo = upToForm.exec(part);
  if (upTo !== null) return spanOf(part, lowest, boundOf(upTo[1] ?? upTo[2], upTo[1] === undefined));
  const ascending = ascendingForm.exec(part);
  if (ascending !== null) {
    const [, sign, signed, plain, bareSign, below, upToThis] = ascending;
    const lower = boundOf(signed ?? plain, (sign ?? bareSign) !== ">");
    return spanOf(part, lower, boundOf(below ?? upToThis, below === undefined));
  }
  const descending = descendingForm.exec(part);
  if (descending !== null) {
    const [, sign, signed, plain, bareSign, strange, lowerSign, lowerText] = descending;
    const upper = boundOf(signed ?? plain, (sign ?? bareSign) !== "<");
    return spanOf(part, boundOf(strange ?? lowerText, lowerSign !== ">"), upper);
  }
  throw new FormatError(`${shown(part)} is no range of versions that Rez knows`);
}

/** `1.2`, `1.2.5` and whatever else begins so: up to `1.2_`, which is the next that does not. */
function spanBelow(version: RezVersion): Span {
  const last = version.at(-1)!;
  const end = last.at(-1)!;
  const next =
    end.digits === undefined
      ? [...last.slice(0, -1), { text: `${end.text}_`, digits: undefined }]
      : [...last, { text: "_", digits: undefined }];
  return {
    lower: { version, isInclusive: true },
    upper: { version: [...version.slice(0, -1), next], isInclusive: false },
  };
}

function inclusive(text: string | undefined): Bound {
  return boundOf(text, true);
}

function boundOf(text: string | undefined, isInclusive: boolean): Bound {
  return { version: parseRezVersion(text ?? ""), isInclusive };
}

/** @throws {FormatError} for a stretch in which no version can lie. */
function spanOf(part: string, lower: Bound, upper: Bound | undefined): Span {
  if (upper === undefined) return { lower, upper };
  const order = compareRezVersions(lower.version, upper.version);
  const isOne = lower.isInclusive && upper.isInclusive;
  const isBelowAll = upper.version.length === 0 && !upper.isInclusive;
  if (order < 0 || (order === 0 && isOne && !isBelowAll)) return { lower, upper };
  throw new FormatError(`no version can lie in the range ${shown(part)}`);
}

/**
 * Joins what touches. Rez looks at the span before, not at the farthest end so far, when both ends leave out the same
 * version: so `1+<5|2..3|>5` has 5 in it (tried with Rez 3.4.0), and a list means what Rez means.
 */
function unite(spans: readonly Span[]): RezRange {
  const sorted = [...spans].sort(compareSpans);
  const united: { lower: Bound; upper: Bound | undefined }[] = [];
  let before: Span | undefined;
  for (const span of sorted) {
    const last = united.at(-1);
    if (last === undefined || before === undefined || isApart(span, before, last.upper)) united.push({ ...span });
    else if (compareUppers(span.upper, last.upper) > 0) last.upper = span.upper;
    before = span;
  }
  return united;
}

function isApart({ lower }: Span, before: Span, farthest: Bound | undefined): boolean {
  if (farthest === undefined) return false;
  const order = compareRezVersions(lower.version, farthest.version);
  return order > 0 || (order === 0 && !lower.isInclusive && before.upper?.isInclusive === false);
}

function compareSpans(a: Span, b: Span): number {
  const order = compareRezVersions(a.lower.version, b.lower.version);
  if (order !== 0) return order;
  if (a.lower.isInclusive !== b.lower.isInclusive) return a.lower.isInclusive ? -1 : 1;
  return compareUppers(a.upper, b.upper);
}

function compareUppers(a: Bound | undefined, b: Bound | undefined): number {
  if (a === undefined || b === undefined) return a === b ? 0 : a === undefined ? 1 : -1;
  const order = compareRezVersions(a.version, b.version);
  if (order !== 0 || a.isInclusive === b.isInclusive) return order;
  return a.isInclusive ? 1 : -1;
}

const lowest: Bound = { version: [], isInclusive: true };
/** `9`, the last of the digits. */
const nine = 0x39;
/** As much as a name in a path may have (limits.ts) four times: a few alternatives. */
const rezTextMax = 1020;

const anyVersion = /^[0-9a-zA-Z_]+(?:[^0-9a-zA-Z_][0-9a-zA-Z_]+)*$/u;
/** In a range, a version has dots and dashes only. */
const v = "[0-9a-zA-Z_]+(?:[.-][0-9a-zA-Z_]+)*";
const wholeVersion = new RegExp(`^(${v})$`);
const exactForm = new RegExp(`^==(${v})?$`);
const betweenForm = new RegExp(`^(${v})?\\.\\.(${v})?$`);
const fromForm = new RegExp(`^(?:(>=?)(${v})?|(${v})?\\+)$`);
const upToForm = new RegExp(`^(?:<(${v})|<=(${v})?)$`);
const ascendingForm = new RegExp(`^(?:(?:(>=?)(${v})|(${v})\\+?),?|(>=?)|\\+?)(?:<(${v})|<=(${v})?)$`);
const descendingForm = new RegExp(`^(?:(?:(<=?)(${v})|(${v})\\+?),|(<=?)|\\+)(?:<(${v})|(>=?)(${v})?)$`);
