/** What a scenario measured: names end in their units. */
export type Report = { readonly [figure: string]: string | number };

/** The smallest value that this share of all values does not exceed; 0 of none. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
}

/** A line for each figure, for people. */
export function reportText(report: Report): string {
  const width = Math.max(...Object.keys(report).map((name) => name.length));
  return Object.entries(report)
    .map(([name, value]) => `${name.padEnd(width)}  ${value}`)
    .join("\n");
}
