/**
 * The rendezvous hash of a member for a key: everyone who knows the same members names the same ones, without asking
 * anybody (Thaler and Ravishankar, IEEE/ACM Transactions on Networking 6:1, 1998). A whole number below 2^53. It spreads
 * load and protects nothing: whoever is let in may look for a name that ranks high.
 */
export function rendezvousWeight(key: string, member: string): number {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (const text of [key, "\n", member]) {
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      a = Math.imul(a ^ code, 0x9e3779b1);
      b = Math.imul(b ^ code, 0x5f356495);
    }
  }
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35);
  b = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35);
  return (b >>> 0) * 2 ** 21 + ((a >>> 0) >>> 11);
}

/** The members with the highest hashes for a key, the highest first; fewer than `count` if there are fewer. */
export function highestFor(key: string, members: Iterable<string>, count: number): string[] {
  const best: { readonly member: string; readonly weight: number }[] = [];
  for (const member of members) {
    const weight = rendezvousWeight(key, member);
    const last = best[count - 1];
    if (last !== undefined && !isBefore(weight, member, last.weight, last.member)) continue;
    let at = Math.min(best.length, count - 1);
    while (at > 0 && isBefore(weight, member, best[at - 1]!.weight, best[at - 1]!.member)) {
      best[at] = best[at - 1]!;
      at--;
    }
    best[at] = { member, weight };
  }
  return best.map(({ member }) => member);
}

/** How many of some members come before one of them for a key. */
export function rankFor(key: string, self: string, members: Iterable<string>): number {
  const own = rendezvousWeight(key, self);
  let rank = 0;
  for (const member of members) {
    if (member !== self && isBefore(rendezvousWeight(key, member), member, own, self)) rank++;
  }
  return rank;
}

function isBefore(weight: number, member: string, otherWeight: number, other: string): boolean {
  return weight > otherWeight || (weight === otherWeight && member < other);
}
