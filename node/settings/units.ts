import { UsageError } from "../../protocol/errors.ts";

/** What a kind of value is called in messages, and how one is written. */
export interface Expectation {
  readonly noun: string;
  readonly example: string;
}

export const sizeExpectation: Expectation = {
  noun: "a size",
  example: '"500 GB", "64 MiB" or a whole number of bytes',
};
export const durationExpectation: Expectation = {
  noun: "a time",
  example: '"30 s", "30 min", "24 h", "41 d" or a whole number of milliseconds',
};
export const rateExpectation: Expectation = {
  noun: "a rate above zero",
  example: '"2 Gbit/s", "200 MB/s" or a whole number of bytes per second',
};

/** Bytes of a size: `"500 GB"`, `"64 MiB"`, `"4096"`, `4096`. @throws {UsageError} naming `key` and the text. */
export function parseSize(key: string, value: string | number): number {
  return readSize(value) ?? refuse(key, value, sizeExpectation);
}

/** Milliseconds of a time: `"30 s"`, `"1.5 h"`, or a number of them. @throws {UsageError} naming `key` and the text. */
export function parseDuration(key: string, value: string | number): number {
  return readDuration(value) ?? refuse(key, value, durationExpectation);
}

/** Bytes per second of a rate: `"2 Gbit/s"`, `"200 MB/s"`. @throws {UsageError} naming `key` and the text. */
export function parseRate(key: string, value: string | number): number {
  return readRate(value) ?? refuse(key, value, rateExpectation);
}

/** Bytes, or `undefined` where the text is no size. Case does not matter: nobody measures disks in bits. */
export function readSize(value: string | number): number | undefined {
  return readQuantity(value, (unit) => (unit === "" ? 1 : sizeUnits.get(unit.toLowerCase())));
}

/** Milliseconds, or `undefined`. A text needs its unit, since `--timeout 30` does not mean 30 ms. */
export function readDuration(value: string | number): number | undefined {
  return readQuantity(value, (unit) => durationUnits.get(unit));
}

/** Bytes per second, or `undefined`. Case matters and `Mb/s` is refused, since it may mean bits or bytes. */
export function readRate(value: string | number): number | undefined {
  return readQuantity(value, (unit) => rateUnits.get(unit));
}

/** For people, rounded to a tenth: `512 B`, `1.5 GB`. Decimal, as disks and networks are sold. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let step = 0;
  while (roundToTenth(value) >= 1000 && step < formatUnits.length - 1) {
    value /= 1000;
    step++;
  }
  return `${step === 0 ? Math.round(value) : roundToTenth(value)} ${formatUnits[step]}`;
}

/** For people, in the two largest units: `850 ms`, `1.2 s`, `2 min 5 s`, `1 h 30 min`, `3 d 4 h`. */
export function formatDuration(ms: number): string {
  if (Math.round(ms) < 1000) return `${Math.round(ms)} ms`;
  if (roundToTenth(ms / 1000) < 60) return `${roundToTenth(ms / 1000)} s`;
  if (Math.round(ms / second) < 60 * 60) return inTwoUnits(Math.round(ms / second), 60, "min", "s");
  if (Math.round(ms / minute) < 24 * 60) return inTwoUnits(Math.round(ms / minute), 60, "h", "min");
  return inTwoUnits(Math.round(ms / hour), 24, "d", "h");
}

/** For people: `250 MB/s`. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

const second = 1000;
const minute: number = 60 * second;
const hour: number = 60 * minute;

const formatUnits = ["B", "kB", "MB", "GB", "TB", "PB"];

const sizeUnits: ReadonlyMap<string, number> = new Map(
  [...formatUnits, "KiB", "MiB", "GiB", "TiB", "PiB"].map((unit) => [unit.toLowerCase(), bytesOf(unit)]),
);

const durationUnits: ReadonlyMap<string, number> = new Map([
  ["ms", 1],
  ["s", second],
  ["min", minute],
  ["h", hour],
  ["d", 24 * hour],
]);

const rateUnits: ReadonlyMap<string, number> = new Map([
  ...["B", "kB", "MB", "GB", "KiB", "MiB", "GiB"].map((unit): [string, number] => [`${unit}/s`, bytesOf(unit)]),
  ...["", "k", "M", "G"].map((prefix, power): [string, number] => [`${prefix}bit/s`, 1000 ** power / 8]),
]);

/** Bytes of one unit, from its first letter and whether it has an `i`. */
function bytesOf(unit: string): number {
  const power = "BKMGTP".indexOf(unit[0]!.toUpperCase());
  return (unit[1] === "i" ? 1024 : 1000) ** power;
}

/** A number with a unit, as a safe whole number of base units. */
function readQuantity(value: string | number, factorOf: (unit: string) => number | undefined): number | undefined {
  if (typeof value === "number") return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  const match = quantity.exec(value.trim());
  if (match === null) return undefined;
  const factor = factorOf(match[2]!);
  const amount = factor === undefined ? undefined : Math.round(Number(match[1]) * factor);
  return Number.isSafeInteger(amount) ? amount : undefined;
}

const quantity = /^(\d{1,16}(?:\.\d{1,9})?)\s*([A-Za-z]*(?:\/s)?)$/;

function refuse(key: string, value: string | number, expected: Expectation): never {
  throw new UsageError(`${key}: ${JSON.stringify(value)} is not ${expected.noun}`, {
    hint: `write ${expected.example}`,
  });
}

function roundToTenth(value: number): number {
  return Math.round(value * 10) / 10;
}

function inTwoUnits(amount: number, smallPerLarge: number, large: string, small: string): string {
  const rest = amount % smallPerLarge;
  const head = `${Math.floor(amount / smallPerLarge)} ${large}`;
  return rest === 0 ? head : `${head} ${rest} ${small}`;
}
