/**
 * Whether a text is what a pattern says: `*` stands for any letters, `?` for one. Brackets are letters like others, since
 * `foo-1.0.0[0]` is how variants are written. Takes time in proportion to both lengths, whatever the pattern.
 */
export function matchesGlob(text: string, pattern: string): boolean {
  let [at, star, resume] = [0, -1, 0];
  let i = 0;
  while (i < text.length) {
    if (at < pattern.length && pattern[at] === "*") {
      star = at++;
      resume = i;
    } else if (at < pattern.length && (pattern[at] === "?" || pattern[at] === text[i])) {
      at++;
      i++;
    } else if (star >= 0) {
      // The last star takes one letter more; what stood before it fits already.
      at = star + 1;
      i = ++resume;
    } else return false;
  }
  while (pattern[at] === "*") at++;
  return at === pattern.length;
}
