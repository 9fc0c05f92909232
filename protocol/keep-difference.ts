import type { KeepList } from "./keep-alive.ts";

/** What is otherwise in a second list of a toolset. */
export type KeepChange =
  | { readonly kind: "added" | "removed"; readonly package: string; readonly rank: number }
  | { readonly kind: "moved"; readonly package: string; readonly from: number; readonly to: number }
  | { readonly kind: "prefetch"; readonly package: string; readonly prefetch: boolean };

/** Line by line, in the order of the second list; a line is moved when others than before stand ahead of it. */
export function keepDifference(before: KeepList, after: KeepList): KeepChange[] {
  const [old, now] = [linesOf(before), linesOf(after)];
  const changes: KeepChange[] = [];
  for (const [text, { rank }] of old) if (!now.has(text)) changes.push({ kind: "removed", package: text, rank });
  const stayed = [...old.keys()].filter((text) => now.has(text));
  const oldOrder = new Map(stayed.map((text, at) => [text, at]));
  let at = 0;
  for (const [text, { rank, prefetch }] of now) {
    const known = old.get(text);
    if (known === undefined) {
      changes.push({ kind: "added", package: text, rank });
      continue;
    }
    if (oldOrder.get(text) !== at++) changes.push({ kind: "moved", package: text, from: known.rank, to: rank });
    if (known.prefetch !== prefetch) changes.push({ kind: "prefetch", package: text, prefetch });
  }
  return changes;
}

/** Where each line stands first. */
function linesOf({ keep }: KeepList): Map<string, { readonly rank: number; readonly prefetch: boolean }> {
  const lines = new Map<string, { rank: number; prefetch: boolean }>();
  for (const [at, { package: text, prefetch }] of keep.entries()) {
    if (!lines.has(text)) lines.set(text, { rank: at + 1, prefetch });
  }
  return lines;
}
