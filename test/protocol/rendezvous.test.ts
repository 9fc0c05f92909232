import { test } from "uvu";
import * as assert from "uvu/assert";
import { registrarsFor } from "../../protocol/registrars.ts";
import { highestFor, rankFor, rendezvousWeight } from "../../protocol/rendezvous.ts";

const members = Array.from({ length: 200 }, (_, i) => `member-${i}`);

test("everyone names the same members, in whatever order they are known", () => {
  const best = highestFor("a payload", members, 3);
  assert.equal(best, highestFor("a payload", members.toReversed(), 3));
  assert.equal(
    best.map((member) => rankFor("a payload", member, members)),
    [0, 1, 2],
  );
  const all = highestFor("a payload", members, 500);
  assert.is(new Set(all).size, 200);
});

test("who comes or goes changes nothing for the others", () => {
  const best = highestFor("k", members, 3);
  const without = members.filter((member) => member !== best[1]);
  assert.equal(highestFor("k", without, 3).slice(0, 2), [best[0]!, best[2]!]);
});

test("keys are spread evenly over the members", () => {
  const counts = new Map<string, number>();
  for (let key = 0; key < 20_000; key++) {
    const [best] = highestFor(`key ${key}`, members, 1);
    counts.set(best!, (counts.get(best!) ?? 0) + 1);
  }
  assert.is(counts.size, 200);
  assert.ok(Math.max(...counts.values()) < 160 && Math.min(...counts.values()) > 55);
});

test("a weight is a whole number below 2^53, and known: it may never change", () => {
  assert.ok(Number.isSafeInteger(rendezvousWeight("", "")));
  assert.equal([rendezvousWeight("key", "peer"), rendezvousWeight("key", "peer2")].every(Number.isSafeInteger), true);
  assert.is.not(rendezvousWeight("ab", "c"), rendezvousWeight("a", "bc"));
});

test("a member that has just been switched on is no registrar, unless there are too few others", () => {
  const seen = members.map((name) => ({ name, upSinceMs: 0 }));
  const [first] = registrarsFor("k", seen, 60_000);
  const fresh = seen.map((one) => (one.name === first ? { ...one, upSinceMs: 55_000 } : one));
  assert.is(registrarsFor("k", fresh, 60_000).includes(first!), false);
  assert.is(registrarsFor("k", fresh, 65_000)[0], first);
  assert.is(registrarsFor("k", fresh.slice(0, 2), 1_000).length, 2);
});

test.run();
