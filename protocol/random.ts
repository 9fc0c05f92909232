/** A source of randomness that is passed in: a number in `[0, 1)`. */
export type Random = () => number;

/** The same numbers for the same seed, for tests and simulations (Steele, Lea and Flood, SplitMix, OOPSLA 2014). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
}

/** A whole number in `0..bound-1`. */
export function randomBelow(bound: number, random: Random): number {
  return Math.floor(random() * bound);
}
