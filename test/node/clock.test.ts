// runs unprivileged
// deadline: 60 s
import { readFileSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../../node/clock.ts";
import { CacheNode } from "../../node/node.ts";
import type { Clock } from "../../node/ports.ts";
import { seededRandom } from "../../protocol/random.ts";
import type { Variant } from "../../protocol/variant.ts";
import { Studio } from "../support/studio.ts";
import { makeTree } from "../support/trees.ts";

const variant: Variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" };
const thing = { kind: "variant", variant } as const;
const yearMs = 365 * 24 * 3_600_000;
const yearAgo: Clock = { monotonicMs: systemClock.monotonicMs, wallMs: () => systemClock.wallMs() - yearMs };

test("a clock that is set back a year: what is held stays held and served, and no age is negative", async () => {
  await using studio = await Studio.open();
  const tree = join(studio.path, "source");
  makeTree(tree, seededRandom(1), { smallFiles: 10, largeMib: 4 });
  await studio.publish(variant, tree);
  const settings = studio.settings(studio.configure("machine"));
  let path = "";
  for (const [i, clock] of [systemClock, yearAgo, yearAgo].entries()) {
    await using node = await CacheNode.open(settings, { clock });
    const { outcome, path: placed, seconds } = await node.fetch(thing);
    path = placed!;
    assert.is(outcome, i === 0 ? "fetched" : "local");
    assert.ok(seconds >= 0 && node.status("1").uptimeSeconds >= 0);
    assert.equal((await node.fsck()).faults, []);
  }
  // That announcements count on is a test of the catalogue: their epoch never goes back.
  await using first = await CacheNode.open(settings, { clock: yearAgo });
  const others = studio.configure("other", { bootstrap: [first.status("1").addresses[0]!], originPolicy: "never" });
  await using other = await CacheNode.open(studio.settings(others));
  assert.equal((await other.fetch(thing)).bytes.origin, 0);

  // Rez's last use is in the future by this clock.
  const nextYear = (systemClock.wallMs() + yearMs) / 1000;
  utimesSync(`${path}.json`, nextYear, nextYear);
  const [held] = first.holdings();
  assert.equal([held?.state, Date.parse(held!.lastUsed!)], ["whole", Math.floor(nextYear * 1000)]);
  assert.ok(JSON.parse(readFileSync(`${path}.json`, "utf8")).handle !== undefined);
});

test.run();
