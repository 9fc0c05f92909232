import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Holders } from "../../node/holders.ts";
import type { PeerFacts, Swarm } from "../../node/ports.ts";
import { NotFoundError, UsageError } from "../../protocol/errors.ts";
import type { PayloadId, VariantHash } from "../../protocol/hash.ts";
import { seededRandom } from "../../protocol/random.ts";
import { Standing } from "../../protocol/standing.ts";
import { payloadNamed, variantNamed } from "../support/swarm-member.ts";

const test = suite("whom to ask");

const variant = variantNamed("aa");
const payload = payloadNamed("bb");

interface Scene {
  readonly here?: readonly string[];
  readonly holders?: readonly string[];
  readonly near?: readonly string[];
  readonly variants?: readonly VariantHash[];
}

/** Holders over a swarm that says what a test tells it to say. */
function scene({ here = [], holders = [], near = [], variants = [] }: Scene) {
  const standing = new Standing();
  const facts = (peer: string): PeerFacts => ({ peer, name: peer, site: "", rack: "", addresses: [] });
  const swarm = {
    id: "own",
    peers: () => here.map(facts),
    directory: {
      holders: () => new Map(holders.map((peer): [string, PayloadId] => [peer, payload])),
      holdersOf: () => holders,
      variantsOf: () => variants,
      holdingsOf: (peer: string) => (holders.includes(peer) ? 1 : 0),
      peers: () => holders.values(),
      labels: (peer: string) => ({ addresses: [], name: peer, site: near.includes(peer) ? "here" : "there", rack: "" }),
    },
  } as unknown as Swarm;
  const own = { site: "here", rack: "" };
  const parts = { swarm: () => swarm, standing, own, random: seededRandom(1), nowMs: () => 0 };
  return { asked: new Holders(parts), standing };
}

const many = Array.from({ length: 100 }, (_, i) => `p${i}`);

test("a record is asked of holders that are connected, then of other holders, then of others that are connected", () => {
  const { asked } = scene({ here: ["a", "b"], holders: ["b", "c"] });
  assert.equal(asked.forRecord(variant), ["b", "c", "a"]);
});

test("a payload is asked of sixteen holders at most, half of them near", () => {
  const near = many.slice(0, 30);
  const here = Array.from({ length: 40 }, (_, i) => `c${i}`);
  const { asked } = scene({ here, holders: many, near });
  const peers = asked.forPayload(payload);
  const holders = peers.filter((peer) => peer.startsWith("p"));
  assert.equal([holders.length, peers.length], [16, 16]);
  const nearOnes = holders.filter((peer) => near.includes(peer)).length;
  assert.ok(nearOnes >= 8 && nearOnes < 16, String(nearOnes));
  assert.not.equal(asked.forPayload(payload), peers, "not always the same");
});

test("a peer that served wrong bytes is not asked, and nobody asks itself", () => {
  const { asked, standing } = scene({ here: [], holders: ["own", "liar", "c"] });
  for (let i = 0; i < 3; i++) standing.strike("liar", "corrupt", 0);
  assert.equal([asked.forRecord(variant), asked.forPayload(payload)], [["c"], ["c"]]);
});

test("peers that are known by their announcements alone are shown, without a path", () => {
  const { asked } = scene({ here: ["a"], holders: ["own", "b"] });
  assert.equal(
    asked.status().map(({ peer, path, holdings, site }) => [peer, path, holdings, site]),
    [
      ["a", "stream", 0, ""],
      ["b", "none", 1, "there"],
    ],
  );
});

test("a payload stands for the one variant that it is held as", () => {
  assert.is(scene({ variants: [variant] }).asked.variantOf(payload), variant);
  assert.throws(
    () => scene({}).asked.variantOf(payload),
    (error: Error) => error instanceof NotFoundError,
  );
  const both = scene({ variants: [variant, variantNamed("ab")] }).asked;
  assert.throws(
    () => both.variantOf(payload),
    (error: Error) => error instanceof UsageError,
  );
});

test.run();
