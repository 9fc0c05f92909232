/**
 * The candidate that a misspelt word was probably meant to be, or `undefined` where none is close: at most two edits,
 * or a third of a longer word. Case counts as no difference, nor do the parts before the last dot if that is right.
 */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  const wanted = word.toLowerCase();
  let best: string | undefined;
  let bestEdits = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const other = candidate.toLowerCase();
    const edits = lastPart(other) === lastPart(wanted) ? 1 : countEdits(wanted, other);
    if (edits >= bestEdits) continue;
    best = candidate;
    bestEdits = edits;
  }
  return best;
}

/** What follows an error about an unknown word. */
export function suggestion(word: string, candidates: Iterable<string>): string | undefined {
  const found = nearest(word, candidates);
  return found === undefined ? undefined : `did you mean ${found}?`;
}

function lastPart(text: string): string {
  return text.slice(text.lastIndexOf(".") + 1);
}

/** Insertions, deletions and substitutions from `a` to `b` (Levenshtein 1966), a row at a time. */
function countEdits(a: string, b: string): number {
  // Nobody misspells so much; without a limit a long word would cost its square.
  if (Math.max(a.length, b.length) > 100) return Number.POSITIVE_INFINITY;
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
