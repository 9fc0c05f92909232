import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Swarm } from "../../node/ports.ts";
import { siteCrowd } from "../../node/site-crowd.ts";

/** A swarm of which each peer's site is known by its announcement, by its hello, or by both. */
function swarmOf(announced: Readonly<Record<string, string>>, here: Readonly<Record<string, string>>): Swarm {
  const labels = (peer: string) => ({ name: peer, site: announced[peer] ?? "", rack: "", addresses: [] });
  const directory = { peers: () => Object.keys(announced).values(), labels };
  const peers = () => Object.entries(here).map(([peer, site]) => ({ peer, name: peer, site, rack: "", addresses: [] }));
  return { id: "me", directory, peers } as unknown as Swarm;
}

test("a site's crowd is who announced itself there, or said so when it came", () => {
  const swarm = swarmOf({ a: "paris", b: "rome", c: "paris", d: "paris" }, { c: "paris", d: "rome", e: "paris" });
  assert.equal(siteCrowd(swarm, "paris"), { self: "me", members: ["a", "c", "e"] });
  assert.equal(siteCrowd(swarm, "rome"), { self: "me", members: ["b", "d"] });
});

test("without a swarm a node is alone", () => {
  assert.equal(siteCrowd(undefined, "paris"), { self: "", members: [] });
});

test.run();
